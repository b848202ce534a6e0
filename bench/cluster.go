package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
	"github.com/sluice-stream/sluice/web"
)

const (
	readyTimeout = 15 * time.Second
	stopGrace    = 10 * time.Second
	httpTimeout  = 5 * time.Second
	pollEvery    = 10 * time.Millisecond
	slotsPerTM   = 2
	// jobManagerName names the process of the job manager, beside tm-1, tm-2 and so on.
	jobManagerName = "jobmanager"
)

// programs is the directory of the built binaries.
type programs struct {
	dir string
	own bool // made here, so removed here
}

// buildPrograms builds what is measured, or takes it ready-made from dir.
func buildPrograms(ctx context.Context, dir string) (*programs, error) {
	if dir != "" {
		return &programs{dir: dir}, nil
	}
	dir, err := os.MkdirTemp("", "sluice-bench-bin-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the programs: %w", err)
	}
	const module = "github.com/sluice-stream/sluice"
	// As `make build` does.
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", dir + string(filepath.Separator)}
	for _, program := range slices.Concat([]string{"cmd/jobmanager", "cmd/taskmanager", "cmd/sluice"}, rivalPrograms) {
		args = append(args, module+"/"+program)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("building the programs: %w\n%s", err, output), os.RemoveAll(dir))
	}
	return &programs{dir: dir, own: true}, nil
}

func (p *programs) path(name string) string { return filepath.Join(p.dir, name) }

// libraries are the versions of what the rivals are made of.
func (p *programs) libraries() (map[string]string, error) {
	out := map[string]string{}
	for program, library := range map[string]string{"franz": "github.com/twmb/franz-go", "kafkago": "github.com/segmentio/kafka-go"} {
		version, err := versionIn(p.path(program), library)
		if err != nil {
			return nil, err
		}
		out[library] = version
	}
	return out, nil
}

// versionIn finds the version of a module that a Go program was built with.
func versionIn(program, module string) (string, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", fmt.Errorf("reading what %s was built with: %w", program, err)
	}
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return dependency.Version, nil
		}
	}
	return "", fmt.Errorf("%s was not built with %s", program, module)
}

func (p *programs) close() error {
	if !p.own {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// taskManager is one that runs.
type taskManager struct {
	id      string
	process *process.Process
	http    string
	started time.Time // before its process was made
	ready   time.Time // its ready line
}

// cluster is a job manager and task managers, as processes.
type cluster struct {
	programs *programs
	dir      string
	jm       *process.Process
	grpc     string
	http     string
	tms      []*taskManager
	client   http.Client
	commands time.Duration // processor time of the commands given so far
}

// startCluster starts a job manager and n task managers, tm-1 to tm-n.
func startCluster(p *programs, n int) (*cluster, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-cluster-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for a cluster: %w", err)
	}
	c := newCluster(p, dir)
	err = c.startJobManager("127.0.0.1:0", "127.0.0.1:0")
	for i := 0; i < n && err == nil; i++ {
		_, err = c.startTaskManager(fmt.Sprintf("tm-%d", i+1))
	}
	if err == nil {
		err = c.waitSlots(n * slotsPerTM)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func newCluster(p *programs, dir string) *cluster {
	return &cluster{programs: p, dir: dir, client: http.Client{Timeout: httpTimeout}}
}

// startJobManager starts it on these addresses; on those of one that was killed it takes that one's place,
// with its data.
func (c *cluster) startJobManager(listen, http string) error {
	var err error
	c.jm, err = process.Start(process.Spec{
		Name: jobManagerName, Path: c.programs.path("jobmanager"), Dir: c.dir,
		Args: []string{"--listen", listen, "--http", http, "--data-dir", filepath.Join(c.dir, "data"), "--pprof"},
	})
	if err != nil {
		return err
	}
	fields, err := c.jm.Ready(readyTimeout)
	if err != nil {
		return err
	}
	c.grpc, c.http = fields["grpc"], fields["http"]
	return nil
}

func (c *cluster) startTaskManager(id string) (*taskManager, error) {
	work := filepath.Join(c.dir, "work-"+id)
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of %s: %w", id, err)
	}
	tm := &taskManager{id: id, started: time.Now()}
	var err error
	tm.process, err = process.Start(process.Spec{
		Name: id, Path: c.programs.path("taskmanager"), Dir: c.dir,
		Args: []string{
			"--jobmanager", c.grpc, "--id", id, "--slots", strconv.Itoa(slotsPerTM), "--work-dir", work,
			"--data-listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--pprof",
		},
	})
	if err != nil {
		return nil, err
	}
	fields, err := tm.process.Ready(readyTimeout)
	if err != nil {
		return nil, errors.Join(err, tm.process.Kill9())
	}
	tm.ready, tm.http = time.Now(), fields["http"]
	c.tms = append(c.tms, tm)
	return tm, nil
}

// kill9 kills a task manager and forgets it.
func (c *cluster) kill9(tm *taskManager) error {
	c.tms = slices.DeleteFunc(c.tms, func(other *taskManager) bool { return other == tm })
	return tm.process.Kill9()
}

func (c *cluster) taskManager(id string) (*taskManager, error) {
	for _, tm := range c.tms {
		if tm.id == id {
			return tm, nil
		}
	}
	return nil, fmt.Errorf("the job runs on task manager %q, which is not one of the cluster's", id)
}

// close ends every process, task managers first, and removes the data.
func (c *cluster) close() error {
	var errs []error
	for _, tm := range c.tms {
		errs = append(errs, tm.process.Kill9())
	}
	if c.jm != nil {
		errs = append(errs, c.jm.Kill9())
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// logs is the end of the log of each process, for errors.
func (c *cluster) logs() string {
	const tail = 4 << 10
	out := "--- jobmanager ---\n" + c.jm.Tail(tail)
	for _, tm := range c.tms {
		out += "--- " + tm.id + " ---\n" + tm.process.Tail(tail)
	}
	return out
}

// waitSlots waits until the job manager knows of so many slots.
func (c *cluster) waitSlots(want int) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		var list []web.TaskManager
		if err := c.get("/v1/taskmanagers", &list); err != nil {
			return err
		}
		have := 0
		for _, tm := range list {
			if tm.State == "CONNECTED" {
				have += int(tm.Slots)
			}
		}
		if have >= want {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the job manager has %d slots after %s, want %d\n%s", have, readyTimeout, want, c.logs())
		}
		time.Sleep(pollEvery)
	}
}

// get asks the HTTP API of the job manager.
func (c *cluster) get(path string, answer any) error {
	response, err := c.client.Get("http://" + c.http + path)
	if err != nil {
		return fmt.Errorf("asking the job manager: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking the job manager: GET %s: %s", path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("reading the answer to GET %s: %w", path, err)
	}
	return nil
}

// sluice runs the command line against the cluster and returns what it printed.
func (c *cluster) sluice(ctx context.Context, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, c.programs.path("sluice"), args...)
	command.Env = append(os.Environ(), "SLUICE_JOBMANAGER="+c.grpc)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if command.ProcessState != nil {
		c.commands += command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	}
	if err != nil {
		return nil, fmt.Errorf("sluice %s: %w\n%s%s\n%s", strings.Join(args, " "), err, &stdout, &stderr, c.logs())
	}
	return stdout.Bytes(), nil
}

// submit submits a job; with --wait the answer is its final state.
func (c *cluster) submit(ctx context.Context, job string, flags ...string) ([]byte, error) {
	file := filepath.Join(c.dir, "job.yaml")
	if err := os.WriteFile(file, []byte(job), 0o600); err != nil {
		return nil, fmt.Errorf("writing the job file: %w", err)
	}
	return c.sluice(ctx, append([]string{"submit", file, "-o", "json"}, flags...)...)
}

// waitJob polls the job of the benchmark until it is as wanted.
func (c *cluster) waitJob(ctx context.Context, what string, wanted func(*web.Job) bool) (web.Job, error) {
	for {
		var job web.Job
		if err := c.get("/v1/jobs/"+jobName, &job); err != nil {
			return job, err
		}
		if wanted(&job) {
			return job, nil
		}
		if job.EndedAt != nil {
			return job, fmt.Errorf("waiting for the job to be %s: it is %s\n%s", what, job.State, c.logs())
		}
		select {
		case <-ctx.Done():
			return job, fmt.Errorf("waiting for the job to be %s, it is %s: %w\n%s", what, job.State, context.Cause(ctx), c.logs())
		case <-time.After(pollEvery):
		}
	}
}

// mallocs is the number of allocations of all task managers since their start, from their metrics.
func (c *cluster) mallocs() (uint64, error) {
	var sum uint64
	for _, tm := range c.tms {
		values, err := c.metrics(tm.http, "go_memstats_mallocs_total")
		if err != nil {
			return 0, fmt.Errorf("%s: %w", tm.id, err)
		}
		sum += uint64(values[0])
	}
	return sum, nil
}

// metrics reads metrics in one request; a name has its labels with it.
func (c *cluster) metrics(addr string, names ...string) ([]float64, error) {
	response, err := c.client.Get("http://" + addr + "/metrics")
	if err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	defer response.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	out, err := metricsIn(text.String(), names)
	if err != nil {
		return nil, fmt.Errorf("reading the metrics of %s: %w", addr, err)
	}
	return out, nil
}

// metricsIn finds metrics in Prometheus' text format.
func metricsIn(text string, names []string) ([]float64, error) {
	out := make([]float64, len(names))
	for i, name := range names {
		_, rest, ok := strings.Cut("\n"+text, "\n"+name+" ")
		if !ok {
			return nil, fmt.Errorf("there is no %s", name)
		}
		value, _, _ := strings.Cut(rest, "\n")
		var err error
		if out[i], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}
