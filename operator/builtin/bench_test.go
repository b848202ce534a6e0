package builtin

import (
	"fmt"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// benchOperators are those of the job file in the manual.
var benchOperators = []struct {
	name string
	op   graph.Operator
}{
	{"filter", graph.Operator{Filter: `value != null && value.startsWith("paid")`}},
	{"map", graph.Operator{Map: &graph.Map{Value: `"[" + topic + "] " + value`}}},
	{"flatMap", graph.Operator{FlatMap: `value.split(" ")`}},
	{"count", graph.Operator{Count: true}},
}

func values() []string {
	all := make([]string, 1000)
	for i := range all {
		all[i] = fmt.Sprintf("%s %04d and so on up to the usual hundred bytes of a record in such a benchmark, all in all", []string{"paid", "open"}[i%2], i)
	}
	return all
}

func nowhere(*operator.Batch) error { return nil }

// TestAllocations: filter, map and count make no allocation per record.
func TestAllocations(t *testing.T) {
	b := batchOf(values()...)
	for _, o := range benchOperators {
		if o.name == "flatMap" {
			continue // the interpreter makes the list
		}
		op := make1(t, node(o.op), nil)
		run := func() {
			if err := op.Process(b, collect(nowhere)); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(10, run); n > 1 {
			t.Errorf("%s: %.0f allocations for %d records", o.name, n, len(b.Records))
		}
	}
	k, err := NewKeyer(&graph.Edge{To: "x", KeyBy: "value", KeyFormat: graph.Bytes, ValueFormat: graph.Bytes}, NewFailures(Site{}))
	if err != nil {
		t.Fatal(err)
	}
	var arena []byte
	var spans []operator.Span
	if n := testing.AllocsPerRun(10, func() {
		if arena, spans, err = k.Keys(b, arena[:0], spans[:0]); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("keyBy: %.0f allocations for %d records", n, len(b.Records))
	}
}

func BenchmarkOperators(b *testing.B) {
	batch := batchOf(values()...)
	for _, o := range benchOperators {
		b.Run(o.name, func(b *testing.B) {
			op := make1(b, node(o.op), nil)
			b.ReportAllocs()
			for b.Loop() {
				if err := op.Process(batch, collect(nowhere)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch.Records)), "ns/record")
		})
	}
}

// BenchmarkJSON is the filter and the map of the benchmark's json job, one behind the other and fused.
func BenchmarkJSON(b *testing.B) {
	batch := &operator.Batch{Origins: []operator.Origin{{Topic: "in"}}}
	for i := range 1000 {
		status := []int{200, 200, 200, 503}[i%4]
		batch.Records = append(batch.Records, operator.Record{Key: operator.Null, Headers: operator.Null, StreamKey: operator.Null, Value: batch.Put(fmt.Appendf(nil,
			`{"id":%d,"level":"info","status":%d,"durationMs":%d,"region":"eu-central","user":"user-%06d","msg":"some words of text here","seq":"%012d"}`, i, status, i, i, i))})
	}
	operators := func() (filter, mapper operator.Operator) {
		n := node(graph.Operator{Filter: "value.status < 500"})
		n.ValueFormat = graph.JSON
		m := node(graph.Operator{Map: &graph.Map{Value: `{"durationMs": value.durationMs, "late": value.durationMs > 250, "region": value.region, "seq": value.seq}`}})
		m.ValueFormat = graph.JSON
		return make1(b, n, nil), make1(b, m, nil)
	}
	run := func(b *testing.B, process func() error) {
		b.ReportAllocs()
		for b.Loop() {
			if err := process(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch.Records)), "ns/record")
	}
	b.Run("behind", func(b *testing.B) {
		f, m := operators()
		run(b, func() error {
			return f.Process(batch, collect(func(x *operator.Batch) error { return m.Process(x, collect(nowhere)) }))
		})
	})
	b.Run("fused", func(b *testing.B) {
		f, m := operators()
		both, ok := f.(operator.Fuser).Fuse(m, func(err error) error { return err })
		if !ok {
			b.Fatal("a filter and a map are not fused")
		}
		run(b, func() error { return both.Process(batch, collect(nowhere)) })
	})
}
