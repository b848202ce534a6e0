package lite

import (
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

type Connectors struct{}

func (Connectors) NewSource(n *graph.Node, p []manifest.Position, w func(string)) (operator.Source, error) {
	return NewSource(n.Source.Kafka.Properties, p, w), nil
}
func (Connectors) NewSink(n *graph.Node, sub int, w func(string)) (operator.Sink, error) {
	return NewSink(n.Sink.Kafka.Properties, n.Sink.Kafka.Topic, string(n.Sink.Kafka.Partitioner), sub, w), nil
}
