// Package builtin holds the operators that a job file can name (filter, map, flatMap, count), the keyBy
// of an edge, and the print sink.
//
// Operators are not safe for concurrent use: one subtask owns each. Their memory is used again from
// batch to batch, so no batch is kept beyond Emit.
package builtin

import (
	"fmt"
	"sync/atomic"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
	"github.com/sluice-stream/sluice/state"
)

// Context is what an operator needs to know about the subtask that it is part of.
type Context struct {
	// Subtask is the index of the subtask, Parallelism that of its vertex.
	Subtask, Parallelism int
	MaxParallelism       int
	// Skipped counts the records that onError: skip left out; nil: nobody asks.
	Skipped *atomic.Int64
}

// New makes the operator of a node. It fails for an expression that does not compile and for what is
// not supported yet; both are refused at submit already.
func New(node *graph.Node, c Context) (operator.Operator, error) {
	o := node.Operator
	if node.Kind != graph.KindOperator || o == nil {
		return nil, fmt.Errorf("make operator %s: it is a %s", node.Name, node.Kind)
	}
	e, err := newEvaluator(node.Name, node.KeyFormat, node.ValueFormat, node.OnError, c.Skipped)
	if err != nil {
		return nil, fmt.Errorf("make operator %s: %w", node.Name, err)
	}
	var made operator.Operator
	switch {
	case o.Filter != "":
		made, err = newFilter(e, o.Filter)
	case o.Map != nil:
		made, err = newMap(e, o.Map)
	case o.FlatMap != "":
		made, err = newFlatMap(e, o.FlatMap)
	case o.Count:
		made, err = newCount(state.RangeOf(c.Subtask, c.Parallelism, c.MaxParallelism)), nil
	default:
		err = fmt.Errorf("it has none of filter, map, flatMap, count")
	}
	if err != nil {
		return nil, fmt.Errorf("make operator %s: %w", node.Name, err)
	}
	return made, nil
}

// evaluator is what all operators with expressions share: the record that programs see, and the policy
// for records that they fail on.
type evaluator struct {
	name       string
	key, value graph.Format
	record     *expression.Record
	skip       bool
	skipped    *atomic.Int64
}

func newEvaluator(name string, key, value graph.Format, onError graph.OnError, skipped *atomic.Int64) (evaluator, error) {
	if skipped == nil {
		skipped = new(atomic.Int64)
	}
	e := evaluator{name: name, key: key, value: value, record: expression.NewRecord(key, value), skipped: skipped}
	switch onError.Policy {
	case graph.Fail, "":
	case graph.Skip:
		e.skip = true
	case graph.DeadLetter:
		return e, fmt.Errorf("not supported yet: onError deadLetter; use fail or skip")
	default:
		return e, fmt.Errorf("onError %q is unknown, want fail | skip", onError.Policy)
	}
	return e, nil
}

func (e *evaluator) compile(source string, use graph.Use) (*expression.Program, error) {
	p, err := expression.Compile(source, use, e.key, e.value)
	if err != nil {
		return nil, fmt.Errorf("compile %s %.200q: %w", use, source, err)
	}
	return p, nil
}

// failed applies the policy to a record that an expression failed on: nil means that it is left out.
func (e *evaluator) failed(b *operator.Batch, i int, use graph.Use, cause error) error {
	if e.skip {
		e.skipped.Add(1)
		return nil
	}
	return newRecordError(e.name, b, i, use, cause)
}
