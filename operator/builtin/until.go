package builtin

import (
	"fmt"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

// Until finds the record at which a partition of a source ends. One subtask owns it.
type Until struct {
	evaluator
	predicate *expression.Program
	out       operator.Batch
}

// NewUntil makes the end-of-stream predicate of a source; failures decides over records that it fails on.
func NewUntil(node *graph.Node, failures *Failures) (*Until, error) {
	e := newEvaluator(node.KeyFormat, node.ValueFormat, failures, node.Name, node.OnError)
	p, err := e.compile(node.Source.Kafka.Until, graph.UseUntil)
	if err != nil {
		return nil, fmt.Errorf("make source %s: %w", node.Name, err)
	}
	return &Until{evaluator: e, predicate: p}, nil
}

// Cut passes on what stands before the first record for which the predicate holds, without the records that
// it failed on. End is the offset of that record; -1: there is none. The batch that it returns shares arena
// and origins with b, and is b itself when nothing is left out; it is good until the next call.
func (u *Until) Cut(b *operator.Batch) (rest *operator.Batch, end int64, err error) {
	if err := b.Open(); err != nil {
		return nil, -1, err
	}
	u.out.Records, u.out.Arena, u.out.Origins = u.out.Records[:0], b.Arena, b.Origins
	from, end := 0, int64(-1)
	for i := range b.Records {
		u.record.Set(b, i)
		holds, err := u.predicate.Bool(u.record)
		if err == nil && !holds {
			continue
		}
		u.out.Records = append(u.out.Records, b.Records[from:i]...)
		from = i + 1
		if err == nil {
			from, end = len(b.Records), b.Records[i].Offset
			break
		}
		if err := u.failed(b, i, graph.UseUntil, err); err != nil {
			return nil, -1, err
		}
	}
	if from == 0 {
		return b, end, nil
	}
	u.out.Records = append(u.out.Records, b.Records[from:]...)
	return &u.out, end, nil
}
