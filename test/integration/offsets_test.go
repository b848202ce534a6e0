package integration

import (
	"strconv"
	"strings"
	"testing"
)

// TestOffsetsInZooKeeper: what FlinkKafkaConsumer081 and 082 promised, on every Kafka and a real ZooKeeper.
func TestOffsetsInZooKeeper(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"written and read by meaning: last", func(t *testing.T, r *rig) { byMeaning(t, r, "last", "49", "", "59") }},
		{"written and read by meaning: next", func(t *testing.T, r *rig) { byMeaning(t, r, "next", "50", "0", "60") }},
		{"only forward, and never read on restore", onlyForward},
		{"both: what Kafka holds counts", bothStorages},
		{"next read as last is told", nextReadAsLast},
	})
}

// byMeaning: the last of 50 records is 49, the next one 50; a partition without records has no last one.
func byMeaning(t *testing.T, r *rig, meaning, held, empty, later string) {
	o := newOffsetsRig(t, r)
	o.create(t, 3, "in", "out")
	o.kafka.Produce(t, o.numbered("in", 2, 5, 0, 100))
	o.start(t, 1)
	o.set(t, "/kafka", "")
	job := o.job("MEANING", meaning, "CONNECT", o.keeper.Addr()+"/kafka")
	id := o.submit(t, job)
	o.waitHeld(t, "/kafka"+o.node(0), held)
	o.waitHeld(t, "/kafka"+o.node(1), held)
	if got := o.held(t, "/kafka"+o.node(2)); got != empty {
		t.Errorf("partition 2 has no records, and its node holds %q, want %q", got, empty)
	}
	o.MustSluice(t, "stop", id)
	o.WaitState(t, id, "STOPPED", patience)
	o.kafka.Produce(t, o.numbered("in", 2, 5, 100, 120))
	second := o.submit(t, strings.Replace(job, "bounded: none", "bounded: latest", 1))
	o.WaitState(t, second, "FINISHED", patience)
	o.checkCopies(t, "out", 120, exactly)
	if got := o.held(t, "/kafka"+o.node(0)); got != later { // before the job was FINISHED
		t.Errorf("the last offset is %q, want %q", got, later)
	}
}

// onlyForward: a number that somebody lowers is raised again, one that somebody raises stays, one that is none is
// told and left; a job that is restored goes on from its checkpoint whatever stands there.
func onlyForward(t *testing.T, r *rig) {
	o := newOffsetsRig(t, r)
	o.create(t, 4, "in", "out")
	o.kafka.Produce(t, o.numbered("in", 4, 5, 0, 400))
	o.start(t, 1)
	id := o.submit(t, o.job())
	for p := range 4 {
		o.waitHeld(t, o.node(p), "99")
	}
	o.set(t, o.node(0), "3")
	o.waitHeld(t, o.node(0), "99")
	o.set(t, o.node(0), "3")
	o.set(t, o.node(1), "1000000")
	o.set(t, o.node(2), "garbage")
	before := o.WaitFor(t, id, "failing to publish", patience, func(j *jobStatus) bool { return publication(j, "zookeeper").Error != "" })
	if text := publication(&before, "zookeeper").Error; !strings.Contains(text, o.node(2)) || !strings.Contains(text, "garbage") {
		t.Errorf("the error does not name %s and what it holds: %s", o.node(2), text)
	}
	o.Kill9(t, o.JobManager())
	o.Kill9(t, o.TaskManager("tm-1"))
	o.kafka.Produce(t, o.numbered("in", 4, 5, 400, 440))
	o.start(t, 1)
	o.WaitFor(t, id, "at the end again", patience, func(j *jobStatus) bool { return o.read(j) == 440 })
	o.waitHeld(t, o.node(0), "109")
	o.waitHeld(t, o.node(3), "109") // beside the one that is garbage
	if got := o.held(t, o.node(1)); got != "1000000" {
		t.Errorf("a number that was higher was lowered to %s", got)
	}
	if got := o.held(t, o.node(2)); got != "garbage" {
		t.Errorf("what nobody understands was replaced by %s", got)
	}
	if err := o.nodes.Delete(o.node(2), -1); err != nil {
		t.Fatal(err)
	}
	o.waitHeld(t, o.node(2), "109")
	o.WaitFor(t, id, "publishing again", patience, func(j *jobStatus) bool { return publication(j, "zookeeper").Error == "" })
	o.MustSluice(t, "stop", id)
	o.WaitState(t, id, "STOPPED", patience)
	o.checkCopies(t, "out", 440, exactly)
}

// bothStorages: written to both; where they differ Kafka's counts, and ZooKeeper's where Kafka has none.
func bothStorages(t *testing.T, r *rig) {
	o := newOffsetsRig(t, r)
	o.create(t, 2, "in", "out")
	o.kafka.Produce(t, o.numbered("in", 2, 5, 0, 100))
	o.start(t, 1)
	for p := range 2 { // as an old job of Flink left them: the first 20 records of each are done
		o.set(t, o.node(p), "19")
	}
	first := o.submit(t, o.job("STORAGE", "both"))
	o.WaitFor(t, first, "at the end", patience, func(j *jobStatus) bool { return o.read(j) == 100 })
	o.waitHeld(t, o.node(0), "49")
	o.WaitFor(t, first, "published in both", patience, func(j *jobStatus) bool {
		latest := j.LatestID()
		return latest > 0 && publication(j, "kafka").Checkpoint > 0 && publication(j, "zookeeper").Checkpoint > 0
	})
	o.MustSluice(t, "stop", first)
	o.WaitState(t, first, "STOPPED", patience)
	if got := len(o.kafka.Read(t, o.topic("out"))); got != 60 {
		t.Errorf("%d records out, want the 60 behind what ZooKeeper held", got)
	}
	o.set(t, o.node(0), "9")
	o.set(t, o.node(1), "9")
	o.kafka.Produce(t, o.numbered("in", 2, 5, 100, 110))
	second := o.submit(t, strings.Replace(o.job("STORAGE", "both"), "bounded: none", "bounded: latest", 1))
	o.WaitState(t, second, "FINISHED", patience)
	if got := len(o.kafka.Read(t, o.topic("out"))); got != 70 {
		t.Errorf("%d records out, want 10 more: Kafka's offsets count", got)
	}
}

// nextReadAsLast: a next offset at the end of the log is one too far as a last one. That would lose a record
// where the log goes on, and can be told where it does not.
func nextReadAsLast(t *testing.T, r *rig) {
	o := newOffsetsRig(t, r)
	o.create(t, 1, "in", "out")
	o.kafka.Produce(t, o.numbered("in", 1, 5, 0, 10))
	o.start(t, 1)
	o.set(t, o.node(0), strconv.Itoa(10))
	job := strings.Replace(o.job(), "auto.offset.reset: earliest, ", "", 1)
	o.refused(t, job, 1, o.topic("in")+"/0", "ZooKeeper holds 10, offsets.meaning last", "the log has 0 to 10", "set offsets.meaning: next")
	id := o.submit(t, strings.Replace(job, "meaning: last", "meaning: next", 1))
	o.WaitFor(t, id, "running", patience, func(j *jobStatus) bool { return o.position(j, "in", 0) == 10 })
	o.set(t, o.node(0), "text")
	o.refused(t, strings.Replace(job, "name: $name", "name: other", 1), 1, o.node(0), "text")
}
