package subtask

import (
	"testing"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// keepingSource is a fakeSource that keeps its offsets itself.
type keepingSource struct{ *fakeSource }

// Accept refuses what begins at 1000.
func (s keepingSource) Accept(b *operator.SourceBatch) bool { return b.From != 1000 }

func (s keepingSource) Taken(b *operator.SourceBatch) {
	s.add("source: taken %d@%d", b.Split.Partition, b.Next)
}
func (s keepingSource) Barrier(id ident.CheckpointID)   { s.add("source: barrier #%d", id) }
func (s keepingSource) Completed(id ident.CheckpointID) { s.add("source hears of #%d", id) }

var _ operator.OffsetKeeper = keepingSource{}

// TestSourceThatKeepsItsOffsets hears what the chain has taken, where barriers stand and what is complete; its splits
// are unknown to the subtask and in no ack.
func TestSourceThatKeepsItsOffsets(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, sinks := sourceTask(j, "")
		cfg.Source = keepingSource{src}
		task, stop := start(t, cfg)
		expect(t, j, "running")
		src.deliver(1, 5, "x", "y")
		expect(t, j, "a writes x y, b writes x y, source: taken 1@5, released, sends x y")
		task.Trigger(1, Periodic)
		expect(t, j, "source: barrier #1, a seals #1, b seals #1, barrier #1")
		sinks[0].seal(1, "t")
		sinks[1].seal(1, "u")
		expect(t, j, "ack #1 count=2 t u")
		task.Completed(1)
		expect(t, j, "source hears of #1, a hears of #1, b hears of #1")
		src.batches <- operator.SourceBatch{Split: split(1), From: 1000, Next: 1001, Release: func() { src.add("released unseen") }}
		expect(t, j, "released unseen")
		src.deliver(1, 3, "z") // back again after the partition was elsewhere
		expect(t, j, "a writes z, b writes z, source: taken 1@3, released, sends z")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}
