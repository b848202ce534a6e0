package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/prometheus/procfs"
)

// ChildPid finds the one child of this process that runs the given program.
func ChildPid(program string) (int, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return 0, fmt.Errorf("looking for the child %s: %w", program, err)
	}
	var found []int
	for _, p := range all {
		stat, err := p.Stat()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return 0, fmt.Errorf("looking for the child %s: %w", program, err)
		}
		if stat.Comm == program && stat.PPID == os.Getpid() {
			found = append(found, p.PID)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("looking for the child %s: found %v, want one", program, found)
	}
	return found[0], nil
}
