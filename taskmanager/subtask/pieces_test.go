package subtask

import (
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// fakePacked opens into its own batch, a record at a time if asked for pieces.
type fakePacked struct {
	own    operator.Batch
	opened *operator.Batch
	*journal
}

func packed(j *journal, values ...string) *operator.Batch {
	p := &fakePacked{opened: batchOf(0, 0, values...), journal: j}
	p.own.Packed = p
	return &p.own
}

func (p *fakePacked) Count() int     { return len(p.opened.Records) }
func (p *fakePacked) SizeBytes() int { return 1 }

func (p *fakePacked) Unpack(b *operator.Batch) error {
	p.add("opened")
	b.Records, b.Arena, b.Origins = p.opened.Records, p.opened.Arena, p.opened.Origins
	return nil
}

func (p *fakePacked) UnpackPieces(_ int, do func(*operator.Batch) error) error {
	p.own.Packed, p.own.Arena, p.own.Origins = nil, p.opened.Arena, p.opened.Origins
	for i := range p.opened.Records {
		p.add("piece %d", i)
		p.own.Records = p.opened.Records[i : i+1]
		if err := do(&p.own); err != nil {
			return err
		}
	}
	return nil
}

// TestPieces: an operator next to the source gets a batch piece by piece; the position moves when all of it is through.
func TestPieces(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, _ := sourceTask(j, "", position(0, 0, -1))
		task, stop := start(t, cfg)
		expect(t, j, "running")
		src.batches <- operator.SourceBatch{Split: split(0), Next: 2, LeaderEpoch: 2, Batch: packed(j, "x", "y"), Release: func() { j.add("released") }}
		expect(t, j, "piece 0, a writes x, b writes x, piece 1, a writes y, b writes y, released, sends x y")
		src.batches <- operator.SourceBatch{Split: split(0), Next: 4, LeaderEpoch: 2, Batch: packed(j, "z", "poison"), Release: func() { j.add("released") }}
		expect(t, j, "piece 0, a writes z, b writes z, piece 1, released")
		if got := task.Counters(); got.RecordsIn.Load() != 4 {
			t.Errorf("%d records in, want 4", got.RecordsIn.Load())
		}
		if err := stop(); err == nil || err.Error() != "subtask src/0, count: record is poison" {
			t.Errorf("the task ended with %v", err)
		}
	})
}

// TestSinkGetsPacked: a sink next to the source may pass batches on unopened; who opens them does so for all.
func TestSinkGetsPacked(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, _ := sourceTask(j, "", position(0, 0, -1))
		cfg.Vertex.Nodes = []graph.Node{sourceNode(""), node("a", graph.KindSink, 0), node("count", graph.KindOperator, 0), node("b", graph.KindSink, 2)}
		cfg.Outputs[0].Node = 2
		_, stop := start(t, cfg)
		expect(t, j, "running")
		src.batches <- operator.SourceBatch{Split: split(0), Next: 2, LeaderEpoch: 2, Batch: packed(j, "x", "y"), Release: func() { j.add("released") }}
		expect(t, j, "a writes , opened, b writes x y, released, sends x y")
		_ = stop()
	})
}
