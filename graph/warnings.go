package graph

import "slices"

// MaxMarkersPerSecond is the rate of transaction markers above which a broker suffers.
const MaxMarkersPerSecond = 5000

// Warnings finds what is allowed in a valid job but probably not meant.
func Warnings(job *Job) []Problem {
	var p problems
	net := newNetwork(job)
	read := make([]bool, len(net.parts))
	for _, inputs := range net.inputs {
		for _, in := range inputs {
			read[in] = true
		}
	}
	for i := range net.parts {
		if part := &net.parts[i]; part.node.Kind != KindSink && !read[i] {
			p.add(part.path, "add a sink with from: "+part.node.Name+" or remove it",
				"nothing reads from %s %s; its records are dropped", part.node.Kind, part.node.Name)
		}
	}
	net.mixedPolicies(&p)
	groupWarnings(job, &p)
	net.loops(&p)
	sharedOffsets(job, &p)
	return p.list
}

// loops finds sinks that write where a source above them reads, in the same cluster as far as that can be told: their
// records come back for ever. A bounded source ends.
func (n *network) loops(p *problems) {
	for i := range n.parts {
		sink := n.parts[i].node.Sink
		if n.parts[i].node.Kind != KindSink || sink.Kafka == nil || sink.Kafka.Topic == "" {
			continue
		}
		for _, above := range n.sources[i] {
			source := n.parts[above].node.Source
			if source.Kafka == nil || source.Kafka.Bounded.Mode != BoundNone || source.Kafka.Properties[propServers] == "" ||
				source.Kafka.Properties[propServers] != sink.Kafka.Properties[propServers] {
				continue
			}
			if policy := policyOf(source); policy.reads(sink.Kafka.Topic) {
				p.add(n.parts[i].path.With("kafka", "topic"), "name another topic, or filter what comes back",
					"sink %s writes to topic %.260q, which source %s reads: what it writes comes back for ever", sink.Name, sink.Kafka.Topic, source.Name)
			}
		}
	}
}

// mixedPolicies finds pairs of sources that read the same topic, feed the same part and have different error
// policies: nobody can tell whose a record is there, so the strictest counts.
func (n *network) mixedPolicies(p *problems) {
	var policies []SourcePolicy // a source has the index of its part
	for i := 0; i < len(n.parts) && n.parts[i].node.Kind == KindSource; i++ {
		policies = append(policies, policyOf(n.parts[i].node.Source))
	}
	for one := range policies {
		for other := one + 1; other < len(policies) && !p.full(); other++ {
			if policies[one].OnError == policies[other].OnError {
				continue
			}
			topic, meet := commonTopic(&policies[one], &policies[other]), n.meet(one, other)
			if topic != "" && meet != "" {
				p.add(Path{"sources", policies[other].Source, "kafka", "onError"}, "give both sources the same onError",
					"sources %s and %s both read topic %.260q and meet at %s: there the stricter policy counts", policies[one].Source, policies[other].Source, topic, meet)
			}
		}
	}
}

// meet is the first part that two sources feed, empty for none.
func (n *network) meet(one, other int) string {
	for i := range n.parts {
		if slices.Contains(n.sources[i], one) && slices.Contains(n.sources[i], other) {
			return n.parts[i].node.Name
		}
	}
	return ""
}

// commonTopic is a topic that one of the sources names and the other reads, empty for none.
func commonTopic(a, b *SourcePolicy) string {
	for _, topic := range a.Topics {
		if b.reads(topic) {
			return topic
		}
	}
	for _, topic := range b.Topics {
		if a.reads(topic) {
			return topic
		}
	}
	return ""
}

// MarkerWarnings finds the exactly-once sinks that commit more than MaxMarkersPerSecond transaction
// markers: a subtask writes one per partition and checkpoint. Partitions has the number of partitions
// that a sink writes to; a sink that is not in it is passed over.
func MarkerWarnings(job *Job, partitions map[string]int) []Problem {
	var p problems
	if job.Checkpoint.Interval <= 0 {
		return nil
	}
	for i := range job.Sinks {
		s := &job.Sinks[i]
		if s.Kafka == nil || s.Kafka.Guarantee != ExactlyOnce {
			continue
		}
		subtasks := s.Parallelism
		fill(&subtasks, job.Parallelism)
		if rate := float64(subtasks*partitions[s.Name]) / job.Checkpoint.Interval.Seconds(); rate > MaxMarkersPerSecond {
			p.add(Path{"sinks", s.Name, "kafka", "guarantee"}, "raise checkpoint.interval or lower the sink's parallelism",
				"%d subtasks × %d partitions every %v make %.0f transaction markers a second; above %d brokers suffer",
				subtasks, partitions[s.Name], job.Checkpoint.Interval, rate, MaxMarkersPerSecond)
		}
	}
	return p.list
}
