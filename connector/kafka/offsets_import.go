package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
	"github.com/sluice-stream/sluice/graph"
)

// ImportQuery names offsets that stand in ZooKeeper.
type ImportQuery struct {
	// Properties are those of a source: group.id, zookeeper.connect and what belongs to it. With
	// bootstrap.servers the offsets are compared with the logs.
	Properties map[string]string
	// Topics are all that the group has offsets of if there are none.
	Topics  []string
	Meaning graph.OffsetMeaning
}

// ImportedOffset is what stands in ZooKeeper for a partition and what it means.
type ImportedOffset struct {
	Topic     string
	Partition int32
	// Value is what the node holds, Next the offset to read next by the meaning asked for, Otherwise by the
	// other one; -1: the node holds none.
	Value, Next, Otherwise int64
	// LogStart and LogEnd are the first offset of the log and the one that its next record will have; nil: not
	// asked for, or there is no such partition.
	LogStart, LogEnd *int64
	// Note says what is wrong with it; empty: nothing is.
	Note string
}

// ErrNoOffsets says that a group has stored nothing.
var ErrNoOffsets = errors.New("no offsets")

// ImportOffsets reads the offsets of a group and explains them. The warnings are about all of them.
func (a *Admin) ImportOffsets(ctx context.Context, q ImportQuery) ([]ImportedOffset, []string, error) {
	if err := q.check(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	cfg := Config{GroupID: q.Properties[propGroup], zooKeeper: zooKeeperOf(q.Properties)}
	client, release, err := a.zooKeepers.acquire(&cfg)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	out, err := q.read(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	if q.Properties[propBootstrap] != "" {
		if err := a.compare(ctx, &q, out); err != nil {
			return nil, nil, err
		}
	}
	return out, q.judge(out), nil
}

func (q *ImportQuery) check() error {
	var faults []error
	for _, err := range CheckProperties(graph.KindSource, q.Properties) {
		var p *PropertyError
		if q.Properties[propBootstrap] == "" && errors.As(err, &p) && p.Name == propBootstrap {
			continue // the logs are not asked for
		}
		faults = append(faults, err)
	}
	for _, name := range []string{propZooKeeper, propGroup} {
		if q.Properties[name] == "" {
			faults = append(faults, &PropertyError{Name: name, Reason: "it is missing", Hint: "add it"})
		}
	}
	if group := q.Properties[propGroup]; group != "" {
		if err := zookeeper.CheckName("the name", group); err != nil {
			faults = append(faults, &PropertyError{Name: propGroup, Reason: err.Error()})
		}
	}
	for _, topic := range q.Topics {
		if err := zookeeper.CheckName("the name", topic); err != nil {
			faults = append(faults, &PropertyError{Name: "topic", Reason: err.Error()})
		}
	}
	return errors.Join(faults...)
}

// read finds the partitions that have an offset.
func (q *ImportQuery) read(ctx context.Context, client *zookeeper.Client) ([]ImportedOffset, error) {
	group, topics := q.Properties[propGroup], q.Topics
	if len(topics) == 0 {
		var err error
		if topics, err = client.Topics(ctx, group); err != nil {
			return nil, err
		}
	}
	var parts []zookeeper.Partition
	for _, topic := range topics {
		found, err := client.Partitions(ctx, group, topic)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("group %s has %w of topic %s in ZooKeeper at %s; check group, topic and chroot", group, ErrNoOffsets, topic, q.Properties[propZooKeeper])
		}
		parts = append(parts, found...)
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("group %s has %w in ZooKeeper at %s; check the group and the chroot", group, ErrNoOffsets, q.Properties[propZooKeeper])
	}
	found, err := client.ReadOffsets(ctx, group, parts)
	if err != nil {
		return nil, err
	}
	other := graph.MeansNext
	if q.Meaning == graph.MeansNext {
		other = graph.MeansLast
	}
	out := make([]ImportedOffset, len(found))
	for i, o := range found {
		out[i] = ImportedOffset{Topic: o.Topic, Partition: o.Partition.Partition, Value: o.Value, Next: nextOf(o.Value, q.Meaning), Otherwise: nextOf(o.Value, other)}
	}
	return out, nil
}

// compare asks the brokers for the logs of the partitions.
func (a *Admin) compare(ctx context.Context, q *ImportQuery, out []ImportedOffset) error {
	cfg, err := Resolve(graph.KindSource, q.Properties)
	if err != nil {
		return err
	}
	cluster, release, err := a.acquire(&cfg)
	if err != nil {
		return err
	}
	defer release()
	var topics []string
	for i := range out {
		if !slices.Contains(topics, out[i].Topic) {
			topics = append(topics, out[i].Topic)
		}
	}
	md, err := cluster.Metadata(ctx, topics)
	if err != nil {
		return err
	}
	st := &starting{admin: a, cfg: &cfg, cluster: cluster}
	var of []int
	for i := range out {
		o := &out[i]
		t, ok := md.Topic(o.Topic)
		if !ok || t.Err != nil || !slices.ContainsFunc(t.Partitions, func(p wire.Partition) bool { return p.ID == o.Partition }) {
			o.Note = "there is no such partition on " + cfg.Servers()
			continue
		}
		st.parts, of = append(st.parts, wire.TopicPartition{Topic: o.Topic, Partition: o.Partition}), append(of, i)
	}
	if len(of) == 0 {
		return nil
	}
	first, last, err := st.logRanges(ctx)
	if err != nil {
		return err
	}
	for k, i := range of {
		out[i].LogStart, out[i].LogEnd = &first[k].offset, &last[k].offset
		out[i].note()
	}
	return nil
}

// note says what is wrong with an offset of a log that is known.
func (o *ImportedOffset) note() {
	switch {
	case o.Next < 0:
		o.Note = "the node holds no offset"
	case o.Next < *o.LogStart:
		o.Note = fmt.Sprintf("the records %d to %d are gone: the log begins at %d", o.Next, *o.LogStart-1, *o.LogStart)
	case o.Next == *o.LogEnd+1 && o.Otherwise == *o.LogEnd:
		o.Note = "one behind the end of the log: the number probably means the next offset"
	case o.Next > *o.LogEnd:
		o.Note = fmt.Sprintf("behind the end of the log, %d: the topic was made anew, or the number is none of its offsets", *o.LogEnd)
	}
}

// judge finds what the numbers say about their meaning: a group that has read everything stands at the end.
func (q *ImportQuery) judge(all []ImportedOffset) []string {
	tooFar, oneLeft, known := 0, 0, 0
	for i := range all {
		o := &all[i]
		if o.LogEnd == nil || o.Value < 0 || *o.LogEnd == *o.LogStart {
			continue
		}
		known++
		switch *o.LogEnd {
		case o.Value:
			tooFar++
		case o.Value + 1:
			oneLeft++
		}
	}
	switch {
	case q.Meaning == graph.MeansLast && tooFar > 0:
		return []string{fmt.Sprintf("%d of %d partitions hold exactly the end of their log, which no record processed last can have: these numbers mean the next offset (meaning next); "+
			"read as last, the next record of each partition is never read", tooFar, known)}
	case q.Meaning == graph.MeansNext && oneLeft > 0 && tooFar == 0 && oneLeft == known:
		return []string{fmt.Sprintf("all %d partitions hold the offset of the last record of their log: these numbers may mean the last one processed (meaning last), "+
			"as Flink 0.9 and 0.10 wrote it; read as next, one record of each partition is read twice", known)}
	case known == 0 || tooFar+oneLeft == 0:
		return []string{"the numbers do not tell what they mean: ask who wrote them. Flink 0.9 and 0.10 wrote the last record processed (meaning last), later ones and Kafka's tools the next one to read " +
			"(meaning next). A next offset read as last loses a record of each partition, the reverse repeats one"}
	}
	return nil
}

// StartupOffsets is where the offsets let a job begin, for startup: {offsets: …}. A partition without an offset is left out:
// it begins at its earliest record, as does one whose records are gone.
func StartupOffsets(all []ImportedOffset) map[string]map[int32]int64 {
	out := map[string]map[int32]int64{}
	for i := range all {
		o := &all[i]
		if o.Next < 0 || o.LogStart != nil && o.Next < *o.LogStart {
			continue
		}
		if out[o.Topic] == nil {
			out[o.Topic] = map[int32]int64{}
		}
		out[o.Topic][o.Partition] = o.Next
	}
	return out
}
