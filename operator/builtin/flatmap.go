package builtin

import (
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

// flatMap makes one record of each element of a list, in order; the element is the value, all else stays
// as it was. An empty list makes no record, a null element a tombstone.
type flatMap struct {
	evaluator
	list  *expression.Program
	out   operator.Batch
	spans []operator.Span
}

func newFlatMap(e evaluator, source string) (*flatMap, error) {
	p, err := e.compile(source, graph.UseFlatMap)
	return &flatMap{evaluator: e, list: p}, err
}

// Process is operator.Operator's.
func (f *flatMap) Process(b *operator.Batch, out operator.Collector) error {
	if err := b.Open(); err != nil {
		return err
	}
	begin(&f.out, b)
	if cap(f.spans) > 4*emitRecords {
		f.spans = nil
	}
	for i := range b.Records {
		f.record.Set(b, i)
		mark := len(f.out.Arena)
		var err error
		if f.out.Arena, f.spans, err = f.list.AppendList(f.record, f.out.Arena, f.spans[:0]); err != nil {
			f.out.Arena = f.out.Arena[:mark]
			if err := f.failed(b, i, graph.UseFlatMap, err); err != nil {
				return err
			}
			continue
		}
		if err := f.appendRecords(b, &b.Records[i], out); err != nil {
			return err
		}
		if len(f.out.Arena) >= emitBytes || len(f.out.Records) >= emitRecords {
			if err := flush(&f.out, out); err != nil {
				return err
			}
		}
	}
	return emit(&f.out, out)
}

// appendRecords makes the records of the spans; they share one copy of key, headers and stream key. Of very many it emits
// some before the others are made.
func (f *flatMap) appendRecords(b *operator.Batch, r *operator.Record, out operator.Collector) error {
	if len(f.spans) == 0 {
		return nil
	}
	n := *r
	f.out.Arena, n.Key = copySpan(f.out.Arena, b, r.Key)
	f.out.Arena, n.Headers = copySpan(f.out.Arena, b, r.Headers)
	f.out.Arena, n.StreamKey = copySpan(f.out.Arena, b, r.StreamKey)
	for _, s := range f.spans {
		n.Value = s
		f.out.Records = append(f.out.Records, n)
		if len(f.out.Records) >= emitRecords {
			if err := emit(&f.out, out); err != nil {
				return err
			}
			f.out.Records = f.out.Records[:0] // the others are in the same arena
		}
	}
	return nil
}
