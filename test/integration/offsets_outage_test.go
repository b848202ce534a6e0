package integration

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/integration/process"
)

// TestOffsetsOutage: offsets are published beside the job, as far as the place answers.
func TestOffsetsOutage(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"ZooKeeper is down, is back, is wiped", zooKeeperDown},
		{"the job ends while ZooKeeper is down", endWhileDown},
	})
}

// zooKeeperDown: the job runs on and draws checkpoints, the status and a metric tell; when ZooKeeper is back it gets
// the newest offsets, also if its data is gone.
func zooKeeperDown(t *testing.T, r *rig) {
	o := newOffsetsRig(t, r)
	o.create(t, 2, "in", "out")
	o.kafka.Produce(t, o.numbered("in", 2, 5, 0, 100))
	o.start(t, 1)
	id := o.submit(t, o.job("STORAGE", "both"))
	o.waitHeld(t, o.node(0), "49")
	o.keeper.Kill(t)
	o.kafka.Produce(t, o.numbered("in", 2, 5, 100, 200))
	down := o.WaitFor(t, id, "failing to publish in ZooKeeper", patience, func(j *jobStatus) bool {
		return publication(j, "zookeeper").Error != "" && o.read(j) == 200
	})
	if p := publication(&down, "zookeeper"); p.FailingSince == "" || !strings.Contains(p.Error, o.keeper.Addr()) {
		t.Errorf("publication %+v, want since when it fails, and where", p)
	}
	later := o.WaitCheckpoint(t, id, down.LatestID()+10, patience)
	o.WaitFor(t, id, "published in Kafka", patience, func(j *jobStatus) bool { return publication(j, "kafka").Checkpoint >= later.LatestID() })
	if age := o.publishAge(t, "zookeeper"); age <= 0 {
		t.Errorf("sluice_offsets_publish_age_seconds is %g", age)
	}
	if text := o.MustSluice(t, "job", id); !strings.Contains(text, "in zookeeper") || !strings.Contains(text, "fails for") {
		t.Errorf("sluice job does not say that publishing fails:\n%s", text)
	}
	o.keeper.Restart(t)
	o.waitHeld(t, o.node(0), "99")
	o.WaitFor(t, id, "publishing again", patience, func(j *jobStatus) bool { return publication(j, "zookeeper").Error == "" })
	o.keeper.Kill(t)
	o.keeper.Wipe(t)
	o.keeper.Restart(t)
	o.look(t)
	o.kafka.Produce(t, o.numbered("in", 2, 5, 200, 220))
	o.waitHeld(t, o.node(0), "109")
	if job := o.Job(t, id); job.Attempt != 1 || job.State != "RUNNING" {
		t.Errorf("attempt %d, %s: publishing has disturbed the job", job.Attempt, job.State)
	}
	o.MustSluice(t, "stop", id)
	o.WaitState(t, id, "STOPPED", patience)
	o.checkCopies(t, "out", 220, exactly)
}

// publishAge is the metric of the job of this case.
func (o *offsetsRig) publishAge(t *testing.T, storage string) float64 {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get("http://" + o.HTTPAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(fmt.Sprintf(`sluice_offsets_publish_age_seconds\{job="%sjob",source="in",storage="%s"\} (\S+)`, o.prefix, storage))
	found := line.FindSubmatch(text)
	if found == nil {
		t.Fatalf("/metrics has no %s", line)
	}
	age, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return age
}

// endWhileDown: the end of a job waits for its last offsets for a bounded time only, and says so.
func endWhileDown(t *testing.T, r *rig) {
	o := newOffsetsRig(t, r)
	o.create(t, 1, "in", "out")
	o.start(t, 1)
	id := o.submit(t, o.job())
	o.WaitFor(t, id, "publishing", patience, func(j *jobStatus) bool { return publication(j, "zookeeper").Checkpoint > 0 })
	o.keeper.Kill(t)
	o.MustSluice(t, "stop", id)
	o.WaitState(t, id, "STOPPED", patience)
}

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

// TestOffsetsRefusals: what cannot be meant is refused with the reason, before anything runs.
func TestOffsetsRefusals(t *testing.T) {
	r := startedRig(t, 1)
	o := newOffsetsRig(t, r)
	unused, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	good := o.job()
	without := func(text string) string { return strings.Replace(good, text, "", 1) }
	for _, c := range []struct {
		name, job string
		code      int
		words     []string
	}{
		{"no zookeeper.connect", without(", zookeeper.connect: '" + o.keeper.Addr() + "'"), 2, []string{"offsets.storage: zookeeper needs zookeeper.connect"}},
		{"no group.id", without("group.id: '$name', "), 2, []string{"offsets.storage: zookeeper needs group.id"}},
		{"nobody listens", o.job("CONNECT", fmt.Sprintf("127.0.0.1:%d", unused)), 1, []string{"source in", fmt.Sprintf("127.0.0.1:%d", unused), "zookeeper.connect"}},
		{"no such chroot", o.job("CONNECT", o.keeper.Addr()+"/nowhere"), 1, []string{"source in", "/nowhere", "does not exist"}},
		{"Kafka instead of ZooKeeper", o.job("CONNECT", r.kafka.Addr()), 1, []string{"source in", r.kafka.Addr()}},
		{"connect is no address", o.job("CONNECT", "zk1:port"), 2, []string{"zookeeper.connect", "port"}},
	} {
		t.Run(c.name, func(t *testing.T) { r.refused(t, c.job, c.code, c.words...) })
	}
}
