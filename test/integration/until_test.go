package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestUntil(t *testing.T) {
	everyKafka(t, []testCase{
		{"ends each partition", untilEndsEachPartition},
		{"survives restarts", untilSurvivesRestarts},
		{"errors and refusals", untilErrors},
	}, true)
}

// untilJob copies numbers up to the word end, in each of two partitions.
const untilJob = `name: $name
parallelism: 2
checkpoint: {interval: 200ms}
restart: {initial: 0s, max: 100ms, attempts: 1000}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, format: string, until: 'value == "end"', properties: {bootstrap.servers: '$brokers'}}}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: exactly-once, partitioner: preserve, properties: {bootstrap.servers: '$brokers'}}}
`

// end is a record that ends a partition.
func (r *rig) end(topic string, partition int32) *kgo.Record {
	return &kgo.Record{Topic: r.topic(topic), Partition: partition, Value: []byte("end")}
}

// untilEndsEachPartition: a partition ends before its first record for which until holds, and the job when all
// have; what is behind is not read, and without checkpoints it is the same.
func untilEndsEachPartition(t *testing.T, r *rig) {
	r.create(t, 2, "in", "out", "out-2")
	r.kafka.Produce(t, r.numbered("in", 2, 7, 0, 100))
	r.kafka.Produce(t, []*kgo.Record{r.end("in", 0)})
	r.kafka.Produce(t, r.numbered("in", 2, 7, 100, 200))
	r.start(t, 2)
	id := r.submit(t, untilJob)
	now := r.WaitFor(t, id, "at the end of one partition", patience, func(j *jobStatus) bool {
		return r.position(j, "in", 0) == 50 && r.position(j, "in", 1) == 100
	})
	now = r.WaitCheckpoint(t, id, now.LatestID()+2, patience)
	if now.State != "RUNNING" || r.position(&now, "in", 0) != 50 {
		t.Errorf("state %s at %d, want RUNNING at 50: one partition has not ended", now.State, r.position(&now, "in", 0))
	}
	r.kafka.Produce(t, []*kgo.Record{r.end("in", 1), r.end("in", 0), r.end("in", 1)})
	r.kafka.Produce(t, r.numbered("in", 2, 7, 200, 300))
	ended := r.WaitState(t, id, "FINISHED", patience)
	if at, other := r.position(&ended, "in", 0), r.position(&ended, "in", 1); at != 50 || other != 100 {
		t.Errorf("the final checkpoint is at %d and %d, want 50 and 100", at, other)
	}
	want := func(n int) bool { return n < 100 || n < 200 && n%2 == 1 }
	r.checkOnce(t, "out", 300, want)

	r.finish(t, strings.NewReplacer("name: $name", "name: ${name}-2", "checkpoint: {interval: 200ms}\n", "", "exactly-once", "at-least-once", "$out", "${out-2}").Replace(untilJob))
	r.checkOnce(t, "out-2", 300, want)
}

// untilSurvivesRestarts: a partition that has ended stays so over kill -9 of everything.
func untilSurvivesRestarts(t *testing.T, r *rig) {
	const total = 6000
	r.create(t, 2, "in", "out")
	r.kafka.Produce(t, append(r.numbered("in", 2, 7, 0, 100), r.end("in", 0)))
	finish := r.feed(t, "in", 2, 7, 100, total)
	r.start(t, 2)
	id := r.submit(t, untilJob)
	for i := range 2 {
		now := r.WaitFor(t, id, "at the end of one partition", patience, func(j *jobStatus) bool { return r.position(j, "in", 0) == 50 && r.position(j, "in", 1) > 100 })
		r.Kill9(t, r.TaskManager(fmt.Sprintf("tm-%d", i+1)))
		if i == 1 {
			r.Kill9(t, r.JobManager())
			r.StartJobManager(t)
		}
		r.StartTaskManager(t, fmt.Sprintf("tm-%d", i+2), 2)
		r.WaitFor(t, id, "going on", patience, func(j *jobStatus) bool { return j.Attempt > now.Attempt && j.LatestID() > now.LatestID()+1 })
	}
	finish()
	r.kafka.Produce(t, []*kgo.Record{r.end("in", 1)})
	r.WaitState(t, id, "FINISHED", patience)
	r.waitClosed(t, closeLimit, "out")
	r.checkOnce(t, "out", total, func(n int) bool { return n < 100 || n%2 == 1 })
}

// untilErrors: records on which until fails follow onError, also before the end; what is no predicate is
// refused.
func untilErrors(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out", "dead")
	var records []*kgo.Record
	for _, v := range []string{"1", "x", "2", "99", "y", "3"} {
		records = append(records, &kgo.Record{Topic: r.topic("in"), Value: []byte(v)})
	}
	r.kafka.Produce(t, records)
	r.start(t, 1)
	job := strings.NewReplacer("parallelism: 2", "parallelism: 1", `'value == "end"'`, "'int(value) == 99', onError: {deadLetter: '$dead'}").Replace(untilJob)
	r.finish(t, job)
	for topic, want := range map[string][]string{"out": {"1", "2"}, "dead": {"x"}} {
		var got []string
		for _, record := range r.kafka.Read(t, r.topic(topic)) {
			got = append(got, string(record.Value))
			if topic == "dead" {
				checkHeaders(t, record, map[string]string{"sluice.error.node": "in", "sluice.error.part": "until", "sluice.source.offset": strconv.Itoa(1)})
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s holds %q, want %q", topic, got, want)
		}
	}
	refused := r.Sluice(t, "submit", r.JobFile(t, r.fill(strings.Replace(untilJob, `value == "end"`, "value", 1))))
	if refused.Code != 2 || !strings.Contains(refused.Stderr, "sources.in.kafka.until: the result is string, want a bool") {
		t.Errorf("exit code %d, %s", refused.Code, refused.Stderr)
	}
}
