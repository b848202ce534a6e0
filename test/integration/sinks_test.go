package integration

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

func TestSinks(t *testing.T) {
	everyKafka(t, []testCase{
		{"topic, key, value, headers and timestamp by expression", everyPartByExpression},
		{"tombstones into a compacted topic", tombstonesKept},
		{"partitioners", everyPartitioner},
		{"no guarantee", noGuarantee},
		{"too large records follow onError", tooLargeRecords},
		{"print on a task manager", printOnATaskManager},
		{"print in the terminal", printInTheTerminal},
	}, true)
}

// everyPartByExpression: a map replaces every part of a record, and the sink chooses the topic by the record.
func everyPartByExpression(t *testing.T, r *rig) {
	r.create(t, 1, "in", "even", "odd")
	var records []*kgo.Record
	for i := range 20 {
		records = append(records, &kgo.Record{
			Topic: r.topic("in"), Key: []byte(strconv.Itoa(i)), Value: fmt.Appendf(nil, "value %d", i), Timestamp: time.UnixMilli(1_600_000_000_000 + int64(i)),
			Headers: []kgo.RecordHeader{{Key: "own", Value: []byte("1")}, {Key: "own", Value: nil}},
		})
	}
	r.kafka.Produce(t, records)
	r.start(t, 1)
	r.finish(t, `name: $name
parallelism: 1
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, format: string, keyFormat: string, properties: {bootstrap.servers: '$brokers'}}}
operators:
  all:
    from: in
    map:
      key: '"key " + key'
      value: 'value + " of " + topic + "/" + string(partition) + "@" + string(offset)'
      headers: 'headers + [{"key": "from", "value": bytes(key)}, {"key": "none", "value": null}]'
      timestamp: 'timestamp + duration("1h")'
sinks:
  out: {from: all, kafka: {topicExpression: 'int(key.substring(4)) % 2 == 0 ? "${even}" : "${odd}"', guarantee: exactly-once, properties: {bootstrap.servers: '$brokers'}}}
`)
	for first, topic := range []string{"even", "odd"} {
		var want []*kgo.Record
		for i := first; i < len(records); i += 2 {
			headers := append(slices.Clone(records[i].Headers), kgo.RecordHeader{Key: "from", Value: records[i].Key}, kgo.RecordHeader{Key: "none"})
			want = append(want, &kgo.Record{
				Key: fmt.Appendf(nil, "key %d", i), Value: fmt.Appendf(nil, "value %d of %s/0@%d", i, r.topic("in"), i), Headers: headers,
				Timestamp: records[i].Timestamp.Add(time.Hour),
			})
		}
		checkSame(t, topic, want, r.kafka.Read(t, r.topic(topic)))
	}
}

// tombstonesKept: null stays null through filter, map and sink, and a map can make one: they delete the keys of a
// compacted output.
func tombstonesKept(t *testing.T, r *rig) {
	r.create(t, 1, "in")
	r.kafka.CreateTopic(t, r.topic("out"), 1, kafkaenv.CompactedTopic())
	var records []*kgo.Record
	for i := range 40 {
		records = append(records, &kgo.Record{Topic: r.topic("in"), Key: fmt.Appendf(nil, "key-%d", i%10), Value: []byte("live")})
	}
	for i := range 10 {
		record := &kgo.Record{Topic: r.topic("in"), Key: fmt.Appendf(nil, "key-%d", i)}
		if i >= 5 {
			record.Value = []byte("gone") // the map makes a tombstone of it
		}
		records = append(records, record)
	}
	r.kafka.Produce(t, records)
	r.start(t, 1)
	r.finish(t, `name: $name
parallelism: 1
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, format: string, properties: {bootstrap.servers: '$brokers'}}}
operators:
  some: {from: in, filter: 'value == null || value != "other"'}
  flip: {from: some, map: {value: 'value == "gone" ? dyn(null) : dyn(value)'}}
sinks:
  out: {from: flip, kafka: {topic: '$out', guarantee: at-least-once, properties: {bootstrap.servers: '$brokers'}}}
`)
	out := r.kafka.Read(t, r.topic("out"))
	newest := map[string][]byte{}
	for _, record := range out {
		newest[string(record.Key)] = record.Value
	}
	for key, value := range newest {
		if value != nil {
			t.Errorf("the newest value of %s is %q, want null", key, value)
		}
	}
	if len(newest) != 10 || len(out) > 50 {
		t.Errorf("%d keys in %d records, want 10 in at most 50", len(newest), len(out))
	}
}

// everyPartitioner writes the same records through each partitioner.
func everyPartitioner(t *testing.T, r *rig) {
	const partitions, total = 5, 200
	names := []string{"key", "fixed", "round-robin", "preserve", "expression"}
	r.create(t, partitions, append(names, "in")...)
	r.kafka.Produce(t, r.numbered("in", partitions, 23, 0, total))
	r.start(t, 2)
	var sinks strings.Builder
	for _, name := range names {
		partitioner := name
		if name == "expression" {
			partitioner = "{expression: 'int(value) % 3'}"
		}
		fmt.Fprintf(&sinks, "  to-%[1]s: {from: in, kafka: {topic: '${%[1]s}', guarantee: at-least-once, partitioner: %[2]s, properties: {bootstrap.servers: '$brokers'}}}\n", name, partitioner)
	}
	r.finish(t, `name: $name
parallelism: 2
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, format: string, properties: {bootstrap.servers: '$brokers'}}}
sinks:
`+sinks.String())
	kafkas := kgo.StickyKeyPartitioner(nil).ForTopic("key") // Kafka's default
	for _, name := range names {
		r.checkCopies(t, name, total, exactly)
		count := map[int32]int{}
		for _, record := range r.kafka.Read(t, r.topic(name)) {
			n, _ := strconv.Atoi(string(record.Value)) // checked above
			count[record.Partition]++
			want := record.Partition
			switch name {
			case "key":
				want = int32(kafkas.Partition(record, partitions))
			case "preserve":
				want = int32(n % partitions)
			case "expression":
				want = int32(n % 3)
			}
			if record.Partition != want {
				t.Errorf("%s: record %d is in partition %d, want %d", name, n, record.Partition, want)
			}
		}
		switch {
		case name == "fixed" && (len(count) != 2 || count[0] == 0 || count[1] == 0):
			t.Errorf("fixed: %v, want one partition for each of two subtasks", count)
		case name == "round-robin" && (len(count) != partitions || slices.Max(counts(count))-slices.Min(counts(count)) > 2):
			t.Errorf("round-robin: %v, want about %d in each of %d partitions", count, total/partitions, partitions)
		}
	}
}

func counts(m map[int32]int) (all []int) {
	for _, n := range m {
		all = append(all, n)
	}
	return all
}

// noGuarantee: what a broker refuses is counted, and the job and its checkpoints go on.
func noGuarantee(t *testing.T, r *rig) {
	r.create(t, 1, "in")
	r.kafka.CreateTopic(t, r.topic("out"), 1, map[string]string{"max.message.bytes": "2000"})
	large := &kgo.Record{Topic: r.topic("in"), Value: bytes.Repeat([]byte("0123456789"), 1000)}
	r.kafka.Produce(t, append(append(r.numbered("in", 1, 7, 0, 20), large), r.numbered("in", 1, 7, 20, 40)...))
	r.start(t, 1)
	id := r.submit(t, strings.Replace(endless(copyJob), "guarantee: at-least-once", "guarantee: none", 1))
	now := r.WaitFor(t, id, "counting the record that the broker refuses", patience, func(j *jobStatus) bool {
		return len(j.Vertices) > 0 && len(j.Vertices[0].Subtasks) > 0 && j.Vertices[0].Subtasks[0].Failed == 1
	})
	now = r.WaitCheckpoint(t, id, now.LatestID()+1, patience)
	if now.State != "RUNNING" || now.Attempt != 1 {
		t.Errorf("state %s, attempt %d, want RUNNING in the first", now.State, now.Attempt)
	}
	r.waitVisible(t, "out", 40, patience)
	r.checkCopies(t, "out", 40, exactly)
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPED", patience)
}

// tooLargeRecords: a record above max.request.size is skipped, goes to the dead letters, or fails the job.
func tooLargeRecords(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out", "out-2", "dead")
	large := bytes.Repeat([]byte("x"), 5000)
	r.kafka.Produce(t, append(append(r.numbered("in", 1, 7, 0, 10), &kgo.Record{Topic: r.topic("in"), Value: large}), r.numbered("in", 1, 7, 10, 20)...))
	r.start(t, 1)
	job := strings.NewReplacer("partitioner: preserve", "partitioner: key", "max.request.size: 4194304", "max.request.size: 2048", "exactly-once", "at-least-once").Replace(endless(copyJob))
	with := func(name, out, policy string) string {
		return strings.NewReplacer("name: $name", "name: '$"+name+"'", "'$out'", "'${"+out+"}'", "startup: earliest", "startup: earliest, onError: "+policy).Replace(job)
	}
	id := r.submit(t, with("letters", "out", "{deadLetter: '$dead'}"))
	r.WaitFor(t, id, "counting a dead letter", patience, func(j *jobStatus) bool {
		return len(j.Vertices) > 0 && len(j.Vertices[0].Subtasks) > 0 && j.Vertices[0].Subtasks[0].DeadLettered == 1
	})
	if text := r.MustSluice(t, "job", id); !strings.Contains(text, "DEAD LETTERS") {
		t.Errorf("sluice job does not show dead letters:\n%s", text)
	}
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPED", patience)
	r.checkCopies(t, "out", 20, exactly)
	if dead := r.kafka.Read(t, r.topic("dead")); len(dead) != 1 || !bytes.Equal(dead[0].Value, large) {
		t.Errorf("%d dead letters, want the large one", len(dead))
	} else {
		checkHeaders(t, dead[0], map[string]string{"sluice.error.class": "size", "sluice.error.node": "out", "sluice.error.part": "size", "sluice.source.offset": "10"})
	}
	id = r.submit(t, with("skipping", "out-2", "skip"))
	r.WaitFor(t, id, "counting a skipped record", patience, func(j *jobStatus) bool {
		return len(j.Vertices) > 0 && len(j.Vertices[0].Subtasks) > 0 && j.Vertices[0].Subtasks[0].Skipped == 1
	})
	r.MustSluice(t, "cancel", id)
	r.WaitState(t, id, "CANCELED", patience)
	id = r.submit(t, strings.Replace(with("failing", "out-2", "fail"), "sources:", "restart: {strategy: none}\nsources:", 1))
	failed := r.WaitState(t, id, "FAILED", patience)
	if f := failed.Failure; f == nil || f.Class != "user" || !strings.Contains(f.Message, "max.request.size") || !strings.Contains(f.Message, "offset 10") {
		t.Errorf("failure %+v", f)
	}
}

// printJob prints the records of $in.
const printJob = `name: $name
parallelism: 2
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, format: string, properties: {bootstrap.servers: '$brokers'}}}
sinks:
  screen: {from: in, print: {}}
`

// checkPrinted counts the lines of a print sink in what a process wrote.
func (r *rig) checkPrinted(t *testing.T, stdout string, total int) {
	t.Helper()
	want := map[string]int{}
	for i := range total {
		want[fmt.Sprintf("key-%d\t%d", i%7, i)]++
	}
	subtasks := map[string]bool{}
	for _, line := range strings.Split(stdout, "\n") {
		prefix, record, ok := strings.Cut(line, "> ")
		if !ok || !strings.HasPrefix(prefix, "screen/") {
			continue
		}
		subtasks[prefix] = true
		want[record]--
	}
	for record, n := range want {
		if n != 0 {
			t.Errorf("line %q: %d too few", record, n)
		}
	}
	if len(subtasks) != 2 || !subtasks["screen/0"] || !subtasks["screen/1"] {
		t.Errorf("prefixes %v, want screen/0> and screen/1>", subtasks)
	}
}

// printOnATaskManager: a line a record on the task manager's standard output.
func printOnATaskManager(t *testing.T, r *rig) {
	const total = 50
	r.create(t, 2, "in")
	r.kafka.Produce(t, r.numbered("in", 2, 7, 0, total))
	r.start(t, 2)
	r.finish(t, printJob)
	r.checkPrinted(t, r.TaskManager("tm-1").Stdout(), total)
}

// printInTheTerminal: sluice run shows the lines in the terminal, apart from everything else.
func printInTheTerminal(t *testing.T, r *rig) {
	const total = 50
	r.create(t, 2, "in")
	r.kafka.Produce(t, r.numbered("in", 2, 7, 0, total))
	result := r.Sluice(t, "run", r.JobFile(t, r.fill(printJob)))
	if result.Code != 0 {
		t.Fatalf("exit code %d\n%s", result.Code, result.Stderr)
	}
	r.checkPrinted(t, result.Stdout, total)
}
