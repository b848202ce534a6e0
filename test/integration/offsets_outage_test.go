package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestOffsetsOutage: offsets are published beside the job, as far as the place answers.
func TestOffsetsOutage(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"ZooKeeper is down, is back, is wiped", zooKeeperDown},
		{"the job ends while ZooKeeper is down", endWhileDown},
		{"a consumer uses the group", groupInUse},
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
	submitted := o.Sluice(t, "submit", o.JobFile(t, o.fill(o.job())))
	if warning := "group " + o.prefix + "job has no committed offset in ZooKeeper for"; submitted.Code != 0 || !strings.Contains(submitted.Stderr, warning) {
		t.Errorf("exit code %d, and no warning %q:\n%s", submitted.Code, warning, submitted.Stderr)
	}
	id := o.prefix + "job"
	o.kafka.Produce(t, o.numbered("in", 1, 5, 0, 10))
	o.waitHeld(t, o.node(0), "9")
	o.keeper.Kill(t)
	o.MustSluice(t, "stop", id)
	o.WaitState(t, id, "STOPPED", patience)
	if text := o.MustSluice(t, "job", id); !strings.Contains(text, "in in zookeeper: the last ones could not be published") {
		t.Errorf("sluice job does not say that the last offsets are missing:\n%s", text)
	}
}

// groupInUse: Kafka refuses offsets of a group that has members. The job runs on, and they are published when the
// consumer has left.
func groupInUse(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 1, 5, 0, 10))
	r.start(t, 1)
	consumer := r.kafka.Client(t, kgo.ConsumerGroup(r.prefix+"job"), kgo.ConsumeTopics(r.topic("out")))
	for member, deadline := "", time.Now().Add(patience); member == ""; member, _ = consumer.GroupMetadata() {
		if time.Now().After(deadline) {
			t.Fatal("the consumer does not become a member")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		consumer.PollFetches(ctx)
		cancel()
	}
	id := r.submit(t, strings.Replace(endless(copyJob), "bootstrap.servers:", "group.id: $name, bootstrap.servers:", 1))
	failing := r.WaitFor(t, id, "failing to publish", patience, func(j *jobStatus) bool { return publication(j, "kafka").Error != "" })
	if text := publication(&failing, "kafka").Error; !strings.Contains(text, "use a group.id that no consumer uses") {
		t.Errorf("the way out is not told: %s", text)
	}
	r.WaitCheckpoint(t, id, failing.LatestID()+3, patience)
	if err := consumer.LeaveGroupContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.WaitFor(t, id, "publishing", patience, func(j *jobStatus) bool {
		p := publication(j, "kafka")
		return p.Error == "" && p.Checkpoint > failing.LatestID() && j.Attempt == 1
	})
}
