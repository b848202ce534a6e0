package subtask

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// expect waits until nothing moves any more and compares what has happened.
func expect(t *testing.T, j *journal, want string) {
	t.Helper()
	synctest.Wait()
	if got := j.take(); got != want {
		t.Fatalf("happened: %s\n     want: %s", got, want)
	}
}

// sourceTask is src -> count -> {sink a, sink b, an output}.
func sourceTask(j *journal, mode graph.BoundMode, at ...manifest.Position) (Config, *fakeSource, []*fakeSink) {
	src, sinks := newFakeSource(j), []*fakeSink{newFakeSink("a", j), newFakeSink("b", j)}
	return Config{
		Vertex: graph.Vertex{Nodes: []graph.Node{
			sourceNode(mode), node("count", graph.KindOperator, 0), node("a", graph.KindSink, 1), node("b", graph.KindSink, 1),
		}},
		Source: src, Operators: map[string]operator.Operator{"count": &fakeCount{journal: j}},
		Sinks:   map[string]operator.Sink{"a": sinks[0], "b": sinks[1]},
		Outputs: []NodeOutput{{Node: 1, Output: &fakeOutput{journal: j}}}, Positions: at, Reporter: fakeReporter{j},
	}, src, sinks
}

// bubble runs a test where time stands still until all wait.
func bubble(t *testing.T, test func(*testing.T, *journal)) {
	synctest.Test(t, func(t *testing.T) { test(t, &journal{}) })
}

func TestCheckpointOfASource(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, sinks := sourceTask(j, "", position(0, 10, -1), position(1, 5, -1))
		cfg.State = []Piece{{"count", []byte("100")}, {"count", []byte("20")}}
		task, stop := start(t, cfg)
		expect(t, j, "running")
		if task.cfg.State != nil {
			t.Error("the restored state is kept twice")
		}
		src.deliver(0, 12, "x", "y")
		expect(t, j, "a writes x y, b writes x y, released, sends x y")
		task.Trigger(1, Periodic)
		expect(t, j, "a seals #1, b seals #1, barrier #1")
		src.deliver(1, 9) // a position may move without records, and the flow goes on before the ack
		src.deliver(0, 13, "z")
		expect(t, j, "released, a writes z, b writes z, released, sends z")
		sinks[1].seal(1, "txB")
		expect(t, j, "")
		sinks[0].seal(1, "txA")
		expect(t, j, "ack #1 0@12 1@5 count=122 txA txB")
		task.Completed(1)
		expect(t, j, "a hears of #1, b hears of #1")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		c := task.Counters()
		if c.RecordsIn.Load() != 3 || c.RecordsOut.Load() != 9 || c.BytesIn.Load() != 6 || c.BytesOut.Load() != 18 {
			t.Fatalf("counted %d in, %d out, %d and %d bytes", c.RecordsIn.Load(), c.RecordsOut.Load(), c.BytesIn.Load(), c.BytesOut.Load())
		}
	})
}

func TestRepeatedLateAndAbortedTriggers(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, _, sinks := sourceTask(j, "", position(0, 0, -1))
		task, _ := start(t, cfg)
		task.Trigger(2, Periodic)
		expect(t, j, "running, a seals #2, b seals #2, barrier #2")
		task.Trigger(2, Periodic)
		task.Trigger(1, Periodic)
		expect(t, j, "")
		task.Abort(2)
		synctest.Wait()
		sinks[0].seal(2, "t2")
		sinks[1].seal(2, "t2")
		expect(t, j, "") // nobody waits for this ack any more
		task.Abort(3)
		task.Trigger(3, Final) // overtaken by its abort: it must not stop the source either
		expect(t, j, "")
		task.Trigger(4, Periodic)
		synctest.Wait() // sinks seal after Seal
		sinks[0].seal(4, "t4")
		sinks[1].seal(4, "u4")
		expect(t, j, "a seals #4, b seals #4, barrier #4, ack #4 0@0 count=0 t4 u4")
	})
}

func TestNewerCheckpointDeclinesThePendingAck(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, sinks := sourceTask(j, "", position(0, 0, -1))
		task, _ := start(t, cfg)
		task.Trigger(1, Periodic)
		expect(t, j, "running, a seals #1, b seals #1, barrier #1")
		sinks[0].seal(1, "t1")
		src.deliver(0, 1, "x")
		expect(t, j, "a writes x, b writes x, released, sends x")
		task.Trigger(2, Periodic)
		expect(t, j, "decline #1 (checkpoint 2 came before the sinks had sealed 1), a seals #2, b seals #2, barrier #2")
		sinks[1].seal(1, "late")
		sinks[1].seal(2, "t2b")
		sinks[0].seal(2, "t2a")
		expect(t, j, "ack #2 0@1 count=1 t2a t2b")
	})
}

func TestFinalCheckpointStopsTheSource(t *testing.T) {
	for kind, want := range map[Kind]string{
		Final: "running, a seals #1, b seals #1, barrier #1",
		Drain: "running, end, a seals #1, b seals #1, barrier #1",
	} {
		t.Run(kind.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, j *journal) {
				cfg, src, sinks := sourceTask(j, "", position(0, 0, -1))
				task, _ := start(t, cfg)
				task.Trigger(1, kind)
				expect(t, j, want)
				src.deliver(0, 1, "x")
				expect(t, j, "")
				task.Abort(1) // it failed: the next one finds the same position, and no second end
				task.Trigger(2, kind)
				synctest.Wait()
				sinks[0].seal(2, "t")
				sinks[1].seal(2, "u")
				expect(t, j, "a seals #2, b seals #2, barrier #2, ack #2 0@0 count=0 t u")
			})
		})
	}
}

func TestBoundedSourceEndsItsDataAndStays(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, sinks := sourceTask(j, graph.BoundLatest, position(0, 0, 2), position(1, 3, 3))
		task, _ := start(t, cfg)
		src.deliver(0, 1, "x")
		expect(t, j, "running, a writes x, b writes x, released, sends x")
		src.deliver(0, 2, "y")
		expect(t, j, "a writes y, b writes y, sends y, end, at end, released")
		task.Trigger(1, Final)
		synctest.Wait()
		sinks[0].seal(1, "t")
		sinks[1].seal(1, "u")
		expect(t, j, "a seals #1, b seals #1, barrier #1, ack #1 0@2 1@3 count=2 t u")
	})
}

func TestBoundedSourceWithNothingToRead(t *testing.T) {
	for name, at := range map[string][]manifest.Position{"no splits": nil, "restored at its bound": {position(0, 7, 7)}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, j *journal) {
				cfg, _, _ := sourceTask(j, graph.BoundOffsets, at...)
				task, _ := start(t, cfg)
				expect(t, j, "running, end, at end")
				task.Trigger(1, Periodic)
				expect(t, j, "a seals #1, b seals #1, barrier #1")
			})
		})
	}
}

func TestUnboundedSourceWithoutSplitsOnlyForwardsBarriers(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, _, _ := sourceTask(j, graph.BoundNone)
		task, _ := start(t, cfg)
		expect(t, j, "running")
		task.Trigger(1, Periodic)
		expect(t, j, "a seals #1, b seals #1, barrier #1")
	})
}

// A sink that does not take more holds the source back; control waits for the batch in hand only.
func TestSlowSinkHoldsTheSourceBack(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, sinks := sourceTask(j, "", position(0, 0, -1))
		sinks[0].gate = make(chan struct{})
		task, stop := start(t, cfg)
		task.Trigger(1, Periodic)
		expect(t, j, "running, a seals #1, b seals #1, barrier #1")
		src.deliver(0, 1, "x")
		src.deliver(0, 2, "y")
		task.Trigger(2, Periodic)
		expect(t, j, "")
		if n := len(src.batches); n != 1 {
			t.Fatalf("%d batches wait in the source, want 1", n)
		}
		if err := stop(); err != nil { // ends although a sink blocks
			t.Fatal(err)
		}
	})
}

func TestSnapshotThatFailsDeclines(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, _, _ := sourceTask(j, "", position(0, 0, -1))
		cfg.Operators["count"] = &fakeCount{err: errors.New("no memory"), journal: j}
		task, _ := start(t, cfg)
		task.Trigger(1, Periodic)
		expect(t, j, "running, a seals #1, b seals #1, barrier #1, decline #1 (snapshot of count: no memory)")
	})
}

func TestFailuresNameTheirPlaceAndClass(t *testing.T) {
	tests := map[string]struct {
		cause       func(*fakeSource)
		class, text string
	}{
		"user":   {func(s *fakeSource) { s.deliver(0, 1, "poison") }, ClassUser, "subtask src/0, count: record is poison"},
		"panic":  {func(s *fakeSource) { s.deliver(0, 1, "panic") }, ClassInternal, "subtask src/0: panic: a bug"},
		"source": {func(s *fakeSource) { s.fail <- errors.New("broker gone") }, ClassInternal, "subtask src/0: broker gone"},
		"early":  {func(s *fakeSource) { s.fail <- nil }, ClassInternal, "it ended by itself"},
		"split":  {func(s *fakeSource) { s.deliver(9, 1, "x") }, ClassInternal, "t/9, which is not among its 1 splits"},
		"back":   {func(s *fakeSource) { s.deliver(0, -1) }, ClassInternal, "went back on t/0 from offset 0 to -1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, j *journal) {
				cfg, src, _ := sourceTask(j, "", position(0, 0, -1))
				cfg.Subtask.Vertex, cfg.Vertex.Name, cfg.Vertex.Parallelism = "src", "src", 1
				task, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				test.cause(src)
				err = task.Run(t.Context())
				if err == nil || Class(err) != test.class || !strings.Contains(err.Error(), test.text) {
					t.Fatalf("ended with class %s: %v", Class(err), err)
				}
			})
		})
	}
}

func TestRestoreOfUnknownStateFails(t *testing.T) {
	cfg, _, _ := sourceTask(&journal{}, "", position(0, 0, -1))
	cfg.State = []Piece{{"gone", []byte("1")}}
	task, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "restore gone: there is no such operator with state") {
		t.Fatalf("ended with %v", err)
	}
}

func TestNewRefusesWhatCannotRun(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"operator count is missing": func(c *Config) { delete(c.Operators, "count") },
		"sink b is missing":         func(c *Config) { delete(c.Sinks, "b") },
		"want a source at the head": func(c *Config) { c.Source = nil },
		"no reporter":               func(c *Config) { c.Reporter = nil },
		"an output of node 9":       func(c *Config) { c.Outputs[0].Node = 9 },
		"node a has the parent 7":   func(c *Config) { c.Vertex.Nodes[2].Parent = 7 },
		"the vertex has no nodes":   func(c *Config) { c.Vertex.Nodes = nil },
	} {
		cfg, _, _ := sourceTask(&journal{}, "")
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}
