package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Binaries is a directory with the built programs.
type Binaries struct {
	dir     string
	foreign bool
	build   func() error
}

// NewBinaries prepares a directory; the programs are built when the first test asks for one, once.
// SLUICE_TEST_RACE=1 builds them with the race detector. SLUICE_TEST_BINARIES names a directory of programs
// to test instead, such as a release; with build tags, which no release has, the programs are always built.
func NewBinaries(tags ...string) (*Binaries, error) {
	if dir := os.Getenv("SLUICE_TEST_BINARIES"); dir != "" && len(tags) == 0 {
		return &Binaries{dir: dir, foreign: true, build: func() error { return nil }}, nil
	}
	dir, err := os.MkdirTemp("", "sluice-bin-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the programs: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // see Cluster.Unprivileged
		return nil, fmt.Errorf("opening the directory of the programs to others: %w", err)
	}
	return &Binaries{dir: dir, build: sync.OnceValue(func() error { return build(dir, tags) })}, nil
}

func build(dir string, tags []string) error {
	args := []string{"build", "-tags", strings.Join(tags, ","), "-o", dir + string(filepath.Separator)}
	if os.Getenv("SLUICE_TEST_RACE") == "1" {
		args = append(args, "-race")
	}
	for _, program := range []string{"jobmanager", "taskmanager", "sluice"} {
		args = append(args, "github.com/sluice-stream/sluice/cmd/"+program)
	}
	if output, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("building the programs: %w\n%s", err, output)
	}
	return nil
}

// Path builds the programs if that has not been done and returns the path of one.
func (b *Binaries) Path(program string) (string, error) {
	if err := b.build(); err != nil {
		return "", err
	}
	return filepath.Join(b.dir, program), nil
}

// Close removes the programs that it has built.
func (b *Binaries) Close() error {
	if b.foreign {
		return nil
	}
	return os.RemoveAll(b.dir)
}
