package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// Job is what a test looks at in `sluice job NAME -o json`. It is written after the contract, not
// taken from the program, so that a renamed field is noticed.
type Job struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	State    string `json:"state"`
	Attempt  int64  `json:"attempt"`
	Restarts int64  `json:"restarts"`
	Slots    struct {
		Needed       int    `json:"needed"`
		Held         int    `json:"held"`
		Free         int    `json:"free"`
		WaitingSince string `json:"waitingSince"`
		Explain      string `json:"explain"`
	} `json:"slots"`
	Vertices []struct {
		Name     string `json:"name"`
		Subtasks []struct {
			Index       int    `json:"index"`
			State       string `json:"state"`
			TaskManager string `json:"taskmanager"`
			RecordsIn   int64  `json:"recordsIn"`
			RecordsOut  int64  `json:"recordsOut"`
			// Skipped, DeadLettered and Failed are the records that did not come out.
			Skipped      int64 `json:"recordsSkipped"`
			DeadLettered int64 `json:"recordsDeadLettered"`
			Failed       int64 `json:"recordsFailed"`
		} `json:"subtasks"`
	} `json:"vertices"`
	Checkpoints struct {
		Completed int64       `json:"completed"`
		Failed    int64       `json:"failed"`
		Restored  int64       `json:"restored"`
		Latest    *Checkpoint `json:"latest"`
	} `json:"checkpoints"`
	// Waiting is what the job, or one of its subtasks, waits for.
	Waiting      []string `json:"waiting"`
	Publications []struct {
		Source       string `json:"source"`
		Storage      string `json:"storage"`
		Checkpoint   int64  `json:"checkpoint"`
		PublishedAt  string `json:"publishedAt"`
		Error        string `json:"error"`
		FailingSince string `json:"failingSince"`
	} `json:"publications"`
	Failure *struct {
		Class   string `json:"class"`
		Message string `json:"message"`
		Subtask string `json:"subtask"`
	} `json:"failure"`
}

// Checkpoint is a completed checkpoint. Offsets is source → topic → partition → next offset.
type Checkpoint struct {
	ID         int64                                  `json:"id"`
	DurationMs int64                                  `json:"durationMs"`
	SizeBytes  int64                                  `json:"sizeBytes"`
	Committed  bool                                   `json:"committed"`
	Offsets    map[string]map[string]map[string]int64 `json:"offsets"`
}

// LatestID is the id of the newest completed checkpoint; 0 before the first.
func (j *Job) LatestID() int64 {
	if j.Checkpoints.Latest == nil {
		return 0
	}
	return j.Checkpoints.Latest.ID
}

// Job asks the command line for the status of a job.
func (c *Cluster) Job(tb testing.TB, name string) Job {
	tb.Helper()
	var job Job
	if err := json.Unmarshal([]byte(c.MustSluice(tb, "job", name, "-o", "json")), &job); err != nil {
		tb.Fatalf("sluice job %s: %v", name, err)
	}
	return job
}

// poll asks the HTTP API, which says the same as the command line at a hundredth of the cost. It fails
// while no job manager runs.
func (c *Cluster) poll(name string) (Job, error) {
	var job Job
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get("http://" + c.HTTPAddr() + "/v1/jobs/" + name)
	if err != nil {
		return job, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return job, fmt.Errorf("GET /v1/jobs/%s: %s", name, response.Status)
	}
	return job, json.NewDecoder(response.Body).Decode(&job)
}

// pollEvery is how often a status is asked for while a test waits.
const pollEvery = 20 * time.Millisecond

// WaitFor polls the job until it is as wanted. It fails the test after the timeout, or as soon as the
// job has ended otherwise. It outlasts a job manager that is down.
func (c *Cluster) WaitFor(tb testing.TB, name, what string, timeout time.Duration, wanted func(*Job) bool) Job {
	tb.Helper()
	deadline := time.Now().Add(timeout)
	for {
		job, err := c.poll(name)
		if err == nil && wanted(&job) {
			return job
		}
		if err == nil && Terminal(job.State) || time.Now().After(deadline) {
			tb.Fatalf("waited at most %s for job %s to be %s; it is %s (%v)", timeout, name, what, job, err)
		}
		time.Sleep(pollEvery)
	}
}

// String is the part of the status that explains a test that waits in vain.
func (j Job) String() string {
	text, err := json.Marshal(j)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// WaitState waits until the job is in one of the states.
func (c *Cluster) WaitState(tb testing.TB, name, state string, timeout time.Duration) Job {
	tb.Helper()
	return c.WaitFor(tb, name, state, timeout, func(j *Job) bool { return j.State == state })
}

// WaitCheckpoint waits until a checkpoint newer than the given id is complete while the job runs.
func (c *Cluster) WaitCheckpoint(tb testing.TB, name string, after int64, timeout time.Duration) Job {
	tb.Helper()
	return c.WaitFor(tb, name, "past a checkpoint", timeout, func(j *Job) bool { return j.State == "RUNNING" && j.LatestID() > after })
}

// Terminal tells whether a job in this state never runs again.
func Terminal(state string) bool {
	switch state {
	case "FINISHED", "STOPPED", "CANCELED", "FAILED", "FAILED_DATA_LOSS":
		return true
	default:
		return false
	}
}
