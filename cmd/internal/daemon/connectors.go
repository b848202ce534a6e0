package daemon

import (
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/builtin"
)

// kafkaConnectors makes Kafka sources and sinks for a task manager, over connections that its subtasks
// share.
type kafkaConnectors struct {
	connections *kafka.Connections
	log         *slog.Logger
}

// NewSource is taskmanager.Connectors'.
func (c *kafkaConnectors) NewSource(n *graph.Node, positions []manifest.Position, waiting func(string)) (operator.Source, error) {
	return kafka.NewSource(kafka.SourceConfig{
		Kafka: n.Source.Kafka, Positions: positions, Connections: c.connections, Status: waiting, Logger: c.log.With("source", n.Name),
	})
}

// NewSink is taskmanager.Connectors'.
func (c *kafkaConnectors) NewSink(n *graph.Node, subtask int, skipped *atomic.Int64, waiting func(string)) (operator.Sink, error) {
	cfg := kafka.SinkConfig{
		Kafka: n.Sink.Kafka, Subtask: subtask, Connections: c.connections, Status: waiting, Logger: c.log.With("sink", n.Name),
	}
	if src := n.Sink.Kafka.TopicExpression; src != "" {
		s, err := builtin.NewSelector(n, src, graph.UseTopic, skipped)
		if err != nil {
			return nil, err
		}
		cfg.Topic = func(b *operator.Batch, i int) (string, error) {
			topic, err := s.Topic(b, i)
			return topic, leftOut(err)
		}
	}
	if n.Sink.Kafka.Partitioner == graph.ByExpression {
		s, err := builtin.NewSelector(n, n.Sink.Kafka.PartitionerExpression, graph.UsePartition, skipped)
		if err != nil {
			return nil, err
		}
		cfg.Partition = func(b *operator.Batch, i int) (int32, error) {
			partition, err := s.Partition(b, i)
			return partition, leftOut(err)
		}
	}
	return kafka.NewSink(cfg)
}

func leftOut(err error) error {
	if errors.Is(err, builtin.ErrLeftOut) {
		return kafka.ErrSkip
	}
	return err
}
