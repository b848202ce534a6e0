package kafka

import (
	"maps"

	"github.com/sluice-stream/sluice/graph"
)

// forDeadLetters makes a sink out of one for dead letters, which has the properties of a source: what only
// a source has is left out.
func forDeadLetters(k *graph.KafkaSink) *graph.KafkaSink {
	made := *k
	made.Properties = maps.Clone(k.Properties)
	maps.DeleteFunc(made.Properties, func(name, _ string) bool {
		p, ok := findProperty(name)
		return !ok || !p.appliesTo(graph.KindSink)
	})
	return &made
}

// sinksOf are the sinks of a job, and behind them one for the dead letters of each source that has some.
func sinksOf(job *graph.Job) []graph.Sink {
	all := append([]graph.Sink{}, job.Sinks...)
	for _, s := range graph.DeadLetters(job) {
		s.Kafka = forDeadLetters(s.Kafka)
		all = append(all, s)
	}
	return all
}

// sinkPart names a sink in messages: that of dead letters by its source.
func sinkPart(s *graph.Sink) string {
	if source, ok := graph.DeadLetterSource(s.Name); ok {
		return "dead letters of source " + source
	}
	return "sink " + s.Name
}
