package wire

import (
	"fmt"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/builtin"
)

type collect func(*operator.Batch) error

func (c collect) Emit(b *operator.Batch) error { return c(b) }

// lineBatches are batches of a megabyte of text lines, of which three of four begin with level=info.
func lineBatches(b *testing.B, batches, records int) [][]byte {
	b.Helper()
	var all [][]byte
	for n := range batches {
		var w Builder
		for i := range records {
			level := [...]string{"info", "info", "info", "warn"}[i%4]
			w.AppendRecord(1_700_000_000_000, nil, fmt.Appendf(nil, "level=%s seq=%09d and so on up to the usual hundred bytes of a record in such a benchmark, all in", level, n*records+i), nil)
		}
		encoded, err := w.Finish(NoProducer, new(Compressor))
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, encoded)
	}
	return all
}

// BenchmarkFilter is what a filtered record costs from one batch into the next, without the network. Each step
// includes those before it.
func BenchmarkFilter(b *testing.B) {
	const records = 9000
	batches := lineBatches(b, 16, records)
	filter, err := builtin.New(&graph.Node{Kind: graph.KindOperator, Name: "kept", KeyFormat: graph.Bytes, ValueFormat: graph.String,
		Operator: &graph.Operator{Filter: `value.startsWith("level=info")`}}, builtin.Context{Parallelism: 1, MaxParallelism: 1, Failures: builtin.NewFailures(builtin.Site{})})
	if err != nil {
		b.Fatal(err)
	}
	var w Builder
	w.SumEarly()
	write := collect(func(x *operator.Batch) error {
		for rest := x.Records; len(rest) > 0; {
			n := w.AppendSome(x, rest, 1<<20, 1<<30)
			if rest = rest[n:]; n == 0 {
				if _, err := w.Finish(NoProducer, new(Compressor)); err != nil {
					return err
				}
				w.Reset()
				w.SumEarly()
			}
		}
		return nil
	})
	drop := collect(func(*operator.Batch) error { return nil })
	for _, step := range []struct {
		name string
		do   func(*RawBatch) error
	}{
		{"copy", func(*RawBatch) error { return nil }},
		{"verify", (*RawBatch).Verify},
		{"decode", func(r *RawBatch) error { return r.batch.InPieces(drop) }},
		{"filter", func(r *RawBatch) error {
			return r.batch.InPieces(func(p *operator.Batch) error { return filter.Process(p, drop) })
		}},
		{"encode", func(r *RawBatch) error {
			return r.batch.InPieces(func(p *operator.Batch) error { return filter.Process(p, write) })
		}},
	} {
		b.Run(step.name, func(b *testing.B) {
			var buffer []byte
			n := 0
			for b.Loop() {
				buffer = append(buffer[:0], batches[n%len(batches)]...)
				r := unchecked(b, buffer)
				if err := step.do(r); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
		})
	}
}
