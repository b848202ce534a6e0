package kafka

import (
	"fmt"
	"log/slog"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// Expressions compiles the expressions of a sink.
type Expressions interface {
	// Topic compiles a topic expression for the records that a node sees.
	Topic(expression string, node *graph.Node) (TopicFunc, error)
	// Partition compiles a partition expression for the records that a node sees.
	Partition(expression string, node *graph.Node) (PartitionFunc, error)
}

// Connectors makes the sources and sinks of a process. They share its connections.
type Connectors struct {
	connections *Connections
	expressions func(failed operator.Failed) Expressions
	log         *slog.Logger
}

// NewConnectors connects to nothing yet. Close it when all that it made has ended. The expressions of a
// subtask's sinks ask failed about records that they fail on; without expressions, a sink that has some is
// refused.
func NewConnectors(log *slog.Logger, expressions func(failed operator.Failed) Expressions) *Connectors {
	return &Connectors{connections: NewConnections(log), expressions: expressions, log: log}
}

// Close cuts the connections that are still open.
func (c *Connectors) Close() error { return c.connections.Close() }

// NewSource makes the source of a node for one of its vertex's subtasks.
func (c *Connectors) NewSource(node *graph.Node, sc operator.SourceContext) (operator.Source, error) {
	cfg := SourceConfig{Kafka: node.Source.Kafka, Positions: sc.Positions, Connections: c.connections, Status: sc.Waiting, PassedOn: passedOn(sc.Sinks), Logger: c.log}
	if cfg.Kafka.Mode == graph.ModeGroup {
		s, err := NewGroupSource(node.Name, cfg)
		if err != nil {
			return nil, fmt.Errorf("make source %s: %w", node.Name, err)
		}
		return s, nil
	}
	s, err := NewSource(cfg)
	if err != nil {
		return nil, fmt.Errorf("make source %s: %w", node.Name, err)
	}
	return s, nil
}

// NewSink makes the sink of a node for one of its vertex's subtasks.
func (c *Connectors) NewSink(node *graph.Node, sc operator.SinkContext) (operator.Sink, error) {
	k := node.Sink.Kafka
	if node.DeadLettersOf != "" {
		k = forDeadLetters(k)
	}
	cfg := SinkConfig{Kafka: k, Name: node.Name, Subtask: sc.Subtask, Connections: c.connections, Status: sc.Waiting, Transactions: sc.Transactions, Failed: sc.Failed, Lost: sc.Lost, Logger: c.log}
	err := error(nil)
	if k.TopicExpression != "" && c.expressions != nil {
		cfg.Topic, err = c.expressions(sc.Failed).Topic(k.TopicExpression, node)
	}
	if err == nil && k.PartitionerExpression != "" && c.expressions != nil {
		cfg.Partition, err = c.expressions(sc.Failed).Partition(k.PartitionerExpression, node)
	}
	if err != nil {
		return nil, fmt.Errorf("make sink %s: %w", node.Name, err)
	}
	s, err := NewSink(cfg)
	if err != nil {
		return nil, fmt.Errorf("make sink %s: %w", node.Name, err)
	}
	return s, nil
}
