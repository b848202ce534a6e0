package builtin

import (
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

// filter passes on the records for which the predicate holds. Only records are selected: the batch that
// it emits shares arena and origins with its input, and is the input itself when all records pass.
type filter struct {
	evaluator
	predicate *expression.Program
	out       operator.Batch
}

func newFilter(e evaluator, source string) (*filter, error) {
	p, err := e.compile(source, graph.UseFilter)
	return &filter{evaluator: e, predicate: p}, err
}

// Process is operator.Operator's.
func (f *filter) Process(b *operator.Batch, out operator.Collector) error {
	if err := b.Open(); err != nil {
		return err
	}
	// A run of records is copied at once, and not before it is known that one record stays behind.
	f.out.Records = f.out.Records[:0]
	from := 0
	for i := range b.Records {
		f.record.Set(b, i)
		pass, err := f.predicate.Bool(f.record)
		if err != nil {
			if err := f.failed(b, i, graph.UseFilter, err); err != nil {
				return err
			}
			pass = false
		}
		if !pass {
			f.out.Records = append(f.out.Records, b.Records[from:i]...)
			from = i + 1
		}
	}
	if from == 0 {
		return emit(b, out)
	}
	f.out.Records = append(f.out.Records, b.Records[from:]...)
	f.out.Arena, f.out.Origins = b.Arena, b.Origins
	err := emit(&f.out, out)
	f.out.Arena, f.out.Origins = nil, nil // they are the sender's
	return err
}

// emit passes over empty batches.
func emit(b *operator.Batch, out operator.Collector) error {
	if len(b.Records) == 0 {
		return nil
	}
	return out.Emit(b)
}
