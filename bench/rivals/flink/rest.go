package flink

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// entryClass is the Java program that makes every kind of job.
const entryClass = "sluice.bench.Job"

// The states of a job that end a wait.
const (
	stateRunning  = "RUNNING"
	stateFinished = "FINISHED"
	stateFailed   = "FAILED"
	stateCanceled = "CANCELED"
)

// Checkpoints are those of one job.
type Checkpoints struct {
	Completed int64
	Failed    int64
	Mean      time.Duration // from the trigger to the last acknowledgement
}

// call asks the REST API; body and answer may be nil.
func (c *Cluster) call(ctx context.Context, method, path string, body, answer any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("writing the request %s: %w", path, err)
		}
		content = bytes.NewReader(text)
	}
	return c.send(ctx, method, path, "application/json", content, answer)
}

func (c *Cluster) send(ctx context.Context, method, path, contentType string, body io.Reader, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.rest+path, body)
	if err != nil {
		return fmt.Errorf("making the request %s: %w", path, err)
	}
	request.Header.Set("Content-Type", contentType)
	response, err := c.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking Flink: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("reading Flink's answer to %s: %w", path, err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("asking Flink: %s %s is answered with %s: %s", method, path, response.Status, text)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("reading Flink's answer to %s: %w", path, err)
	}
	return nil
}

// waitSlots waits until the REST API answers and so many slots are free.
func (c *Cluster) waitSlots(ctx context.Context, want int) error {
	for {
		var overview struct {
			Free int `json:"slots-available"`
		}
		err := c.call(ctx, http.MethodGet, "/overview", nil, &overview)
		if err == nil && overview.Free >= want {
			return nil
		}
		if pauseErr := c.pause(ctx); pauseErr != nil {
			return fmt.Errorf("waiting for %d free slots of Flink, %d are (%v): %w\n%s", want, overview.Free, err, pauseErr, c.Logs())
		}
	}
}

// WaitFreeSlots waits until so many slots are free.
func (c *Cluster) WaitFreeSlots(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return c.waitSlots(ctx, want)
}

// WaitRegistered waits until the job manager knows a task manager.
func (c *Cluster) WaitRegistered(ctx context.Context, tm *TaskManager) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		var list struct {
			TaskManagers []struct {
				ID string `json:"id"`
			} `json:"taskmanagers"`
		}
		if err := c.call(ctx, http.MethodGet, "/taskmanagers", nil, &list); err != nil {
			return err
		}
		for _, known := range list.TaskManagers {
			if known.ID == tm.ID {
				return nil
			}
		}
		if err := c.pause(ctx); err != nil {
			return fmt.Errorf("waiting for %s: %w\n%s", tm.ID, err, c.Logs())
		}
	}
}

// pause waits for the next poll; a process that is gone, and was not killed by Kill9, ends every wait.
func (c *Cluster) pause(ctx context.Context) error {
	for _, tm := range c.tms {
		if !tm.Process.Running() {
			return fmt.Errorf("%s ended with code %d", tm.ID, tm.Process.ExitCode())
		}
	}
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.jm.Done():
		return fmt.Errorf("the job manager ended with code %d", c.jm.ExitCode())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// upload hands the jar of the jobs in, as a user would.
func (c *Cluster) upload(ctx context.Context) error {
	path, err := c.options.Distribution.jobJar()
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the jar of the jobs: %w", err)
	}
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	part, err := writer.CreateFormFile("jarfile", filepath.Base(path))
	if err != nil {
		return fmt.Errorf("writing the upload: %w", err)
	}
	if _, err := part.Write(content); err != nil {
		return fmt.Errorf("writing the upload: %w", err)
	}
	if err := writer.Close(); err != nil {
		return fmt.Errorf("writing the upload: %w", err)
	}
	var answer struct {
		Filename string `json:"filename"`
	}
	if err := c.send(ctx, http.MethodPost, "/jars/upload", writer.FormDataContentType(), &form, &answer); err != nil {
		return err
	}
	c.jar = filepath.Base(answer.Filename)
	return nil
}

// Submit submits a job and returns its id.
func (c *Cluster) Submit(ctx context.Context, job Job) (string, error) {
	if err := job.check(); err != nil {
		return "", fmt.Errorf("a %s job for Flink: %w", job.Kind, err)
	}
	request := map[string]any{"entryClass": entryClass, "programArgsList": job.arguments(filepath.Join(c.dir, "checkpoints"))}
	var answer struct {
		JobID string `json:"jobid"`
	}
	if err := c.call(ctx, http.MethodPost, "/jars/"+c.jar+"/run", request, &answer); err != nil {
		return "", fmt.Errorf("%w\n%s", err, c.Logs())
	}
	return answer.JobID, nil
}

// WaitFinished waits until a bounded job has finished; any other end is an error.
func (c *Cluster) WaitFinished(ctx context.Context, id string) error {
	for {
		state, err := c.state(ctx, id)
		if err != nil {
			return err
		}
		switch state {
		case stateFinished:
			return nil
		case stateFailed, stateCanceled:
			return fmt.Errorf("the job of Flink is %s, want %s: %s\n%s", state, stateFinished, c.failure(ctx, id), c.Logs())
		}
		if err := c.pause(ctx); err != nil {
			return fmt.Errorf("waiting for Flink's job to finish, it is %s: %w\n%s", state, err, c.Logs())
		}
	}
}

// state asks the job itself; the longer answer of /jobs/ID comes from a cache.
func (c *Cluster) state(ctx context.Context, id string) (string, error) {
	var answer struct {
		Status string `json:"status"`
	}
	err := c.call(ctx, http.MethodGet, "/jobs/"+id+"/status", nil, &answer)
	return answer.Status, err
}

// failure is the newest failure of a job, for messages.
func (c *Cluster) failure(ctx context.Context, id string) string {
	var answer struct {
		History struct {
			Entries []struct {
				Stacktrace string `json:"stacktrace"`
			} `json:"entries"`
		} `json:"exceptionHistory"`
	}
	if err := c.call(ctx, http.MethodGet, "/jobs/"+id+"/exceptions?maxExceptions=1", nil, &answer); err != nil {
		return err.Error()
	}
	if len(answer.History.Entries) == 0 {
		return "no exception is known"
	}
	return answer.History.Entries[0].Stacktrace
}

// Cancel cancels a job and waits for its end.
func (c *Cluster) Cancel(ctx context.Context, id string) error {
	if err := c.call(ctx, http.MethodPatch, "/jobs/"+id+"?mode=cancel", nil, nil); err != nil {
		return err
	}
	for {
		state, err := c.state(ctx, id)
		if err != nil {
			return err
		}
		if state == stateCanceled || state == stateFailed || state == stateFinished {
			return nil
		}
		if err := c.pause(ctx); err != nil {
			return fmt.Errorf("waiting for Flink's job to be cancelled, it is %s: %w", state, err)
		}
	}
}

// Checkpoints says how many a job has completed and how long they took.
func (c *Cluster) Checkpoints(ctx context.Context, id string) (Checkpoints, error) {
	var answer struct {
		Counts struct {
			Completed int64 `json:"completed"`
			Failed    int64 `json:"failed"`
		} `json:"counts"`
		Summary struct {
			Duration struct {
				AvgMs float64 `json:"avg"`
			} `json:"end_to_end_duration"`
		} `json:"summary"`
	}
	if err := c.call(ctx, http.MethodGet, "/jobs/"+id+"/checkpoints", nil, &answer); err != nil {
		return Checkpoints{}, err
	}
	return Checkpoints{
		Completed: answer.Counts.Completed, Failed: answer.Counts.Failed,
		Mean: time.Duration(answer.Summary.Duration.AvgMs * float64(time.Millisecond)),
	}, nil
}

// subtask is one of the first vertex, which reads.
type subtask struct {
	Index       int    `json:"subtask"`
	Status      string `json:"status"`
	TaskManager string `json:"taskmanager-id"`
}

// Running says how many subtasks of a job run, and how many there are. Flink says that a job is RUNNING while some of
// its subtasks are not.
func (c *Cluster) Running(ctx context.Context, id string) (running, all int, err error) {
	var job struct {
		State    string `json:"state"`
		Vertices []struct {
			Parallelism int            `json:"parallelism"`
			Tasks       map[string]int `json:"tasks"`
		} `json:"vertices"`
	}
	if err := c.call(ctx, http.MethodGet, "/jobs/"+id, nil, &job); err != nil {
		return 0, 0, err
	}
	if slices.Contains([]string{stateFailed, stateFinished, stateCanceled}, job.State) {
		return 0, 0, fmt.Errorf("the job of Flink is %s: %s", job.State, c.failure(ctx, id))
	}
	for _, v := range job.Vertices {
		running += v.Tasks[stateRunning]
		all += v.Parallelism
	}
	return running, all, nil
}

// WaitRunning waits until every subtask of a job runs.
func (c *Cluster) WaitRunning(ctx context.Context, id string) error {
	return c.waitSubtasks(ctx, id, "run", func(running, all int) bool { return all > 0 && running == all })
}

// WaitInterrupted waits until some subtask of a job does not run.
func (c *Cluster) WaitInterrupted(ctx context.Context, id string) error {
	return c.waitSubtasks(ctx, id, "be interrupted", func(running, all int) bool { return running < all })
}

func (c *Cluster) waitSubtasks(ctx context.Context, id, what string, wanted func(running, all int) bool) error {
	for {
		running, all, err := c.Running(ctx, id)
		if err != nil {
			return fmt.Errorf("waiting for Flink's job to %s: %w", what, err)
		}
		if wanted(running, all) {
			return nil
		}
		if err := c.pause(ctx); err != nil {
			return fmt.Errorf("waiting for Flink's job to %s, %d of %d subtasks run: %w\n%s", what, running, all, err, c.Logs())
		}
	}
}

// Readers lists which partitions of the source each task manager reads, by the id of the task manager. It waits until
// the metrics of the sources tell of that many.
func (c *Cluster) Readers(ctx context.Context, id string, partitions int) (map[string][]int32, error) {
	for {
		readers, found, err := c.readers(ctx, id)
		if err != nil {
			return nil, err
		}
		if found == partitions {
			return readers, nil
		}
		if err := c.pause(ctx); err != nil {
			return nil, fmt.Errorf("waiting for the metrics of %d partitions, %d are there: %w", partitions, found, err)
		}
	}
}

func (c *Cluster) readers(ctx context.Context, id string) (readers map[string][]int32, found int, err error) {
	var job struct {
		Vertices []struct {
			ID string `json:"id"`
		} `json:"vertices"`
	}
	if err := c.call(ctx, http.MethodGet, "/jobs/"+id, nil, &job); err != nil {
		return nil, 0, err
	}
	if len(job.Vertices) == 0 {
		return nil, 0, nil
	}
	vertex := "/jobs/" + id + "/vertices/" + job.Vertices[0].ID
	var detail struct {
		Subtasks []subtask `json:"subtasks"`
	}
	if err := c.call(ctx, http.MethodGet, vertex, nil, &detail); err != nil {
		return nil, 0, err
	}
	var metrics []struct {
		ID string `json:"id"`
	}
	if err := c.call(ctx, http.MethodGet, vertex+"/metrics", nil, &metrics); err != nil {
		return nil, 0, err
	}
	readers = map[string][]int32{}
	for _, m := range metrics {
		index, partition, ok := partitionOf(m.ID)
		if !ok {
			continue
		}
		for _, s := range detail.Subtasks {
			if s.Index == index {
				readers[s.TaskManager] = append(readers[s.TaskManager], partition)
				found++
			}
		}
	}
	return readers, found, nil
}

// partitionOf reads the index of a subtask and the partition from the name of a metric like
// 2.Source__in.KafkaSourceReader.topic.orders.partition.3.committedOffset.
func partitionOf(metric string) (index int, partition int32, ok bool) {
	rest, ok := strings.CutSuffix(metric, ".committedOffset")
	if !ok {
		return 0, 0, false
	}
	first, _, _ := strings.Cut(rest, ".")
	rest, last, ok := cutLast(rest, ".partition.")
	if !ok || !strings.Contains(rest, ".KafkaSourceReader.topic.") {
		return 0, 0, false
	}
	index, err := strconv.Atoi(first)
	if err != nil {
		return 0, 0, false
	}
	p, err := strconv.ParseInt(last, 10, 32)
	return index, int32(p), err == nil
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}
