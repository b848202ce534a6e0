package builtin

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

// ErrLeftOut is returned by a Selector for a record that the error policy leaves out.
var ErrLeftOut = errors.New("the record is left out by the error policy")

// Selector evaluates an expression of a sink, its topic or its partition. One sink owns it.
type Selector struct {
	evaluator
	program *expression.Program
	use     graph.Use
}

// NewSelector compiles an expression of the sink node for UseTopic or UsePartition. skipped counts the
// records that onError: skip leaves out; nil: nobody asks.
func NewSelector(node *graph.Node, source string, use graph.Use, skipped *atomic.Int64) (*Selector, error) {
	e, err := newEvaluator(node.Name, node.KeyFormat, node.ValueFormat, node.OnError, skipped)
	if err != nil {
		return nil, fmt.Errorf("make %s of %s: %w", use, node.Name, err)
	}
	s := &Selector{evaluator: e, use: use}
	if s.program, err = e.compile(source, use); err != nil {
		return nil, fmt.Errorf("make %s of %s: %w", use, node.Name, err)
	}
	return s, nil
}

// Topic is the topic of record i of an opened batch. Errors are a RecordError or ErrLeftOut.
func (s *Selector) Topic(b *operator.Batch, i int) (string, error) {
	s.record.Set(b, i)
	topic, err := s.program.Topic(s.record)
	if err != nil {
		return "", s.verdict(b, i, err)
	}
	return topic, nil
}

// Partition is the partition of record i of an opened batch. Errors are a RecordError or ErrLeftOut.
func (s *Selector) Partition(b *operator.Batch, i int) (int32, error) {
	s.record.Set(b, i)
	partition, err := s.program.Partition(s.record)
	if err != nil {
		return 0, s.verdict(b, i, err)
	}
	return partition, nil
}

func (s *Selector) verdict(b *operator.Batch, i int, cause error) error {
	if err := s.failed(b, i, s.use, cause); err != nil {
		return err
	}
	return ErrLeftOut
}
