package integration

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

func TestDeadLetters(t *testing.T) {
	everyKafka(t, []testCase{
		{"exactly once through kills", deadLettersThroughKills},
		{"exactly once through crashes of a commit", deadLettersThroughCommits},
		{"of every kind of failure", deadLettersOfEveryKind},
		{"of two sources", deadLettersOfTwoSources},
		{"of another cluster", deadLettersOfAnotherCluster},
		{"refusals", deadLetterRefusals},
	}, true)
}

const (
	poisonTotal      = 12_000
	poisonPartitions = 3
)

// poisonJob fails on numbers that end in 3 in the source's vertex, on those in 7 in a vertex of its own and on
// those in 5 in the sink's.
var poisonJob = fmt.Sprintf(`name: $name
parallelism: 2
checkpoint: {interval: 1s}
restart: {initial: 0s, max: 100ms, attempts: 1000}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, format: string, %s, onError: {deadLetter: '$dead'}, properties: {bootstrap.servers: '$brokers'}}}
operators:
  first: {from: in, filter: '!value.endsWith("3") || int("poison " + value) > 0'}
  second: {from: first, parallelism: 1, map: {value: 'value.endsWith("7") ? string(int("poison " + value)) : value'}}
sinks:
  out: {from: second, kafka: {topicExpression: 'value.endsWith("5") ? string(int("poison " + value)) : "$out"', guarantee: exactly-once, properties: {bootstrap.servers: '$brokers'}}}
`, boundedAt(poisonPartitions, poisonTotal))

// deadLettersThroughKills: whatever dies, each poison record is in the dead letters exactly once, and each
// other one in the output. Each kill comes when dead letters are written that no checkpoint holds yet.
func deadLettersThroughKills(t *testing.T, r *rig) {
	const rounds = 3
	r.create(t, poisonPartitions, "in", "out", "dead")
	r.start(t, 2)
	id := r.submit(t, poisonJob)
	part := func(round int) []*kgo.Record {
		return r.numbered("in", poisonPartitions, 7, round*poisonTotal/(rounds+1), (round+1)*poisonTotal/(rounds+1))
	}
	admin := kadm.NewClient(r.kafka.Client(t))
	now := r.Job(t, id)
	for i := range rounds {
		now = r.WaitCheckpoint(t, id, now.LatestID()+1, patience)
		before := r.written(t, admin, "dead")
		r.kafka.Produce(t, part(i))
		for began := time.Now(); r.written(t, admin, "dead") < before+poisonTotal/50; time.Sleep(pollEvery) {
			if time.Since(began) > patience {
				t.Fatal("no dead letters are written")
			}
		}
		open := r.openOffsets(t, admin, "dead")
		r.Kill9(t, r.TaskManager(fmt.Sprintf("tm-%d", i+1)))
		t.Logf("killed with %d dead letters in open transactions", open)
		if i == 1 {
			r.Kill9(t, r.JobManager())
			r.StartJobManager(t)
		}
		r.StartTaskManager(t, fmt.Sprintf("tm-%d", i+2), 2)
		now = r.WaitFor(t, id, "running again", patience, func(j *jobStatus) bool { return j.State == "RUNNING" && j.Attempt > now.Attempt })
	}
	r.kafka.Produce(t, part(rounds))
	r.WaitState(t, id, "FINISHED", patience)
	r.waitClosed(t, closeLimit, "out", "dead")
	r.checkPoison(t)
	vertices := map[byte]string{'3': "in", '7': "second", '5': "out"}
	for _, record := range r.kafka.Read(t, r.topic("dead")) {
		n, _ := strconv.Atoi(string(record.Value)) // checked above
		last := record.Value[len(record.Value)-1]
		want := map[string]string{
			"sluice.error.class": "expression", "sluice.source.name": "in", "sluice.source.topic": r.topic("in"),
			"sluice.source.partition": strconv.Itoa(n % poisonPartitions), "sluice.source.offset": strconv.Itoa(n / poisonPartitions),
			"sluice.job": r.prefix + "job", "sluice.job.id": id, "sluice.vertex": vertices[last],
			"sluice.error.node": map[byte]string{'3': "first", '7': "second", '5': "out"}[last],
			"sluice.error.part": map[byte]string{'3': "filter", '7': "value", '5': "topicExpression"}[last],
		}
		checkHeaders(t, record, want)
		if string(record.Key) != "key-"+strconv.Itoa(n%7) {
			t.Errorf("dead letter %q has the key %q", record.Value, record.Key)
		}
	}
}

// checkPoison: the output of poisonJob holds what does not fail, the dead letters hold the rest, each once.
func (r *rig) checkPoison(t *testing.T) {
	t.Helper()
	poison := func(n int) bool { return strings.ContainsRune("357", rune('0'+n%10)) }
	r.checkOnce(t, "out", poisonTotal, func(n int) bool { return !poison(n) })
	r.checkOnce(t, "dead", poisonTotal, poison)
}

// deadLettersThroughCommits: the job manager dies before, between and behind the commits of a checkpoint, which
// are several for each: of the output, and of the dead letters of three vertices.
func deadLettersThroughCommits(t *testing.T, r *rig) {
	r = newRigOf(t, failing, r.kafka)
	r.create(t, poisonPartitions, "in", "out", "dead")
	finish := r.feed(t, "in", poisonPartitions, 7, 0, poisonTotal)
	var id string
	for _, arrow := range []string{"jm/after-persist=crash@2", "jm/before-commit=crash@3", "jm/after-commit=crash@4", "jm/before-mark=crash@2", "jm/after-mark=crash@2"} {
		r.SetEnvironment("SLUICE_FAILPOINTS=" + arrow)
		r.startLogged(t)
		if id == "" {
			r.SetEnvironment() // the task managers do not fail
			r.StartTaskManager(t, "tm-1", 2)
			id = r.submit(t, strings.Replace(poisonJob, "interval: 1s", "interval: 200ms", 1))
		}
		select {
		case <-r.JobManager().Done():
		case <-time.After(patience):
			t.Fatalf("the job manager did not come to %s", arrow)
		}
	}
	r.SetEnvironment()
	r.startLogged(t)
	finish()
	r.WaitState(t, id, "FINISHED", patience)
	r.waitClosed(t, closeLimit, "out", "dead")
	r.checkPoison(t)
}

// written is the sum of the high watermarks of a topic: what open transactions wrote counts.
func (r *rig) written(t *testing.T, admin *kadm.Client, topic string) (sum int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ends, err := admin.ListEndOffsets(ctx, r.topic(topic))
	if err != nil || ends.Error() != nil {
		t.Fatalf("high watermarks of %s: %v %v", topic, err, ends.Error())
	}
	ends.Each(func(end kadm.ListedOffset) { sum += end.Offset })
	return sum
}

// checkOnce: a topic holds each number below total for which wanted holds exactly once, and no other.
func (r *rig) checkOnce(t *testing.T, topic string, total int, wanted func(int) bool) {
	t.Helper()
	seen := make([]int, total)
	for _, record := range r.kafka.Read(t, r.topic(topic)) {
		n, err := strconv.Atoi(string(record.Value))
		if err != nil || n < 0 || n >= total {
			t.Fatalf("%s holds %q, which was never sent", topic, record.Value)
		}
		seen[n]++
	}
	lost, more, wrong := 0, 0, 0
	for n, count := range seen {
		switch {
		case !wanted(n):
			wrong += count
		case count == 0:
			lost++
		default:
			more += count - 1
		}
	}
	t.Logf("%s: %d lost, %d duplicates, %d that do not belong there", topic, lost, more, wrong)
	if lost+more+wrong > 0 {
		t.Errorf("%s: %d lost, %d duplicates, %d that do not belong there", topic, lost, more, wrong)
	}
}

// checkHeaders compares some headers of a record, each of which it has once.
func checkHeaders(t *testing.T, record *kgo.Record, want map[string]string) {
	t.Helper()
	seen := map[string]int{}
	for _, h := range record.Headers {
		seen[h.Key]++
		if text, ok := want[h.Key]; ok && text != string(h.Value) {
			t.Errorf("dead letter %q: header %s is %q, want %q", record.Value, h.Key, h.Value, text)
		}
	}
	for _, key := range []string{"sluice.error.message", "sluice.attempt", "sluice.subtask", "sluice.source.timestamp"} {
		want[key] = ""
	}
	for key := range want {
		if seen[key] != 1 {
			t.Errorf("dead letter %q has %d headers %s", record.Value, seen[key], key)
		}
	}
}

// deadLettersOfEveryKind: what is not in the format of its source, fails in a keyBy or in a partitioner goes to
// the dead letters byte for byte. With no checkpoints they are at-least-once.
func deadLettersOfEveryKind(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out", "dead")
	headers := []kgo.RecordHeader{{Key: "own", Value: []byte("1")}, {Key: "own", Value: nil}}
	records := []*kgo.Record{
		{Key: []byte("a"), Value: []byte(`{"id": 1, "to": 0}`)},
		{Key: []byte("half"), Value: []byte(`{"id": `), Headers: headers},
		{Key: nil, Value: []byte("\xff\x00")},
		{Key: []byte("no id"), Value: []byte(`{"to": 0}`)},
		{Key: []byte("tombstone"), Value: nil},
		{Key: []byte("far"), Value: []byte(`{"id": 2, "to": 99}`)},
		{Key: []byte("b"), Value: []byte(`{"id": 3, "to": 0}`)},
	}
	for _, record := range records {
		record.Topic = r.topic("in")
	}
	r.kafka.Produce(t, records)
	r.start(t, 1)
	job := r.finish(t, `name: $name
parallelism: 1
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, format: json, onError: {deadLetter: '$dead'}, properties: {bootstrap.servers: '$brokers'}}}
operators:
  all: {from: in, keyBy: 'value.id', filter: 'true'}
sinks:
  out: {from: all, kafka: {topic: '$out', guarantee: at-least-once, partitioner: {expression: 'int(value.to)'}, properties: {bootstrap.servers: '$brokers'}}}
`)
	var out []string
	for _, record := range r.kafka.Read(t, r.topic("out")) {
		out = append(out, string(record.Key))
	}
	if want := []string{"a", "b"}; !slices.Equal(out, want) {
		t.Errorf("output %q, want %q", out, want)
	}
	dead := inSourceOrder(t, r.kafka.Read(t, r.topic("dead")))
	want := []struct{ class, node, part string }{
		{"format", "all", "keyBy"}, {"format", "all", "keyBy"}, {"expression", "all", "keyBy"}, {"expression", "all", "keyBy"}, {"expression", "out", "partitioner"},
	}
	if len(dead) != len(want) {
		t.Fatalf("%d dead letters, want %d", len(dead), len(want))
	}
	for i, w := range want {
		in := records[i+1]
		if nullable(dead[i].Key) != nullable(in.Key) || nullable(dead[i].Value) != nullable(in.Value) || dead[i].Timestamp.UnixMilli() != in.Timestamp.UnixMilli() {
			t.Errorf("dead letter %d is\n%s\nwant\n%s", i, image(dead[i]), image(in))
		}
		if own := dead[i].Headers[:len(in.Headers)]; fmt.Sprint(own) != fmt.Sprint(in.Headers) {
			t.Errorf("dead letter %d has the headers %v in front, want %v", i, own, in.Headers)
		}
		checkHeaders(t, dead[i], map[string]string{"sluice.error.class": w.class, "sluice.error.node": w.node, "sluice.error.part": w.part, "sluice.source.offset": strconv.Itoa(i + 1)})
	}
	if at := r.position(&job, "in", 0); at != int64(len(records)) {
		t.Errorf("the final checkpoint is at %d, want %d", at, len(records))
	}
}

// inSourceOrder sorts dead letters of one partition by their source offsets. Those of one vertex must be in that order
// already; each vertex writes its own, so that those of another one may stand anywhere between them.
func inSourceOrder(t *testing.T, dead []*kgo.Record) []*kgo.Record {
	t.Helper()
	offset := func(record *kgo.Record) int {
		n, err := strconv.Atoi(header(record, "sluice.source.offset"))
		if err != nil {
			t.Fatalf("dead letter %q: %v", record.Value, err)
		}
		return n
	}
	last := map[string]int{}
	for _, record := range dead {
		vertex, at := header(record, "sluice.vertex"), offset(record)
		if before, seen := last[vertex]; seen && at <= before {
			t.Errorf("dead letters of vertex %s: source offset %d behind %d", vertex, at, before)
		}
		last[vertex] = at
	}
	return slices.SortedStableFunc(slices.Values(dead), func(a, b *kgo.Record) int { return offset(a) - offset(b) })
}

// header is the value of the first header of a name.
func header(record *kgo.Record, name string) string {
	for _, h := range record.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// deadLettersOfTwoSources: where two sources meet, each record has the policy of its own.
func deadLettersOfTwoSources(t *testing.T, r *rig) {
	r.create(t, 1, "a", "b", "c", "out", "dead-a", "dead-b")
	for _, topic := range []string{"a", "b", "c"} {
		r.kafka.Produce(t, []*kgo.Record{{Topic: r.topic(topic), Value: []byte("x-" + topic)}, {Topic: r.topic(topic), Value: []byte("1")}})
	}
	r.start(t, 1)
	r.finish(t, `name: $name
parallelism: 1
checkpoint: {interval: 200ms}
sources:
  a: {kafka: {topics: ['$a'], startup: earliest, bounded: latest, format: string, onError: {deadLetter: '${dead-a}'}, properties: {bootstrap.servers: '$brokers'}}}
  b: {kafka: {topics: ['$b'], startup: earliest, bounded: latest, format: string, onError: {deadLetter: '${dead-b}'}, properties: {bootstrap.servers: '$brokers'}}}
  c: {kafka: {topics: ['$c'], startup: earliest, bounded: latest, format: string, onError: skip, properties: {bootstrap.servers: '$brokers'}}}
operators:
  numbers: {from: [a, b, c], filter: 'int(value) > 0'}
sinks:
  out: {from: numbers, kafka: {topic: '$out', guarantee: exactly-once, properties: {bootstrap.servers: '$brokers'}}}
`)
	for topic, want := range map[string][]string{"out": {"1", "1", "1"}, "dead-a": {"x-a"}, "dead-b": {"x-b"}} {
		var got []string
		for _, record := range r.kafka.Read(t, r.topic(topic)) {
			got = append(got, string(record.Value))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s holds %q, want %q", topic, got, want)
		}
	}
}

// deadLettersOfAnotherCluster: they go to the cluster of their source, and are committed there with the same
// checkpoint as the output in the other one.
func deadLettersOfAnotherCluster(t *testing.T, r *rig) {
	other := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	r.create(t, 1, "out")
	for _, topic := range []string{"in", "dead"} {
		other.CreateTopic(t, r.topic(topic), 1, nil)
	}
	const total = 100
	other.Produce(t, r.numbered("in", 1, 7, 0, total))
	r.start(t, 1)
	id := r.submit(t, strings.ReplaceAll(`name: $name
parallelism: 1
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, format: string, onError: {deadLetter: '$dead'}, properties: {bootstrap.servers: '$other'}}}
operators:
  some: {from: in, filter: '!value.endsWith("3") || int("poison " + value) > 0'}
sinks:
  out: {from: some, kafka: {topic: '$out', guarantee: exactly-once, properties: {bootstrap.servers: '$brokers'}}}
`, "$other", other.Addr()))
	r.waitVisible(t, "out", total-total/10, patience)
	began := time.Now()
	for len(other.Read(t, r.topic("dead"))) < total/10 && time.Since(began) < patience {
		time.Sleep(pollEvery)
	}
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPED", patience)
	r.checkOnce(t, "out", total, func(n int) bool { return n%10 != 3 })
	if dead := other.Read(t, r.topic("dead")); len(dead) != total/10 {
		t.Errorf("%d dead letters, want %d", len(dead), total/10)
	}
}

// deadLetterRefusals: what cannot work is refused at submit.
func deadLetterRefusals(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.start(t, 1)
	job := strings.Replace(copyJob, "startup: earliest", "startup: earliest, onError: {deadLetter: '$dead'}", 1)
	for _, c := range []struct {
		name, job string
		want      []string
	}{
		{"topic does not exist", job, []string{"dead letters of source in", r.topic("dead"), "does not exist"}},
		{"topic of the source", strings.Replace(job, "'$dead'", "'$in'", 1), []string{"onError.deadLetter", "the source reads topic", "for ever"}},
	} {
		refused := r.Sluice(t, "submit", r.JobFile(t, r.fill(c.job)))
		for _, text := range c.want {
			if refused.Code == 0 || !strings.Contains(refused.Stderr, text) {
				t.Errorf("%s: exit code %d, %s; want %q", c.name, refused.Code, refused.Stderr, text)
			}
		}
	}
}
