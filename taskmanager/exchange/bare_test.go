package exchange

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// TestBare: a count gets stream keys, times, headers and places of records, without their keys and values, from here and
// from another task manager; who is no count gets all.
func TestBare(t *testing.T) {
	for _, counts := range []bool{true, false} {
		r := newRig(t, false, Config{}, "tm-1", "tm-2")
		p := twoVertices(2, 2, graph.Hash)
		p.Vertices[1].Nodes = []graph.Node{{Name: "to", Kind: graph.KindOperator, Parent: -1, Operator: &graph.Operator{Count: counts, Filter: map[bool]string{false: "true"}[counts]}}}
		attempts := []*Attempt{r.attempt("tm-1", p, acrossTwo), r.attempt("tm-2", p, acrossTwo)}
		o, idle := mustOutput(t, attempts[0], 0), mustOutput(t, attempts[1], 1)
		inputs := []*Inputs{mustInputs(t, attempts[0], 0), mustInputs(t, attempts[1], 1)}
		stop := run(t, attempts...)
		ctx := deadline(t)
		b := &operator.Batch{Origins: []operator.Origin{{Topic: "orders", Partition: 3}}}
		const records = 200
		for i := range records {
			b.Records = append(b.Records, operator.Record{Key: b.Put([]byte("the key")), Value: b.Put([]byte("the value")), Headers: b.Put([]byte{2, 2, 'h', 2, 'x'}),
				StreamKey: b.Put(fmt.Appendf(nil, "stream %d", i)), Timestamp: int64(1000 + i), Offset: int64(i)})
		}
		if err := o.Emit(ctx, b); err != nil {
			t.Fatal(err)
		}
		for _, x := range []*Output{o, idle} {
			if err := x.End(ctx); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, in := range inputs {
			before := len(got)
			for ended := 0; ended < 2; {
				e, err := next(ctx, in)
				if err != nil {
					t.Fatal(err)
				}
				if e.Kind == EndElement {
					ended++
					continue
				}
				for i := range e.Batch.Records {
					x := &e.Batch.Records[i]
					got = append(got, fmt.Sprintf("%03d %s %q %q %q %d %v", x.Offset, e.Batch.Bytes(x.StreamKey), e.Batch.Bytes(x.Key), e.Batch.Bytes(x.Value), e.Batch.Bytes(x.Headers), x.Timestamp, e.Batch.Origins[x.Origin]))
					if counts != (x.Key.IsNull() && x.Value.IsNull()) {
						t.Fatalf("the receiver counts: %v; key %v, value %v", counts, x.Key, x.Value)
					}
				}
				in.Release(e)
			}
			if len(got) == before {
				t.Error("a receiver got nothing")
			}
		}
		slices.Sort(got)
		key, value := `""`, `""`
		if !counts {
			key, value = `"the key"`, `"the value"`
		}
		for i := range records {
			want := fmt.Sprintf("%03d stream %d %s %s %q %d {orders 3}", i, i, key, value, "\x02\x02h\x02x", 1000+i)
			if i >= len(got) || got[i] != want {
				t.Fatalf("record %d: got %q, want %q", i, got[min(i, len(got)-1)], want)
			}
		}
		if err := stop(); slices.ContainsFunc(err, func(e error) bool { return e != nil }) {
			t.Fatal(err)
		}
	}
}
