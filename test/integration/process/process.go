// Package process runs the programs of a test as child processes that cannot outlive it. Everything is
// addressed by the handle of the process that was started, never by name.
package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Spec says what to start.
type Spec struct {
	Name string   // in messages and as name of the log files
	Path string   // program
	Args []string // without the program
	Env  []string // added to the environment of the test
	Dir  string   // of NAME.out (stdout) and NAME.log (stderr); both are appended to
	// Credential is the user to run as; nil for the user of the test.
	Credential *syscall.Credential
}

// Process is a program that runs, or has run.
type Process struct {
	spec  Spec
	cmd   *exec.Cmd
	lines chan string   // the first line of stdout that begins with "ready"
	done  chan struct{} // closed when the process is gone and its output is complete
}

// Start starts the program in a process group of its own. The kernel kills it when the test process
// ends, however that ends.
func Start(spec Spec) (*Process, error) {
	stdout, err := appendTo(spec, ".out")
	if err != nil {
		return nil, err
	}
	stderr, err := appendTo(spec, ".log")
	if err != nil {
		return nil, errors.Join(err, stdout.Close())
	}
	p := &Process{spec: spec, cmd: exec.Command(spec.Path, spec.Args...), lines: make(chan string, 1), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), spec.Env...)
	p.cmd.Stderr = stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: spec.Credential}
	pipe, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", spec.Name, err), stdout.Close(), stderr.Close())
	}
	started := make(chan error)
	go p.own(started, bufio.NewReader(pipe), stdout, stderr)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	return p, nil
}

func appendTo(spec Spec, suffix string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(spec.Dir, spec.Name+suffix), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the output file of %s: %w", spec.Name, err)
	}
	return file, nil
}

// own starts the process and stays on its thread until it is gone: the death signal of the kernel
// comes with the end of the *thread* that started the child (prctl(2)).
func (p *Process) own(started chan<- error, stdout *bufio.Reader, files ...*os.File) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() {
		for _, file := range files {
			_ = file.Close() // a log; what is missing in it shows
		}
	}()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	defer close(p.done)
	for {
		line, err := stdout.ReadString('\n')
		_, _ = files[0].WriteString(line) // a log
		if strings.HasPrefix(line, "ready") {
			select {
			case p.lines <- strings.TrimSpace(line):
			default:
			}
		}
		if err != nil {
			break
		}
	}
	_ = p.cmd.Wait() // the outcome is in ProcessState
}

// Ready waits for the line of stdout that begins with "ready" and returns its key=value fields.
func (p *Process) Ready(timeout time.Duration) (map[string]string, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case line := <-p.lines:
		return fieldsOf(line), nil
	case <-p.done:
	case <-timer.C:
		return nil, fmt.Errorf("%s was not ready within %s:\n%s", p.spec.Name, timeout, p.Tail(4096))
	}
	select {
	case line := <-p.lines: // it was ready, and ended at once
		return fieldsOf(line), nil
	default:
		return nil, fmt.Errorf("%s ended with code %d before it was ready:\n%s", p.spec.Name, p.ExitCode(), p.Tail(4096))
	}
}

func fieldsOf(line string) map[string]string {
	fields := map[string]string{}
	for _, field := range strings.Fields(line) {
		if key, value, ok := strings.Cut(field, "="); ok {
			fields[key] = value
		}
	}
	return fields
}

// Pid is the id of the process; it stays reserved until the process has been waited for.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ExitCode is the exit code, or -1 after a signal. It must not be asked before Done.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// CPU is the processor time that the process has used. It must not be asked before Done.
func (p *Process) CPU() time.Duration {
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// Signal sends a signal; to a process that is gone it does nothing.
func (p *Process) Signal(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signalling %s: %w", p.spec.Name, err)
	}
	return nil
}

// Kill9 kills the process and waits for its end.
func (p *Process) Kill9() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.done
	return err
}

// Stop asks the process to end, waits, and returns its exit code. One that does not end within the
// grace is killed, which is an error.
func (p *Process) Stop(grace time.Duration) (int, error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return -1, err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.ExitCode(), nil
	case <-timer.C:
		return -1, errors.Join(fmt.Errorf("%s did not end within %s of SIGTERM", p.spec.Name, grace), p.Kill9())
	}
}

// Stdout is what the process has written to stdout so far.
func (p *Process) Stdout() string {
	return lastBytes(filepath.Join(p.spec.Dir, p.spec.Name+".out"), 1<<20)
}

// Stderr is the last part, at most 4 MiB, of what the process has written to stderr.
func (p *Process) Stderr() string {
	return lastBytes(filepath.Join(p.spec.Dir, p.spec.Name+".log"), 4<<20)
}

// Tail is the end of both outputs, at most bytes of each, for messages.
func (p *Process) Tail(bytes int64) string {
	out := lastBytes(filepath.Join(p.spec.Dir, p.spec.Name+".out"), bytes)
	return out + lastBytes(filepath.Join(p.spec.Dir, p.spec.Name+".log"), bytes)
}

func lastBytes(path string, bytes int64) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err.Error()
	}
	buffer := make([]byte, min(bytes, info.Size()))
	n, err := file.ReadAt(buffer, info.Size()-int64(len(buffer)))
	if err != nil {
		return err.Error()
	}
	return string(buffer[:n])
}
