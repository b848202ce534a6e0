package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

// DiscoveryInterval is how often the partitions of a source are looked for while its job runs; 0: once, each time
// that an attempt begins to run. They are not wanted of a bounded source, which ends where its partitions end that
// were there at the start, nor where Kafka's consumer group assigns them. Of a fixed set of partitions only the
// topics are looked at.
func (a *Admin) DiscoveryInterval(k *graph.KafkaSource) (every time.Duration, wanted bool) {
	if isBounded(k) || k.Mode == graph.ModeGroup {
		return 0, false
	}
	return time.Duration(numberOf(k.Properties, propDiscovery)) * time.Millisecond, true
}

func isBounded(k *graph.KafkaSource) bool {
	return k.Until != "" || k.Bounded.Mode != "" && k.Bounded.Mode != graph.BoundNone
}

// Discover lists the topics of a source that exist now, with their ids, and its splits that are not known, each at
// the beginning of its log. Even with an error found may hold a part of them, and topics, unless nil, is complete.
func (a *Admin) Discover(ctx context.Context, s *graph.Source, known []manifest.Position) (found []manifest.Position, topics map[string]manifest.TopicID, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	cfg, err := Resolve(graph.KindSource, s.Kafka.Properties)
	if err != nil {
		return nil, nil, err
	}
	cluster, release, err := a.acquire(&cfg)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	st := &starting{source: s, cfg: &cfg, cluster: cluster}
	fresh, err := st.discover(ctx, known)
	if st.ids == nil {
		return nil, nil, err
	}
	var begin []point
	if len(fresh) > 0 {
		st.parts = fresh
		var faults []error
		begin, faults = st.beginnings(ctx)
		err = errors.Join(append([]error{err}, faults...)...)
	}
	for i, p := range begin {
		if p.offset >= 0 {
			found = append(found, st.position(fresh[i], p, -1))
		}
	}
	return found, st.ids, err
}

// discover finds the partitions that are not known; it notes the ids of the topics that exist, unless they cannot be
// listed. An error beside them tells of topics whose partitions are not seen.
func (st *starting) discover(ctx context.Context, known []manifest.Position) ([]wire.TopicPartition, error) {
	k := st.source.Kafka
	topics := topicsOfSource(k)
	md, err := st.cluster.Metadata(ctx, topics)
	if err != nil {
		return nil, err
	}
	if topics == nil {
		pattern, err := wholePattern(k.TopicPattern)
		if err != nil {
			return nil, err
		}
		topics = matching(md, pattern)
	}
	var exist []string
	var faults []error
	have := make(map[wire.TopicPartition]bool, len(known))
	for _, p := range known {
		have[wire.TopicPartition{Topic: p.Topic, Partition: p.Partition}] = true
	}
	var fresh []wire.TopicPartition
	for _, name := range topics {
		t, ok := md.Topic(name)
		if !ok || wire.HasCode(t.Err, wire.CodeUnknownTopicOrPartition) {
			continue
		}
		exist = append(exist, name)
		if t.Err != nil {
			faults = append(faults, t.Err)
		}
		for i := range t.Partitions {
			if tp := (wire.TopicPartition{Topic: name, Partition: t.Partitions[i].ID}); !have[tp] && len(k.Partitions) == 0 {
				fresh = append(fresh, tp)
			}
		}
	}
	// Behind the list: what was created again in between is seen as another topic.
	if st.ids, err = idsOf(ctx, st.cluster, exist); err != nil {
		return nil, fmt.Errorf("ask for the ids of topics: %w", err)
	}
	return fresh, errors.Join(faults...)
}

// topicsOfSource are the names of the topics that a source reads; nil: it has a pattern.
func topicsOfSource(k *graph.KafkaSource) []string {
	switch {
	case k.TopicPattern != "":
		return nil
	case len(k.Partitions) > 0:
		return slices.Sorted(maps.Keys(k.Partitions))
	default:
		return k.Topics
	}
}

// idsOf gives every one of the topics, which exist, its id, zero where the broker tells none. A broker that has not
// heard of one yet is an error, after which another one is asked: a position without the id would stay without.
func idsOf(ctx context.Context, cluster *wire.Cluster, topics []string) (map[string]manifest.TopicID, error) {
	told, err := cluster.TopicIDs(ctx, topics)
	if err != nil {
		return nil, err
	}
	out := make(map[string]manifest.TopicID, len(topics))
	for _, t := range topics {
		id, ok := told[t]
		if !ok && told != nil {
			return nil, &wire.Error{Code: wire.CodeUnknownTopicOrPartition, API: "Metadata", Topic: t, Partition: -1, Detail: "a broker does not know its id yet"}
		}
		out[t] = id
	}
	return out, nil
}

// beginnings are the first offsets of st.parts, -1 where the leader does not tell: it may not know yet that it is
// the leader of a new partition.
func (st *starting) beginnings(ctx context.Context) ([]point, []error) {
	queries := make([]wire.OffsetQuery, len(st.parts))
	out := make([]point, len(st.parts))
	for i, tp := range st.parts {
		queries[i] = wire.OffsetQuery{Topic: tp.Topic, Partition: tp.Partition, Timestamp: wire.Earliest}
		out[i] = point{-1, -1}
	}
	answers, err := st.cluster.ListOffsets(ctx, queries, wire.ReadUncommitted)
	if err != nil {
		return out, []error{fmt.Errorf("list the offsets of new partitions: %w", err)}
	}
	var faults []error
	for i := range answers {
		if answers[i].Err != nil {
			faults = append(faults, answers[i].Err)
			continue
		}
		out[i] = point{answers[i].Offset, answers[i].LeaderEpoch}
	}
	return out, faults
}
