package subtask

import (
	"testing"
	"testing/synctest"

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

func (p *fakePacked) UnpackPieces(most int, do func(*operator.Batch) error) error {
	p.own.Packed, p.own.Arena, p.own.Origins = nil, p.opened.Arena, p.opened.Origins
	for i := range p.opened.Records {
		p.add("piece %d of %d", i, most)
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
		cfg, src, sinks := sourceTask(j, "", position(0, 0, -1))
		task, stop := start(t, cfg)
		expect(t, j, "running")
		src.batches <- operator.SourceBatch{Split: split(0), Next: 2, LeaderEpoch: 2, Batch: packed(j, "x", "y"), Release: func() { j.add("released") }}
		expect(t, j, "piece 0 of 256, a writes x, b writes x, piece 1 of 256, a writes y, b writes y, released, sends x y")
		task.Trigger(1, Periodic)
		expect(t, j, "a seals #1, b seals #1, barrier #1")
		sinks[0].seal(1, "")
		sinks[1].seal(1, "")
		expect(t, j, "ack #1 0@2 count=2  ")
		src.batches <- operator.SourceBatch{Split: split(0), Next: 4, LeaderEpoch: 2, Batch: packed(j, "z", "poison"), Release: func() { j.add("released") }}
		expect(t, j, "piece 0 of 256, a writes z, b writes z, piece 1 of 256, released")
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

// fuser is fused with whatever is behind it, and says so.
type fuser struct{ fakeCount }

func (f *fuser) Fuse(next operator.Operator, named func(error) error) (operator.Operator, bool) {
	return fusedOperator{&f.fakeCount, next, named}, true
}

type fusedOperator struct {
	first, next operator.Operator
	named       func(error) error
}

func (f fusedOperator) Process(b *operator.Batch, out operator.Collector) error {
	f.first.(*fakeCount).add("fused")
	if err := f.first.Process(b, emit(func(*operator.Batch) error { return nil })); err != nil {
		return err
	}
	return f.named(f.next.Process(b, out))
}

// TestFusesNeighbours: an operator is fused with the one behind it if nobody else gets its output; errors keep their node.
func TestFusesNeighbours(t *testing.T) {
	for _, test := range []struct {
		name  string
		nodes []graph.Node
		out   int // the node with an output
		want  string
	}{
		{"alone", []graph.Node{node("f", graph.KindOperator, 0), node("count", graph.KindOperator, 1), node("a", graph.KindSink, 2)}, 2, "fused, a writes x, released, sends x"},
		{"an output beside", []graph.Node{node("f", graph.KindOperator, 0), node("count", graph.KindOperator, 1), node("a", graph.KindSink, 2)}, 1, "a writes x, released, sends x"},
		{"a sink beside", []graph.Node{node("f", graph.KindOperator, 0), node("count", graph.KindOperator, 1), node("a", graph.KindSink, 1)}, 2, "a writes x, released, sends x"},
		{"a sink behind", []graph.Node{node("f", graph.KindOperator, 0), node("a", graph.KindSink, 1), node("count", graph.KindOperator, 0)}, 3, "a writes x, released, sends x"},
	} {
		bubble(t, func(t *testing.T, j *journal) {
			cfg, src, _ := sourceTask(j, "", position(0, 0, -1))
			cfg.Vertex.Nodes = append([]graph.Node{sourceNode("")}, test.nodes...)
			cfg.Operators = map[string]operator.Operator{"f": &fuser{fakeCount{journal: j}}, "count": &fakeCount{journal: j}}
			cfg.Outputs[0].Node = test.out
			_, stop := start(t, cfg)
			expect(t, j, "running")
			src.deliver(0, 1, "x")
			expect(t, j, test.want)
			src.deliver(0, 2, "poison")
			synctest.Wait()
			want := "subtask src/0, f: record is poison"
			if err := stop(); err == nil || err.Error() != want {
				t.Errorf("%s: the task ended with %v, want %s", test.name, err, want)
			}
		})
	}
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, _ := sourceTask(j, "", position(0, 0, -1))
		cfg.Vertex.Nodes = []graph.Node{sourceNode(""), node("f", graph.KindOperator, 0), node("count", graph.KindOperator, 1), node("a", graph.KindSink, 2)}
		cfg.Operators = map[string]operator.Operator{"f": &fuser{fakeCount{journal: j}}, "count": failingOperator{}}
		cfg.Outputs[0].Node = 2
		_, stop := start(t, cfg)
		expect(t, j, "running")
		src.deliver(0, 1, "x")
		synctest.Wait()
		if err := stop(); err == nil || err.Error() != "subtask src/0, count: record is poison" {
			t.Errorf("the task ended with %v", err)
		}
	})
}

type failingOperator struct{}

func (failingOperator) Process(*operator.Batch, operator.Collector) error { return poisonError{} }
