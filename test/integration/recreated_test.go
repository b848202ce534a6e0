package integration

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

func TestTopicsThatGo(t *testing.T) {
	everyKafka(t, []testCase{
		{"deleted", topicDeleted},
		{"deleted and created again while it is read", topicRecreated},
		{"deleted and created again while the job is down", topicRecreatedMeanwhile},
	}, true)
}

// deleteTopic deletes a topic of this case and waits until the brokers know.
func (r *rig) deleteTopic(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(r.kafka.Client(t))
	if _, err := admin.DeleteTopic(ctx, r.topic(name)); err != nil {
		t.Fatal(err)
	}
	for {
		topics, err := admin.ListTopics(ctx)
		if err == nil && !topics.Has(r.topic(name)) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s was not deleted: %v", name, err)
		}
		time.Sleep(pollEvery)
	}
}

// waitReason waits until the job says why it waits, and goes on running.
func (r *rig) waitReason(t *testing.T, id, text string) jobStatus {
	t.Helper()
	return r.WaitFor(t, id, "waiting because "+text, patience, func(j *jobStatus) bool {
		return slices.ContainsFunc(j.Waiting, func(why string) bool { return strings.Contains(why, text) })
	})
}

// topicDeleted: the job says that a topic is gone, and reads the others.
func topicDeleted(t *testing.T, r *rig) {
	r.start(t, 2)
	r.create(t, 2, "in-0", "in-1", "out")
	id := r.submit(t, strings.Replace(discovering, "topics: [$in]", "topicPattern: '${in}-[0-9]+'", 1))
	r.WaitCheckpoint(t, id, 0, patience)
	r.kafka.Produce(t, r.numbered("in-0", 2, 7, 0, 100))
	r.waitVisible(t, "out", 100, patience)
	r.deleteTopic(t, "in-0")
	r.waitReason(t, id, "source in: topic "+r.topic("in-0")+" does not exist any more")
	r.kafka.Produce(t, r.numbered("in-1", 2, 7, 100, 300))
	r.waitVisible(t, "out", 300, patience)
	r.Kill9(t, r.TaskManager("tm-1")) // it restarts without the topic, too
	r.StartTaskManager(t, "tm-1", 2)
	r.kafka.Produce(t, r.numbered("in-1", 2, 7, 300, 400))
	r.waitVisible(t, "out", 400, patience)
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPED", patience)
	r.checkCopies(t, "out", 400, exactly)
}

// recreated checks how a job ended that met another topic of the same name, and that it read nothing of it.
func (r *rig) recreated(t *testing.T, id string) {
	t.Helper()
	j := r.WaitState(t, id, "FAILED", patience)
	if j.Failure == nil || !strings.Contains(j.Failure.Message, "topic "+r.topic("in")+" was deleted and created again (its id was ") ||
		!strings.Contains(j.Failure.Message, "startup: earliest") {
		t.Errorf("failure %+v", j.Failure)
	}
	r.checkCopies(t, "out", 100, exactly)
	// The checkpoint is not taken over either: its offsets are of the old topic.
	result := r.Sluice(t, "submit", r.JobFile(t, r.fill(discovering)), "--from-checkpoint", id+"/"+strconv.FormatInt(j.LatestID(), 10))
	if result.Code == 0 || !strings.Contains(result.Stderr, "was deleted and created again") {
		t.Errorf("code %d: %s", result.Code, result.Stderr)
	}
}

// topicRecreated makes the topic anew with more records than the old one had: the old offsets are within it.
func topicRecreated(t *testing.T, r *rig) {
	r.start(t, 2)
	r.create(t, 2, "in", "out")
	id := r.submit(t, discovering)
	r.WaitCheckpoint(t, id, 0, patience)
	r.kafka.Produce(t, r.numbered("in", 2, 7, 0, 100))
	r.waitVisible(t, "out", 100, patience)
	r.deleteTopic(t, "in")
	r.create(t, 2, "in")
	r.kafka.Produce(t, r.numbered("in", 2, 7, 5000, 6000))
	r.recreated(t, id)
}

// topicRecreatedMeanwhile does the same while no task manager runs.
func topicRecreatedMeanwhile(t *testing.T, r *rig) {
	r.start(t, 2)
	r.create(t, 2, "in", "out")
	id := r.submit(t, discovering)
	r.WaitCheckpoint(t, id, 0, patience)
	r.kafka.Produce(t, r.numbered("in", 2, 7, 0, 100))
	r.waitVisible(t, "out", 100, patience)
	r.Kill9(t, r.TaskManager("tm-1"))
	r.WaitState(t, id, "WAITING_FOR_SLOTS", patience)
	r.deleteTopic(t, "in")
	r.create(t, 2, "in")
	r.kafka.Produce(t, r.numbered("in", 2, 7, 5000, 6000))
	r.StartTaskManager(t, "tm-1", 2)
	r.recreated(t, id)
}
