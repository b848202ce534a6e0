package wire

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go/protocol"
)

// epochEndVersion is the OffsetForLeaderEpoch (Kafka 2.3) that whoever may see a topic may ask; before it that took
// administrators. kafka-go speaks none.
const epochEndVersion = 3

// EpochQuery asks where a leader epoch of a partition ends in the log of its leader.
type EpochQuery struct {
	Topic     string
	Partition int32
	// LeaderEpoch is the epoch in question: that of the last batch read.
	LeaderEpoch int32
	// Current is the epoch of the leader that is asked, so that one that was replaced does not answer; -1 unknown.
	Current int32
}

// EpochEnd answers the query at the same place.
type EpochEnd struct {
	// LeaderEpoch is the newest epoch in the log that is not above the one asked for; -1: the log knows none.
	LeaderEpoch int32
	// EndOffset is the end of that epoch: the start of the next one, or the end of the log; -1: the log knows none.
	EndOffset int64
	Err       error // *Error, or that the broker passed the query over
}

// EpochEnds asks the leader of partitions where epochs end (KIP-320); a partition may stand in it once. The error has
// CodeUnsupportedVersion if the broker is older than Kafka 2.3.
func (c *Cluster) EpochEnds(ctx context.Context, broker int32, queries []EpochQuery) ([]EpochEnd, error) {
	to, err := c.broker(ctx, broker)
	if err != nil {
		return nil, err
	}
	talk := &epochEndTalk{queries: queries, address: to.String(), order: groupByTopic(len(queries), func(i int) string { return queries[i].Topic })}
	if err := c.callAgain(ctx, to, talk); err != nil {
		return nil, err
	}
	return talk.out, nil
}

// epochEndTalk is OffsetForLeaderEpoch v3.
type epochEndTalk struct {
	queries []EpochQuery
	order   []topicGroup
	address string
	out     []EpochEnd
}

func (*epochEndTalk) key() protocol.ApiKey { return protocol.OffsetForLeaderEpoch }

func (t *epochEndTalk) converse(conn *protocol.Conn, h callHeader) error {
	offered, err := offers(conn, h, epochEndVersion)
	if err != nil {
		return err
	}
	if !offered {
		return &Error{Code: CodeUnsupportedVersion, API: "OffsetForLeaderEpoch", Partition: -1, Detail: "Kafka 2.3 or later is needed"}
	}
	h.version = epochEndVersion
	if _, err := conn.Write(t.request(h)); err != nil {
		return err
	}
	in, err := newReader(conn, h)
	if err != nil {
		return err
	}
	t.read(in)
	return in.end()
}

func (t *epochEndTalk) request(h callHeader) []byte {
	w := beginRequest(nil, h)
	w.int32(-1) // replica: a consumer
	w.int32(int32(len(t.order)))
	for _, g := range t.order {
		w.string(g.topic)
		w.int32(int32(len(g.index)))
		for _, i := range g.index {
			q := &t.queries[i]
			w.int32(q.Partition)
			w.int32(q.Current)
			w.int32(q.LeaderEpoch)
		}
	}
	return w.finish()
}

func (t *epochEndTalk) read(in *reader) {
	t.out = make([]EpochEnd, len(t.queries))
	for i, q := range t.queries {
		t.out[i] = EpochEnd{-1, -1, fmt.Errorf("OffsetForLeaderEpoch %s/%d at %s: the answer does not mention it", q.Topic, q.Partition, t.address)}
	}
	in.int32() // throttle: the question is a rare one
	for range in.count(6) {
		group, _ := findGroup(t.order, in.bytes(int(in.int16())))
		for range in.count(18) {
			code, id := in.int16(), in.int32()
			end := EpochEnd{in.int32(), in.int64(), answerError(code, "OffsetForLeaderEpoch", t.address, group.topic, id)}
			if in.err != nil {
				return
			}
			for _, i := range group.index {
				if t.queries[i].Partition == id {
					t.out[i] = end
				}
			}
		}
	}
}
