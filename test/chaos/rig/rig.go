package rig

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// HeartbeatTimeout is after how much silence a task manager counts as lost in a run.
const HeartbeatTimeout = 3 * time.Second

const (
	readyTimeout = 30 * time.Second
	// stopGrace is what the contract gives a daemon after SIGTERM.
	stopGrace = 10 * time.Second
)

// Options are of one run.
type Options struct {
	Ground   *Ground
	Programs *Programs
	// Dir holds logs, data and work directories. It is the caller's.
	Dir string
	// TaskManagers, with Slots each, are started at first.
	TaskManagers, Slots int
	// DataDir is the job manager's; empty: a directory in Dir.
	DataDir string
	// Env is added to the environment of every process, by "NAME=value".
	Env []string
	// JobManagerEnv is added to that of the first job manager; one that is started again does not have it.
	JobManagerEnv []string
	// WorkerEnv is added to that of the first process of task manager tm-1.
	WorkerEnv []string
}

// Rig is a job manager and task managers of one run. Close ends them.
type Rig struct {
	*Ground
	options    Options
	listen     string // of the job manager, that no proxy stands before
	proxied    string // what task managers dial
	http       string
	jobManager *process.Process
	workers    map[string]*worker
	names      map[string]int // how often a process of a name was started
	logs       map[string]*process.Process
	watching   sync.WaitGroup
}

// worker is a task manager, whose addresses outlive its process.
type worker struct {
	data, advertised, http string
	slots                  int
	process                *process.Process
}

// Start starts a job manager and the task managers.
func Start(ctx context.Context, options Options) (*Rig, error) {
	if options.DataDir == "" {
		options.DataDir = filepath.Join(options.Dir, "data")
	}
	r := &Rig{
		Ground: options.Ground, options: options, workers: map[string]*worker{},
		names: map[string]int{}, logs: map[string]*process.Process{},
	}
	for _, address := range []*string{&r.listen, &r.proxied, &r.http} {
		var err error
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	r.Mesh.Add(JobManager, r.proxied, r.listen)
	err := r.StartJobManager(options.JobManagerEnv...)
	for i := 1; i <= options.TaskManagers && err == nil; i++ {
		var env []string
		if i == 1 {
			env = options.WorkerEnv
		}
		err = r.AddTaskManager(TaskManagerName(i), options.Slots, env...)
	}
	if err == nil {
		err = r.waitSlots(ctx, options.TaskManagers*options.Slots)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// DataDir is the data directory of the job manager.
func (r *Rig) DataDir() string { return r.options.DataDir }

// DecisionLog is the file of the job manager's decisions, over all its starts.
func (r *Rig) DecisionLog() string { return filepath.Join(r.options.Dir, "decisions.jsonl") }

// HTTP is the address of the job manager's HTTP API.
func (r *Rig) HTTP() string { return r.http }

// start starts a program. Each start has log files of its own, NAME-1.log, NAME-2.log, …
func (r *Rig) start(program, name string, env []string, args ...string) (*process.Process, error) {
	r.names[name]++
	log := fmt.Sprintf("%s-%d", name, r.names[name])
	p, err := process.Start(process.Spec{
		Name: log, Path: r.options.Programs.Path(program), Args: args, Dir: r.options.Dir, Env: slices.Concat(r.options.Env, env),
	})
	if err != nil {
		return nil, err
	}
	r.logs[log] = p
	return p, nil
}

// SpawnJobManager starts a job manager beside what runs, on its directory and ports, and does not wait.
func (r *Rig) SpawnJobManager(name string, env ...string) (*process.Process, error) {
	return r.start("jobmanager", name, env, "--listen", r.listen, "--http", r.http, "--data-dir", r.options.DataDir,
		"--heartbeat-timeout", HeartbeatTimeout.String(), "--decision-log", r.DecisionLog())
}

// StartJobManager starts the job manager, again at the same address and directory, and waits for its ready line.
func (r *Rig) StartJobManager(env ...string) error {
	p, err := r.SpawnJobManager(JobManager, env...)
	if err != nil {
		return err
	}
	r.jobManager = p
	if _, err := p.Ready(readyTimeout); err != nil {
		return err
	}
	return r.watch(JobManager, p, &r.watching)
}

// JobManager is the process of the job manager that was started last.
func (r *Rig) JobManager() *process.Process { return r.jobManager }

// KillJobManager ends the job manager as kill -9 does.
func (r *Rig) KillJobManager() error { return r.jobManager.Kill9() }

// AddTaskManager starts a task manager that was not there before and waits for its ready line.
func (r *Rig) AddTaskManager(id string, slots int, env ...string) error {
	w := &worker{slots: slots}
	for _, address := range []*string{&w.data, &w.advertised, &w.http} {
		var err error
		if *address, err = freeAddress(); err != nil {
			return err
		}
	}
	r.Mesh.Add(id, w.advertised, w.data)
	r.workers[id] = w
	return r.StartTaskManager(id, env...)
}

// StartTaskManager starts a task manager again, with the same id and addresses, and waits for its ready line.
func (r *Rig) StartTaskManager(id string, env ...string) error {
	w, ok := r.workers[id]
	if !ok {
		return fmt.Errorf("task manager %s was never added", id)
	}
	work := filepath.Join(r.options.Dir, "work-"+id)
	if err := os.MkdirAll(work, 0o755); err != nil {
		return fmt.Errorf("making the work directory of %s: %w", id, err)
	}
	p, err := r.start("taskmanager", id, env, "--jobmanager", r.proxied, "--id", id, "--slots", fmt.Sprint(w.slots),
		"--data-listen", w.data, "--data-advertise", w.advertised, "--http", w.http, "--work-dir", work)
	if err != nil {
		return err
	}
	w.process = p
	if _, err := p.Ready(readyTimeout); err != nil {
		return err
	}
	return r.watch(id, p, &r.watching)
}

// TaskManagers are the ids of all task managers, running or not.
func (r *Rig) TaskManagers() []string { return slices.Sorted(maps.Keys(r.workers)) }

// TaskManager is the process of a task manager that was started last.
func (r *Rig) TaskManager(id string) *process.Process { return r.workers[id].process }

// Processes are the daemons that run, by their name on the mesh.
func (r *Rig) Processes() map[string]*process.Process {
	running := map[string]*process.Process{JobManager: r.jobManager}
	for id, w := range r.workers {
		running[id] = w.process
	}
	maps.DeleteFunc(running, func(_ string, p *process.Process) bool { return p == nil || !p.Running() })
	return running
}

// KillTaskManager ends a task manager as kill -9 does.
func (r *Rig) KillTaskManager(id string) error { return r.workers[id].process.Kill9() }

// Term ends a process by SIGTERM; it must end with code 0 within 10 s.
func (r *Rig) Term(p *process.Process) error {
	code, err := p.Stop(stopGrace)
	if err == nil && code != 0 {
		err = fmt.Errorf("SIGTERM ended it with code %d, want 0:\n%s", code, p.Tail(4096))
	}
	return err
}

// Crashes says which processes panicked or raced.
func (r *Rig) Crashes() []string {
	var crashes []string
	for _, log := range slices.Sorted(maps.Keys(r.logs)) {
		for _, sign := range []string{"\npanic: ", "\nfatal error: ", "\nWARNING: DATA RACE"} {
			if _, rest, found := strings.Cut("\n"+r.logs[log].Stderr(), sign); found {
				crashes = append(crashes, fmt.Sprintf("%s: %s%.300s", log, strings.TrimSpace(sign), rest))
			}
		}
	}
	return crashes
}

// Tails is the end of the log of every process, for messages.
func (r *Rig) Tails(bytes int64) string {
	var b strings.Builder
	for _, log := range slices.Sorted(maps.Keys(r.logs)) {
		fmt.Fprintf(&b, "--- %s ---\n%s\n", log, r.logs[log].Tail(bytes))
	}
	return b.String()
}

// Close kills what runs.
func (r *Rig) Close() error {
	var errs []error
	for _, p := range r.logs {
		errs = append(errs, p.Kill9())
	}
	r.watching.Wait()
	return errors.Join(errs...)
}

// Pause stops a process as SIGSTOP does; Resume lets it go on.
func (r *Rig) Pause(p *process.Process) error { return p.Signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (r *Rig) Resume(p *process.Process) error { return p.Signal(syscall.SIGCONT) }

// Addr is the gRPC address of the job manager that no proxy stands before.
func (r *Rig) Addr() string { return r.listen }
