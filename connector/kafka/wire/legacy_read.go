package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// legacy makes an answer of Metadata v0 what a newer one would be: only the topics that were asked for, nil for all, and
// an error for those that do not exist.
func (m *Metadata) legacy(asked []string, address string) {
	m.Controller = -1
	if asked != nil {
		m.Topics = slices.DeleteFunc(m.Topics, func(t Topic) bool { return !slices.Contains(asked, t.Name) })
	}
	for _, name := range asked {
		if _, ok := m.Topic(name); !ok {
			m.Topics = append(m.Topics, Topic{Name: name, Err: answerError(CodeUnknownTopicOrPartition, "Metadata", address, name, -1)})
			slices.SortFunc(m.Topics, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
		}
	}
	for i := range m.Topics {
		t := &m.Topics[i]
		t.Internal = t.Name == "__consumer_offsets"
		for n := range t.Partitions {
			t.Partitions[n].LeaderEpoch = -1
		}
	}
}

// listLegacy is listAt by ListOffsets v0, which answers with the starts of log segments: right for the ends of the log,
// and for nothing in between.
func (c *Cluster) listLegacy(ctx context.Context, to net.Addr, index []int, queries []OffsetQuery, out []OffsetAnswer) error {
	asked := make([]int, 0, len(index))
	for _, i := range index {
		if q := queries[i]; q.Timestamp >= 0 {
			out[i].Err = &Error{Code: CodeUnsupportedVersion, API: "ListOffsets", Address: to.String(), Topic: q.Topic, Partition: q.Partition,
				Detail: "brokers before 0.10.1 find a time only as precisely as the segments of their logs"}
			continue
		}
		out[i].Err = fmt.Errorf("ListOffsets %s/%d at %v: %w", queries[i].Topic, queries[i].Partition, to, errNoResult)
		asked = append(asked, i)
	}
	if len(asked) == 0 {
		return nil
	}
	talk := &listTalk{queries: queries, out: out, address: to.String()}
	talk.order = groupByTopic(len(asked), func(n int) string { return queries[asked[n]].Topic })
	for _, g := range talk.order {
		for n := range g.index {
			g.index[n] = asked[g.index[n]]
		}
	}
	if err := c.callAgain(ctx, to, talk); err != nil {
		return err
	}
	for _, i := range asked {
		if Classify(out[i].Err) == ClassRefresh {
			c.Forget(out[i].Topic)
		}
	}
	return nil
}

// listTalk is ListOffsets v0.
type listTalk struct {
	queries []OffsetQuery
	out     []OffsetAnswer
	order   []topicGroup // places in queries and out
	address string
}

func (*listTalk) key() protocol.ApiKey { return protocol.ListOffsets }

func (l *listTalk) converse(conn *protocol.Conn, h callHeader) error {
	h.version = 0 // Transport knows v1 and later only
	w := beginRequest(nil, h)
	w.int32(-1) // replica: a consumer
	w.int32(int32(len(l.order)))
	for _, g := range l.order {
		w.string(g.topic)
		w.int32(int32(len(g.index)))
		for _, i := range g.index {
			w.int32(l.queries[i].Partition)
			w.int64(l.queries[i].Timestamp)
			w.int32(1) // offsets wanted
		}
	}
	if _, err := conn.Write(w.finish()); err != nil {
		return err
	}
	in, err := newReader(conn, h)
	if err != nil {
		return err
	}
	for range in.count(6) {
		group, ok := findGroup(l.order, in.bytes(int(in.int16())))
		for range in.count(10) {
			l.partition(in, group, ok)
		}
	}
	return in.end()
}

func (l *listTalk) partition(in *reader, group topicGroup, known bool) {
	id, code := in.int32(), in.int16()
	offset, any := int64(-1), false
	for range in.count(8) {
		if o := in.int64(); !any {
			offset, any = o, true
		}
	}
	if in.err != nil || !known {
		return
	}
	for _, i := range group.index {
		if l.queries[i].Partition != id {
			continue
		}
		l.out[i].Offset, l.out[i].Err = offset, answerError(code, "ListOffsets", l.address, group.topic, id)
		if l.out[i].Err == nil && !any {
			l.out[i].Err = fmt.Errorf("ListOffsets %s/%d at %s: %w", group.topic, id, l.address, errNoResult)
		}
	}
}

// leastPartitionBytes is what is asked for of a partition at least, however many there are.
const leastPartitionBytes = 64 << 10

// legacy shares the size of the answer among the partitions: Fetch v0 has no limit for the whole.
func (r *FetchRequest) legacy() *FetchRequest {
	shared := *r
	shared.Partitions = slices.Clone(r.Partitions)
	share := max(orDefault(r.MaxBytes, 16<<20)/len(r.Partitions), leastPartitionBytes)
	for i := range shared.Partitions {
		p := &shared.Partitions[i]
		p.MaxBytes = min(orDefault(p.MaxBytes, 1<<20), share)
	}
	return &shared
}

// completeCut fetches again what is cut within its first message, with room for it: before KIP-74 a broker keeps to
// the limit of a partition, and a larger message would never come. What fails stays as it is, and shows when it is read.
func (c *Cluster) completeCut(ctx context.Context, to net.Addr, res *FetchResponse) {
	for i := range res.Partitions {
		p := &res.Partitions[i]
		need := p.cutBytes()
		if need == 0 || need > c.cfg.MaxResponseBytes/2 {
			continue
		}
		req := &FetchRequest{MaxWait: time.Millisecond, Partitions: []FetchPartition{{Topic: p.Topic, Partition: p.Partition, Offset: p.Offset, MaxBytes: need}}}
		talk := &fetchTalk{req: req, c: c, address: to.String(), order: []topicGroup{{p.Topic, []int{0}}}}
		if err := c.callAgain(ctx, to, talk); err != nil {
			continue
		}
		if len(talk.res.Partitions) != 1 {
			talk.res.Release()
			continue
		}
		p.Release()
		*p = talk.res.Partitions[0]
	}
}

// cutBytes is the size of the first message if the answer does not hold all of it, 0 otherwise.
func (p *FetchedPartition) cutBytes() int {
	if len(p.rest) < lengthOverhead {
		return 0
	}
	size := int(int32(binary.BigEndian.Uint32(p.rest[atLength:]))) + lengthOverhead
	if size <= len(p.rest) {
		return 0
	}
	return size
}
