package subtask

import (
	"context"
	"fmt"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/builtin"
)

// taker is a sink that keeps nothing.
type taker struct {
	operator.Sink
	records int
}

func (s *taker) Write(_ context.Context, b *operator.Batch) error {
	s.records += len(b.Records)
	return nil
}

// TestNoAllocationPerRecord: a chain allocates nothing for a record, fused or not.
func TestNoAllocationPerRecord(t *testing.T) {
	const records = 1000
	values := make([]string, records)
	for i := range values {
		values[i] = fmt.Sprintf(`{"status":%d,"seq":"%d"}`, 200+300*(i%2), i)
	}
	keep := &graph.Operator{Filter: "value.status < 500"}
	shorten := &graph.Operator{Map: &graph.Map{Value: `{"seq": value.seq}`}}
	for name, operators := range map[string][]*graph.Operator{"a filter": {keep}, "a map": {shorten}, "a filter and a map": {keep, shorten}} {
		t.Run(name, func(t *testing.T) {
			out := &taker{}
			cfg := &Config{Subtask: ident.Subtask{Vertex: "in"}, Source: newFakeSource(&journal{}), Operators: map[string]operator.Operator{},
				Sinks: map[string]operator.Sink{"out": out}, Vertex: graph.Vertex{Nodes: []graph.Node{sourceNode("")}}}
			for i, o := range operators {
				n := graph.Node{Name: fmt.Sprint("op-", i), Kind: graph.KindOperator, Parent: i, Operator: o, KeyFormat: graph.Bytes, ValueFormat: graph.JSON}
				op, err := builtin.New(&n, builtin.Context{Parallelism: 1, MaxParallelism: 1, Failures: builtin.NewFailures(builtin.Site{})})
				if err != nil {
					t.Fatal(err)
				}
				cfg.Operators[n.Name] = op
				cfg.Vertex.Nodes = append(cfg.Vertex.Nodes, n)
			}
			cfg.Vertex.Nodes = append(cfg.Vertex.Nodes, node("out", graph.KindSink, len(operators)))
			c := newChain(t.Context(), cfg, &Counters{})
			b := batchOf(0, 0, values...)
			if n := testing.AllocsPerRun(20, func() {
				if err := c.head(b); err != nil {
					t.Fatal(err)
				}
			}); n > records/100 {
				t.Errorf("%.0f allocations for %d records", n, records)
			}
			if out.records == 0 {
				t.Error("no record came out")
			}
		})
	}
}
