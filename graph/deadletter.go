package graph

import (
	"maps"
	"strconv"
	"strings"
)

// deadLetterInfix parts the source from the vertex in the name of a sink of dead letters. The @ keeps it
// apart from all names that a job can give.
const deadLetterInfix = ".dead-letter@"

// DeadLetterName is the name of the sink that takes the dead letters of a source in one vertex. It holds
// both, so that it stays the same over restarts: transactional ids and manifests name it.
func DeadLetterName(source, vertex string) string { return source + deadLetterInfix + vertex }

// DeadLetterSource is the source whose dead letters the sink of this name takes; false for any other sink.
func DeadLetterSource(sink string) (string, bool) {
	source, _, ok := strings.Cut(sink, deadLetterInfix)
	return source, ok
}

// DeadLetters makes a sink for each source of a valid job that wants dead letters, named as that of the
// source's own vertex. Those of other vertices differ in nothing but their name.
//
// The sink writes to the source's cluster, with the properties of the source; those that a sink does not
// have are to be passed over. It is exactly-once if a sink that the source reaches is: then dead letters
// belong to the same cut as the output, and the transaction settings are those of the first such sink, as
// far as it writes to the same cluster; to another one only a timeout below the default, as that may be above what its
// brokers allow.
func DeadLetters(job *Job) []Sink {
	net := newNetwork(job)
	var out []Sink
	for i := range job.Sources {
		if s := &job.Sources[i]; s.Kafka != nil && s.Kafka.OnError.Policy == DeadLetter {
			out = append(out, net.deadLetterSink(i, s.Name))
		}
	}
	return out
}

// deadLetterSink is the sink for the dead letters of source i, which is part i of the network, in a vertex.
func (n *network) deadLetterSink(i int, vertex string) Sink {
	source := n.parts[i].node.Source
	k := &KafkaSink{
		Topic: source.Kafka.OnError.DeadLetterTopic, Guarantee: AtLeastOnce, Partitioner: ByKey,
		Properties: maps.Clone(source.Kafka.Properties),
	}
	if to := n.exactlyOnceBelow(i); to != nil {
		k.Guarantee = ExactlyOnce
		same := to.Properties[bootstrapServers] == k.Properties[bootstrapServers]
		if timeout, ok := to.Properties[transactionTimeout]; ok && (same || shorterThanDefault(timeout)) {
			k.Properties[transactionTimeout] = timeout
		}
		if same {
			k.TransactionalIDPrefix = to.TransactionalIDPrefix
		}
	}
	return Sink{Name: DeadLetterName(source.Name, vertex), Kafka: k}
}

// The properties that a sink of dead letters has in common with others.
const (
	bootstrapServers   = "bootstrap.servers"
	transactionTimeout = "transaction.timeout.ms"
)

// defaultTransactionTimeoutMs is what a sink has that says nothing.
const defaultTransactionTimeoutMs = 900_000

func shorterThanDefault(timeoutMs string) bool {
	ms, err := strconv.Atoi(timeoutMs)
	return err == nil && ms < defaultTransactionTimeoutMs
}

// exactlyOnceBelow is the first exactly-once sink that a source reaches, nil for none.
func (n *network) exactlyOnceBelow(source int) *KafkaSink {
	for i := range n.parts {
		s := n.parts[i].node.Sink
		if s == nil || s.Kafka == nil || s.Kafka.Guarantee != ExactlyOnce {
			continue
		}
		for _, above := range n.sources[i] {
			if above == source {
				return s.Kafka
			}
		}
	}
	return nil
}

// deadLetters adds to each vertex the sinks of the dead letters that can arise there.
func (p *planner) deadLetters() {
	for i := range p.physical.Vertices {
		v := &p.physical.Vertices[i]
		wanted := map[string]bool{}
		note := func(policies ErrorPolicies) {
			for _, policy := range policies {
				if policy.OnError.Policy == DeadLetter {
					wanted[policy.Source] = true
				}
			}
		}
		for k := range v.Nodes {
			if v.Nodes[k].canFail() {
				note(v.Nodes[k].OnError)
			}
		}
		for k := range p.physical.Edges {
			if e := &p.physical.Edges[k]; e.From == v.Name && e.KeyBy != "" {
				note(e.OnError)
			}
		}
		for source := range p.net.parts {
			if name := p.net.parts[source].node.Name; wanted[name] && p.net.parts[source].node.Kind == KindSource {
				sink := p.net.deadLetterSink(source, v.Name)
				v.Nodes = append(v.Nodes, Node{Name: sink.Name, Kind: KindSink, Sink: &sink, Parent: -1, DeadLettersOf: name, KeyFormat: Bytes, ValueFormat: Bytes})
			}
		}
	}
}

// canFail says whether there are records that the node cannot handle.
func (n *Node) canFail() bool {
	switch n.Kind {
	case KindSource:
		return n.Source.Kafka != nil && n.Source.Kafka.Until != ""
	case KindOperator:
		return !n.Operator.Count
	default:
		return n.Sink.Kafka != nil
	}
}
