package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

const (
	readyTimeout = 15 * time.Second
	// stopGrace is what the contract gives a daemon after SIGTERM.
	stopGrace  = 10 * time.Second
	cliTimeout = 90 * time.Second
)

// Cluster is a job manager and task managers of one test.
type Cluster struct {
	binaries    *Binaries
	dir         string
	port        int
	httpPort    int
	jobManager  *process.Process
	workers     map[string]*process.Process
	started     map[string]*process.Process // by log name, for the logs
	runs        int
	environment []string
	// credential is the user of the job manager after Unprivileged.
	credential *syscall.Credential
}

// New makes a cluster of nothing yet. At the end of the test everything is ended, and the logs are
// shown when it failed.
func New(tb testing.TB, binaries *Binaries) *Cluster {
	tb.Helper()
	c := &Cluster{
		binaries: binaries, dir: tb.TempDir(),
		workers: map[string]*process.Process{}, started: map[string]*process.Process{},
	}
	var err error
	if c.port, err = process.FreePort(); err != nil {
		tb.Fatal(err)
	}
	if c.httpPort, err = process.FreePort(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.close(tb) })
	return c
}

func (c *Cluster) close(tb testing.TB) {
	for name, p := range c.started {
		if err := p.Signal(syscall.SIGCONT); err != nil { // a test may have paused it
			tb.Errorf("%s: %v", name, err)
		}
		if err := p.Kill9(); err != nil {
			tb.Errorf("%s: %v", name, err)
		}
		for _, crash := range []string{"\npanic: ", "\nfatal error: ", "\nWARNING: DATA RACE"} {
			if _, rest, found := strings.Cut("\n"+p.Stderr(), crash); found {
				tb.Errorf("%s:%s%.4000s", name, crash, rest)
			}
		}
		if tb.Failed() {
			tb.Logf("--- %s ---\n%s", name, p.Tail(24<<10))
		}
	}
}

func (c *Cluster) start(tb testing.TB, program, name string, as *syscall.Credential, args ...string) *process.Process {
	tb.Helper()
	path, err := c.binaries.Path(program)
	if err != nil {
		tb.Fatal(err)
	}
	c.runs++
	log := fmt.Sprintf("%02d-%s", c.runs, name)
	p, err := process.Start(process.Spec{Name: log, Path: path, Args: args, Dir: c.dir, Env: c.environment, Credential: as})
	if err != nil {
		tb.Fatal(err)
	}
	c.started[log] = p
	return p
}

// SetEnvironment says what daemons have in their environment, NAME=VALUE, beside that of the test, if they
// are started from now on.
func (c *Cluster) SetEnvironment(variables ...string) { c.environment = variables }

// Start starts one of the programs without waiting for it to be ready. It ends with the test.
func (c *Cluster) Start(tb testing.TB, program, name string, args ...string) *process.Process {
	tb.Helper()
	return c.start(tb, program, name, nil, args...)
}

// StartRefused starts a daemon that is expected to end by itself.
func (c *Cluster) StartRefused(tb testing.TB, program string, args ...string) Result {
	tb.Helper()
	p := c.Start(tb, program, "refused-"+program, args...)
	select {
	case <-p.Done():
		return Result{Stdout: p.Stdout(), Stderr: p.Stderr(), Code: p.ExitCode()}
	case <-time.After(readyTimeout):
		tb.Fatalf("%s %q was not refused within %s", program, args, readyTimeout)
		return Result{}
	}
}

// Addr is the gRPC address of the job manager; it stays the same when the job manager is started again.
func (c *Cluster) Addr() string { return fmt.Sprintf("127.0.0.1:%d", c.port) }

// HTTPAddr is the address of the job manager's HTTP API; it stays the same too.
func (c *Cluster) HTTPAddr() string { return fmt.Sprintf("127.0.0.1:%d", c.httpPort) }

// DataDir is the data directory of the job manager.
func (c *Cluster) DataDir() string { return filepath.Join(c.dir, "jobmanager-data") }

// StartJobManager starts the job manager, again on the same address and data directory, and waits for
// its ready line. Flags may be added.
func (c *Cluster) StartJobManager(tb testing.TB, flags ...string) *process.Process {
	tb.Helper()
	args := append([]string{"--listen", c.Addr(), "--http", c.HTTPAddr(), "--data-dir", c.DataDir()}, flags...)
	c.jobManager = c.start(tb, "jobmanager", "jobmanager", c.credential, args...)
	if _, err := c.jobManager.Ready(readyTimeout); err != nil {
		tb.Fatal(err)
	}
	return c.jobManager
}

// Unprivileged makes the job manager, which must not have been started, run as nobody if the test is run
// by root: root may write whatever the permissions say.
func (c *Cluster) Unprivileged(tb testing.TB) {
	tb.Helper()
	if os.Getuid() != 0 {
		return
	}
	const nobody = 65534
	if err := errors.Join(
		os.Chmod(filepath.Dir(c.dir), 0o755), // testing makes it 0700
		os.Mkdir(c.DataDir(), 0o700), os.Chown(c.DataDir(), nobody, nobody),
	); err != nil {
		tb.Fatal(err)
	}
	c.credential = &syscall.Credential{Uid: nobody, Gid: nobody, NoSetGroups: true}
}

// JobManager is the job manager that was started last.
func (c *Cluster) JobManager() *process.Process { return c.jobManager }

// StartTaskManager starts a task manager and waits for its ready line. Flags may be added.
func (c *Cluster) StartTaskManager(tb testing.TB, id string, slots int, flags ...string) *process.Process {
	tb.Helper()
	work := filepath.Join(c.dir, "work-"+id)
	if err := os.MkdirAll(work, 0o755); err != nil {
		tb.Fatal(err)
	}
	args := append([]string{
		"--jobmanager", c.Addr(), "--id", id, "--slots", fmt.Sprint(slots), "--work-dir", work,
		"--data-listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
	}, flags...)
	p := c.start(tb, "taskmanager", id, nil, args...)
	c.workers[id] = p
	if _, err := p.Ready(readyTimeout); err != nil {
		tb.Fatal(err)
	}
	return p
}

// TaskManager is the process of a task manager that was started.
func (c *Cluster) TaskManager(id string) *process.Process { return c.workers[id] }

// Kill9 kills a process of this cluster as kill -9 does and waits for its end.
func (c *Cluster) Kill9(tb testing.TB, p *process.Process) {
	tb.Helper()
	if err := p.Kill9(); err != nil {
		tb.Fatal(err)
	}
}

// Term sends SIGTERM; the process must end within 10 s with exit code 0.
func (c *Cluster) Term(tb testing.TB, p *process.Process) {
	tb.Helper()
	code, err := p.Stop(stopGrace)
	if err != nil || code != 0 {
		tb.Errorf("SIGTERM: code %d, error %v, want an end with code 0 within %s", code, err, stopGrace)
	}
}

// Result is the outcome of one run of the command line.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Sluice runs the command line against the cluster's job manager.
func (c *Cluster) Sluice(tb testing.TB, args ...string) Result {
	tb.Helper()
	path, err := c.binaries.Path("sluice")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), cliTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, path, args...)
	command.Env = append(os.Environ(), "SLUICE_JOBMANAGER="+c.Addr())
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err = command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		tb.Fatalf("sluice %q: %v", args, err)
	}
	if ctx.Err() != nil {
		tb.Fatalf("sluice %q did not end within %s: %s%s", args, cliTimeout, &stdout, &stderr)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: command.ProcessState.ExitCode()}
}

// MustSluice is Sluice with exit code 0; anything else fails the test.
func (c *Cluster) MustSluice(tb testing.TB, args ...string) string {
	tb.Helper()
	result := c.Sluice(tb, args...)
	if result.Code != 0 {
		tb.Fatalf("sluice %q: exit code %d\n%s%s", args, result.Code, result.Stdout, result.Stderr)
	}
	return result.Stdout
}

// Submit writes the job file and submits it; the answer is the job's id.
func (c *Cluster) Submit(tb testing.TB, job string, args ...string) string {
	tb.Helper()
	out := c.MustSluice(tb, append([]string{"submit", c.JobFile(tb, job), "-o", "json"}, args...)...)
	var answer struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.ID == "" {
		tb.Fatalf("submit answered %q, want a JSON object with an id: %v", out, err)
	}
	return answer.ID
}

// JobFile writes a job file and returns its path.
func (c *Cluster) JobFile(tb testing.TB, job string) string {
	tb.Helper()
	file, err := os.CreateTemp(c.dir, "job-*.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(job); err != nil {
		tb.Fatal(err)
	}
	return file.Name()
}
