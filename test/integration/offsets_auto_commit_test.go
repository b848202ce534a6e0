package integration

import (
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// TestAutoCommit: without checkpoints offsets are published all the same, and no more than sinks have
// acknowledged.
func TestAutoCommit(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"only what is acknowledged", onlyAcknowledged},
		{"as PersistentKafkaSource", persistentSource},
	})
}

// autoCommitted is the job of offsetsRig without checkpoints.
func (o *offsetsRig) autoCommitted() string {
	return strings.Replace(o.job("INTERVAL", "0s", "GUARANTEE", "at-least-once"), "group.id:", "auto.commit.interval.ms: 100, group.id:", 1)
}

// onlyAcknowledged writes to another Kafka, which is away.
func onlyAcknowledged(t *testing.T, r *rig) {
	o := newOffsetsRig(t, r)
	sink := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	o.create(t, 1, "in")
	sink.CreateTopic(t, o.topic("out"), 1, nil)
	o.start(t, 1)
	job := o.autoCommitted()
	last := strings.LastIndex(job, "$brokers")
	id := o.submit(t, job[:last]+sink.Addr()+job[last+len("$brokers"):])
	o.WaitFor(t, id, "publishing", patience, func(j *jobStatus) bool { return publication(j, "zookeeper").Checkpoint > 0 })
	sink.Stop(t, 0)
	o.kafka.Produce(t, o.numbered("in", 1, 5, 0, 100))
	o.WaitFor(t, id, "reading, and not able to write", patience, func(j *jobStatus) bool { return j.Vertices[0].Subtasks[0].RecordsIn == 100 })
	if got := o.held(t, o.node(0)); got != "" {
		t.Errorf("offset %s is published, and nothing was acknowledged", got)
	}
	sink.Restart(t, 0)
	o.waitHeld(t, o.node(0), "99")
	// A restart goes on from what was acknowledged, as one of an old Flink did from what it had committed.
	o.Kill9(t, o.TaskManager("tm-1"))
	o.kafka.Produce(t, o.numbered("in", 1, 5, 100, 120))
	o.StartTaskManager(t, "tm-1", 1)
	o.waitHeld(t, o.node(0), "119")
	if job := o.Job(t, id); job.Checkpoints.Restored == 0 {
		t.Error("the restart has read everything again")
	}
	r.kafka = sink
	o.checkCopies(t, "out", 120, atLeast)
}

// persistentSource: what PersistentKafkaSource did: from ZooKeeper, to ZooKeeper, without checkpoints.
func persistentSource(t *testing.T, r *rig) {
	o := newOffsetsRig(t, r)
	o.create(t, 2, "in", "out")
	o.kafka.Produce(t, o.numbered("in", 2, 5, 0, 100))
	o.start(t, 1)
	for p := range 2 {
		o.set(t, o.node(p), "39")
	}
	id := o.submit(t, o.autoCommitted())
	o.waitHeld(t, o.node(0), "49")
	o.waitHeld(t, o.node(1), "49")
	o.MustSluice(t, "cancel", id)
	o.WaitState(t, id, "CANCELED", patience)
	if got := len(o.kafka.Read(t, o.topic("out"))); got != 20 {
		t.Errorf("%d records out, want the 20 behind what ZooKeeper held", got)
	}
	o.kafka.Produce(t, o.numbered("in", 2, 5, 100, 110))
	again := o.submit(t, strings.Replace(o.autoCommitted(), "bounded: none", "bounded: latest", 1))
	o.WaitState(t, again, "FINISHED", patience)
	if got := len(o.kafka.Read(t, o.topic("out"))); got != 30 {
		t.Errorf("%d records out, want the 10 new ones more", got)
	}
	if got := o.held(t, o.node(0)); got != "54" {
		t.Errorf("the last offset is %q, want 54", got)
	}
}
