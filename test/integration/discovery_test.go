package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestDiscovery(t *testing.T) {
	everyKafka(t, []testCase{
		{"new partitions without a restart", newPartitions},
		{"new partitions through kill -9", newPartitionsThroughKills},
		{"new topics of a pattern", newTopics},
		{"partitions since the checkpoint", partitionsSinceTheCheckpoint},
		{"fixed set", fixedPartitions},
		{"fixed set is refused", fixedPartitionsRefused},
	}, true)
}

// discovering copies exactly once, and looks for partitions each second.
const discovering = `
name: $name
parallelism: 2
checkpoint: {interval: 200ms}
sources:
  in:
    kafka: {topics: [$in], startup: latest, properties: {bootstrap.servers: '$brokers', partition.discovery.interval.ms: 1000}}
sinks:
  out:
    from: in
    kafka: {topic: $out, guarantee: exactly-once, partitioner: round-robin, properties: {bootstrap.servers: '$brokers'}}
`

// addPartitions gives a topic of this case more partitions, so that it has total, and waits for their leaders.
func (r *rig) addPartitions(t *testing.T, topic string, total int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(r.kafka.Client(t))
	answer, err := admin.UpdatePartitions(ctx, total, r.topic(topic))
	if err != nil || answer.Error() != nil {
		t.Fatalf("%d partitions of %s: %v, %v", total, topic, err, answer.Error())
	}
	for {
		ends, err := admin.ListEndOffsets(ctx, r.topic(topic))
		if err == nil && ends.Error() == nil && len(ends[r.topic(topic)]) == total {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%d partitions of %s: %v, %v", total, topic, err, ends.Error())
		}
		time.Sleep(pollEvery)
	}
}

// waitPartitions waits until the newest checkpoint holds so many partitions of a topic of this case.
func (r *rig) waitPartitions(t *testing.T, id, topic string, want int) jobStatus {
	t.Helper()
	return r.WaitFor(t, id, fmt.Sprintf("at a checkpoint with %d partitions of %s", want, topic), patience, func(j *jobStatus) bool {
		return j.Checkpoints.Latest != nil && len(j.Checkpoints.Latest.Offsets["in"][r.topic(topic)]) == want
	})
}

// newPartitions: what is written into partitions that are added is read from their beginning, although the job
// began at the end, and no subtask is restarted.
func newPartitions(t *testing.T, r *rig) {
	r.start(t, 1, 1)
	r.create(t, 2, "in", "out")
	id := r.submit(t, discovering)
	r.WaitCheckpoint(t, id, 0, patience)
	r.kafka.Produce(t, r.numbered("in", 2, 7, 0, 500))
	r.addPartitions(t, "in", 5)
	r.kafka.Produce(t, r.numbered("in", 5, 7, 500, 2000)) // before they are found
	r.waitVisible(t, "out", 2000, patience)
	r.kafka.Produce(t, r.numbered("in", 5, 7, 2000, 3000))
	r.waitVisible(t, "out", 3000, patience)
	j := r.waitPartitions(t, id, "in", 5)
	if j.Attempt != 1 || j.Restarts != 0 {
		t.Errorf("attempt %d, %d restarts: new partitions need none", j.Attempt, j.Restarts)
	}
	_, metrics := get(t, r.Cluster, "/metrics")
	for _, line := range []string{
		fmt.Sprintf(`sluice_partitions_found_total{job="%s"} 3`, j.Name), fmt.Sprintf(`sluice_partition_discovery_failures_total{job="%s"} `, j.Name),
		fmt.Sprintf(`sluice_checkpoint_offset{job="%s",partition="4",source="in",topic="%s"} `, j.Name, r.topic("in")),
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("/metrics has no %s", line)
		}
	}
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPED", patience)
	r.checkCopies(t, "out", 3000, exactly)
}

// newPartitionsThroughKills kills a task manager, then the job manager, while partitions are being added.
func newPartitionsThroughKills(t *testing.T, r *rig) {
	r.start(t, 2, 2)
	r.create(t, 2, "in", "out")
	id := r.submit(t, discovering)
	r.WaitCheckpoint(t, id, 0, patience)
	written := 0
	more := func(partitions int) {
		r.addPartitions(t, "in", partitions)
		r.kafka.Produce(t, r.numbered("in", partitions, 7, written, written+1000))
		written += 1000
	}
	r.kafka.Produce(t, r.numbered("in", 2, 7, 0, 1000))
	written = 1000
	for i, kill := range []func(){
		func() { r.Kill9(t, r.TaskManager("tm-1")); r.StartTaskManager(t, "tm-1", 2) },
		func() { r.Kill9(t, r.JobManager()); r.StartJobManager(t) },
		func() { r.Kill9(t, r.TaskManager("tm-2")); r.StartTaskManager(t, "tm-2", 2) },
	} {
		more(3 + 2*i)
		kill()
		more(4 + 2*i)
		r.waitVisible(t, "out", int64(written), patience)
	}
	r.waitPartitions(t, id, "in", 8)
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPED", patience)
	r.checkCopies(t, "out", written, exactly)
}

// newTopics: a topic that comes to match the pattern is read from its beginning.
func newTopics(t *testing.T, r *rig) {
	r.start(t, 2)
	r.create(t, 2, "in-0", "out", "other")
	id := r.submit(t, strings.Replace(discovering, "topics: [$in]", "topicPattern: '${in}-[0-9]+'", 1))
	r.WaitCheckpoint(t, id, 0, patience)
	r.kafka.Produce(t, r.numbered("other", 2, 7, 0, 10)) // does not match
	r.kafka.Produce(t, r.numbered("in-0", 2, 7, 0, 1000))
	r.create(t, 3, "in-1")
	r.kafka.Produce(t, r.numbered("in-1", 3, 7, 1000, 2000))
	r.waitVisible(t, "out", 2000, patience)
	j := r.waitPartitions(t, id, "in-1", 3)
	if j.Attempt != 1 {
		t.Errorf("attempt %d", j.Attempt)
	}
	r.MustSluice(t, "cancel", id)
	r.WaitState(t, id, "CANCELED", patience)
	r.checkCopies(t, "out", 2000, exactly)
}

// partitionsSinceTheCheckpoint: a job that takes over a checkpoint reads what was added since from its beginning,
// although it begins at the end otherwise.
func partitionsSinceTheCheckpoint(t *testing.T, r *rig) {
	r.start(t, 2)
	r.create(t, 2, "in", "out")
	id := r.submit(t, discovering)
	r.WaitCheckpoint(t, id, 0, patience)
	r.kafka.Produce(t, r.numbered("in", 2, 7, 0, 500))
	r.waitVisible(t, "out", 500, patience)
	r.MustSluice(t, "stop", id)
	j := r.WaitState(t, id, "STOPPED", patience)
	r.addPartitions(t, "in", 4)
	r.kafka.Produce(t, r.numbered("in", 4, 7, 500, 1500))
	next := r.submit(t, discovering, "--from-checkpoint", id+"/"+strconv.FormatInt(j.LatestID(), 10))
	r.waitVisible(t, "out", 1500, patience)
	r.MustSluice(t, "cancel", next)
	r.WaitState(t, next, "CANCELED", patience)
	r.checkCopies(t, "out", 1500, exactly)
}

// fixedPartitions: of each topic the named partitions are read alone, whatever the startup mode.
func fixedPartitions(t *testing.T, r *rig) {
	r.start(t, 4)
	r.create(t, 4, "in")
	r.create(t, 2, "in2")
	var records []*kgo.Record
	for n := range 400 { // partition 0 to 3 of in, then 0 and 1 of in2
		topic, partition := "in", n/100
		records = append(records, &kgo.Record{Topic: r.topic(topic), Partition: int32(partition), Value: []byte(strconv.Itoa(n))})
	}
	for n := range 100 {
		records = append(records, &kgo.Record{Topic: r.topic("in2"), Partition: int32(n / 50), Value: []byte(strconv.Itoa(400 + n))})
	}
	r.kafka.Produce(t, records)
	from := func(lists ...[2]int) (want map[int]bool) {
		want = map[int]bool{}
		for _, l := range lists {
			for n := l[0]; n < l[1]; n++ {
				want[n] = true
			}
		}
		return want
	}
	modes := []struct {
		name, startup, bounded string
		want                   map[int]bool
	}{
		{"earliest", "earliest", "latest", from([2]int{100, 200}, [2]int{300, 400}, [2]int{400, 450})},
		{"latest", "latest", "latest", nil},
		{"committed", "committed", "latest", from([2]int{100, 200}, [2]int{300, 400}, [2]int{400, 450})}, // reset: earliest
		{"timestamp", "{timestamp: 2020-01-01T00:00:00Z}", "latest", from([2]int{100, 200}, [2]int{300, 400}, [2]int{400, 450})},
		{"offsets", "{offsets: {$in: {1: 90, 3: 95}}}", "{offsets: {$in: {1: 100, 3: 98}, $in2: {0: 3}}}", from([2]int{190, 200}, [2]int{395, 398}, [2]int{400, 403})},
	}
	for _, mode := range modes {
		out := "out-" + mode.name
		r.create(t, 1, out)
		job := strings.NewReplacer("NAME", mode.name, "STARTUP", mode.startup, "BOUNDED", mode.bounded, "OUT", r.topic(out)).Replace(`
name: $name-NAME
parallelism: 2
checkpoint: {interval: 200ms}
sources:
  in:
    kafka:
      partitions: {$in: [3, 1], $in2: [0]}
      startup: STARTUP
      bounded: BOUNDED
      properties: {bootstrap.servers: '$brokers', group.id: '$in-NAME', auto.offset.reset: earliest}
sinks:
  out:
    from: in
    kafka: {topic: OUT, guarantee: exactly-once, properties: {bootstrap.servers: '$brokers'}}
`)
		j := r.finish(t, job)
		got := map[int]bool{}
		for _, record := range r.kafka.Read(t, r.topic(out)) {
			n, err := strconv.Atoi(string(record.Value))
			if err != nil || got[n] || !mode.want[n] {
				t.Errorf("%s: %q was read twice, or should not have been", mode.name, record.Value)
			}
			got[n] = true
		}
		if len(got) != len(mode.want) {
			t.Errorf("%s: %d records, want %d", mode.name, len(got), len(mode.want))
		}
		if topics := j.Checkpoints.Latest.Offsets["in"]; len(topics[r.topic("in")]) != 2 || len(topics[r.topic("in2")]) != 1 {
			t.Errorf("%s: the checkpoint holds %v", mode.name, topics)
		}
	}
}

func fixedPartitionsRefused(t *testing.T, r *rig) {
	r.start(t, 1)
	r.create(t, 2, "in", "out")
	job := strings.Replace(discovering, "topics: [$in]", "partitions: {$in: [0, 2]}", 1)
	result := r.Sluice(t, "submit", r.JobFile(t, r.fill(job)))
	if want := r.topic("in") + "/2: partitions names it, and the topic has only 2 partitions; name some of 0 to 1"; result.Code == 0 || !strings.Contains(result.Stderr, want) {
		t.Errorf("code %d, %s, want %q", result.Code, result.Stderr, want)
	}
	job = strings.Replace(discovering, "discovery.interval.ms: 1000", "discovery.interval.ms: 99", 1)
	result = r.Sluice(t, "submit", r.JobFile(t, r.fill(job)))
	if want := "partition.discovery.interval.ms: 99 is out of range; want 0, which turns it off, or 100 to"; result.Code == 0 || !strings.Contains(result.Stderr, want) {
		t.Errorf("code %d, %s, want %q", result.Code, result.Stderr, want)
	}
	job = strings.Replace(discovering, "startup: latest", "startup: earliest, bounded: latest", 1)
	result = r.Sluice(t, "submit", r.JobFile(t, r.fill(job)))
	if want := "partition.discovery.interval.ms has no effect"; result.Code != 0 || !strings.Contains(result.Stderr, want) {
		t.Errorf("code %d, %s, want the warning %q", result.Code, result.Stderr, want)
	}
}
