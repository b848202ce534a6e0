package kafka

import (
	"cmp"
	"maps"
	"slices"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// The strategies by which the leader of a group gives partitions to members, as Kafka's consumers name them.
const (
	strategyRoundRobin = "roundrobin"
	strategyRange      = "range"
)

// groupStrategies are those that a source offers, the best first; range is what all consumers know.
var groupStrategies = []string{strategyRoundRobin, strategyRange}

// assignGroup gives every partition of the topics to one of the members that subscribe to its topic. Counts are the
// partitions of each topic; topics without a count do not exist.
func assignGroup(strategy string, subscriptions map[string][]string, counts map[string]int32) map[string][]wire.TopicPartition {
	out := make(map[string][]wire.TopicPartition, len(subscriptions))
	subscribers := map[string][]string{}
	for _, member := range slices.Sorted(maps.Keys(subscriptions)) {
		out[member] = nil
		for _, topic := range subscriptions[member] {
			subscribers[topic] = append(subscribers[topic], member)
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(subscribers)) {
		members := subscribers[topic]
		for p := range counts[topic] {
			to := rangeOwner(members, int(p), int(counts[topic]))
			if strategy == strategyRoundRobin {
				to = leastLoaded(members, out)
			}
			out[to] = append(out[to], wire.TopicPartition{Topic: topic, Partition: p})
		}
	}
	return out
}

// rangeOwner gives each member a run of neighbours; the first members get one more if it does not come out even.
func rangeOwner(members []string, partition, count int) string {
	each, more := count/len(members), count%len(members)
	if long := more * (each + 1); partition >= long {
		return members[more+(partition-long)/each]
	}
	return members[partition/(each+1)]
}

// leastLoaded is the member with the fewest partitions, which among members of the same topics goes round.
func leastLoaded(members []string, loads map[string][]wire.TopicPartition) string {
	return slices.MinFunc(members, func(a, b string) int { return cmp.Compare(len(loads[a]), len(loads[b])) })
}
