package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
	"github.com/sluice-stream/sluice/graph"
)

// meant is the number that ZooKeeper holds for a next offset. With MeansLast and nothing processed that is -1,
// which is never written.
func meant(next int64, meaning graph.OffsetMeaning) int64 {
	if meaning == graph.MeansNext {
		return next
	}
	return next - 1
}

// nextOf is the next offset that a number in ZooKeeper stands for; NoOffset for none.
func nextOf(value int64, meaning graph.OffsetMeaning) int64 {
	if value < 0 || meaning == graph.MeansNext {
		return value
	}
	return value + 1
}

// keepsInZooKeeper says whether the offsets of a source are published to ZooKeeper.
func keepsInZooKeeper(k *graph.KafkaSource) bool {
	return k.Mode != graph.ModeGroup && (k.Offsets == graph.OffsetsZooKeeper || k.Offsets == graph.OffsetsBoth)
}

// withZooKeeper asks the ZooKeeper of a source.
func (a *Admin) withZooKeeper(ctx context.Context, s *graph.Source, ask func(ctx context.Context, client *zookeeper.Client, group string) error) error {
	cfg, err := Resolve(graph.KindSource, s.Kafka.Properties)
	if err != nil {
		return err
	}
	for _, name := range []string{propZooKeeper, propGroup} {
		if s.Kafka.Properties[name] == "" {
			return &PropertyError{Name: name, Reason: fmt.Sprintf("offsets.storage: %s needs it", s.Kafka.Offsets), Hint: "add it"}
		}
	}
	client, release, err := a.zooKeepers.acquire(&cfg)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	return ask(ctx, client, cfg.GroupID)
}

func (a *Admin) publishToZooKeeper(ctx context.Context, s *graph.Source, m *manifest.Manifest) error {
	var offsets []zookeeper.Offset
	for _, p := range m.Positions {
		if p.Source == s.Name {
			offsets = append(offsets, zookeeper.Offset{Partition: zookeeper.Partition{Topic: p.Topic, Partition: p.Partition}, Value: meant(p.Next, s.Kafka.OffsetsMeaning)})
		}
	}
	return a.withZooKeeper(ctx, s, func(ctx context.Context, client *zookeeper.Client, group string) error {
		_, err := client.WriteOffsets(ctx, group, offsets)
		return err
	})
}

// checkZooKeepers asks for the ZooKeepers where a job wants its offsets published: whether a server answers,
// takes the user and has the chroot.
func (a *Admin) checkZooKeepers(ctx context.Context, job *graph.Job) []error {
	var faults []error
	for i := range job.Sources {
		s := &job.Sources[i]
		if s.Kafka == nil || !keepsInZooKeeper(s.Kafka) {
			continue
		}
		err := a.withZooKeeper(ctx, s, func(ctx context.Context, client *zookeeper.Client, _ string) error { return client.Check(ctx) })
		if err != nil {
			faults = append(faults, fmt.Errorf("source %s: %w", s.Name, err))
		}
	}
	return faults
}

// storedOffset is what a group has stored for a partition: the next offset, -1 for none.
type storedOffset struct {
	point
	// where says, for messages, where and how it is stored.
	where string
}

// stored reads what the group has stored, where the source publishes. With both storages what Kafka holds
// counts, and what ZooKeeper holds where Kafka has nothing: as when a job moves from one to the other.
func (st *starting) stored(ctx context.Context) ([]storedOffset, error) {
	if st.source.Kafka.Offsets == graph.OffsetsZooKeeper {
		return st.inZooKeeper(ctx)
	}
	out, err := st.inKafka(ctx)
	if err != nil || st.source.Kafka.Offsets != graph.OffsetsBoth {
		return out, err
	}
	others, err := st.inZooKeeper(ctx)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].offset < 0 {
			out[i] = others[i]
		}
	}
	return out, nil
}

func (st *starting) inKafka(ctx context.Context) ([]storedOffset, error) {
	var found []wire.CommittedOffset
	err := st.retry(ctx, func() error {
		var err error
		if found, err = st.cluster.OffsetFetch(ctx, st.cfg.GroupID, st.parts); err != nil {
			return err
		}
		var faults []error
		for i := range found {
			faults = append(faults, found[i].Err)
		}
		return errors.Join(faults...)
	})
	if err != nil {
		return nil, fmt.Errorf("read the offsets of group %s: %w", st.cfg.GroupID, err)
	}
	out := make([]storedOffset, len(found))
	for i, c := range found {
		out[i] = storedOffset{point{c.Offset, c.LeaderEpoch}, ""}
	}
	return out, nil
}

func (st *starting) inZooKeeper(ctx context.Context) ([]storedOffset, error) {
	parts := make([]zookeeper.Partition, len(st.parts))
	for i, tp := range st.parts {
		parts[i] = zookeeper.Partition{Topic: tp.Topic, Partition: tp.Partition}
	}
	var found []zookeeper.Offset
	err := st.admin.withZooKeeper(ctx, st.source, func(ctx context.Context, client *zookeeper.Client, group string) (err error) {
		found, err = client.ReadOffsets(ctx, group, parts)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the offsets of group %s: %w", st.cfg.GroupID, err)
	}
	meaning := st.source.Kafka.OffsetsMeaning
	out := make([]storedOffset, len(found))
	for i, o := range found {
		out[i] = storedOffset{point{nextOf(o.Value, meaning), -1}, fmt.Sprintf(" (ZooKeeper holds %d, offsets.meaning %s)", o.Value, meaning)}
	}
	return out, nil
}

// place says, for messages, where offsets were looked for, unless it is Kafka alone.
func (st *starting) place() string {
	switch st.source.Kafka.Offsets {
	case graph.OffsetsZooKeeper:
		return " in ZooKeeper"
	case graph.OffsetsBoth:
		return " in Kafka or ZooKeeper"
	default:
		return ""
	}
}

// outsideHint is the way out for offsets that the log does not have. A next offset that is read as a last one
// is one behind the end of a log that was read to its end.
func (st *starting) outsideHint(out, last []point, outside []int) string {
	if keepsInZooKeeper(st.source.Kafka) && st.source.Kafka.OffsetsMeaning == graph.MeansLast &&
		!slices.ContainsFunc(outside, func(i int) bool { return out[i].offset != last[i].offset+1 }) {
		return "one behind the end: who wrote it probably meant the next offset; then set offsets.meaning: next"
	}
	return "what is between is lost; to go on without it, set " + propReset
}
