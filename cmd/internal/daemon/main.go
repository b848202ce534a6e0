package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

// Process is what a daemon takes from the process that it runs in.
type Process struct {
	// Args are the arguments without the name of the program.
	Args []string
	// LookupEnv finds environment variables; nil: there are none.
	LookupEnv      func(string) (string, bool)
	Stdout, Stderr io.Writer
}

func (p *Process) lookupEnv(name string) (string, bool) {
	if p.LookupEnv == nil {
		return "", false
	}
	return p.LookupEnv(name)
}

// Main runs one of the daemons as a process: signals, error text, exit code (0 done, 1 failed, 2 bad usage).
func Main(run func(context.Context, Process) error) int {
	// A panic would end the process with 2 as bad usage does, after which a supervisor does not start it again: it is to
	// die by a signal, and without a core, which would hold the secrets of jobs. The log has all goroutines.
	debug.SetTraceback("crash")
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		fmt.Fprintln(os.Stderr, "warning: a core of this process may hold secrets of jobs:", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, Process{Args: os.Args[1:], LookupEnv: os.LookupEnv, Stdout: os.Stdout, Stderr: os.Stderr})
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "error:", Message(err))
	if errors.Is(err, ErrUsage) {
		return 2
	}
	return 1
}

// Message is the text of an error of a daemon for people: of several faults of the command line each
// stands in a line of its own, and the mark ErrUsage is told once.
func Message(err error) string {
	text := err.Error()
	first, rest, many := strings.Cut(text, "\n")
	if !many || !errors.Is(err, ErrUsage) {
		return text
	}
	mark := ErrUsage.Error() + ": "
	lines := []string{strings.TrimPrefix(first, mark)}
	for line := range strings.SplitSeq(rest, "\n") {
		lines = append(lines, strings.TrimPrefix(line, mark))
	}
	return strings.TrimSpace(mark) + "\n  " + strings.Join(lines, "\n  ")
}

// logEnd says in the log why a daemon ends; it returns when ctx has ended.
func logEnd(ctx context.Context, log *slog.Logger) func() error {
	return func() error {
		<-ctx.Done()
		log.Info("ending", "reason", context.Cause(ctx).Error())
		return nil
	}
}
