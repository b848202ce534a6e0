package subtask

import (
	"context"
	"errors"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/taskmanager/exchange"
)

// inputsTask is count -> output with two inputs, which the test feeds through real local channels.
func inputsTask(t *testing.T, j *journal) (Config, []*exchange.Output) {
	t.Helper()
	p := &graph.Physical{
		Vertices:       []graph.Vertex{{Name: "from", Parallelism: 2}, {Name: "count", Parallelism: 1}},
		Edges:          []graph.Edge{{From: "from", To: "count", Partitioning: graph.Rebalance}},
		MaxParallelism: graph.DefaultMaxParallelism,
	}
	me, self := exchange.Peer{Worker: "tm-1"}, ident.Subtask{Vertex: "count"}
	senders := []ident.Subtask{{Vertex: "from"}, {Vertex: "from", Index: 1}}
	a, err := exchange.NewNetwork(exchange.Config{Worker: "tm-1"}).NewAttempt(exchange.AttemptConfig{
		Job: "job", Graph: p, Placements: map[ident.Subtask]exchange.Peer{self: me, senders[0]: me, senders[1]: me},
	})
	if err != nil {
		t.Fatal(err)
	}
	in, err := a.Inputs(self)
	if err != nil {
		t.Fatal(err)
	}
	var outputs []*exchange.Output
	for _, s := range senders {
		o, err := a.Output(s, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, o)
	}
	return Config{
		Vertex: graph.Vertex{Nodes: []graph.Node{node("count", graph.KindOperator, -1)}}, Inputs: in,
		Operators: map[string]operator.Operator{"count": &fakeCount{journal: j}},
		Outputs:   []NodeOutput{{Output: &fakeOutput{journal: j}}}, Reporter: fakeReporter{j},
	}, outputs
}

func must(t *testing.T, err ...error) {
	t.Helper()
	if err := errors.Join(err...); err != nil {
		t.Fatal(err)
	}
}

func TestBarriersOfTwoInputsAreAligned(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, from := inputsTask(t, j)
		task, _ := start(t, cfg)
		ctx := context.Background()
		send := func(input int, v string) {
			must(t, from[input].Emit(ctx, batchOf(0, 0, v)), from[input].Flush(ctx))
		}
		task.Trigger(1, Periodic) // is for sources
		send(0, "a")
		expect(t, j, "running, sends a")
		must(t, from[0].Barrier(ctx, 1))
		send(0, "behind")
		send(1, "b")
		expect(t, j, "sends b") // input 0 is held, the other goes on
		must(t, from[1].Barrier(ctx, 1))
		expect(t, j, "barrier #1, ack #1 count=2, sends behind")

		must(t, from[1].Barrier(ctx, 2))
		send(1, "held")
		expect(t, j, "")
		task.Abort(2)
		expect(t, j, "sends held")
		must(t, from[0].Barrier(ctx, 2)) // late, passed over
		expect(t, j, "")

		must(t, from[0].Barrier(ctx, 3))
		expect(t, j, "")
		must(t, from[1].Barrier(ctx, 4))
		expect(t, j, "decline #3 (checkpoint 4 came before the barriers of 3 on all inputs)")
		must(t, from[0].Barrier(ctx, 4))
		expect(t, j, "barrier #4, ack #4 count=4")
	})
}

func TestEndIsForwardedAfterAllInputsAndBarriersStillCome(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, from := inputsTask(t, j)
		start(t, cfg)
		ctx := context.Background()
		must(t, from[0].End(ctx))
		expect(t, j, "running")
		must(t, from[0].Barrier(ctx, 1), from[1].Barrier(ctx, 1))
		expect(t, j, "barrier #1, ack #1 count=0")
		must(t, from[1].End(ctx))
		expect(t, j, "end")
		must(t, from[0].Barrier(ctx, 2), from[1].Barrier(ctx, 2))
		expect(t, j, "barrier #2, ack #2 count=0")
	})
}
