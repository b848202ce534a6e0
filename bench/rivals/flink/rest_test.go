package flink

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// fakeCluster answers as Flink does, from a table of paths; each answer is given once, the last one for ever.
func fakeCluster(t *testing.T, answers map[string][]string) *Cluster {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list := answers[r.URL.Path]
		if len(list) == 0 {
			http.Error(w, `{"errors":["not found"]}`, http.StatusNotFound)
			return
		}
		if len(list) > 1 {
			answers[r.URL.Path] = list[1:]
		}
		fmt.Fprint(w, list[0])
	}))
	t.Cleanup(server.Close)
	// The job manager is a process that lives longer than the test.
	jm, err := process.Start(process.Spec{Name: JobManagerName, Path: "sleep", Args: []string{"600"}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := jm.Kill9(); err != nil {
			t.Error(err)
		}
	})
	return &Cluster{rest: server.URL, jm: jm, client: http.Client{Timeout: 5 * time.Second}}
}

func TestWaitFinished(t *testing.T) {
	c := fakeCluster(t, map[string][]string{"/jobs/j/status": {`{"status":"CREATED"}`, `{"status":"RUNNING"}`, `{"status":"FINISHED"}`}})
	if err := c.WaitFinished(t.Context(), "j"); err != nil {
		t.Error(err)
	}
	c = fakeCluster(t, map[string][]string{
		"/jobs/j/status":     {`{"status":"FAILED"}`},
		"/jobs/j/exceptions": {`{"exceptionHistory":{"entries":[{"exceptionName":"java.io.IOException","stacktrace":"java.io.IOException: no such topic"}]}}`},
	})
	if err := c.WaitFinished(t.Context(), "j"); err == nil || !strings.Contains(err.Error(), "no such topic") {
		t.Errorf("a failed job: %v", err)
	}
}

// A process that ends by itself ends every wait: what is waited for will not come.
func TestAWaitEndsWithAProcess(t *testing.T) {
	c := fakeCluster(t, map[string][]string{"/overview": {`{"slots-available":0}`}})
	short, err := process.Start(process.Spec{Name: "flink-tm-1", Path: "false", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	<-short.Done()
	c.tms = []*TaskManager{{ID: "flink-tm-1", Process: short}}
	if err := c.WaitFreeSlots(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "flink-tm-1 ended with code 1") {
		t.Errorf("waiting for slots of a task manager that has ended: %v", err)
	}
	c.tms = nil
	if err := c.jm.Kill9(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFreeSlots(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "the job manager ended") {
		t.Errorf("waiting for slots of a job manager that has ended: %v", err)
	}
}

func TestCheckpoints(t *testing.T) {
	c := fakeCluster(t, map[string][]string{"/jobs/j/checkpoints": {
		`{"counts":{"restored":0,"total":8,"in_progress":0,"completed":7,"failed":1},"summary":{"end_to_end_duration":{"min":10,"max":40,"avg":25,"p50":24.5}}}`,
	}})
	got, err := c.Checkpoints(t.Context(), "j")
	if want := (Checkpoints{Completed: 7, Failed: 1, Mean: 25 * time.Millisecond}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := c.Checkpoints(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("an unknown job: %v", err)
	}
}

// Flink calls a job RUNNING while some of its subtasks are not.
func TestWaitRunningCountsSubtasks(t *testing.T) {
	c := fakeCluster(t, map[string][]string{"/jobs/j": {
		`{"state":"RUNNING","vertices":[{"parallelism":4,"status":"RUNNING","tasks":{"RUNNING":4,"SCHEDULED":0}}]}`,
		`{"state":"RUNNING","vertices":[{"parallelism":4,"status":"RUNNING","tasks":{"RUNNING":2,"SCHEDULED":2}}]}`,
		`{"state":"RUNNING","vertices":[{"parallelism":4,"status":"RUNNING","tasks":{"RUNNING":2,"SCHEDULED":2}}]}`,
		`{"state":"RUNNING","vertices":[{"parallelism":4,"status":"RUNNING","tasks":{"RUNNING":4,"SCHEDULED":0}}]}`,
		`{"state":"FINISHED","vertices":[]}`,
	}})
	if err := c.WaitInterrupted(t.Context(), "j"); err != nil {
		t.Error(err)
	}
	if err := c.WaitRunning(t.Context(), "j"); err != nil {
		t.Error(err)
	}
	if err := c.WaitRunning(t.Context(), "j"); err == nil || !strings.Contains(err.Error(), "FINISHED") {
		t.Errorf("a job that is over: %v", err)
	}
}

func TestReaders(t *testing.T) {
	const one = `{"id":"0.Source__in.KafkaSourceReader.topic.orders.partition.1.committedOffset"}`
	c := fakeCluster(t, map[string][]string{
		"/jobs/j":            {`{"state":"RUNNING","vertices":[{"id":"v","parallelism":2}]}`},
		"/jobs/j/vertices/v": {`{"subtasks":[{"subtask":0,"status":"RUNNING","taskmanager-id":"a"},{"subtask":1,"status":"RUNNING","taskmanager-id":"b"}]}`},
		"/jobs/j/vertices/v/metrics": {
			`[]`, `[` + one + `]`,
			`[` + one + `,{"id":"0.numRecordsIn"},{"id":"0.Source__in.KafkaSourceReader.topic.orders.partition.1.currentOffset"},
			  {"id":"1.Source__in.KafkaSourceReader.topic.orders.partition.0.committedOffset"}]`,
		},
	})
	got, err := c.Readers(t.Context(), "j", 2)
	if err != nil || !slices.Equal(got["a"], []int32{1}) || !slices.Equal(got["b"], []int32{0}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestPartitionOf(t *testing.T) {
	for metric, want := range map[string]string{
		"2.Source__in.KafkaSourceReader.topic.a.partition.1.b.partition.13.committedOffset": "2 13 true",
		"2.Source__in.KafkaSourceReader.topic.a.partition.x.committedOffset":                "2 0 false",
		"2.Source__in.KafkaSourceReader.topic.a.partition.1.currentOffset":                  "0 0 false",
		"x.Source__in.KafkaSourceReader.topic.a.partition.1.committedOffset":                "0 0 false",
		"2.numRecordsIn": "0 0 false",
	} {
		index, partition, ok := partitionOf(metric)
		if got := fmt.Sprint(index, partition, ok); got != want {
			t.Errorf("%s: %s, want %s", metric, got, want)
		}
	}
}
