package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-stream/sluice/bench/coordination"
	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

func TestTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		times := newTimeline()
		times.begin(2)
		_, changed := times.toldSoFar()
		for i := range 2 {
			time.Sleep(time.Duration(i) * time.Second)
			times.barrier(7)
		}
		times.barrier(8)
		times.committed(7)
		if told, _ := times.toldSoFar(); told != 0 {
			t.Fatalf("one of two subtasks was told, and %d checkpoints count", told)
		}
		time.Sleep(time.Second)
		times.committed(7)
		<-changed
		complete := times.complete()
		if len(complete) != 1 || complete[7].lastBarrier.Sub(began) != time.Second || complete[7].lastCommit.Sub(began) != 2*time.Second {
			t.Errorf("complete are %+v, want only 7, with its barrier after 1 s and its commit after 2 s", complete)
		}
		if times.begin(1); len(times.complete()) != 0 {
			t.Error("the next job sees checkpoints of the one before")
		}
	})
}

func TestJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "jobmanager.log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	for _, part := range []string{
		`{"time":"2026-01-01T00:00:01Z","level":"INFO","msg":"job state","from":"DEPLOYING","to":"RUNNING"}` + "\n" +
			`{"time":"2026-01-01T00:00:02Z","level":"DEBUG","msg":"checkpoint triggered","checkpoint":1}` + "\n" + `{"time":"2026-01-01T00:00:02.5Z","msg":"checkpoint comp`,
		`leted","checkpoint":1,"duration":250000000}` + "\n" + `{"time":"2026-01-01T00:00:03Z","msg":"checkpoint failed","checkpoint":2,"reason":"expired"}` + "\n",
		`{"time":"2026-01-01T00:00:04Z","msg":"task manager lost","reason":"silent"}` + "\n" + `{"time":"2026-01-01T00:00:04Z","msg":"job state","to":"RESTARTING","reason":"tm-1 lost"}` + "\n",
	} {
		if _, err := log.WriteString(part); err != nil {
			t.Fatal(err)
		}
		if err := j.read(); err != nil {
			t.Fatal(err)
		}
	}
	got := fmt.Sprint(j.state["RUNNING"].Second(), j.triggered[1].Second(), j.durable[1], j.failed, j.lost, j.restarts)
	if want := "1 2 250ms [checkpoint 2: expired] [silent] [tm-1 lost]"; got != want {
		t.Errorf("read %q, want %q", got, want)
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	step := func(subtasks int, factor float64) coordination.Step {
		one := func(x float64) figures.Sample { return figures.NewSample([]float64{x}) }
		s := coordination.Step{Subtasks: subtasks, Guarantee: string(graph.AtLeastOnce), DeploymentMs: one(100 * factor), CPUPerCheckpoint: 0.01 * factor, PeakRSSBytes: 200 << 20}
		s.Checkpoints.CommittedMs = one(20 * factor)
		return s
	}
	verdicts := func(steps ...coordination.Step) string {
		var out []string
		for _, g := range coordination.GoalsOf(steps) {
			out = append(out, g.Verdict())
		}
		return strings.Join(out, " ")
	}
	if got := verdicts(step(100, 1), step(1000, 10)); got != "" {
		t.Errorf("small steps have goals: %s", got)
	}
	if got := verdicts(step(1000, 1), step(10_000, 12)); got != "met met met met met met" {
		t.Errorf("a linear rise: %s", got)
	}
	if got := verdicts(step(1000, 1), step(10_000, 60)); got != "MISSED MISSED met MISSED MISSED MISSED" {
		t.Errorf("a rise that is not linear: %s", got)
	}
	failed := step(10_000, 1)
	failed.Failure = "the job has failed"
	if got := verdicts(step(1000, 1), failed); got != "MISSED" {
		t.Errorf("a step with a failure: %s", got)
	}
}

func TestSized(t *testing.T) {
	t.Parallel()
	for subtasks, want := range map[int]string{1: "1 x 1", 10: "1 x 10", 100: "10 x 10", 1000: "100 x 10", 1234: "100 x 13", 10_000: "100 x 100"} {
		s := sized(subtasks, string(graph.AtLeastOnce))
		if got := fmt.Sprintf("%d x %d", s.TaskManagers, s.SlotsPerTaskManager); got != want || s.Slots() < subtasks {
			t.Errorf("%d subtasks run on %s, want %s", subtasks, got, want)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := parseOptions(nil); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for _, bad := range []string{"--steps=0", "--steps=10001", "--guarantees=none", "--checkpoints=0", "--idle=0s"} {
		if _, err := parseOptions([]string{bad}); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestReportWritesAllOfItself(t *testing.T) {
	t.Parallel()
	report := coordination.Report{Benchmark: coordination.Benchmark, Steps: []coordination.Step{{Subtasks: 10, Guarantee: "at-least-once", Failure: "it broke"}}}
	var tables, text strings.Builder
	report.Print(&tables)
	if err := figures.WriteJSON(report, "", &text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(tables.String(), "it broke") {
		t.Errorf("the failure is missing in\n%s", &tables)
	}
	var back coordination.Report
	if err := json.Unmarshal([]byte(text.String()), &back); err != nil || back.Steps[0].Failure != "it broke" || back.Benchmark != coordination.Benchmark {
		t.Errorf("read back %+v, %v", back, err)
	}
}

// A source moves every split once each pace, and tells the positions in its lag; a sink reports what it seals.
func TestConnectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := newTimeline()
		times.begin(1)
		c := &connectors{times: times, pace: time.Second}
		src, err := c.NewSource(nil, operator.SourceContext{Positions: []manifest.Position{{Split: manifest.Split{Source: "in", Topic: "in", Partition: 3}, Next: 5}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- src.Run(ctx) }()
		for next := int64(6); next < 9; next++ {
			if b := <-src.Batches(); b.Next != next || b.Batch.Len() != 1 || b.Split.Partition != 3 {
				t.Errorf("the batch is %+v, want one record before %d", b, next)
			}
		}
		synctest.Wait()
		if lag := src.Lag(); len(lag) != 1 || lag[0].Next != 8 {
			t.Errorf("the lag is %+v", lag)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		out, err := c.NewSink(nil, operator.SinkContext{})
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Seal(t.Context(), ident.CheckpointID(1)); err != nil {
			t.Fatal(err)
		}
		if e := <-out.Sealed(); e.Checkpoint != 1 {
			t.Errorf("sealed is %+v", e)
		}
		out.Completed(1)
		if told, _ := times.toldSoFar(); told != 1 {
			t.Errorf("%d checkpoints are told", told)
		}
	})
}

// TestIdleJobIsTaken: a job without checkpoints for as long as it is watched is not refused for its transactions.
func TestIdleJobIsTaken(t *testing.T) {
	s := &step{broker: &broker{bootstrap: "127.0.0.1:1"}, out: coordination.Step{Subtasks: 10, Guarantee: string(graph.ExactlyOnce)}}
	if found := kafka.CheckJob(s.job(never)); len(found) > 0 {
		t.Error(found)
	}
}
