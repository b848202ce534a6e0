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

// Fuse is operator.Fuser's: with a map behind it. A value of format JSON is then read once for both.
func (f *filter) Fuse(next operator.Operator, named func(error) error) (operator.Operator, bool) {
	m, ok := next.(*mapper)
	if !ok || m.evaluator.key != f.key || m.evaluator.value != f.value {
		return nil, false
	}
	return &filterMap{f, m, named}, true
}

// filterMap is a filter with a map behind it, record by record.
type filterMap struct {
	filter *filter
	mapper *mapper
	named  func(error) error // says that an error is the map's
}

// Process is operator.Operator's.
func (x *filterMap) Process(b *operator.Batch, out operator.Collector) error {
	if err := b.Open(); err != nil {
		return err
	}
	m := x.mapper
	begin(&m.out, b)
	for i := range b.Records {
		m.record.Set(b, i)
		pass, err := x.filter.predicate.Bool(m.record)
		switch {
		case err != nil:
			err = x.filter.failed(b, i, graph.UseFilter, err)
		case pass:
			err = x.named(m.one(b, i, out))
		}
		if err != nil {
			return err
		}
	}
	return x.named(emit(&m.out, out))
}

// emit passes over empty batches.
func emit(b *operator.Batch, out operator.Collector) error {
	if len(b.Records) == 0 {
		return nil
	}
	return out.Emit(b)
}
