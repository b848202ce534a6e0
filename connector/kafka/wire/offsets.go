package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
)

// Special timestamps of ListOffsets.
const (
	// Latest asks for the end: the high watermark, or the last stable offset for ReadCommitted.
	Latest int64 = -1
	// Earliest asks for the start of the log.
	Earliest int64 = -2
)

// OffsetQuery asks for an offset of a partition.
type OffsetQuery struct {
	Topic     string
	Partition int32
	// Timestamp is Latest, Earliest, or milliseconds: the first record at or after it is wanted.
	Timestamp int64
}

// OffsetAnswer answers the query at the same place. Offset -1 without Err means that no record is at
// or after the timestamp.
type OffsetAnswer struct {
	Topic       string
	Partition   int32
	Offset      int64
	Timestamp   int64 // of the record found, -1 for Latest and Earliest
	LeaderEpoch int32 // -1 unknown
	Err         error // *Error, or *CallError if the leader did not answer
}

// ListOffsets resolves offsets at the partitions' leaders, one request per leader. A partition may
// stand in it once. An error is returned only if ctx ended; all else is in the answers.
func (c *Cluster) ListOffsets(ctx context.Context, queries []OffsetQuery, isolation Isolation) ([]OffsetAnswer, error) {
	out := make([]OffsetAnswer, len(queries))
	byLeader := map[int32][]int{}
	for i, q := range queries {
		out[i] = OffsetAnswer{Topic: q.Topic, Partition: q.Partition, Offset: -1, Timestamp: -1, LeaderEpoch: -1}
		leader, err := c.Leader(ctx, q.Topic, q.Partition)
		if err != nil {
			out[i].Err = err
			continue
		}
		byLeader[leader.Broker] = append(byLeader[leader.Broker], i)
	}
	for _, id := range slices.Sorted(maps.Keys(byLeader)) {
		if err := c.listAt(ctx, id, byLeader[id], queries, out, isolation); err != nil {
			for _, i := range byLeader[id] {
				out[i].Err = err
				c.Forget(queries[i].Topic) // the leader may be another one by now
			}
		}
	}
	return out, ctx.Err()
}

func (c *Cluster) listAt(ctx context.Context, broker int32, index []int, queries []OffsetQuery, out []OffsetAnswer, isolation Isolation) error {
	to, err := c.broker(ctx, broker)
	if err != nil {
		return err
	}
	if c.cfg.legacy() {
		return c.listLegacy(ctx, to, index, queries, out)
	}
	req := &listoffsets.Request{ReplicaID: -1, IsolationLevel: int8(isolation)}
	place := map[TopicPartition]int{}
	for _, g := range groupByTopic(len(index), func(i int) string { return queries[index[i]].Topic }) {
		t := listoffsets.RequestTopic{Topic: g.topic}
		for _, n := range g.index {
			q := queries[index[n]]
			place[TopicPartition{q.Topic, q.Partition}] = index[n]
			t.Partitions = append(t.Partitions, listoffsets.RequestPartition{Partition: q.Partition, CurrentLeaderEpoch: -1, Timestamp: q.Timestamp})
		}
		req.Topics = append(req.Topics, t)
	}
	res, err := ask[*listoffsets.Response](ctx, c, to, req, true)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			tp := TopicPartition{t.Topic, p.Partition}
			i, ok := place[tp]
			if !ok {
				continue
			}
			delete(place, tp)
			if out[i].Err = answerError(p.ErrorCode, "ListOffsets", to.String(), t.Topic, p.Partition); out[i].Err == nil {
				out[i].Offset, out[i].Timestamp, out[i].LeaderEpoch = p.Offset, p.Timestamp, p.LeaderEpoch
			}
			if Classify(out[i].Err) == ClassRefresh {
				c.Forget(t.Topic)
			}
		}
	}
	for tp, i := range place {
		out[i].Err = fmt.Errorf("ListOffsets %v at %v: %w", tp, to, errNoResult)
	}
	return nil
}

// CommittedOffset is an offset that a group committed for a partition.
type CommittedOffset struct {
	Topic       string
	Partition   int32
	Offset      int64 // the next one to read; -1: none committed
	LeaderEpoch int32 // -1 unknown
	Metadata    string
	Err         error
}

// OffsetFetch reads what a group committed, for the partitions in parts, in their order.
func (c *Cluster) OffsetFetch(ctx context.Context, group string, parts []TopicPartition) ([]CommittedOffset, error) {
	k := coordinatorKey{groupCoordinator, group}
	req := &offsetfetch.Request{GroupID: group, Topics: []offsetfetch.RequestTopic{}}
	for _, g := range groupByTopic(len(parts), func(i int) string { return parts[i].Topic }) {
		t := offsetfetch.RequestTopic{Name: g.topic}
		for _, i := range g.index {
			t.PartitionIndexes = append(t.PartitionIndexes, parts[i].Partition)
		}
		req.Topics = append(req.Topics, t)
	}
	res, address, err := askCoordinator[*offsetfetch.Response](ctx, c, k, req, true)
	if err != nil {
		return nil, err
	}
	c.noteCode(k, res.ErrorCode)
	if res.ErrorCode != 0 && res.ErrorCode != CodeGroupIDNotFound { // no group, nothing committed
		return nil, &Error{Code: res.ErrorCode, API: "OffsetFetch", Address: address, Partition: -1, Detail: "group " + group}
	}
	found := map[TopicPartition]CommittedOffset{}
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			c.noteCode(k, p.ErrorCode)
			found[TopicPartition{t.Name, p.PartitionIndex}] = CommittedOffset{
				Topic: t.Name, Partition: p.PartitionIndex, Offset: p.CommittedOffset, LeaderEpoch: p.ComittedLeaderEpoch, Metadata: p.Metadata,
				Err: answerError(p.ErrorCode, "OffsetFetch", address, t.Name, p.PartitionIndex),
			}
		}
	}
	out := make([]CommittedOffset, len(parts))
	for i, tp := range parts {
		o, ok := found[tp]
		if !ok {
			o = CommittedOffset{Topic: tp.Topic, Partition: tp.Partition, Offset: -1, LeaderEpoch: -1}
		}
		out[i] = o
	}
	return out, nil
}

// OffsetCommit stores offsets for a group without being a member of it; brokers refuse that while
// the group has members. The error joins those of the partitions.
func (c *Cluster) OffsetCommit(ctx context.Context, group string, offsets []CommittedOffset) error {
	return c.OffsetCommitAs(ctx, Member{Group: group, Generation: -1}, offsets)
}

// OffsetCommitAs is OffsetCommit for a member of the group; brokers refuse it once the group has gathered without
// the member.
func (c *Cluster) OffsetCommitAs(ctx context.Context, m Member, offsets []CommittedOffset) error {
	if len(offsets) == 0 {
		return nil
	}
	group, k := m.Group, coordinatorKey{groupCoordinator, m.Group}
	req := &offsetcommit.Request{GroupID: group, GenerationID: m.Generation, MemberID: m.ID, RetentionTimeMs: -1}
	now := time.Now().UnixMilli()
	for _, g := range groupByTopic(len(offsets), func(i int) string { return offsets[i].Topic }) {
		t := offsetcommit.RequestTopic{Name: g.topic}
		for _, i := range g.index {
			o := offsets[i]
			t.Partitions = append(t.Partitions, offsetcommit.RequestPartition{
				PartitionIndex: o.Partition, CommittedOffset: o.Offset, CommittedLeaderEpoch: o.LeaderEpoch, CommitTimestamp: now, CommittedMetadata: o.Metadata,
			})
		}
		req.Topics = append(req.Topics, t)
	}
	res, address, err := askCoordinator[*offsetcommit.Response](ctx, c, k, req, true)
	if err != nil {
		return err
	}
	var faults []error
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			c.noteCode(k, p.ErrorCode)
			if p.ErrorCode != 0 {
				faults = append(faults, &Error{Code: p.ErrorCode, API: "OffsetCommit", Address: address, Topic: t.Name, Partition: p.PartitionIndex, Detail: "group " + group})
			}
		}
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}
