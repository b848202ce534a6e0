package daemon

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// crashes, in the environment, makes this test program a daemon in which something panics beside the main goroutine.
const crashes = "SLUICE_TEST_CRASHES"

// TestPanicIsNoUsageError: a supervisor starts a daemon again unless it ends with 2, as Go programs do that panic.
func TestPanicIsNoUsageError(t *testing.T) {
	if os.Getenv(crashes) != "" {
		os.Exit(Main(func(ctx context.Context, _ Process) error {
			go panic("to be seen in the log")
			<-ctx.Done()
			return nil
		}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestPanicIsNoUsageError$")
	command.Env, command.Dir = append(os.Environ(), crashes+"=1"), t.TempDir() // where a core may be written
	output, err := command.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%v, want a crash\n%s", err, output)
	}
	if status := exit.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGABRT {
		t.Errorf("ended with %v, want SIGABRT\n%s", exit, output)
	}
}
