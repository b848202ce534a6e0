package graph

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// offsetsJob has one source that reads and publishes as the change says.
func offsetsJob(change func(j *Job, k *KafkaSource)) *Job {
	j := validJob()
	k := j.Sources[0].Kafka
	k.Properties = map[string]string{"group.id": "g"}
	change(j, k)
	return j
}

// TestPublishingCombinations: storage, meaning, mode, checkpoints and properties fit together or are refused
// with the reason.
func TestPublishingCombinations(t *testing.T) {
	zk := func(k *KafkaSource, storage OffsetStorage) {
		k.Offsets, k.Properties["zookeeper.connect"] = storage, "zk:2181"
	}
	tests := []struct {
		name   string
		change func(j *Job, k *KafkaSource)
		want   string
	}{
		{"kafka", func(*Job, *KafkaSource) {}, ""},
		{"zookeeper", func(_ *Job, k *KafkaSource) { zk(k, OffsetsZooKeeper) }, ""},
		{"both, next", func(_ *Job, k *KafkaSource) { zk(k, OffsetsBoth); k.OffsetsMeaning = MeansNext }, ""},
		{"zookeeper without its properties", func(_ *Job, k *KafkaSource) { k.Offsets, k.Properties = OffsetsZooKeeper, nil },
			`sources.s.kafka.properties["zookeeper.connect"]: offsets.storage: zookeeper needs zookeeper.connect
sources.s.kafka.properties["group.id"]: offsets.storage: zookeeper needs group.id`},
		{"both without a group", func(_ *Job, k *KafkaSource) { zk(k, OffsetsBoth); delete(k.Properties, "group.id") },
			`sources.s.kafka.properties["group.id"]: offsets.storage: both needs group.id`},
		{"zookeeper.connect for nothing", func(_ *Job, k *KafkaSource) { zk(k, OffsetsKafka) },
			`sources.s.kafka.properties["zookeeper.connect"]: it has no effect with offsets.storage: kafka`},
		{"meaning for nothing", func(_ *Job, k *KafkaSource) { k.OffsetsMeaning = MeansNext },
			`sources.s.kafka.offsets.meaning: it is about numbers in ZooKeeper, and offsets.storage is kafka; in Kafka it is always the next offset`},
		{"auto commit without checkpoints", func(_ *Job, k *KafkaSource) { k.Properties["auto.commit.interval.ms"] = "1000" }, ""},
		{"auto commit with checkpoints", func(j *Job, k *KafkaSource) {
			j.Checkpoint.Interval, k.Properties["auto.commit.interval.ms"] = time.Second, "1000"
		}, `sources.s.kafka.properties["auto.commit.interval.ms"]: with checkpoints offsets are published after each of them, here every 1s`},
		{"auto commit to nowhere", func(_ *Job, k *KafkaSource) {
			k.Offsets, k.Properties["auto.commit.interval.ms"] = OffsetsNone, "1000"
		}, `sources.s.kafka.properties["auto.commit.interval.ms"]: it has no effect with offsets.storage: none`},
		{"auto commit without a group", func(_ *Job, k *KafkaSource) {
			k.Properties = map[string]string{"auto.commit.interval.ms": "1000"}
		}, `sources.s.kafka.properties["auto.commit.interval.ms"]: without group.id no offsets are published`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, p := range Validate(offsetsJob(test.change)) {
				got = append(got, p.Path.String()+": "+p.Message)
				if p.Hint == "" {
					t.Errorf("%s: no way out", p.Message)
				}
			}
			if text := strings.Join(got, "\n"); text != test.want {
				t.Errorf("problems\n%s\nwant\n%s", text, test.want)
			}
		})
	}
}

func TestPublications(t *testing.T) {
	for storage, want := range map[OffsetStorage]string{
		OffsetsKafka: "[s in kafka]", OffsetsZooKeeper: "[s in zookeeper]", OffsetsBoth: "[s in kafka s in zookeeper]", OffsetsNone: "[]",
	} {
		j := offsetsJob(func(_ *Job, k *KafkaSource) { k.Offsets = storage })
		if got := fmt.Sprint(j.Publications()); got != want {
			t.Errorf("%s: %s, want %s", storage, got, want)
		}
	}
	for name, change := range map[string]func(*Job, *KafkaSource){
		"no group":   func(_ *Job, k *KafkaSource) { delete(k.Properties, "group.id") },
		"mode group": func(_ *Job, k *KafkaSource) { k.Mode = ModeGroup },
	} {
		if got := offsetsJob(change).Publications(); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestCheckpointInterval: without checkpoints, the shortest auto.commit.interval.ms of the sources that publish.
func TestCheckpointInterval(t *testing.T) {
	second := func(j *Job, ms string) {
		s := Source{Name: "s2", Kafka: &KafkaSource{Topics: []string{"u"}, Properties: map[string]string{"group.id": "g", "auto.commit.interval.ms": ms}}}
		j.Sources = append(slices.Clone(j.Sources), s)
		j.SetDefaults()
	}
	for name, test := range map[string]struct {
		change func(*Job, *KafkaSource)
		want   time.Duration
	}{
		"checkpoints":         {func(j *Job, _ *KafkaSource) { j.Checkpoint.Interval = time.Second }, time.Second},
		"nothing published":   {func(_ *Job, k *KafkaSource) { k.Offsets = OffsetsNone }, 0},
		"default":             {func(*Job, *KafkaSource) {}, time.Minute},
		"given":               {func(_ *Job, k *KafkaSource) { k.Properties["auto.commit.interval.ms"] = "5000" }, 5 * time.Second},
		"the shortest":        {func(j *Job, _ *KafkaSource) { second(j, "2000") }, 2 * time.Second},
		"not a number":        {func(_ *Job, k *KafkaSource) { k.Properties["auto.commit.interval.ms"] = "soon" }, time.Minute},
		"not worth the while": {func(_ *Job, k *KafkaSource) { k.Properties["auto.commit.interval.ms"] = "0" }, time.Minute},
	} {
		if got := offsetsJob(test.change).CheckpointInterval(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// TestSharedOffsets: two sources that publish to the same place are warned of, once.
func TestSharedOffsets(t *testing.T) {
	second := func(group string, storage OffsetStorage) *Job {
		return offsetsJob(func(j *Job, first *KafkaSource) {
			first.Offsets, first.Properties["zookeeper.connect"] = OffsetsBoth, "zk"
			k := &KafkaSource{Topics: []string{"t"}, Offsets: storage, Properties: map[string]string{"group.id": group, "zookeeper.connect": "zk"}}
			j.Sources = append(slices.Clone(j.Sources), Source{Name: "s2", Kafka: k})
			j.Sinks[0].From = []string{"o", "s2"}
			j.SetDefaults()
		})
	}
	for _, storage := range []OffsetStorage{OffsetsKafka, OffsetsZooKeeper, OffsetsBoth} {
		found := Warnings(second("g", storage))
		if len(found) != 1 || found[0].Message != "sources s and s2 publish the offsets of topic t under one group, g: neither can be relied on" {
			t.Errorf("%s: %v", storage, found)
		}
	}
	if found := append(Warnings(second("h", OffsetsBoth)), Warnings(second("g", OffsetsNone))...); len(found) > 0 {
		t.Errorf("%v", found)
	}
}
