package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// publishTries is how often offsets are sent before the next checkpoint has to do it.
const publishTries = 5

// PublishOffsets commits the positions that a source has in a checkpoint to Kafka's __consumer_offsets or to
// ZooKeeper: for monitoring and a first start, never to restore from (DESIGN rule 15).
func (a *Admin) PublishOffsets(ctx context.Context, job *graph.Job, to graph.Publication, m *manifest.Manifest) error {
	s := sourceOf(job, to.Source)
	var err error
	switch {
	case s == nil || s.Kafka == nil:
		return fmt.Errorf("publish the offsets of source %s: the job has no such source of Kafka", to.Source)
	case to.Storage == graph.OffsetsZooKeeper:
		err = a.publishToZooKeeper(ctx, s, m)
	default:
		err = a.publish(ctx, s, m)
	}
	if err != nil {
		return fmt.Errorf("publish the offsets of source %s: %w", s.Name, err)
	}
	return nil
}

// publishes says whether a source has its offsets in Kafka.
func publishes(s *graph.Source) bool {
	k := s.Kafka
	return k != nil && k.Mode != graph.ModeGroup && (k.Offsets == graph.OffsetsKafka || k.Offsets == graph.OffsetsBoth) && k.Properties[propGroup] != ""
}

func sourceOf(job *graph.Job, name string) *graph.Source {
	for i := range job.Sources {
		if job.Sources[i].Name == name {
			return &job.Sources[i]
		}
	}
	return nil
}

func (a *Admin) publish(ctx context.Context, s *graph.Source, m *manifest.Manifest) error {
	note := noteOf(m.Job, m.Checkpoint)
	var offsets []wire.CommittedOffset
	for _, p := range m.Positions {
		if p.Source == s.Name {
			offsets = append(offsets, wire.CommittedOffset{Topic: p.Topic, Partition: p.Partition, Offset: p.Next, LeaderEpoch: p.LeaderEpoch, Metadata: note})
		}
	}
	return a.withGroup(ctx, s, func(ctx context.Context, cluster *wire.Cluster, group string) error {
		return butGone(ctx, cluster, offsets, cluster.OffsetCommit(ctx, group, offsets))
	})
}

// butGone is the error of a commit of offsets, unless it is only about topics that do not exist any more: the offsets of
// the others are stored then. Positions of topics that went stay in checkpoints, those of
// a pattern for an hour.
func butGone(ctx context.Context, cluster *wire.Cluster, offsets []wire.CommittedOffset, err error) error {
	faults := partitionFaults(err)
	if len(faults) == 0 || len(faults) == len(offsets) {
		return err
	}
	gone := map[string]bool{}
	for _, f := range faults {
		if f.Code != wire.CodeUnknownTopicOrPartition {
			return err
		}
		gone[f.Topic] = true
	}
	md, mdErr := cluster.Metadata(ctx, slices.Sorted(maps.Keys(gone)))
	if mdErr != nil {
		return err
	}
	for name := range gone {
		if t, told := md.Topic(name); !told || !wire.HasCode(t.Err, wire.CodeUnknownTopicOrPartition) {
			return err
		}
	}
	return nil
}

// partitionFaults are the errors of single partitions that err joins; none if there is another one.
func partitionFaults(err error) []*wire.Error {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var faults []*wire.Error
	for _, e := range all {
		fault, ok := e.(*wire.Error)
		if !ok || fault.Partition < 0 {
			return nil
		}
		faults = append(faults, fault)
	}
	return faults
}

// withGroup asks the coordinator of a source's group, again if it moved.
func (a *Admin) withGroup(ctx context.Context, s *graph.Source, ask func(context.Context, *wire.Cluster, string) error) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	cfg, err := Resolve(graph.KindSource, s.Kafka.Properties)
	if err != nil {
		return err
	}
	cluster, release, err := a.acquire(&cfg)
	if err != nil {
		return err
	}
	defer release()
	for try := 1; ; try++ {
		err := ask(ctx, cluster, cfg.GroupID)
		if err == nil || try == publishTries || !wire.Classify(err).Retriable() {
			return err
		}
		if sleep(ctx, cfg.pauseAfter(err, try)) != nil {
			return err
		}
	}
}

// ReadCommitted gives the highest checkpoint of a job that its published offsets name. A higher one than
// the job manager knows means that its disk was rolled back (DESIGN rule 15). Offsets of other jobs or of
// consumers are passed over.
func (a *Admin) ReadCommitted(ctx context.Context, job *graph.Job, id ident.JobID, positions []manifest.Position) (highest ident.CheckpointID, found bool, err error) {
	var faults []error
	for i := range job.Sources {
		s := &job.Sources[i]
		if !publishes(s) {
			continue
		}
		var parts []wire.TopicPartition
		for _, p := range positions {
			if p.Source == s.Name {
				parts = append(parts, wire.TopicPartition{Topic: p.Topic, Partition: p.Partition})
			}
		}
		err := a.withGroup(ctx, s, func(ctx context.Context, cluster *wire.Cluster, group string) error {
			offsets, err := cluster.OffsetFetch(ctx, group, parts)
			for _, o := range offsets {
				if n, ok := checkpointIn(o.Metadata, id); ok && o.Err == nil {
					highest, found = max(highest, n), true
				}
			}
			return err
		})
		if err != nil {
			faults = append(faults, fmt.Errorf("read the published offsets of source %s: %w", s.Name, err))
		}
	}
	return highest, found, errors.Join(faults...)
}

// noteOf is what stands beside published offsets.
func noteOf(id ident.JobID, n ident.CheckpointID) string { return fmt.Sprintf("sluice:%s:%d", id, n) }

func checkpointIn(note string, id ident.JobID) (ident.CheckpointID, bool) {
	number, ok := strings.CutPrefix(note, "sluice:"+string(id)+":")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(number, 10, 64)
	return ident.CheckpointID(n), err == nil
}
