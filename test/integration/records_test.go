package integration

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

func TestRecords(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"every compression byte for byte", everyCompression},
		{"aborted and control batches", abortedAndControl},
		{"open transaction", openTransaction},
		{"compacted topic", compactedTopic},
		{"record of 1 MiB", recordOfOneMiB},
		{"restored in the middle of a batch", middleOfABatch},
		{"null values in expressions", nullValues},
	})
}

// awkward are records that a careless copy changes.
func awkward(topic string) []*kgo.Record {
	binary := []byte{0, 1, 2, 0xff, 0xfe, '\n', 0}
	headers := []kgo.RecordHeader{
		{Key: "twice", Value: []byte("1")}, {Key: "twice", Value: []byte("2")}, {Key: "", Value: nil},
		{Key: "empty", Value: []byte{}}, {Key: "binary", Value: binary},
	}
	// Kafka refuses timestamps more than an hour ahead.
	early, late := time.UnixMilli(0), time.UnixMilli(time.Now().UnixMilli()+60_000)
	return []*kgo.Record{
		{Topic: topic, Key: nil, Value: []byte("no key"), Timestamp: late},
		{Topic: topic, Key: []byte{}, Value: []byte("empty key"), Timestamp: early},
		{Topic: topic, Key: []byte("tombstone"), Value: nil, Timestamp: time.UnixMilli(1_600_000_000_001)},
		{Topic: topic, Key: []byte("empty value"), Value: []byte{}, Timestamp: time.UnixMilli(1_600_000_000_000)},
		{Topic: topic, Key: nil, Value: nil, Timestamp: time.UnixMilli(1_600_000_000_000)},
		{Topic: topic, Key: binary, Value: binary, Headers: headers, Timestamp: time.UnixMilli(1_600_000_000_000)},
		{Topic: topic, Partition: 1, Key: []byte("k"), Value: bytes.Repeat([]byte("long "), 20_000), Timestamp: time.UnixMilli(1_600_000_000_002)},
		{Topic: topic, Partition: 1, Key: []byte("k"), Value: []byte("after"), Headers: headers[:1], Timestamp: time.UnixMilli(1_600_000_000_002)},
	}
}

// codecs is each compression by Kafka's name and number.
var codecs = []struct {
	name   string
	number uint8
	codec  kgo.CompressionCodec
}{
	{"none", 0, kgo.NoCompression()}, {"gzip", 1, kgo.GzipCompression()}, {"snappy", 2, kgo.SnappyCompression()},
	{"lz4", 3, kgo.Lz4Compression()}, {"zstd", 4, kgo.ZstdCompression()},
}

// everyCompression copies a topic of each compression to a topic of the next one.
func everyCompression(t *testing.T, r *rig) {
	var sources, sinks strings.Builder
	for i, c := range codecs {
		out := codecs[(i+1)%len(codecs)]
		r.create(t, 2, "in-"+c.name, "out-"+c.name)
		r.kafka.Produce(t, awkward(r.topic("in-"+c.name)), kgo.ProducerBatchCompression(c.codec))
		fmt.Fprintf(&sources, "  in-%[1]s: {kafka: {topics: ['${in-%[1]s}'], startup: earliest, bounded: latest, properties: {bootstrap.servers: '$brokers'}}}\n", c.name)
		fmt.Fprintf(&sinks, "  out-%[1]s: {from: in-%[1]s, kafka: {topic: '${out-%[1]s}', guarantee: at-least-once, partitioner: preserve, properties: {bootstrap.servers: '$brokers', compression.type: %[2]s}}}\n", c.name, out.name)
	}
	r.start(t, 1)
	r.finish(t, "name: $name\nparallelism: 1\ncheckpoint: {interval: 200ms}\nsources:\n"+sources.String()+"sinks:\n"+sinks.String())
	for i, c := range codecs {
		out := r.kafka.Read(t, r.topic("out-"+c.name))
		checkSame(t, c.name, r.kafka.Read(t, r.topic("in-"+c.name)), out)
		want := codecs[(i+1)%len(codecs)]
		for _, record := range out {
			if got := record.Attrs.CompressionType(); got != want.number {
				t.Errorf("from %s: output record %d of partition %d has compression %d, want %s", c.name, record.Offset, record.Partition, got, want.name)
				break
			}
		}
	}
}

// checkSame compares partition, order, key, value, headers and timestamp; null is not empty.
func checkSame(t *testing.T, what string, want, got []*kgo.Record) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: %d records out, want %d", what, len(got), len(want))
		return
	}
	for i := range want {
		if a, b := image(want[i]), image(got[i]); a != b {
			t.Errorf("%s: record %d came out as\n%.300s\nwant\n%.300s", what, i, b, a)
		}
	}
}

// image shows everything of a record that must survive a copy.
func image(r *kgo.Record) string {
	text := fmt.Sprintf("partition %d, time %d, key %s, value %s", r.Partition, r.Timestamp.UnixMilli(), nullable(r.Key), nullable(r.Value))
	for _, h := range r.Headers {
		text += fmt.Sprintf(", %q=%s", h.Key, nullable(h.Value))
	}
	return text
}

func nullable(b []byte) string {
	if b == nil {
		return "null"
	}
	return fmt.Sprintf("%q", b)
}

// copyJob copies $in to $out.
const copyJob = `name: $name
parallelism: 1
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, properties: {bootstrap.servers: '$brokers', max.partition.fetch.bytes: 4194304}}}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: at-least-once, partitioner: preserve, properties: {bootstrap.servers: '$brokers', max.request.size: 4194304}}}
`

// endless makes a bounded job go on.
func endless(job string) string { return strings.ReplaceAll(job, "bounded: latest", "bounded: none") }

func abortedAndControl(t *testing.T, r *rig) {
	r.create(t, 2, "in", "out", "all")
	for i := range 20 {
		r.kafka.ProduceTransaction(t, r.topic("id"), i%3 != 0, r.numbered("in", 2, 5, i*10, i*10+10))
		if i%4 == 0 {
			r.kafka.Produce(t, r.numbered("in", 2, 5, 1000+i, 1001+i))
		}
	}
	// The log ends in control batches: nothing readable comes after them, and the job must still end.
	r.kafka.ProduceTransaction(t, r.topic("id"), false, r.numbered("in", 2, 5, 2000, 2010))
	r.start(t, 1)
	job := r.finish(t, copyJob)
	in := r.kafka.Read(t, r.topic("in"))
	checkSame(t, "copy", in, r.kafka.Read(t, r.topic("out")))
	if len(in) != 130+5 {
		t.Errorf("%d committed records in the input, want 135", len(in))
	}
	for partition, end := range r.kafka.Ends(t, r.topic("in")) {
		got := job.Checkpoints.Latest.Offsets["in"][r.topic("in")][fmt.Sprint(partition)]
		if got != end {
			t.Errorf("final checkpoint stands at %d of partition %d, want %d: control batches count", got, partition, end)
		}
	}
	uncommitted := strings.Replace(copyJob, "properties: {", "properties: {isolation.level: read_uncommitted, ", 1)
	r.finish(t, strings.Replace(uncommitted, "$out", "$all", 1))
	if all := r.kafka.Read(t, r.topic("all")); len(all) != 200+5+10 {
		t.Errorf("%d records are read with those of aborted transactions, want 215", len(all))
	}
}

// openTransaction: what is not committed yet is not delivered, and is delivered once it is.
func openTransaction(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 1, 5, 0, 10))
	client := r.kafka.Client(t, kgo.TransactionalID(r.topic("id")))
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), r.numbered("in", 1, 5, 10, 20)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r.kafka.Produce(t, r.numbered("in", 1, 5, 20, 30))
	r.start(t, 1)
	id := r.submit(t, endless(copyJob))
	first := r.WaitFor(t, id, "past the first ten records", patience, func(j *jobStatus) bool { return r.position(j, "in", 0) == 10 })
	r.WaitCheckpoint(t, id, first.LatestID()+2, patience) // two more checkpoints: time enough for a leak
	r.checkCopies(t, "out", 10, exactly)
	if err := client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	r.WaitFor(t, id, "past the transaction", patience, func(j *jobStatus) bool { return r.position(j, "in", 0) >= 30 })
	r.checkCopies(t, "out", 30, exactly)
}

func compactedTopic(t *testing.T, r *rig) {
	r.kafka.CreateTopic(t, r.topic("in"), 1, kafkaenv.CompactedTopic())
	r.create(t, 1, "out")
	for i := range 5 { // batches of ten keys each, of which only the last survives in part
		r.kafka.Produce(t, r.numbered("in", 1, 10, i*10, i*10+10), kgo.ProducerBatchCompression(codecs[i].codec))
	}
	r.kafka.Compact(t, r.topic("in"), 40)
	r.start(t, 1)
	r.finish(t, copyJob)
	in := r.kafka.Read(t, r.topic("in"))
	out := r.kafka.Read(t, r.topic("out"))
	// The cleaner may have run between the job and this reading, so what is there now must have come out.
	for _, record := range in {
		if !slices.ContainsFunc(out, func(o *kgo.Record) bool { return image(o) == image(record) }) {
			t.Errorf("record at offset %d did not come out: %.200s", record.Offset, image(record))
		}
	}
	if len(out) >= 50 {
		t.Errorf("%d records out of a compacted topic of %d", len(out), len(in))
	}
}

func recordOfOneMiB(t *testing.T, r *rig) {
	for _, name := range []string{"in", "out"} {
		r.kafka.CreateTopic(t, r.topic(name), 1, map[string]string{"max.message.bytes": "4194304"})
	}
	value := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	records := []*kgo.Record{
		{Topic: r.topic("in"), Value: []byte("before")}, {Topic: r.topic("in"), Value: value}, {Topic: r.topic("in"), Value: []byte("after")},
	}
	for _, record := range records {
		r.kafka.Produce(t, []*kgo.Record{record})
	}
	r.start(t, 1)
	r.finish(t, copyJob)
	checkSame(t, "copy", r.kafka.Read(t, r.topic("in")), r.kafka.Read(t, r.topic("out")))
}

// middleOfABatch ends a job inside of a batch and goes on from its checkpoint.
func middleOfABatch(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 1, 5, 0, 100), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(100*time.Millisecond))
	r.start(t, 1)
	first := r.finish(t, strings.Replace(copyJob, "bounded: latest", "bounded: {offsets: {'$in': {0: 37}}}", 1))
	if at := r.position(&first, "in", 0); at != 37 {
		t.Fatalf("the final checkpoint stands at %d, want 37", at)
	}
	r.checkCopies(t, "out", 37, exactly)
	r.finish(t, strings.Replace(copyJob, "name: $name", "name: ${name}-2", 1),
		"--from-checkpoint", fmt.Sprintf("%s/%d", first.ID, first.LatestID()))
	r.checkCopies(t, "out", 100, exactly)
}

// nullValues: null is visible to expressions as null, and an expression can make one.
func nullValues(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.kafka.Produce(t, []*kgo.Record{
		{Topic: r.topic("in"), Key: []byte("a"), Value: nil}, {Topic: r.topic("in"), Key: []byte("b"), Value: []byte("drop")},
		{Topic: r.topic("in"), Key: []byte("c"), Value: []byte("keep")},
	})
	r.start(t, 1)
	r.finish(t, `name: $name
parallelism: 1
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, format: string, properties: {bootstrap.servers: '$brokers'}}}
operators:
  some: {from: in, filter: 'value == null || value != "drop"'}
  flip: {from: some, map: {value: 'value == null ? dyn("was null") : dyn(null)'}}
sinks:
  out: {from: flip, kafka: {topic: '$out', guarantee: at-least-once, partitioner: preserve, properties: {bootstrap.servers: '$brokers'}}}
`)
	var got []string
	for _, record := range r.kafka.Read(t, r.topic("out")) {
		got = append(got, string(record.Key)+"="+nullable(record.Value))
	}
	if want := []string{`a="was null"`, "c=null"}; !slices.Equal(got, want) {
		t.Errorf("output %q, want %q", got, want)
	}
}
