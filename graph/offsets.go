package graph

import (
	"strconv"
	"time"
)

// The properties of a source that say where and when its offsets are published.
const (
	propGroup      = "group.id"
	propAutoCommit = "auto.commit.interval.ms"
	propZooKeeper  = "zookeeper.connect"
)

// propServers tells clusters apart, as far as a job file can.
const propServers = "bootstrap.servers"

const (
	// defaultAutoCommit is that of Flink's consumers for Kafka 0.8, minAutoCommit the least that is allowed.
	defaultAutoCommit, minAutoCommit = time.Minute, 100 * time.Millisecond
	// defaultGroupCommit is that of Flink 0.9's KafkaSource.
	defaultGroupCommit = time.Second
)

// Publication is a place where the offsets of a source are published: for monitoring and a first start,
// never to restore from.
type Publication struct {
	Source string
	// Storage is OffsetsKafka or OffsetsZooKeeper.
	Storage OffsetStorage
}

// String names source and storage.
func (p Publication) String() string { return p.Source + " in " + string(p.Storage) }

// Publications lists the places where the offsets of a job are published, in the order of its sources. A
// source of mode group is left out: its group does that, outside of checkpoints.
func (j *Job) Publications() []Publication {
	var out []Publication
	for i := range j.Sources {
		s := &j.Sources[i]
		if s.Kafka == nil || s.Kafka.Mode == ModeGroup || s.Kafka.Properties[propGroup] == "" {
			continue
		}
		if s.Kafka.Offsets == OffsetsKafka || s.Kafka.Offsets == OffsetsBoth {
			out = append(out, Publication{s.Name, OffsetsKafka})
		}
		if s.Kafka.Offsets == OffsetsZooKeeper || s.Kafka.Offsets == OffsetsBoth {
			out = append(out, Publication{s.Name, OffsetsZooKeeper})
		}
	}
	return out
}

// CheckpointInterval is how often checkpoints are drawn; 0: none but final ones. A job without checkpoints that
// publishes offsets or has a source of mode group draws them all the same, every auto.commit.interval.ms (the shortest
// of its sources): what the sinks have acknowledged, which alone may be published or committed, is what a checkpoint
// finds out.
func (j *Job) CheckpointInterval() time.Duration {
	if j.Checkpoint.Interval > 0 {
		return j.Checkpoint.Interval
	}
	published := map[string]bool{}
	for _, p := range j.Publications() {
		published[p.Source] = true
	}
	shortest := time.Duration(0)
	for i := range j.Sources {
		s := &j.Sources[i]
		if !published[s.Name] && !s.inGroup() {
			continue
		}
		if d := autoCommitOf(s); shortest == 0 || d < shortest {
			shortest = d
		}
	}
	return shortest
}

func autoCommitOf(s *Source) time.Duration {
	ms, err := strconv.ParseInt(s.Kafka.Properties[propAutoCommit], 10, 64)
	if d := time.Duration(ms) * time.Millisecond; err == nil && d >= minAutoCommit {
		return d
	}
	if s.inGroup() {
		return defaultGroupCommit
	}
	return defaultAutoCommit
}

// publishing checks that where, when and in which words offsets are published fits together. What has no
// effect is refused: its author counts on it.
func (v *validator) publishing(path Path, k *KafkaSource) {
	inZooKeeper := k.Offsets == OffsetsZooKeeper || k.Offsets == OffsetsBoth
	properties := path.With("properties")
	has := func(name string) bool { _, ok := k.Properties[name]; return ok }
	switch {
	case k.Mode == ModeGroup: // see groups
	case inZooKeeper:
		for _, name := range []string{propZooKeeper, propGroup} {
			if k.Properties[name] == "" {
				v.missing(properties.With(name), "add it to properties", "offsets.storage: %s needs %s", k.Offsets, name)
			}
		}
	case has(propZooKeeper):
		v.add(properties.With(propZooKeeper), "set offsets: {storage: zookeeper} or both, or remove it", "it has no effect with offsets.storage: %s", k.Offsets)
	}
	if k.OffsetsMeaning == MeansNext && !inZooKeeper {
		v.add(path.With("offsets", "meaning"), "remove it", "it is about numbers in ZooKeeper, and offsets.storage is %s; in Kafka it is always the next offset", k.Offsets)
	}
	if !has(propAutoCommit) {
		return
	}
	at := properties.With(propAutoCommit)
	switch {
	case v.job.Checkpoint.Interval > 0:
		v.add(at, "remove it, or checkpoint.interval", "with checkpoints offsets are published after each of them, here every %v", v.job.Checkpoint.Interval)
	case k.Offsets == OffsetsNone:
		v.add(at, "remove it, or offsets: {storage: none}", "it has no effect with offsets.storage: none")
	case !has(propGroup):
		v.add(at, "add "+propGroup, "without %s no offsets are published", propGroup)
	}
}

// sharedOffsets warns of sources that publish the offsets of one topic under one group: what stands there is now
// the one's, now the other's.
func sharedOffsets(job *Job, p *problems) {
	type place struct {
		storage               OffsetStorage
		servers, group, topic string
	}
	taken := map[place]string{}
	for _, to := range job.Publications() {
		k := job.source(to.Source).Kafka
		servers := k.Properties[propServers]
		if to.Storage == OffsetsZooKeeper {
			servers = k.Properties[propZooKeeper]
		}
		for _, topic := range k.Topics {
			at := place{to.Storage, servers, k.Properties[propGroup], topic}
			if first, ok := taken[at]; !ok || first == to.Source {
				taken[at] = to.Source
			} else if to.Storage == k.Offsets || to.Storage == OffsetsKafka { // once with both
				p.add(Path{"sources", to.Source, "kafka", "properties", propGroup}, "give each its own "+propGroup,
					"sources %s and %s publish the offsets of topic %s under one group, %s: neither can be relied on", first, to.Source, topic, at.group)
			}
		}
	}
}

func (j *Job) source(name string) *Source {
	for i := range j.Sources {
		if j.Sources[i].Name == name {
			return &j.Sources[i]
		}
	}
	return nil
}
