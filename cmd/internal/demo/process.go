package demo

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// readyTimeout bounds the start of a daemon; it takes some 50 ms.
const readyTimeout = 15 * time.Second

// process is a daemon that the demo has started.
type process struct {
	name   string
	cmd    *exec.Cmd
	fields map[string]string // of the ready line: data=…, http=…, grpc=…
	stderr *tail
	done   chan struct{}
}

// launcher starts daemons so that none outlives the demo: the kernel kills them when the thread that
// started them ends, and that is one thread for the life of the launcher.
type launcher struct {
	binary string
	starts chan func()
	ended  sync.WaitGroup
	mu     sync.Mutex
	all    []*process
}

func newLauncher() (*launcher, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program itself: %w", err)
	}
	l := &launcher{binary: binary, starts: make(chan func())}
	l.ended.Add(1)
	go func() {
		defer l.ended.Done()
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine, after all daemons have
		for start := range l.starts {
			start()
		}
	}()
	return l, nil
}

// start runs `sluice ROLE ARGS` and waits for its ready line.
func (l *launcher) start(ctx context.Context, name, role string, args ...string) (*process, error) {
	p := &process{name: name, stderr: &tail{}, done: make(chan struct{}), fields: map[string]string{}}
	p.cmd = exec.Command(l.binary, append([]string{role}, args...)...)
	p.cmd.Env = withoutSettings(os.Environ())
	p.cmd.Stderr = p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	started := make(chan error, 1)
	l.starts <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	l.mu.Lock()
	l.all = append(l.all, p)
	l.mu.Unlock()
	ready := make(chan string, 1)
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "ready") {
				ready <- lines.Text()
				break
			}
		}
		for lines.Scan() { // what print sinks write is of no interest here
		}
		_ = p.cmd.Wait() // how it ended shows in its log
	}()
	select {
	case line := <-ready:
		for _, f := range strings.Fields(line) {
			if k, v, ok := strings.Cut(f, "="); ok {
				p.fields[k] = v
			}
		}
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("%s ended before it was ready: %s", name, p.stderr)
	case <-time.After(readyTimeout):
		return nil, fmt.Errorf("%s was not ready within %s: %s", name, readyTimeout, p.stderr)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// withoutSettings drops what configures the daemons of the user's own cluster.
func withoutSettings(environ []string) []string {
	return slices.DeleteFunc(environ, func(v string) bool { return strings.HasPrefix(v, "SLUICE_") })
}

// kill9 kills a daemon as `kill -9` does and waits for its end.
func (p *process) kill9() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.done
}

// close ends every daemon: politely, then for good.
func (l *launcher) close() {
	l.mu.Lock()
	all := l.all
	l.mu.Unlock()
	for _, p := range all {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	}
	deadline := time.After(3 * time.Second)
	for _, p := range all {
		select {
		case <-p.done:
		case <-deadline:
			p.kill9()
			deadline = time.After(0)
		}
	}
	close(l.starts)
	l.ended.Wait()
}

// tail keeps the last bytes that were written to it, for error messages.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 4 << 10

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = t.buf[over:]
	}
	return len(p), nil
}

// String is the last lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}

// byName finds a daemon; it must have been started.
func (l *launcher) byName(name string) *process {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.all {
		if p.name == name {
			return p
		}
	}
	return nil
}
