package graph

import (
	"regexp"
	"slices"
)

// SourcePolicy is what happens to the records of one source that cannot be handled.
type SourcePolicy struct {
	Source  string
	OnError OnError
	// Topics and Pattern are what the source reads; one of them is set.
	Topics  []string
	Pattern *regexp.Regexp
}

// ErrorPolicies are the policies of the sources that feed a part of the graph, in the order of the job.
type ErrorPolicies []SourcePolicy

// Of is the policy for a record that was read from a topic: that of the source that reads the topic. If
// several do, nobody knows which of them read the record, and the strictest counts: fail before deadLetter
// before skip, and fail if they have different dead-letter topics.
func (p ErrorPolicies) Of(topic string) SourcePolicy {
	var found []SourcePolicy
	for i := range p {
		if p[i].reads(topic) {
			found = append(found, p[i])
		}
	}
	if len(found) == 0 {
		found = p // a record that came from nowhere
	}
	if len(found) == 0 {
		return SourcePolicy{OnError: OnError{Policy: Fail}}
	}
	strictest := found[0]
	for _, other := range found[1:] {
		strictest = stricter(strictest, other)
	}
	return strictest
}

func stricter(a, b SourcePolicy) SourcePolicy {
	if a.OnError.Policy == DeadLetter && b.OnError.Policy == DeadLetter && a.OnError != b.OnError {
		a.OnError = OnError{Policy: Fail}
		return a
	}
	rank := []ErrorPolicy{Skip, DeadLetter, Fail}
	if slices.Index(rank, a.OnError.Policy) < slices.Index(rank, b.OnError.Policy) {
		return b
	}
	return a
}

func (p *SourcePolicy) reads(topic string) bool {
	if p.Pattern != nil {
		return p.Pattern.MatchString(topic)
	}
	return slices.Contains(p.Topics, topic)
}

// policyOf is the policy of a source.
func policyOf(s *Source) SourcePolicy {
	p := SourcePolicy{Source: s.Name}
	k := s.Kafka
	if k == nil {
		return p
	}
	p.OnError, p.Topics = k.OnError, slices.Clone(k.Topics)
	for topic := range k.Partitions {
		p.Topics = append(p.Topics, topic)
	}
	slices.Sort(p.Topics)
	if k.TopicPattern != "" {
		if pattern, err := regexp.Compile(`^(?:` + k.TopicPattern + `)$`); err == nil { // said by Validate
			p.Pattern = pattern
		}
	}
	return p
}

// policies are those of the sources above a part; of a source, its own.
func (p *planner) policies(i int) ErrorPolicies {
	var out ErrorPolicies
	for _, source := range p.net.sources[i] {
		out = append(out, p.policyOf[source])
	}
	return out
}

// ReadsTopic says whether a source reads a topic, by its name or by its pattern.
func (s *Source) ReadsTopic(topic string) bool {
	p := policyOf(s)
	return p.reads(topic)
}

// ownTopic says whether a source reads the topic that its dead letters go to: they would come back for ever.
func ownTopic(s *Source) bool {
	p := policyOf(s)
	return p.OnError.Policy == DeadLetter && p.reads(p.OnError.DeadLetterTopic)
}
