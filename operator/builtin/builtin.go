// Package builtin holds the operators that a job file can name (filter, map, flatMap, count), the keyBy
// of an edge, and the print sink.
//
// Operators are not safe for concurrent use: one subtask owns each. Their memory is used again from
// batch to batch, so no batch is kept beyond Emit.
package builtin

import (
	"fmt"

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
	// Failures decides over records that fail.
	Failures *Failures
}

// New makes the operator of a node. It fails for an expression that does not compile and for what is
// not supported yet; both are refused at submit already.
func New(node *graph.Node, c Context) (operator.Operator, error) {
	o := node.Operator
	if node.Kind != graph.KindOperator || o == nil {
		return nil, fmt.Errorf("make operator %s: it is a %s", node.Name, node.Kind)
	}
	e := newEvaluator(node.KeyFormat, node.ValueFormat, c.Failures, node.Name, node.OnError)
	var made operator.Operator
	var err error
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

// evaluator is what all operators with expressions share: the record that programs see, and who decides
// over records that they fail on.
type evaluator struct {
	key, value graph.Format
	record     *expression.Record
	decide     operator.Failed
}

// newEvaluator is that of the node, or of the edge to it, with these policies.
func newEvaluator(key, value graph.Format, failures *Failures, node string, policies graph.ErrorPolicies) evaluator {
	record := expression.NewRecord(key, value)
	record.StopBy(&failures.stopped)
	return evaluator{key: key, value: value, record: record, decide: failures.Of(node, policies)}
}

func (e *evaluator) compile(source string, use graph.Use) (*expression.Program, error) {
	p, err := expression.Compile(source, use, e.key, e.value)
	if err != nil {
		return nil, fmt.Errorf("compile %s %.200q: %w", use, source, err)
	}
	return p, nil
}

// failed asks what becomes of a record that an expression failed on: nil means that it is left out.
func (e *evaluator) failed(b *operator.Batch, i int, use graph.Use, cause error) error {
	return e.decide(b, i, use.String(), cause)
}
