package graph

import (
	"strings"
	"testing"
	"time"
)

// groupOf is a valid job with a source of mode group, changed.
func groupOf(change func(j *Job, k *KafkaSource)) *Job {
	return offsetsJob(func(j *Job, k *KafkaSource) {
		k.Mode, j.Checkpoint.Interval = ModeGroup, 0
		j.Sinks[0].Kafka = &KafkaSink{Topic: "out", Guarantee: AtLeastOnce, Partitioner: ByKey}
		j.Sinks[0].Print = nil
		change(j, k)
	})
}

// TestGroupCombinations: what somebody else than the group would decide is refused.
func TestGroupCombinations(t *testing.T) {
	for name, c := range map[string]struct {
		change func(j *Job, k *KafkaSource)
		want   string
	}{
		"as it should be":  {func(*Job, *KafkaSource) {}, ""},
		"its own interval": {func(_ *Job, k *KafkaSource) { k.Properties[propAutoCommit] = "500" }, ""},
		"its own timeouts": {func(_ *Job, k *KafkaSource) { k.Properties[propSessionTimeout] = "6000" }, ""},
		"no group":         {func(_ *Job, k *KafkaSource) { k.Properties = nil }, "mode: group needs group.id"},
		"startup":          {func(_ *Job, k *KafkaSource) { k.Startup.Mode = StartLatest }, "begins where the group has committed, not at latest"},
		"bounded":          {func(_ *Job, k *KafkaSource) { k.Bounded.Mode = BoundLatest }, "has no end"},
		"until":            {func(_ *Job, k *KafkaSource) { k.Until = "true" }, "has no end"},
		"partitions": {func(_ *Job, k *KafkaSource) {
			k.Topics, k.Partitions = nil, map[string][]int32{"t": {0}}
		}, "it is the group that gives partitions"},
		"nowhere":     {func(_ *Job, k *KafkaSource) { k.Offsets = OffsetsNone }, "nowhere else"},
		"zookeeper":   {func(_ *Job, k *KafkaSource) { k.Offsets = OffsetsZooKeeper }, "nowhere else"},
		"its address": {func(_ *Job, k *KafkaSource) { k.Properties[propZooKeeper] = "zk:2181" }, "no ZooKeeper"},
		"discovery":   {func(_ *Job, k *KafkaSource) { k.Properties[propDiscovery] = "1000" }, "by the group itself"},
		"interval and checkpoints": {func(j *Job, k *KafkaSource) {
			j.Checkpoint.Interval, k.Properties[propAutoCommit] = time.Second, "500"
		}, "after each of them"},
		"exactly-once": {func(j *Job, _ *KafkaSource) {
			j.Checkpoint.Interval, j.Sinks[0].Kafka.Guarantee = time.Second, ExactlyOnce
		}, "source s is of mode group"},
		"no member": {func(_ *Job, k *KafkaSource) {
			k.Mode, k.Properties[propHeartbeat] = ModeAssigned, "500"
		}, "sources are no members of a group"},
	} {
		found := Validate(groupOf(c.change))
		if c.want == "" {
			if len(found) > 0 {
				t.Errorf("%s: %v", name, found)
			}
			continue
		}
		if len(found) == 0 || !strings.Contains(found[len(found)-1].Message, c.want) && !strings.Contains(found[0].Message, c.want) {
			t.Errorf("%s: %v, want %q", name, found, c.want)
		}
		for _, p := range found {
			if p.Hint == "" {
				t.Errorf("%s: no way out of %s", name, p.Message)
			}
		}
	}
}

// TestGroupWithoutCheckpoints: checkpoints are drawn all the same, to find out what may be committed.
func TestGroupWithoutCheckpoints(t *testing.T) {
	job := groupOf(func(*Job, *KafkaSource) {})
	if got := job.CheckpointInterval(); got != time.Second {
		t.Errorf("every %v, want 1s as Flink 0.9 did", got)
	}
	job.Sources[0].Kafka.Properties[propAutoCommit] = "250"
	if got := job.CheckpointInterval(); got != 250*time.Millisecond {
		t.Errorf("every %v, want 250ms", got)
	}
	if got := job.Publications(); len(got) != 0 {
		t.Errorf("%v is published, and the group commits by itself", got)
	}
	warned := Warnings(job)
	if len(warned) == 0 || !strings.Contains(warned[len(warned)-1].Message, "no part in checkpoints") {
		t.Errorf("warnings %v", warned)
	}
}
