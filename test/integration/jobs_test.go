package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestJobs(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"more subtasks than partitions", moreSubtasks},
		{"more partitions than subtasks", morePartitions},
		{"source and sink of different parallelism", differentParallelism},
		{"hash exchange over two task managers", hashExchange},
		{"bounded job with idle subtasks", idleSubtasks},
		{"filter, map and flatMap", expressions},
		{"topic pattern", topicPattern},
		{"startup from a timestamp and from the latest, up to a timestamp", startups},
		{"stop and resubmit from its checkpoint", stopAndResubmit},
		{"stop with drain", stopWithDrain},
		{"cancel", cancelJob},
		{"waits for slots", waitsForSlots},
	})
}

// countJob counts $in by key into $out. The stop offset is per partition and may lie in the future.
func countJob(parallelism, partitions, total int) string {
	return fmt.Sprintf(`name: $name
parallelism: %d
checkpoint: {interval: 100ms}
restart: {initial: 0s}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, keyFormat: string, %s, properties: {bootstrap.servers: '$brokers'}}}
operators:
  count: {from: in, keyBy: 'key', count: {}}
sinks:
  out: {from: count, kafka: {topic: '$out', guarantee: at-least-once, partitioner: key, properties: {bootstrap.servers: '$brokers', linger.ms: 5}}}
`, parallelism, boundedAt(partitions, total))
}

// boundedAt ends a job after total records that are spread evenly over the partitions.
func boundedAt(partitions, total int) string {
	var ends []string
	for p := range partitions {
		ends = append(ends, fmt.Sprintf("%d: %d", p, total/partitions))
	}
	return "bounded: {offsets: {'$in': {" + strings.Join(ends, ", ") + "}}}"
}

func moreSubtasks(t *testing.T, r *rig) {
	r.create(t, 2, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 2, 10, 0, 2000))
	r.start(t, 4)
	r.finish(t, strings.Replace(copyJob, "parallelism: 1", "parallelism: 4", 1))
	r.checkCopies(t, "out", 2000, exactly)
}

func morePartitions(t *testing.T, r *rig) {
	r.create(t, 7, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 7, 10, 0, 2000))
	r.start(t, 2)
	r.finish(t, strings.Replace(copyJob, "parallelism: 1", "parallelism: 2", 1))
	r.checkCopies(t, "out", 2000, exactly)
	checkSame(t, "copy", r.kafka.Read(t, r.topic("in")), r.kafka.Read(t, r.topic("out")))
}

// differentParallelism: three source subtasks, one in the middle, two sinks: rebalanced in between.
func differentParallelism(t *testing.T, r *rig) {
	r.create(t, 3, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 3, 10, 0, 3000))
	r.start(t, 1, 2)
	r.finish(t, `name: $name
parallelism: 3
checkpoint: {interval: 100ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, format: string, properties: {bootstrap.servers: '$brokers'}}}
operators:
  all: {from: in, parallelism: 1, filter: 'value != "none"'}
sinks:
  out: {from: all, parallelism: 2, kafka: {topic: '$out', guarantee: at-least-once, partitioner: round-robin, properties: {bootstrap.servers: '$brokers'}}}
`)
	r.checkCopies(t, "out", 3000, exactly)
	used := map[int32]bool{}
	for _, record := range r.kafka.Read(t, r.topic("out")) {
		used[record.Partition] = true
	}
	if len(used) != 3 {
		t.Errorf("round-robin used the partitions %v of three", used)
	}
}

func hashExchange(t *testing.T, r *rig) {
	const total = 20_000
	r.create(t, 4, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 4, 97, 0, total))
	r.start(t, 1, 1)
	id := r.submit(t, countJob(2, 4, total))
	running := r.WaitFor(t, id, "running", patience, func(j *jobStatus) bool { return j.State == "RUNNING" || j.State == "FINISHED" })
	used := map[string]bool{}
	for _, vertex := range running.Vertices {
		for _, subtask := range vertex.Subtasks {
			used[subtask.TaskManager] = true
		}
	}
	if !used["tm-1"] || !used["tm-2"] {
		t.Errorf("subtasks run on %v, want both task managers", used)
	}
	r.WaitState(t, id, "FINISHED", patience)
	r.checkCounts(t, "out", 97, total, exactly)
}

// idleSubtasks: three of four source subtasks have no partition, and most counters get no key.
func idleSubtasks(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 1, 2, 0, 100))
	r.start(t, 2, 2)
	r.finish(t, countJob(4, 1, 100))
	r.checkCounts(t, "out", 2, 100, exactly)
}

func expressions(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	records := r.numbered("in", 1, 1, 0, 4)
	for i, line := range []string{"paid to be or not", "open never seen", "paid", "paid x"} {
		records[i].Value = []byte(line)
	}
	r.kafka.Produce(t, records)
	r.start(t, 1)
	r.finish(t, `name: $name
parallelism: 1
checkpoint: {interval: 100ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, format: string, properties: {bootstrap.servers: '$brokers'}}}
operators:
  paid:  {from: in, filter: 'value.startsWith("paid")'}
  words: {from: paid, flatMap: 'value.split(" ")'}
  tag:   {from: words, map: {key: 'value', value: '"[" + string(offset) + "] " + value', headers: '[{"key": "p", "value": string(partition)}]'}}
sinks:
  out: {from: tag, kafka: {topic: '$out', guarantee: at-least-once, properties: {bootstrap.servers: '$brokers'}}}
`)
	var got []string
	for _, record := range r.kafka.Read(t, r.topic("out")) {
		got = append(got, fmt.Sprintf("%s=%s%v", record.Key, record.Value, record.Headers))
	}
	var want []string
	for _, word := range []string{"0 paid", "0 to", "0 be", "0 or", "0 not", "2 paid", "3 paid", "3 x"} {
		offset, text, _ := strings.Cut(word, " ")
		want = append(want, fmt.Sprintf("%s=[%s] %s[{p [48]}]", text, offset, text))
	}
	if !slices.Equal(got, want) {
		t.Errorf("output\n%q\nwant\n%q", got, want)
	}
}

func topicPattern(t *testing.T, r *rig) {
	r.create(t, 1, "orders-a", "orders-b", "other", "out")
	r.kafka.Produce(t, r.numbered("orders-a", 1, 5, 0, 50))
	r.kafka.Produce(t, r.numbered("orders-b", 1, 5, 50, 100))
	r.kafka.Produce(t, r.numbered("other", 1, 5, 500, 510))
	r.start(t, 1)
	r.finish(t, `name: $name
parallelism: 1
checkpoint: {interval: 100ms}
sources:
  in: {kafka: {topicPattern: '${orders-}.*', startup: earliest, bounded: latest, properties: {bootstrap.servers: '$brokers'}}}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: at-least-once, properties: {bootstrap.servers: '$brokers'}}}
`)
	r.checkCopies(t, "out", 100, exactly)
}

// startups: latest skips what was there; a timestamp finds the first record at or after it.
func startups(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out", "out2", "until")
	records := r.numbered("in", 1, 5, 0, 30)
	for i, record := range records {
		record.Timestamp = time.Date(2025, 1, 1, 0, 0, i, 0, time.UTC)
	}
	r.kafka.Produce(t, records)
	r.start(t, 2)
	r.finish(t, strings.Replace(copyJob, "startup: earliest", "startup: {timestamp: '2025-01-01T00:00:20Z'}", 1))
	if got := r.kafka.Read(t, r.topic("out")); len(got) != 10 || string(got[0].Value) != "20" {
		t.Errorf("%d records from the timestamp on, want 10", len(got))
	}
	r.finish(t, strings.NewReplacer("bounded: latest", "bounded: {timestamp: '2025-01-01T00:00:12Z'}", "$out", "$until").Replace(copyJob))
	if got := r.kafka.Read(t, r.topic("until")); len(got) != 12 || string(got[11].Value) != "11" {
		t.Errorf("%d records before the timestamp, want 12", len(got))
	}
	latest := strings.NewReplacer("startup: earliest", "startup: latest", "$out", "$out2", "$name", "${name}-2").Replace(endless(copyJob))
	id := r.submit(t, latest)
	r.WaitCheckpoint(t, id, 0, patience)
	r.kafka.Produce(t, r.numbered("in", 1, 5, 30, 40))
	r.WaitFor(t, id, "at the end", patience, func(j *jobStatus) bool { return r.position(j, "in", 0) == 40 })
	if got := r.kafka.Read(t, r.topic("out2")); len(got) != 10 || string(got[0].Value) != "30" {
		t.Errorf("%d records from the latest on, want 10", len(got))
	}
}

// countForever is countJob without an end.
func countForever(parallelism int) string {
	return strings.Replace(countJob(parallelism, 1, 1), boundedAt(1, 1), "bounded: none", 1)
}

// stopAndResubmit: a stop draws a final checkpoint, so nothing is lost and nothing comes out twice; the
// counts of the second job go on where those of the first ended, on another parallelism.
func stopAndResubmit(t *testing.T, r *rig) {
	r.create(t, 2, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 2, 31, 0, 5000))
	r.start(t, 3)
	id := r.submit(t, countForever(2))
	r.WaitFor(t, id, "past some records", patience, func(j *jobStatus) bool { return r.position(j, "in", 0) > 0 })
	r.MustSluice(t, "stop", id)
	stopped := r.WaitState(t, id, "STOPPED", patience)
	r.kafka.Produce(t, r.numbered("in", 2, 31, 5000, 10_000))
	from := fmt.Sprintf("%s/%d", id, stopped.LatestID())
	second := r.submit(t, countJob(3, 2, 10_000), "--from-checkpoint", from)
	r.WaitState(t, second, "FINISHED", patience)
	r.checkCounts(t, "out", 31, 10_000, exactly)
	if result := r.Sluice(t, "submit", r.JobFile(t, r.fill(countJob(1, 2, 1))), "--from-checkpoint", "0123456789abcdef/1"); result.Code == 0 {
		t.Errorf("a checkpoint of an unknown job was accepted: %s", result.Stdout)
	}
}

func stopWithDrain(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 1, 5, 0, 500))
	r.start(t, 1)
	id := r.submit(t, countForever(1))
	r.WaitFor(t, id, "at the end", patience, func(j *jobStatus) bool { return r.position(j, "in", 0) == 500 })
	r.MustSluice(t, "stop", id, "--drain")
	r.WaitState(t, id, "STOPPED", patience)
	r.checkCounts(t, "out", 5, 500, exactly)
}

// cancelJob: the job ends, its slots are free at once, its name can be used again.
func cancelJob(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.start(t, 1)
	id := r.submit(t, endless(copyJob))
	r.WaitState(t, id, "RUNNING", patience)
	r.MustSluice(t, "cancel", id)
	r.WaitState(t, id, "CANCELED", patience)
	again := r.submit(t, endless(copyJob))
	r.WaitState(t, again, "RUNNING", patience)
	if job := r.Job(t, id); job.State != "CANCELED" {
		t.Errorf("the cancelled job came back as %s", job.State)
	}
}

// waitsForSlots: need and have are told; the job starts within a second of the missing slots' arrival.
func waitsForSlots(t *testing.T, r *rig) {
	r.create(t, 4, "in", "out")
	r.start(t, 2)
	id := r.submit(t, endless(strings.Replace(copyJob, "parallelism: 1", "parallelism: 4", 1)))
	waiting := r.WaitState(t, id, "WAITING_FOR_SLOTS", patience)
	if waiting.Slots.Needed != 4 || waiting.Slots.WaitingSince == "" || !strings.Contains(waiting.Slots.Explain, "need 4, have 2") {
		t.Errorf("slots %+v, want needed 4 and an explanation with need 4, have 2", waiting.Slots)
	}
	if waiting.Slots.Held != 0 {
		t.Errorf("the job holds %d slots while it waits; grants are all or nothing", waiting.Slots.Held)
	}
	table := r.MustSluice(t, "job", id)
	if !strings.Contains(table, "need 4, have 2") {
		t.Errorf("the table for people does not say what the job waits for:\n%s", table)
	}
	if log := r.JobManager().Stderr(); !strings.Contains(log, "need 4, have 2") {
		t.Error("the log of the job manager does not say what the job waits for")
	}
	r.StartTaskManager(t, "tm-2", 2)
	began := time.Now()
	job := r.WaitState(t, id, "RUNNING", patience)
	took := time.Since(began)
	t.Logf("RUNNING %d ms after the missing slots were there", took.Milliseconds())
	if took > time.Second {
		t.Errorf("the job started %s after the missing slots were there, want less than a second", took)
	}
	if job.Restarts != 0 {
		t.Errorf("waiting cost %d restarts", job.Restarts)
	}
}
