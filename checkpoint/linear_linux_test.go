package checkpoint

import (
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/linear"
)

// A level and an ack of a sink cost about the same in a job of ten times as many subtasks: were all of them looked
// at for each, they would cost ten times as much.
func TestAcksCostTheSameInALargeJob(t *testing.T) {
	linear.Check(t, "a level and an ack of a subtask", func(n int) { drawGated(t, n) })
}

// drawGated draws a checkpoint of n subtasks, each with a transactional sink.
func drawGated(t *testing.T, n int) {
	t.Helper()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fence := ident.Fence{Epoch: 1, Attempt: 1}
	var all []ident.Subtask
	for i := range n {
		all = append(all, ident.Subtask{Vertex: "v", Index: i})
	}
	c := NewCoordinator(Config{Interval: time.Second, Timeout: time.Minute}, Start{Job: "j"})
	c.Step(now, AttemptStarted{Fence: fence, Subtasks: all, Sources: all, Gated: all})
	for _, s := range all {
		if c.pending != nil {
			t.Fatal("a checkpoint was triggered before every sink was ready")
		}
		for _, eff := range c.Step(now, SinkReadiness{Fence: fence, Subtask: s, Ready: 1}) {
			if ids, ok := eff.(ReserveIDs); ok {
				c.Step(now, IDsReserved{Through: ids.Through})
			}
		}
	}
	persisted := false
	for _, s := range all {
		ack := manifest.Ack{Job: "j", Fence: fence, Checkpoint: 1, Subtask: s}
		for _, eff := range c.Step(now, Ack{ack}) {
			_, persist := eff.(Persist)
			persisted = persisted || persist
		}
	}
	if !persisted {
		t.Fatal("all have acknowledged, and nothing is persisted")
	}
}
