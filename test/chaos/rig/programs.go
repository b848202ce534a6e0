package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildTag makes crash points and seeded bugs a part of the programs.
const BuildTag = "failpoints"

// Programs is a directory with the built programs.
type Programs struct {
	dir string
	own bool
}

// Build builds the programs with the crash points. SLUICE_CHAOS_BINARIES names a directory of programs that
// were built so, to be used instead.
func Build(ctx context.Context) (*Programs, error) {
	if dir := os.Getenv("SLUICE_CHAOS_BINARIES"); dir != "" {
		return &Programs{dir: dir}, nil
	}
	dir, err := os.MkdirTemp("", "sluice-chaos-bin-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the programs: %w", err)
	}
	args := []string{"build", "-tags", BuildTag, "-o", dir + string(filepath.Separator)}
	for _, program := range []string{"jobmanager", "taskmanager", "sluice"} {
		args = append(args, "github.com/sluice-stream/sluice/cmd/"+program)
	}
	if output, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("building the programs: %w\n%s", err, output), os.RemoveAll(dir))
	}
	return &Programs{dir: dir, own: true}, nil
}

// Path is the path of a program.
func (p *Programs) Path(name string) string { return filepath.Join(p.dir, name) }

// Close removes what Build made.
func (p *Programs) Close() error {
	if !p.own {
		return nil
	}
	return os.RemoveAll(p.dir)
}
