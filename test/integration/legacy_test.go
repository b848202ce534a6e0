package integration

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// TestOldKafkas copies through Kafka 0.9 and 0.10, which speaks as 0.9 when it is told to.
func TestOldKafkas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and brokers")
	}
	for _, kind := range []kafkaenv.Kind{kafkaenv.Kafka09, kafkaenv.Kafka010} {
		t.Run(string(kind), func(t *testing.T) {
			const total = 3000
			old := kafkaenv.StartOld(t, kind)
			r := &legacyRig{newRig(t, kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})), old}
			old.CreateTopic(t, r.topic("in"), 2)
			old.CreateTopic(t, r.topic("mid"), 2)
			r.create(t, 2, "out")
			for i, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression()} {
				old.Produce(t, r.numbered("in", 2, 5, i*1000, (i+1)*1000), kgo.ProducerBatchCompression(codec))
			}
			r.start(t, 1)
			job := `name: $name-TO
parallelism: 1
checkpoint: {interval: 100ms}
sources:
  in: {kafka: {topics: ['$FROM'], startup: earliest, bounded: latest, properties: {OLD}}}
sinks:
  out: {from: in, kafka: {topic: '$TO', guarantee: GUARANTEE, partitioner: preserve, properties: {PROPERTIES}}}
`
			into := func(from, to, guarantee, properties string) string {
				words := []string{"FROM", from, "TO", to, "GUARANTEE", guarantee, "PROPERTIES", properties}
				return strings.ReplaceAll(r.legacy(strings.NewReplacer(words...).Replace(job)), "0.8.2", "0.9.0")
			}
			if kind == kafkaenv.Kafka010 {
				r.refused(t, strings.ReplaceAll(into("in", "mid", "at-least-once", "OLD"), ", broker.version: 0.9.0", ""), 1, "with broker.version: 0.9.0 it is read and written")
			}
			for _, job := range []string{into("in", "mid", "at-least-once", "OLD, compression.type: lz4"), into("mid", "out", "at-least-once", "bootstrap.servers: '$brokers'")} {
				r.WaitState(t, r.submit(t, job), "FINISHED", patience)
			}
			r.checkCopies(t, "out", total, exactly)
		})
	}
}

// legacyRig is a Sluice cluster beside a broker of Kafka 0.8.2.2 and one of today.
type legacyRig struct {
	*rig
	old *kafkaenv.Kafka08
}

// TestKafka08 reads and writes a real broker of Kafka 0.8.2.2.
func TestKafka08(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and brokers")
	}
	old := kafkaenv.StartKafka08(t)
	kafka := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Kafka43})
	for _, c := range []struct {
		name string
		run  func(r *legacyRig, t *testing.T)
	}{
		{"every codec in, every codec out", (*legacyRig).codecs},
		{"exactly-once to a newer Kafka through kill -9", (*legacyRig).killTaskManager},
		{"at-least-once to itself through a crash of the broker", (*legacyRig).crashBroker},
		{"at-least-once to itself through kill -9", (*legacyRig).killWithin},
		{"start offsets", (*legacyRig).startOffsets},
		{"offsets of a consumer of 0.8", (*legacyRig).consumerOffsets},
		{"record with headers", (*legacyRig).headers},
		{"refusals", (*legacyRig).refusals},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(&legacyRig{newRig(t, kafka), old}, t) })
	}
}

// legacy puts the address of the old broker into a job file, for rig.fill.
func (r *legacyRig) legacy(job string) string {
	return strings.ReplaceAll(job, "OLD", "bootstrap.servers: '"+r.old.Addr()+"', broker.version: 0.8.2")
}

// consoleLines are KEY:VALUE lines, of which the values are FROM..TO-1.
func consoleLines(from, to int) []string {
	var lines []string
	for i := from; i < to; i++ {
		lines = append(lines, fmt.Sprintf("key-%d:%d", i%7, i))
	}
	return lines
}

// codecs reads what three producers of 0.8 compressed, with a fetch size that cuts most of it, writes it to the same broker with each codec, and lets the broker's
// own consumer read that.
func (r *legacyRig) codecs(t *testing.T) {
	const each = 300
	r.old.CreateTopic(t, r.topic("in"), 1)
	total := 0
	var want []string
	add := func(codec string, java bool) {
		lines := consoleLines(total, total+each)
		r.old.Console(t, r.topic("in"), codec, java, lines)
		total, want = total+each, append(want, lines...)
	}
	for _, codec := range []string{"none", "gzip", "snappy"} {
		add(codec, false)
		add(codec, true)
	}
	add("lz4", true) // the console of that version cannot tell its Scala producer lz4
	r.start(t, 1)
	for _, codec := range []string{"none", "gzip", "snappy", "lz4"} {
		r.old.CreateTopic(t, r.topic(codec), 1)
		id := r.submit(t, r.legacy(fmt.Sprintf(`name: $name-%[1]s
parallelism: 1
checkpoint: {interval: 100ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, properties: {OLD, max.partition.fetch.bytes: 1024}}}
sinks:
  out: {from: in, kafka: {topic: '$%[1]s', guarantee: at-least-once, properties: {OLD, compression.type: %[1]s}}}
`, codec)))
		r.WaitState(t, id, "FINISHED", patience)
		got := r.old.ConsoleRead(t, r.topic(codec), r.topic(codec), total)
		slices.Sort(got)
		if sorted := slices.Sorted(slices.Values(want)); !slices.Equal(got, sorted) {
			t.Errorf("%s: %d lines came out, want %d: %.5q…", codec, len(got), len(want), got)
		}
	}
}

const (
	legacyTotal = 12_000
	legacyKeys  = 23
)

// feedOld writes records at a steady rate to the old broker until finish is called, which writes the rest.
func (r *legacyRig) feedOld(t *testing.T, topic string, partitions int) (finish func()) {
	t.Helper()
	records := r.numbered(topic, partitions, legacyKeys, 0, legacyTotal)
	ctx, cancel := context.WithCancel(t.Context())
	client := r.old.Client(t, kgo.RecordRetries(1000), kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(feedEvery)
		defer tick.Stop()
		for len(records) > legacyTotal/10 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				done <- nil
				return
			}
			if err := client.ProduceSync(context.WithoutCancel(ctx), records[:feedRecords]...).FirstErr(); err != nil {
				done <- err
				return
			}
			records = records[feedRecords:]
		}
		done <- nil
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("feeding %s: %v", topic, err)
		}
		if len(records) > 0 {
			r.old.Produce(t, records)
		}
	}
}

// killTaskManager counts by key: source and state are exactly-once, and so is the output.
func (r *legacyRig) killTaskManager(t *testing.T) {
	r.old.CreateTopic(t, r.topic("in"), 3)
	r.create(t, 3, "out")
	finish := r.feedOld(t, "in", 3)
	r.start(t, 1, 1, 1)
	id := r.submit(t, r.legacy(fmt.Sprintf(`name: $name
parallelism: 2
checkpoint: {interval: 200ms}
restart: {initial: 0s, max: 100ms, attempts: 1000}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, keyFormat: string, %s, properties: {OLD}}}
operators:
  count: {from: in, keyBy: 'key', count: {}}
sinks:
  out: {from: count, kafka: {topic: '$out', guarantee: exactly-once, partitioner: key, properties: {bootstrap.servers: '$brokers'}}}
`, boundedAt(3, legacyTotal))))
	for i := range 2 {
		before := r.WaitFor(t, id, "past two checkpoints", patience, func(j *jobStatus) bool {
			return j.State == "RUNNING" && j.LatestID() > j.Checkpoints.Restored+2 && r.read(j) > 0
		})
		r.Kill9(t, r.TaskManager(before.Vertices[0].Subtasks[0].TaskManager))
		r.StartTaskManager(t, fmt.Sprintf("tm-%d", i+4), 1)
		again := r.WaitFor(t, id, "running again", patience, func(j *jobStatus) bool { return j.Attempt > before.Attempt && j.State == "RUNNING" })
		if again.Checkpoints.Restored < before.LatestID() {
			t.Errorf("restored checkpoint %d, though %d was complete before", again.Checkpoints.Restored, before.LatestID())
		}
	}
	finish()
	r.WaitState(t, id, "FINISHED", patience)
	r.checkCounts(t, "out", legacyKeys, legacyTotal, exactly)
}

// crashBroker: one job writes to the old broker, another copies there, while the broker is killed. Both wait for it, neither
// restarts or loses.
func (r *legacyRig) crashBroker(t *testing.T) {
	r.create(t, 2, "in")
	r.old.CreateTopic(t, r.topic("mid"), 2)
	r.old.CreateTopic(t, r.topic("out"), 2)
	finish := r.feed(t, "in", 2, legacyKeys, 0, legacyTotal)
	r.start(t, 4)
	job := `name: $name-NAME
parallelism: 2
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: ['$FROM'], startup: earliest, BOUND, properties: {PROPERTIES}}}
sinks:
  out: {from: in, kafka: {topic: '$TO', guarantee: at-least-once, partitioner: preserve, properties: {OLD, compression.type: snappy}}}
`
	into := r.submit(t, r.legacy(strings.NewReplacer("NAME", "into", "FROM", "in", "BOUND", boundedAt(2, legacyTotal), "PROPERTIES", "bootstrap.servers: '$brokers'", "TO", "mid").Replace(job)))
	within := r.submit(t, r.legacy(strings.NewReplacer("NAME", "within", "FROM", "mid", "BOUND", "bounded: none", "PROPERTIES", "OLD", "TO", "out").Replace(job)))
	r.WaitFor(t, within, "under way", patience, func(j *jobStatus) bool { return r.read(j) > 500 })
	r.old.Kill(t)
	r.old.Restart(t)
	finish()
	jobs := []jobStatus{r.WaitState(t, into, "FINISHED", patience)}
	written := int64(len(r.old.Read(t, r.topic("mid"))))
	jobs = append(jobs, r.WaitFor(t, within, "at the end", patience, func(j *jobStatus) bool { return r.read(j) == written }))
	for _, j := range jobs {
		if j.Restarts != 0 {
			t.Errorf("%s: %d restarts, want none: the job waits for the broker", j.Name, j.Restarts)
		}
	}
	r.checkOld(t, "out")
}

// killWithin: a job from the old broker to itself loses nothing when a task manager dies.
func (r *legacyRig) killWithin(t *testing.T) {
	r.old.CreateTopic(t, r.topic("in"), 2)
	r.old.CreateTopic(t, r.topic("out"), 2)
	finish := r.feedOld(t, "in", 2)
	r.start(t, 2)
	id := r.submit(t, r.legacy(fmt.Sprintf(`name: $name
parallelism: 2
checkpoint: {interval: 200ms}
restart: {initial: 0s, max: 100ms, attempts: 1000}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, %s, properties: {OLD}}}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: at-least-once, partitioner: round-robin, properties: {OLD, compression.type: gzip}}}
`, boundedAt(2, legacyTotal))))
	before := r.WaitFor(t, id, "under way", patience, func(j *jobStatus) bool { return r.read(j) > 500 })
	r.Kill9(t, r.TaskManager("tm-1"))
	r.StartTaskManager(t, "tm-2", 2)
	r.WaitFor(t, id, "running again", patience, func(j *jobStatus) bool { return j.Attempt > before.Attempt && j.State == "RUNNING" })
	finish()
	r.WaitState(t, id, "FINISHED", patience)
	r.checkOld(t, "out")
}

// checkOld compares the values of a topic of the old broker with the numbers 0..legacyTotal-1, of which none may be missing.
func (r *legacyRig) checkOld(t *testing.T, topic string) {
	t.Helper()
	seen := make([]int, legacyTotal)
	for _, record := range r.old.Read(t, r.topic(topic)) {
		n, err := strconv.Atoi(string(record.Value))
		if err != nil || n < 0 || n >= legacyTotal {
			t.Fatalf("the output holds %q, which was never sent", record.Value)
		}
		seen[n]++
	}
	lost, duplicates := 0, 0
	for _, count := range seen {
		if count == 0 {
			lost++
		}
		duplicates += max(0, count-1)
	}
	t.Logf("%d records, %d lost, %d duplicates", legacyTotal, lost, duplicates)
	if lost > 0 {
		t.Errorf("%d of %d records lost", lost, legacyTotal)
	}
}

// startOffsets begins in the middle of a compressed message, and at the end.
func (r *legacyRig) startOffsets(t *testing.T) {
	r.old.CreateTopic(t, r.topic("in"), 1)
	r.old.Console(t, r.topic("in"), "gzip", true, consoleLines(0, 10))
	r.start(t, 1)
	job := `name: $name-NUMBER
parallelism: 1
checkpoint: {interval: 100ms}
sources:
  in: {kafka: {topics: ['$in'], startup: START, bounded: END, properties: {OLD}}}
sinks:
  out: {from: in, kafka: {topic: '$outNUMBER', guarantee: exactly-once, properties: {bootstrap.servers: '$brokers'}}}
`
	for i, c := range []struct {
		start, end string
		want       []string
	}{
		{"{offsets: {'$in': {0: 4}}}", "{offsets: {'$in': {0: 7}}}", []string{"4", "5", "6"}},
		{"latest", "latest", nil},
		{"earliest", "latest", []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}},
	} {
		number := strconv.Itoa(i)
		r.create(t, 1, "out"+number)
		id := r.submit(t, r.legacy(strings.NewReplacer("NUMBER", number, "START", c.start, "END", c.end).Replace(job)))
		r.WaitState(t, id, "FINISHED", patience)
		var got []string
		for _, record := range r.kafka.Read(t, r.topic("out"+number)) {
			got = append(got, string(record.Value))
			if record.Timestamp.UnixMilli() != -1 {
				t.Errorf("timestamp %v of a record that has none", record.Timestamp)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("from %s to %s: %q, want %q", c.start, c.end, got, c.want)
		}
	}
}

// consumerOffsets takes over from a consumer of 0.8, by its offsets in ZooKeeper, and hands back to it.
func (r *legacyRig) consumerOffsets(t *testing.T) {
	r.old.CreateTopic(t, r.topic("in"), 1)
	r.create(t, 1, "out")
	lines := consoleLines(0, 12)
	r.old.Console(t, r.topic("in"), "snappy", true, lines[:10])
	if got := r.old.ConsoleRead(t, r.topic("in"), r.topic("group"), 4); !slices.Equal(got, lines[:4]) {
		t.Fatalf("the consumer read %q", got)
	}
	r.start(t, 1)
	id := r.submit(t, r.legacy(`name: $name
parallelism: 1
checkpoint: {interval: 100ms}
sources:
  in: {kafka: {topics: ['$in'], startup: committed, bounded: latest, offsets: {storage: zookeeper, meaning: next}, properties: {OLD, group.id: '$group', auto.offset.reset: none, zookeeper.connect: '`+r.old.ZooKeeper().Addr()+`'}}}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: exactly-once, properties: {bootstrap.servers: '$brokers'}}}
`))
	r.WaitState(t, id, "FINISHED", patience)
	var got []string
	for _, record := range r.kafka.Read(t, r.topic("out")) {
		got = append(got, string(record.Key)+":"+string(record.Value))
	}
	if !slices.Equal(got, lines[4:10]) {
		t.Errorf("the job read %q", got)
	}
	r.old.Console(t, r.topic("in"), "none", false, lines[10:])
	if got := r.old.ConsoleRead(t, r.topic("in"), r.topic("group"), 2); !slices.Equal(got, lines[10:]) {
		t.Errorf("the consumer went on with %q", got)
	}
}

// headers fails the job with the reason, or follows onError: format v0 would lose them.
func (r *legacyRig) headers(t *testing.T) {
	r.create(t, 1, "in")
	r.old.CreateTopic(t, r.topic("out"), 1)
	r.kafka.Produce(t, []*kgo.Record{{Topic: r.topic("in"), Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}}, {Topic: r.topic("in"), Value: []byte("bare")}})
	r.start(t, 1)
	job := `name: $name
parallelism: 1
checkpoint: {interval: 100ms}
restart: {strategy: none}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, onError: POLICY, properties: {bootstrap.servers: '$brokers'}}}
operators:
  bare: {from: in, map: MAP}
sinks:
  out: {from: bare, kafka: {topic: '$out', guarantee: at-least-once, properties: {OLD}}}
`
	id := r.submit(t, r.legacy(strings.NewReplacer("MAP", "{key: 'key'}", "POLICY", "fail").Replace(job)))
	failed := r.WaitState(t, id, "FAILED", patience)
	if failed.Failure == nil || failed.Failure.Class != "user" || !strings.Contains(failed.Failure.Message, "has headers, which message format v0 (broker.version 0.8.2) cannot hold") {
		t.Errorf("the job failed with %+v", failed.Failure)
	}
	id = r.submit(t, r.legacy(strings.NewReplacer("MAP", "{key: 'key'}", "POLICY", "skip", "$name", "$name-skip").Replace(job)))
	r.WaitState(t, id, "FINISHED", patience)
	if got := r.old.Read(t, r.topic("out")); len(got) != 1 || string(got[0].Value) != "bare" {
		t.Errorf("%d records came out, want the one without headers", len(got))
	}
	id = r.submit(t, r.legacy(strings.NewReplacer("MAP", "{headers: '[]'}", "POLICY", "fail", "$name", "$name-bare").Replace(job)))
	r.WaitState(t, id, "FINISHED", patience)
	if got := r.old.Read(t, r.topic("out")); len(got) != 3 {
		t.Errorf("%d records came out, want three", len(got))
	}
}

// refusals are told at submit.
func (r *legacyRig) refusals(t *testing.T) {
	r.old.CreateTopic(t, r.topic("in"), 1)
	r.create(t, 1, "out")
	r.start(t, 1)
	job := `name: $name
parallelism: 1
checkpoint: {interval: 100ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, properties: {OLD}}}
sinks:
  out: {from: in, kafka: {topic: '$in', guarantee: at-least-once, properties: {OLD}}}
`
	for _, c := range []struct {
		old, new string
		code     int
		words    []string
	}{
		{"guarantee: at-least-once", "guarantee: exactly-once", 2, []string{"sinks.out.", "exactly-once needs transactions, which came with Kafka 0.11"}},
		{"startup: earliest", "startup: {timestamp: 2015-11-16T00:00:00Z}", 2, []string{"sources.in.", "only as precisely as the segments"}},
		{"startup: earliest, properties: {", "startup: earliest, properties: {group.id: g, ", 2, []string{"sources.in.", "set offsets: {storage: zookeeper} or {storage: none}"}},
		{"topic: '$in'", "topic: '$missing'", 1, []string{r.topic("missing"), "does not exist"}},
		{", broker.version: 0.8.2", "", 1, []string{"needs broker.version"}},
		{"bootstrap.servers: '" + r.old.Addr(), "bootstrap.servers: '$brokers", 1, []string{"remove broker.version 0.8.2"}},
		{"broker.version: 0.8.2", "broker.version: 3.9.0", 2, []string{"remove it: the broker says what it speaks"}},
	} {
		r.refused(t, strings.ReplaceAll(r.legacy(job), c.old, c.new), c.code, c.words...)
	}
	if got := r.old.Topics(t); slices.Contains(got, r.topic("missing")) {
		t.Error("asking for a missing topic created it")
	}
}
