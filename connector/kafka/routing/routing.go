// Package routing compiles the expressions of Kafka sinks, topicExpression and the expression partitioner,
// so that package kafka need not know the language.
package routing

import (
	"fmt"
	"sync/atomic"

	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/builtin"
	"github.com/sluice-stream/sluice/operator/expression"
)

// Expressions implements kafka.Expressions with CEL.
type Expressions struct {
	// Skipped counts the records that onError: skip leaves out; nil: nobody asks.
	Skipped *atomic.Int64
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
			return "", e.failed(node, b, i, graph.UseTopic, err)
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
			return 0, e.failed(node, b, i, graph.UsePartition, err)
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

// failed applies the error policy of the sources to a record that an expression failed on.
func (e Expressions) failed(node *graph.Node, b *operator.Batch, i int, use graph.Use, cause error) error {
	if node.OnError.Policy == graph.Skip {
		if e.Skipped != nil {
			e.Skipped.Add(1)
		}
		return kafka.ErrSkip
	}
	r := &b.Records[i]
	fault := &builtin.RecordError{Offset: r.Offset, Operator: node.Name, Use: use, Cause: cause}
	if int(r.Origin) < len(b.Origins) {
		fault.Topic, fault.Partition = b.Origins[r.Origin].Topic, b.Origins[r.Origin].Partition
	}
	if value := b.Bytes(r.Value); value != nil {
		fault.ValueBytes = len(value)
		fault.Value = append([]byte{}, value[:min(len(value), builtin.MaxErrorValueBytes)]...)
	}
	return fault
}
