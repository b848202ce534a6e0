// Package routing compiles the expressions of Kafka sinks, topicExpression and the expression partitioner,
// so that package kafka need not know the language.
package routing

import (
	"fmt"

	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

// Expressions implements kafka.Expressions with CEL.
type Expressions struct {
	// Failed decides over records that an expression fails on.
	Failed operator.Failed
}

var _ kafka.Expressions = Expressions{}

// Topic compiles a topic expression. The function belongs to one subtask.
func (e Expressions) Topic(source string, node *graph.Node) (kafka.TopicFunc, error) {
	program, err := compile(source, graph.UseTopic, node)
	if err != nil {
		return nil, err
	}
	record := expression.NewRecord(node.KeyFormat, node.ValueFormat)
	return func(b *operator.Batch, i int) (string, error) {
		record.Set(b, i)
		topic, err := program.Topic(record)
		if err != nil {
			return "", e.failed(b, i, graph.UseTopic, err)
		}
		return topic, nil
	}, nil
}

// Partition compiles a partition expression. The function belongs to one subtask.
func (e Expressions) Partition(source string, node *graph.Node) (kafka.PartitionFunc, error) {
	program, err := compile(source, graph.UsePartition, node)
	if err != nil {
		return nil, err
	}
	record := expression.NewRecord(node.KeyFormat, node.ValueFormat)
	return func(b *operator.Batch, i int) (int32, error) {
		record.Set(b, i)
		partition, err := program.Partition(record)
		if err != nil {
			return 0, e.failed(b, i, graph.UsePartition, err)
		}
		return partition, nil
	}, nil
}

func compile(source string, use graph.Use, node *graph.Node) (*expression.Program, error) {
	p, err := expression.Compile(source, use, node.KeyFormat, node.ValueFormat)
	if err != nil {
		return nil, fmt.Errorf("compile %s %.200q: %w", use, source, err)
	}
	return p, nil
}

// failed asks what becomes of a record that an expression failed on.
func (e Expressions) failed(b *operator.Batch, i int, use graph.Use, cause error) error {
	if err := e.Failed(b, i, use.String(), cause); err != nil {
		return err
	}
	return kafka.ErrSkip
}
