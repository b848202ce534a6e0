package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

func TestLagAndExplain(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"life of a job", explainedLife},
		{"open transaction", explainedTransaction},
		{"failed job", explainedFailure},
		{"restart delay", explainedDelay},
		{"group", explainedGroup},
	})
}

// lagReport is what a test looks at in `sluice lag NAME -o json`, written after the contract.
type lagReport struct {
	State      string `json:"state"`
	Total      int64  `json:"total"`
	Unknown    int    `json:"unknown"`
	Partitions []struct {
		Source       string `json:"source"`
		Topic        string `json:"topic"`
		Partition    int32  `json:"partition"`
		Position     *int64 `json:"position"`
		PositionFrom string `json:"positionFrom"`
		End          *int64 `json:"end"`
		StableEnd    *int64 `json:"stableEnd"`
		Lag          *int64 `json:"lag"`
		Subtask      string `json:"subtask"`
		TaskManager  string `json:"taskmanager"`
		Published    []struct {
			Storage string `json:"storage"`
			Next    *int64 `json:"next"`
		} `json:"published"`
		Note string `json:"note"`
	} `json:"partitions"`
}

// explanation is what a test looks at in `sluice explain NAME -o json`.
type explanation struct {
	State    string `json:"state"`
	Findings []struct {
		Subject string `json:"subject"`
		Level   string `json:"level"`
		Text    string `json:"text"`
		Advice  string `json:"advice"`
	} `json:"findings"`
	Lag   lagReport `json:"lag"`
	Sinks []struct {
		Sink  string `json:"sink"`
		Holds string `json:"holds"`
	} `json:"sinks"`
	Waits []struct {
		Subtask string `json:"subtask"`
		Reason  string `json:"reason"`
	} `json:"waits"`
}

func (r *rig) lag(t *testing.T, name string) lagReport {
	t.Helper()
	var out lagReport
	if err := json.Unmarshal([]byte(r.MustSluice(t, "lag", name, "-o", "json")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (r *rig) explain(t *testing.T, name string) explanation {
	t.Helper()
	var out explanation
	if err := json.Unmarshal([]byte(r.MustSluice(t, "explain", name, "-o", "json")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// says waits for a finding about a subject that holds all of the words; what is told of running subtasks is as
// old as their last heartbeat.
func (r *rig) says(t *testing.T, name, subject string, words ...string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		e := r.explain(t, name)
		for _, f := range e.Findings {
			holds := func(word string) bool { return strings.Contains(f.Text+" "+f.Advice, word) }
			if f.Subject == subject && !slices.ContainsFunc(words, func(word string) bool { return !holds(word) }) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no finding about %s says %q: %+v", subject, words, e.Findings)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// waitLag waits until the lag is as wanted.
func (r *rig) waitLag(t *testing.T, name, what string, wanted func(*lagReport) bool) lagReport {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		l := r.lag(t, name)
		if wanted(&l) {
			return l
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for a lag that is %s; it is %+v", patience, what, l)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

const explainedJob = `name: $name
parallelism: 2
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, properties: {bootstrap.servers: '$brokers', group.id: '$name'}}}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: exactly-once, properties: {bootstrap.servers: '$brokers'}}}
`

func explainedLife(t *testing.T, r *rig) {
	r.create(t, 4, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 4, 4, 0, 100))
	r.StartJobManager(t)
	id := r.submit(t, explainedJob)

	l := r.waitLag(t, id, "that of the start offsets", func(l *lagReport) bool { return l.State == "WAITING_FOR_SLOTS" && l.Total == 100 })
	for _, p := range l.Partitions {
		if p.PositionFrom != "start" || p.TaskManager != "" || *p.Position != 0 || *p.End != 25 {
			t.Errorf("before it runs: %+v", p)
		}
	}
	r.says(t, id, "state", "waits for slots")
	r.says(t, id, "slots", "needs 2 slots", "can have 0", "taskmanager --slots 2")

	r.StartTaskManager(t, "tm-1", 2)
	l = r.waitLag(t, id, "0 and published", func(l *lagReport) bool {
		published := 0
		for _, p := range l.Partitions {
			if len(p.Published) == 1 && p.Published[0].Next != nil && *p.Published[0].Next == 25 {
				published++
			}
		}
		return l.State == "RUNNING" && l.Total == 0 && l.Unknown == 0 && published == 4 && l.Partitions[0].PositionFrom == "subtask"
	})
	for _, p := range l.Partitions {
		if p.TaskManager != "tm-1" || p.Subtask == "" || *p.Position != 25 || p.Source != "in" || p.Topic != r.topic("in") {
			t.Errorf("while it runs: %+v", p)
		}
	}
	r.says(t, id, "state", "runs", "tm-1")
	r.says(t, id, "checkpoint", "was completed")
	r.says(t, id, "lag", "All 4 partitions are read to the end")
	r.says(t, id, "sink", "Sink out: exactly-once")

	r.Kill9(t, r.TaskManager("tm-1"))
	r.WaitState(t, id, "WAITING_FOR_SLOTS", patience)
	r.kafka.Produce(t, r.numbered("in", 1, 4, 100, 130)) // all into partition 0
	l = r.waitLag(t, id, "30", func(l *lagReport) bool { return l.Total == 30 })
	if p := l.Partitions[0]; p.Partition != 0 || *p.Lag != 30 || p.PositionFrom != "checkpoint" || p.TaskManager != "" {
		t.Errorf("the furthest behind stands first, as of the checkpoint: %+v", p)
	}
	r.says(t, id, "slots", "lost: tm-1")
	r.says(t, id, "lag", r.topic("in")+"/0", "30 records", "read by nobody")
	r.says(t, id, "failure", "tm-1", "external")
	text := r.MustSluice(t, "explain", id) + r.MustSluice(t, "lag", id)
	for _, want := range []string{"needs 2 slots", "→ start a task manager", "READ BY"} {
		if !strings.Contains(text, want) {
			t.Errorf("people are not told %q:\n%s", want, text)
		}
	}
	r.MustSluice(t, "cancel", id)
	r.WaitState(t, id, "CANCELED", patience)
	r.says(t, id, "state", "without a final checkpoint", "--from-checkpoint "+id+"/")
	if l := r.lag(t, id); l.Total != 30 {
		t.Errorf("the lag of an ended job is that of its newest checkpoint: %+v", l)
	}
}

// explainedTransaction has a source that may not read on, because a producer has a transaction open.
func explainedTransaction(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 1, 1, 0, 10))
	r.start(t, 2)
	id := r.submit(t, explainedJob)
	r.waitLag(t, id, "0", func(l *lagReport) bool { return l.State == "RUNNING" && l.Unknown == 0 && l.Total == 0 })
	producer := r.kafka.Client(t, kgo.TransactionalID(r.topic("open")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := producer.ProduceSync(t.Context(), r.numbered("in", 1, 1, 10, 17)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	l := r.waitLag(t, id, "7", func(l *lagReport) bool { return l.Total == 7 && l.Partitions[0].StableEnd != nil })
	if p := l.Partitions[0]; *p.Position != 10 || *p.StableEnd != 10 || *p.End != 17 {
		t.Errorf("an open transaction holds the source up: %+v", p)
	}
	r.says(t, id, "lag", "7 records", "offset 10 waits for a producer to end its transaction")
	if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	r.waitLag(t, id, "0", func(l *lagReport) bool { return l.Total == 0 })
}

func explainedFailure(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	records := r.numbered("in", 1, 1, 0, 1)
	records[0].Value = []byte("0")
	r.kafka.Produce(t, records)
	r.start(t, 1)
	id := r.submit(t, strings.Replace(failingJob, "POLICY", "fail", 1))
	r.WaitState(t, id, "FAILED", patience)
	r.says(t, id, "state", "FAILED", "ended")
	r.says(t, id, "failure", "division by zero", "user", "correct the job file or the data")
}

// explainedDelay has a job that fails again and again, between two tries.
func explainedDelay(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	records := r.numbered("in", 1, 1, 0, 1)
	records[0].Value = []byte("0")
	r.kafka.Produce(t, records)
	r.start(t, 1)
	id := r.submit(t, strings.NewReplacer("POLICY", "fail", "strategy: none", "strategy: fixed-delay, attempts: 3, initial: 5m").Replace(failingJob))
	r.WaitState(t, id, "RESTARTING", patience)
	r.says(t, id, "state", "attempt 1 has ended; the next one begins in 4 min 5") // and some seconds
	r.says(t, id, "failure", "division by zero", "user", "onError: skip")
	r.says(t, id, "restarts", "1 of 3 count")
	r.MustSluice(t, "cancel", id)
	r.WaitState(t, id, "CANCELED", patience)
}

// explainedGroup has a source whose positions no checkpoint holds: its subtasks tell them, or its group.
func explainedGroup(t *testing.T, r *rig) {
	r.create(t, 2, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 2, 2, 0, 20))
	r.start(t, 1)
	id := r.submit(t, `name: $name
sources:
  in: {kafka: {topics: ['$in'], mode: group, properties: {bootstrap.servers: '$brokers', group.id: '$name', auto.offset.reset: earliest, auto.commit.interval.ms: 200}}}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: at-least-once, properties: {bootstrap.servers: '$brokers'}}}
`)
	l := r.waitLag(t, id, "0 and committed", func(l *lagReport) bool {
		committed := 0
		for _, p := range l.Partitions {
			if p.PositionFrom == "subtask" && len(p.Published) == 1 && p.Published[0].Next != nil && *p.Published[0].Next == 10 {
				committed++
			}
		}
		return committed == 2 && l.Total == 0 && l.Unknown == 0
	})
	if len(l.Partitions) != 2 {
		t.Errorf("%+v", l)
	}
	r.says(t, id, "sink", "Sink out: at-least-once", "mode group")
	r.Kill9(t, r.TaskManager("tm-1"))
	r.WaitState(t, id, "WAITING_FOR_SLOTS", patience)
	r.kafka.Produce(t, r.numbered("in", 2, 2, 20, 28))
	l = r.waitLag(t, id, "8", func(l *lagReport) bool { return l.Total == 8 })
	for _, p := range l.Partitions {
		if p.PositionFrom != "group" || *p.Position != 10 || p.TaskManager != "" {
			t.Errorf("while nobody reads, what the group has committed counts: %+v", p)
		}
	}
}

// What cannot be known is said, with the reason and in time, and not made up.
func TestLagWhileTheBrokerIsDown(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	kafka := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	r := newRig(t, kafka)
	r.create(t, 2, "in", "out")
	kafka.Produce(t, r.numbered("in", 2, 2, 0, 20))
	r.start(t, 2)
	id := r.submit(t, endless(copyJob))
	r.waitLag(t, id, "0", func(l *lagReport) bool { return l.State == "RUNNING" && l.Unknown == 0 && l.Total == 0 })
	kafka.Stop(t, 0)
	deadline := time.Now().Add(patience)
	for e := r.explain(t, id); len(e.Waits) == 0; e = r.explain(t, id) {
		if time.Now().After(deadline) {
			t.Fatalf("nobody waits for the broker: %+v", e)
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.says(t, id, "broker", "in/0 on tm-1", kafka.Addr())
	r.Kill9(t, r.TaskManager("tm-1"))
	r.WaitState(t, id, "WAITING_FOR_SLOTS", patience)
	began := time.Now()
	l := r.lag(t, id)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the lag came after %s", took)
	}
	if l.Unknown != 2 || l.Total != 0 {
		t.Errorf("%+v", l)
	}
	for _, p := range l.Partitions {
		if p.Lag != nil || p.End != nil || p.Position == nil || !strings.Contains(p.Note, kafka.Addr()) {
			t.Errorf("want the position of the checkpoint, no lag, and a reason with the broker's address: %+v", p)
		}
	}
	r.says(t, id, "lag", "is not known", kafka.Addr())
}

// ZooKeeper keeps the last offset processed; people are shown the next one to read, and since when it cannot be
// written there.
func TestExplainOffsetsInZooKeeper(t *testing.T) {
	o := newOffsetsRig(t, startedRig(t, 1))
	o.kafka.Produce(t, o.numbered("in", 1, 1, 0, 10))
	id := o.submit(t, o.job())
	published := func(l *lagReport) bool {
		return len(l.Partitions) == 1 && len(l.Partitions[0].Published) == 1 && l.Partitions[0].Published[0].Storage == "zookeeper" &&
			l.Partitions[0].Published[0].Next != nil && *l.Partitions[0].Published[0].Next == 10
	}
	o.waitLag(t, id, "published in ZooKeeper", func(l *lagReport) bool { return l.Total == 0 && l.Unknown == 0 && published(l) })
	o.says(t, id, "offsets", "source in were published in zookeeper")
	o.keeper.Kill(t)
	o.says(t, id, "offsets", "source in cannot be published in zookeeper", o.keeper.Addr(), "the job does not depend on it")
	if job := o.Job(t, id); job.State != "RUNNING" || job.Restarts > 0 {
		t.Errorf("the job depends on ZooKeeper: %s", job)
	}
	o.keeper.Restart(t)
	o.says(t, id, "offsets", "source in were published in zookeeper")
}

// A job that was told to stop while its broker is down says what it waits for, and then that it has ended.
func TestExplainAStopWithoutBroker(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	kafka := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	r := newRig(t, kafka)
	r.create(t, 2, "in", "out")
	kafka.Produce(t, r.numbered("in", 2, 2, 0, 20))
	r.start(t, 2)
	id := r.submit(t, explainedJob)
	r.WaitCheckpoint(t, id, 1, patience)
	kafka.Stop(t, 0)
	r.says(t, id, "broker", kafka.Addr())
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPING", patience)
	r.says(t, id, "state", "was told to stop")
	r.says(t, id, "commit", "are not fenced yet", kafka.Addr()) // the final checkpoint needs no broker: nothing was open
	kafka.Restart(t, 0)
	r.WaitState(t, id, "STOPPED", patience)
	r.says(t, id, "state", "with final checkpoint", "--from-checkpoint "+id+"/")
	if e := r.explain(t, id); len(e.Waits) > 0 {
		t.Errorf("nobody of a job that has ended waits: %+v", e.Waits)
	}
}

func TestLagAndExplainOfNoJob(t *testing.T) {
	r := startedRig(t, 1)
	for _, verb := range []string{"lag", "explain"} {
		result := r.Sluice(t, verb, "nobody", "-o", "json")
		if result.Code != 3 || result.Stdout != "" || !strings.Contains(result.Stderr, `job "nobody"`) {
			t.Errorf("%s of an unknown job: code %d, %s%s", verb, result.Code, result.Stdout, result.Stderr)
		}
		if code, body := get(t, r.Cluster, "/v1/jobs/nobody/"+verb); code != http.StatusNotFound {
			t.Errorf("GET: %d %s", code, body)
		}
	}
	id := r.submit(t, endless(copyJob))
	for _, verb := range []string{"lag", "explain"} {
		if code, body := get(t, r.Cluster, fmt.Sprintf("/v1/jobs/%s/%s", id, verb)); code != http.StatusOK || !json.Valid([]byte(body)) {
			t.Errorf("GET %s: %d %s", verb, code, body)
		}
	}
}
