package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// groupJob copies $in as a consumer group does, with checkpoints off. The group is named like the input.
const groupJob = `name: $name
parallelism: 2
restart: {initial: 0s}
sources:
  in: {kafka: {topics: ['$in'], mode: group, properties: {bootstrap.servers: '$brokers', group.id: '$in', auto.offset.reset: earliest,
    auto.commit.interval.ms: 300, session.timeout.ms: 6000, heartbeat.interval.ms: 300}}}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: at-least-once, properties: {bootstrap.servers: '$brokers'}}}
`

// TestGroupSource: what Flink 0.9's KafkaSource promised, and that nothing is lost.
func TestGroupSource(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"task manager killed, then resubmitted", groupKilled},
		{"a foreign consumer takes a share", groupForeign},
		{"refusals", groupRefusals},
	})
}

// groupCommitted is the sum of what the group has committed, as another client sees it.
func (r *rig) groupCommitted(t *testing.T) int64 {
	t.Helper()
	offsets, err := kadm.NewClient(r.kafka.Client(t)).FetchOffsets(t.Context(), r.topic("in"))
	if err != nil { // there is no such group yet, or no coordinator
		t.Log(err)
		return 0
	}
	sum := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic == r.topic("in") && o.Err == nil {
			sum += o.At
		}
	})
	return sum
}

// waitCommitted waits until the group has committed so many records.
func (r *rig) waitCommitted(t *testing.T, want int64) {
	t.Helper()
	got := int64(0)
	r.waitUntil(t, "the group has committed all", func() bool {
		got = r.groupCommitted(t)
		return got >= want
	})
	if got != want {
		t.Errorf("the group has committed %d records, of %d", got, want)
	}
}

func (r *rig) waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// groupKilled: two subtasks share four partitions; one task manager is killed, all goes on with the other, from what
// was committed. After a stop another job goes on there, too.
func groupKilled(t *testing.T, r *rig) {
	r.create(t, 4, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 4, 10, 0, 2000))
	r.start(t, 2, 2)
	id := r.submit(t, groupJob)
	r.waitCommitted(t, 2000)
	before := r.Job(t, id)
	if l := before.Checkpoints.Latest; l == nil || len(l.Offsets) != 0 {
		t.Errorf("the newest checkpoint has offsets of a source in a group: %+v", l)
	}
	r.kafka.Produce(t, r.numbered("in", 4, 10, 2000, 3000))
	r.Kill9(t, r.TaskManager(before.Vertices[0].Subtasks[0].TaskManager))
	r.kafka.Produce(t, r.numbered("in", 4, 10, 3000, 4000))
	r.waitCommitted(t, 4000)
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPED", patience)
	r.checkCopies(t, "out", 4000, atLeast)
	out := len(r.kafka.Read(t, r.topic("out")))
	r.kafka.Produce(t, r.numbered("in", 4, 10, 4000, 4100))
	second := r.submit(t, groupJob)
	r.waitCommitted(t, 4100)
	r.MustSluice(t, "cancel", second)
	r.WaitState(t, second, "CANCELED", patience)
	r.checkCopies(t, "out", 4100, atLeast)
	if again := len(r.kafka.Read(t, r.topic("out"))) - out; again != 100 {
		t.Errorf("the second job has written %d records, want the 100 behind what the group had committed", again)
	}
}

// groupForeign: a consumer that is no Sluice joins the group, gets partitions, and gives them back.
func groupForeign(t *testing.T, r *rig) {
	r.create(t, 4, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 4, 10, 0, 400))
	r.start(t, 2)
	id := r.submit(t, groupJob)
	r.waitCommitted(t, 400)
	foreign := r.kafka.Client(t, kgo.ConsumerGroup(r.topic("in")), kgo.ConsumeTopics(r.topic("in")), kgo.Balancers(kgo.RangeBalancer()),
		kgo.HeartbeatInterval(300*time.Millisecond), kgo.AutoCommitInterval(300*time.Millisecond))
	theirs, next := 0, 400
	r.waitUntil(t, "the foreign consumer reads", func() bool {
		r.kafka.Produce(t, r.numbered("in", 4, 10, next, next+4))
		next += 4
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		polled := foreign.PollRecords(ctx, 100)
		theirs += polled.NumRecords()
		return theirs > 0
	})
	if err := foreign.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	if members := r.members(t); members != 3 {
		t.Errorf("%d members in the group, want 2 subtasks and the foreign consumer", members)
	}
	if err := foreign.LeaveGroupContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.kafka.Produce(t, r.numbered("in", 4, 10, next, next+40))
	next += 40
	r.waitCommitted(t, int64(next))
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPED", patience)
	if got := len(r.kafka.Read(t, r.topic("out"))); got < next-theirs {
		t.Errorf("%d records out, and the foreign consumer had %d of %d", got, theirs, next)
	}
	r.waitUntil(t, "the subtasks have left the group", func() bool { return r.members(t) == 0 })
}

func (r *rig) members(t *testing.T) int {
	t.Helper()
	groups, err := kadm.NewClient(r.kafka.Client(t)).DescribeGroups(t.Context(), r.topic("in"))
	if err != nil {
		t.Fatal(err)
	}
	return len(groups[r.topic("in")].Members)
}

// groupRefusals: what somebody else than the group would decide is refused with the reason, and what does not hold is
// said.
func groupRefusals(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.start(t, 2)
	for _, c := range []struct{ from, to, want string }{
		{"mode: group", "mode: group, startup: earliest", "begins where the group has committed"},
		{"mode: group", "mode: group, bounded: latest", "has no end"},
		{"mode: group", "mode: group, until: 'true'", "has no end"},
		{"topics: ['$in']", "partitions: {'$in': [0]}", "it is the group that gives partitions"},
		{"mode: group", "mode: group, offsets: {storage: none}", "commits to Kafka"},
		{"mode: group", "mode: group, offsets: {storage: zookeeper}", "commits to Kafka"},
		{"mode: group", "mode: group, offsets: {storage: both}", "commits to Kafka"},
		{"auto.offset.reset", "partition.discovery.interval.ms: 1000, auto.offset.reset", "found by the group itself"},
		{"group.id: '$in', ", "", "mode: group needs group.id"},
		{"heartbeat.interval.ms: 300", "heartbeat.interval.ms: 5000", "more than half of the session.timeout.ms"},
		{"mode: group", "mode: assigned", "sources are no members of a group"},
		{"restart:", "checkpoint: {interval: 1s}\nrestart:", "auto.commit.interval.ms"},
		{"guarantee: at-least-once", "guarantee: exactly-once", "source in is of mode group"},
	} {
		job := strings.Replace(groupJob, c.from, c.to, 1)
		result := r.Sluice(t, "submit", r.JobFile(t, r.fill(job)))
		if result.Code == 0 || !strings.Contains(result.Stderr, c.want) {
			t.Errorf("%s: exit code %d, want %q\n%s", c.to, result.Code, c.want, result.Stderr)
		}
	}
	result := r.Sluice(t, "submit", r.JobFile(t, r.fill(groupJob)))
	if result.Code != 0 || !strings.Contains(result.Stdout+result.Stderr, "no part in checkpoints") {
		t.Errorf("exit code %d, or nobody says what the mode does not promise\n%s%s", result.Code, result.Stdout, result.Stderr)
	}
	id := r.prefix + "job"
	r.WaitState(t, id, "RUNNING", patience)
	for _, verb := range []string{"job", "explain"} {
		if text := r.MustSluice(t, verb, id); !strings.Contains(text, "no part in checkpoints") {
			t.Errorf("sluice %s does not say that the source takes no part in checkpoints:\n%s", verb, text)
		}
	}
	r.kafka.Produce(t, r.numbered("in", 1, 1, 0, 10))
	r.waitCommitted(t, 10)
	r.waitUntil(t, "sluice lag names the topic", func() bool { return strings.Contains(r.MustSluice(t, "lag", id), r.topic("in")) })
	r.MustSluice(t, "cancel", id)
	r.WaitState(t, id, "CANCELED", patience)
}
