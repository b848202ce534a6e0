package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sluice-stream/sluice/test/integration/cluster"
)

const (
	cliTimeout  = 90 * time.Second
	httpTimeout = 2 * time.Second
	pollEvery   = 20 * time.Millisecond
)

// Result is the outcome of one run of the command line.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Sluice runs the command line against the job manager.
func (r *Rig) Sluice(ctx context.Context, args ...string) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, r.options.Programs.Path("sluice"), args...)
	command.Env = append(os.Environ(), "SLUICE_JOBMANAGER="+r.listen)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		return Result{}, fmt.Errorf("sluice %q: %w: %s", args, errors.Join(err, ctx.Err()), &stderr)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: command.ProcessState.ExitCode()}, nil
}

// Submit submits a job file and returns the job's id.
func (r *Rig) Submit(ctx context.Context, name, job string, args ...string) (string, error) {
	file := filepath.Join(r.options.Dir, name+".yaml")
	if err := os.WriteFile(file, []byte(job), 0o644); err != nil {
		return "", fmt.Errorf("writing the job file: %w", err)
	}
	result, err := r.Sluice(ctx, append([]string{"submit", file, "-o", "json"}, args...)...)
	if err != nil {
		return "", err
	}
	var answer struct {
		ID string `json:"id"`
	}
	if result.Code != 0 {
		return "", fmt.Errorf("sluice submit: exit code %d: %s%s", result.Code, result.Stdout, result.Stderr)
	}
	if err := json.Unmarshal([]byte(result.Stdout), &answer); err != nil || answer.ID == "" {
		return "", fmt.Errorf("sluice submit answered %q, want a JSON object with an id: %w", result.Stdout, err)
	}
	return answer.ID, nil
}

// get asks the HTTP API, which says the same as the command line at a hundredth of the cost.
func (r *Rig) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.http+path, nil)
	if err != nil {
		return fmt.Errorf("asking the job manager: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// Job asks for the status of a job. It fails while no job manager runs.
func (r *Rig) Job(ctx context.Context, id string) (cluster.Job, error) {
	var job cluster.Job
	return job, r.get(ctx, "/v1/jobs/"+id, &job)
}

// WaitFor polls a job until it is as wanted. It outlasts a job manager that is down, and ends early with a
// job that has ended otherwise.
func (r *Rig) WaitFor(ctx context.Context, id, what string, timeout time.Duration, wanted func(*cluster.Job) bool) (cluster.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last cluster.Job
	for {
		job, err := r.Job(ctx, id)
		if err == nil {
			last = job
			if wanted(&job) {
				return job, nil
			}
			if cluster.Terminal(job.State) {
				return job, fmt.Errorf("waiting for job %s to be %s: it ended: %s", id, what, job)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, fmt.Errorf("waited %s for job %s to be %s; it is %s: %w", timeout, id, what, last, errors.Join(err, ctx.Err()))
		}
	}
}

// waitSlots waits until the task managers have offered this many slots.
func (r *Rig) waitSlots(ctx context.Context, slots int) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		have, err := r.slots(ctx)
		if err == nil && have >= slots {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d slots, there are %d: %w", slots, have, errors.Join(err, ctx.Err()))
		}
	}
}

// slots is how many slots the connected task managers have.
func (r *Rig) slots(ctx context.Context) (int, error) {
	var list []struct {
		State string `json:"state"`
		Slots int    `json:"slots"`
	}
	if err := r.get(ctx, "/v1/taskmanagers", &list); err != nil {
		return 0, err
	}
	have := 0
	for _, tm := range list {
		if tm.State == "CONNECTED" {
			have += tm.Slots
		}
	}
	return have, nil
}
