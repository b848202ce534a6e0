package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// LogEnds asks where the logs of splits end now and what the groups of their sources have committed, until ctx
// ends. The answers stand in the order of the splits, behind them those of the partitions that sources of mode group
// may be given beside these; a broker that does not answer costs only what it leads.
func (a *Admin) LogEnds(ctx context.Context, job *graph.Job, splits []manifest.Split) []operator.LogEnd {
	splits = slices.Concat(splits, a.groupSplits(ctx, job, splits))
	out := make([]operator.LogEnd, len(splits))
	bySource := map[string][]int{}
	for i, s := range splits {
		out[i] = operator.LogEnd{Split: s, High: -1, Stable: -1, Err: fmt.Errorf("the job has no source %q that reads from Kafka", s.Source)}
		bySource[s.Source] = append(bySource[s.Source], i)
	}
	var wg sync.WaitGroup
	for i := range job.Sources {
		s := &job.Sources[i]
		if index := bySource[s.Name]; s.Kafka != nil && len(index) > 0 {
			wg.Go(func() { a.logEndsOf(ctx, s, index, out) })
		}
	}
	wg.Wait()
	return out
}

// groupSplits lists the partitions of the sources of mode group that are not among the known ones. What cannot be
// listed is not told: which partitions there are is then not known.
func (a *Admin) groupSplits(ctx context.Context, job *graph.Job, known []manifest.Split) []manifest.Split {
	have := map[manifest.Split]bool{}
	for _, s := range known {
		have[s] = true
	}
	var out []manifest.Split
	for i := range job.Sources {
		s := &job.Sources[i]
		if s.Kafka == nil || s.Kafka.Mode != graph.ModeGroup {
			continue
		}
		parts, err := a.partitionsOf(ctx, s)
		if err != nil {
			a.log.Debug("list the partitions of a group", "source", s.Name, "reason", err)
			continue
		}
		for _, p := range parts {
			if split := (manifest.Split{Source: s.Name, Topic: p.Topic, Partition: p.Partition}); !have[split] {
				out = append(out, split)
			}
		}
	}
	return out
}

func (a *Admin) partitionsOf(ctx context.Context, s *graph.Source) ([]wire.TopicPartition, error) {
	cfg, err := Resolve(graph.KindSource, s.Kafka.Properties)
	if err != nil {
		return nil, err
	}
	cluster, release, err := a.acquire(&cfg)
	if err != nil {
		return nil, err
	}
	defer release()
	return (&starting{admin: a, source: s, cfg: &cfg, cluster: cluster}).partitions(ctx)
}

// logEndsOf fills in the answers for the splits of one source, which stand at index.
func (a *Admin) logEndsOf(ctx context.Context, s *graph.Source, index []int, out []operator.LogEnd) {
	fail := func(err error) {
		for _, i := range index {
			out[i].Err = err
		}
	}
	cfg, err := Resolve(graph.KindSource, s.Kafka.Properties)
	if err != nil {
		fail(err)
		return
	}
	cluster, release, err := a.acquire(&cfg)
	if err != nil {
		fail(err)
		return
	}
	defer release()
	var inKafka, inZooKeeper []operator.PublishedOffset
	var wg sync.WaitGroup
	if commitsToKafka(s.Kafka) {
		wg.Go(func() { inKafka = a.committedOf(ctx, s, index, out) })
	}
	if keepsInZooKeeper(s.Kafka) {
		wg.Go(func() { inZooKeeper = a.keptOf(ctx, s, index, out) })
	}
	byLeader := map[int32][]int{}
	for _, i := range index {
		leader, err := cluster.Leader(ctx, out[i].Split.Topic, out[i].Split.Partition)
		if out[i].Err = err; err == nil {
			byLeader[leader.Broker] = append(byLeader[leader.Broker], i)
		}
	}
	for _, led := range byLeader {
		wg.Go(func() { askEnds(ctx, cluster, cfg.Isolation, led, out) })
	}
	wg.Wait()
	for _, published := range [][]operator.PublishedOffset{inKafka, inZooKeeper} {
		for n, p := range published {
			out[index[n]].Published = append(out[index[n]].Published, p)
		}
	}
}

// commitsToKafka says that the group of a source is to have offsets in Kafka.
func commitsToKafka(k *graph.KafkaSource) bool {
	return k.Properties[propGroup] != "" && (k.Mode == graph.ModeGroup || k.Offsets == graph.OffsetsKafka || k.Offsets == graph.OffsetsBoth)
}

// askEnds asks one leader; a source that reads committed records alone is held up at the last stable offset.
func askEnds(ctx context.Context, cluster *wire.Cluster, isolation wire.Isolation, index []int, out []operator.LogEnd) {
	queries := make([]wire.OffsetQuery, len(index))
	for n, i := range index {
		queries[n] = wire.OffsetQuery{Topic: out[i].Split.Topic, Partition: out[i].Split.Partition, Timestamp: wire.Latest}
	}
	high, err := cluster.ListOffsets(ctx, queries, wire.ReadUncommitted)
	for n, i := range index {
		switch {
		case high[n].Err != nil:
			out[i].Err = high[n].Err
		case err != nil && high[n].Offset < 0:
			out[i].Err = err
		default:
			out[i].High = high[n].Offset
		}
	}
	if isolation != wire.ReadCommitted || err != nil {
		return
	}
	stable, _ := cluster.ListOffsets(ctx, queries, wire.ReadCommitted) // what is missing stays unknown
	for n, i := range index {
		if stable[n].Err == nil {
			out[i].Stable = stable[n].Offset
		}
	}
}

// committedOf reads what the group of a source has committed in Kafka, in the order of index.
func (a *Admin) committedOf(ctx context.Context, s *graph.Source, index []int, ends []operator.LogEnd) []operator.PublishedOffset {
	parts := make([]wire.TopicPartition, len(index))
	for n, i := range index {
		parts[n] = wire.TopicPartition{Topic: ends[i].Split.Topic, Partition: ends[i].Split.Partition}
	}
	return publishedIn(graph.OffsetsKafka, len(index), func(out []operator.PublishedOffset) error {
		return a.withGroup(ctx, s, func(ctx context.Context, cluster *wire.Cluster, group string) error {
			found, err := cluster.OffsetFetch(ctx, group, parts)
			for n := range found {
				out[n].Next, out[n].Err = found[n].Offset, found[n].Err
			}
			return err
		})
	})
}

// keptOf reads what ZooKeeper keeps for the group of a source, in the order of index.
func (a *Admin) keptOf(ctx context.Context, s *graph.Source, index []int, ends []operator.LogEnd) []operator.PublishedOffset {
	parts := make([]zookeeper.Partition, len(index))
	for n, i := range index {
		parts[n] = zookeeper.Partition{Topic: ends[i].Split.Topic, Partition: ends[i].Split.Partition}
	}
	return publishedIn(graph.OffsetsZooKeeper, len(index), func(out []operator.PublishedOffset) error {
		return a.withZooKeeper(ctx, s, func(ctx context.Context, client *zookeeper.Client, group string) error {
			found, err := client.ReadOffsets(ctx, group, parts)
			for n := range found {
				out[n].Next = nextOf(found[n].Value, s.Kafka.OffsetsMeaning)
			}
			return err
		})
	})
}

// publishedIn has n offsets of a storage filled in; an error is that of each.
func publishedIn(storage graph.OffsetStorage, n int, read func([]operator.PublishedOffset) error) []operator.PublishedOffset {
	out := make([]operator.PublishedOffset, n)
	for i := range out {
		out[i] = operator.PublishedOffset{Storage: storage, Next: -1}
	}
	if err := read(out); err != nil {
		for i := range out {
			out[i].Err = err
		}
	}
	return out
}
