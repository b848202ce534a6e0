package explain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/jobmanager/publish"
	"github.com/sluice-stream/sluice/slots"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// factsOf is a job in a state, with a completed checkpoint if it ran.
func factsOf(state job.State, change func(*Facts)) *Facts {
	j := &graph.Job{
		Name: "orders", Checkpoint: graph.DefaultCheckpointing(), Restart: graph.DefaultRestart(),
		Sources: []graph.Source{{Name: "in", Kafka: &graph.KafkaSource{Topics: []string{"in"}}}},
		Sinks:   []graph.Sink{{Name: "out", From: []string{"in"}, Kafka: &graph.KafkaSink{Topic: "out", Guarantee: graph.ExactlyOnce}}},
	}
	j.Checkpoint.Interval = time.Second
	f := &Facts{Now: now, ID: "4f1c", Graph: j, Record: job.Record{State: state}, Since: ago(12 * time.Second), SlotsNeeded: 2}
	if !slices.Contains([]job.State{job.Created, job.WaitingForSlots}, state) {
		f.Record.Attempt = 3
		f.Checkpoints = checkpoint.Status{
			Counts: checkpoint.Counts{Completed: 41, Failed: 1}, LatestDuration: 12 * time.Millisecond,
			Latest: &manifest.Manifest{Checkpoint: 41, CompletedAt: ago(400 * time.Millisecond)},
		}
	}
	if change != nil {
		change(f)
	}
	return f
}

func subtasks(f *Facts) {
	f.Subtasks = []Subtask{{ident.Subtask{Vertex: "in", Index: 0}, "tm-2", "RUNNING"}, {ident.Subtask{Vertex: "in", Index: 1}, "tm-1", "RUNNING"}}
}

// stateCase says what must be told of a job first, what else, and what not.
type stateCase struct {
	name   string
	state  job.State
	change func(*Facts)
	first  string
	says   []string
	not    []string
}

var divided = &job.Failure{At: ago(13 * time.Second), Class: job.User, Message: "division by zero", Subtask: "in/0"}

// livingStates are jobs that run, or will.
func livingStates() []stateCase {
	return []stateCase{
		{"submitted", job.Created, nil, "orders (CREATED) was submitted and has not asked for slots yet, for 12 s.", []string{"No checkpoint is completed yet."}, nil},
		{"new, no slots", job.WaitingForSlots, func(f *Facts) {
			f.Slots = &slots.Explanation{Need: 6, Have: 4, Registered: 8, For: 12 * time.Second, Lost: []ident.WorkerID{"tm-3"}}
		}, "orders (WAITING_FOR_SLOTS) waits for slots, for 12 s.",
			[]string{"It needs 6 slots at once and can have 4, for 12 s; lost: tm-3.", "`taskmanager --slots 2`"}, []string{"attempt"}},
		{"more than there are", job.WaitingForSlots, func(f *Facts) {
			f.Slots = &slots.Explanation{Need: 6, Have: 4, Registered: 4, PassedOver: true}
		}, "orders (WAITING_FOR_SLOTS)", []string{"! It needs 6 slots at once and can have 4, for 0 ms; all task managers together have 4, so other jobs go first."}, nil},
		{"no task managers", job.WaitingForSlots, func(f *Facts) { f.Slots = &slots.Explanation{Need: 2, PassedOver: true} }, "orders (WAITING_FOR_SLOTS)",
			[]string{"… It needs 2 slots at once and can have 0, for 0 ms; no task manager is connected.", "`taskmanager --slots 2`"}, []string{"other jobs go first"}},
		{"behind another", job.WaitingForSlots, func(f *Facts) { f.Slots = &slots.Explanation{Need: 2, Have: 2, Registered: 4, Behind: "ab12"} },
			"orders (WAITING_FOR_SLOTS)", []string{"job ab12 is served first"}, []string{"start a task manager"}},
		{"restarting, slots held", job.WaitingForSlots, func(f *Facts) {
			f.Record.Attempt, f.Record.Failure = 3, &job.Failure{At: ago(13 * time.Second), Class: job.External, Message: "tm-1 is gone"}
			f.Slots = &slots.Explanation{Need: 2, Have: 1, Held: 1, Registered: 4}
		}, "orders (WAITING_FOR_SLOTS) waits for slots, for 12 s, to go on after attempt 3.",
			[]string{"its last attempt has not left 1 yet", "… The last failure, 13 s ago, was outside of the job (external): tm-1 is gone.", "it is tried again by itself"}, []string{"start a task manager"}},
		{"to stop", job.WaitingForSlots, func(f *Facts) { f.WaitsFor = "to stop, it must run once more" },
			"orders (WAITING_FOR_SLOTS) waits for slots, for 12 s; to stop, it must run once more.", nil, nil},
		{"deploying", job.Deploying, func(f *Facts) { f.WaitsFor = "subtask in/0 is not running yet" },
			"orders (DEPLOYING): attempt 3 is being deployed, for 12 s: subtask in/0 is not running yet.", nil, nil},
		{"deploying, held", job.Deploying, func(f *Facts) {
			f.HeldByCommits, f.Commits = true, commit.Status{Uncommitted: 2, Since: ago(5 * time.Second), Reason: "kafka-1:9092: connection refused"}
		}, "orders (DEPLOYING): attempt 3 is being deployed, for 12 s: it waits until all that completed checkpoints name is committed.",
			[]string{"… 2 transactions of completed checkpoints are not committed yet, for 5 s: kafka-1:9092: connection refused."}, nil},
		{"running", job.Running, subtasks, "orders (RUNNING) runs, for 12 s: attempt 3, 2 subtasks on tm-1, tm-2.",
			[]string{"Checkpoint 41 was completed 400 ms ago and took 12 ms; 41 completed, 1 failed.", "Sink out: exactly-once."}, []string{"!", "…", "restarted"}},
		{"restart delay", job.Restarting, func(f *Facts) {
			f.RestartAt, f.Record.Restarts, f.Record.BudgetUsed, f.Record.Failure = now.Add(8*time.Second), 4, 3, divided
		}, "orders (RESTARTING): attempt 3 has ended; the next one begins in 8 s.",
			[]string{"It was restarted 4 times; 3 of 10 count, because the job was not healthy for 2 min since.", "the job's or its data's (user) in in/0: division by zero.", "onError: skip"}, nil},
		{"restart, writing", job.Restarting, func(f *Facts) { f.WaitsFor = "a checkpoint is being written" },
			"orders (RESTARTING): attempt 3 has ended; a checkpoint is being written.", nil, nil},
	}
}

// endingStates are jobs that end or have ended.
func endingStates() []stateCase {
	return []stateCase{
		{"finishing", job.Finishing, func(f *Facts) { f.WaitsFor = "the final checkpoint is not complete yet" },
			"orders (FINISHING) has read its sources to the end and draws its final checkpoint, for 12 s: the final checkpoint is not complete yet.", nil, nil},
		{"stopping", job.Stopping, nil, "orders (STOPPING) was told to stop and draws its final checkpoint, for 12 s.", nil, nil},
		{"finishing, drawn", job.Finishing, func(f *Facts) {
			f.Checkpoints.Latest.Final, f.WaitsFor = true, "transactions are being committed and fenced"
		},
			"orders (FINISHING) has read its sources to the end, has drawn its final checkpoint and ends, for 12 s: transactions are being committed and fenced.", nil, nil},
		{"stopping, drawn", job.Stopping, func(f *Facts) { f.Checkpoints.Latest.Final = true }, "orders (STOPPING) was told to stop, has drawn its final checkpoint and ends, for 12 s.", nil, nil},
		{"stopping, never ran", job.Stopping, func(f *Facts) { f.Record.Attempt, f.Checkpoints.Latest = 0, nil }, "orders (STOPPING) was told to stop before it ran, and ends, for 12 s.", nil, nil},
		{"canceling", job.Canceling, func(f *Facts) {
			f.Commits, f.Slots = commit.Status{Unfenced: 3, Reason: "kafka-1:9092: connection refused"}, &slots.Explanation{Need: 2}
		}, "orders (CANCELING) was told to cancel and ends without a final checkpoint, for 12 s.",
			[]string{"… 3 transactional ids of ended attempts are not fenced yet: kafka-1:9092: connection refused."}, []string{"needs 2 slots"}},
		{"failing", job.Failing, func(f *Facts) { f.Record.Failure = divided }, "orders (FAILING) has failed for good and is being ended, for 12 s.",
			[]string{"! The last failure", "submit the job again when it is mended"}, []string{"tried again"}},
		{"finished", job.Finished, nil, "orders (FINISHED) ended 12 s ago: its sources were read to their ends and its output is complete.", nil, []string{"Sink out", "!"}},
		{"stopped", job.Stopped, func(f *Facts) { f.Checkpoints.Latest.Final = true }, "orders (STOPPED) ended 12 s ago with final checkpoint 41.",
			[]string{"→ to go on from checkpoint 41: sluice submit FILE --from-checkpoint 4f1c/41"}, nil},
		{"stopped before it ran", job.Stopped, func(f *Facts) { f.Checkpoints.Latest = nil }, "orders (STOPPED) ended 12 s ago: it was stopped before it ran.", []string{"No checkpoint was completed."}, []string{"--from-checkpoint"}},
		{"canceled", job.Canceled, nil, "orders (CANCELED) ended 12 s ago without a final checkpoint.", []string{"--from-checkpoint 4f1c/41"}, nil},
		{"failed", job.Failed, func(f *Facts) { f.Record.Failure, f.Record.Restarts = divided, 10 }, "orders (FAILED) ended 12 s ago: its restarts are used up, or none could help.",
			[]string{"! The last failure", "--from-checkpoint 4f1c/41"}, []string{"the next failure ends it"}},
		{"data loss", job.FailedDataLoss, func(f *Facts) {
			f.Record.Failure = &job.Failure{At: ago(time.Minute), Class: job.External, Message: "out/0, offsets 5 to 9"}
		},
			"orders (FAILED_DATA_LOSS) ended 12 s ago: output of a completed checkpoint is lost.", []string{"the two ways to go on", "out/0, offsets 5 to 9"}, nil},
	}
}

// TestStates has a case for every state of docs/job-states.md.
func TestStates(t *testing.T) {
	covered := map[job.State]bool{}
	for _, c := range slices.Concat(livingStates(), endingStates()) {
		covered[c.state] = true
		t.Run(c.name, func(t *testing.T) {
			text := render(Explain(factsOf(c.state, c.change)))
			if first := strings.TrimLeft(text, " …!"); !strings.HasPrefix(first, c.first) {
				t.Errorf("begins with %q, want %q", first, c.first)
			}
			check(t, text, c.says, c.not)
		})
	}
	for _, s := range job.States() {
		if !covered[s] {
			t.Errorf("no case has a job that is %s", s)
		}
	}
}

func check(t *testing.T, text string, says, not []string) {
	t.Helper()
	for _, want := range says {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
	for _, unwanted := range not {
		if strings.Contains(text, unwanted) {
			t.Errorf("says %q:\n%s", unwanted, text)
		}
	}
}

func render(findings []Finding) string {
	marks := map[Level]string{OK: " ", Waiting: "…", Problem: "!"}
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s %s\n", marks[f.Level], f.Text)
		if f.Advice != "" {
			fmt.Fprintf(&b, "    → %s\n", f.Advice)
		}
	}
	return b.String()
}

// TestFindingsOfARunningJob has what may be wrong, or late, beside the state.
func TestFindingsOfARunningJob(t *testing.T) {
	in0, in1 := ident.Subtask{Vertex: "in", Index: 0}, ident.Subtask{Vertex: "in", Index: 1}
	cases := []struct {
		name   string
		change func(*Facts)
		says   []string
		not    []string
	}{
		{"broker", func(f *Facts) {
			f.Waits = []Wait{{in0, "tm-2", "kafka-1:9092: connection refused", ago(9 * time.Second)}, {in1, "tm-1", "kafka-1:9092: connection refused", ago(time.Second)}}
		}, []string{"… Subtask in/0 on tm-2 waits, for 9 s, and so does 1 other: kafka-1:9092: connection refused."}, []string{"in/1 on"}},
		{"pending checkpoint", func(f *Facts) {
			f.Checkpoints.InFlight = &checkpoint.InFlight{Checkpoint: 42, TriggeredAt: ago(4 * time.Second), Acked: 1, Expected: 2, Missing: []ident.Subtask{in1}}
		}, []string{"… Checkpoint 42 has been under way for 4 s: 1 of 2 subtasks have not acknowledged it, first in/1 on tm-1."}, nil},
		{"checkpoint in time", func(f *Facts) {
			f.Checkpoints.InFlight = &checkpoint.InFlight{Checkpoint: 42, TriggeredAt: ago(4 * time.Millisecond), Expected: 2, Missing: []ident.Subtask{in0, in1}}
		}, nil, []string{"under way"}},
		{"checkpoint cannot be stored", func(f *Facts) {
			f.Checkpoints.InFlight = &checkpoint.InFlight{Checkpoint: 42, TriggeredAt: ago(4 * time.Second), Writing: true, Reason: "no space left on device"}
		}, []string{"its manifest is being written; no space left on device."}, nil},
		{"checkpoint not begun", func(f *Facts) { f.Checkpoints.Waiting = "sink in/0 has no transaction ready" },
			[]string{"… The next checkpoint is due and not begun: sink in/0 has no transaction ready."}, nil},
		{"overdue", func(f *Facts) { f.Checkpoints.Latest.CompletedAt = ago(11 * time.Second) }, []string{"! Checkpoint 41 was completed 11 s ago"}, nil},
		{"failing", func(f *Facts) {
			f.Checkpoints.LastFailure, f.Checkpoints.FailuresInRow = &checkpoint.Failure{Checkpoint: 42, At: ago(time.Second), Why: "timeout"}, 2
		}, []string{"! Checkpoint 42 failed 1 s ago: timeout. 2 failed in a row; more than 5 restart the job."}, nil},
		{"failing, and drawn only to publish offsets", func(f *Facts) {
			f.Graph.Checkpoint.Interval, f.Graph.Sinks[0].Kafka.Guarantee = 0, graph.AtLeastOnce
			f.Graph.Sources[0].Kafka.Offsets, f.Graph.Sources[0].Kafka.Properties = graph.OffsetsKafka, map[string]string{"group.id": "g"}
			f.Checkpoints.LastFailure, f.Checkpoints.FailuresInRow = &checkpoint.Failure{Checkpoint: 42, At: ago(time.Second), Why: "timeout"}, 7
		}, []string{"! Checkpoint 42 failed 1 s ago: timeout. 7 failed in a row; that restarts nothing"}, []string{"restart the job"}},
		{"failed once", func(f *Facts) {
			f.Checkpoints.LastFailure = &checkpoint.Failure{Checkpoint: 40, At: ago(time.Hour + 20*time.Minute), Why: "timeout"}
		}, []string{"  Checkpoint 40 failed 1 h 20 min ago: timeout.\n"}, []string{"!"}},
		{"lost", func(f *Facts) { f.Commits.Lost = 1 }, []string{"! 1 transaction can never be committed."}, nil},
		{"disk", func(f *Facts) { f.StoreError = "no space left on device" }, []string{"! The job manager cannot store what it must: no space left on device."}, nil},
		{"bug", func(f *Facts) {
			f.Broken = "the job manager met a bug in this job: index out of range; please report it"
		}, []string{"! Nothing here moves any more: the job manager met a bug"}, nil},
		{"damaged", func(f *Facts) {
			f.Record.State, f.Damage, f.Checkpoints.Latest = job.Stopped, "checkpoint 5 is damaged", nil
		}, []string{"was stopped ", "! Damage: checkpoint 5 is damaged.", "! The newest checkpoint cannot be read; "}, []string{"before it ran", "No checkpoint"}},
		{"topics", func(f *Facts) { f.Discovery = []string{"topic in was made anew"} }, []string{"! topic in was made anew."}, nil},
		{"published", func(f *Facts) {
			f.Offsets = []publish.Status{{Publication: graph.Publication{Source: "in", Storage: graph.OffsetsKafka}, Checkpoint: 41, At: ago(300 * time.Millisecond)}}
		}, []string{"  The offsets of source in were published in kafka of checkpoint 41, 300 ms ago."}, nil},
		{"not published", func(f *Facts) {
			f.Offsets = []publish.Status{{Publication: graph.Publication{Source: "in", Storage: graph.OffsetsZooKeeper}, Error: "zk:2181: connection refused", FailedSince: ago(time.Minute)}}
		}, []string{"… The offsets of source in cannot be published in zookeeper, for 1 min: zk:2181: connection refused. The newest there: none since the job manager started."}, nil},
		{"records", func(f *Facts) { f.Skipped, f.DeadLettered, f.Failed = 1, 7, 2 },
			[]string{"2 records were lost since attempt 3 began", "1 record was skipped since attempt 3 began", "7 records were sent to the dead letter topic"}, nil},
		{"last restart", func(f *Facts) { f.Record.Restarts, f.Record.BudgetUsed = 10, 10 }, []string{"! It was restarted 10 times; 10 of 10 count", "the next failure ends it."}, nil},
		{"old restarts", func(f *Facts) { f.Record.Restarts = 1 }, []string{"It was restarted once; none counts against the 10 allowed."}, []string{"!"}},
		{"no restarts", func(f *Facts) { f.Graph.Restart.Strategy = graph.NoRestart }, []string{"the first failure ends it"}, nil},
		{"checkpoints off", func(f *Facts) {
			f.Graph.Checkpoint.Interval, f.Checkpoints.Latest = 0, nil
			f.Graph.Sinks[0].Kafka.Guarantee = graph.AtLeastOnce
		}, []string{"Checkpoints are off: only a final one is drawn.", "Sink out: at-least-once. Checkpoints are off: after a restart it begins again where the job began"}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			check(t, render(Explain(factsOf(job.Running, func(f *Facts) { subtasks(f); c.change(f) }))), c.says, c.not)
		})
	}
}

func TestProblemsStandBeforeWaitsBeforeTheRest(t *testing.T) {
	found := Explain(factsOf(job.Running, func(f *Facts) {
		f.Waits = []Wait{{ident.Subtask{Vertex: "in"}, "tm-1", "why", ago(time.Second)}}
		f.Skipped = 1
	}))
	rank := map[Level]int{Problem: 0, Waiting: 1, OK: 2}
	if found[0].Subject != OfState || !slices.IsSortedFunc(found[1:], func(a, b Finding) int { return rank[a.Level] - rank[b.Level] }) {
		t.Errorf("order: %v", found)
	}
}

// TestPromises has less than the job file says where less holds.
func TestPromises(t *testing.T) {
	cases := []struct {
		name   string
		change func(*graph.Job)
		want   string
	}{
		{"exactly-once", func(*graph.Job) {}, "Sink out: exactly-once. Each checkpoint is one transaction"},
		{"at-least-once", func(j *graph.Job) { j.Sinks[0].Kafka.Guarantee = graph.AtLeastOnce }, "Sink out: at-least-once. After a restart the output since the latest checkpoint is written again"},
		{"none", func(j *graph.Job) { j.Sinks[0].Kafka.Guarantee = graph.NoGuarantee }, "Sink out: none."},
		{"print", func(j *graph.Job) { j.Sinks[0].Kafka, j.Sinks[0].Print = nil, &graph.PrintSink{} }, "Sink out: at-least-once. It prints"},
		{"group, through an operator", func(j *graph.Job) {
			j.Sources[0].Kafka.Mode = graph.ModeGroup
			j.Operators = []graph.Operator{{Name: "f", From: []string{"in"}, Filter: "true"}}
			j.Sinks[0].From, j.Sinks[0].Kafka.Guarantee = []string{"f"}, graph.AtLeastOnce
		}, "Sink out: at-least-once. Source in is of mode group: it takes no part in checkpoints"},
		{"offsets noted", func(j *graph.Job) {
			j.Checkpoint.Interval, j.Sinks[0].Kafka.Guarantee = 0, graph.AtLeastOnce
			j.Sources[0].Kafka.Offsets, j.Sources[0].Kafka.Properties = graph.OffsetsKafka, map[string]string{"group.id": "g"}
		}, "Sink out: at-least-once. Checkpoints are off: after a restart it goes on at the offsets that were noted last, every 1 min"},
	}
	for _, c := range cases {
		j := factsOf(job.Running, nil).Graph
		c.change(j)
		if got := Promises(j); len(got) != 1 || !strings.HasPrefix(got[0].String(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, got, c.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 999 * time.Millisecond: "999 ms", 59 * time.Second: "59 s", 63 * time.Second: "1 min 3 s", 2 * time.Minute: "2 min",
		3*time.Hour + 20*time.Minute: "3 h 20 min", 52 * time.Hour: "2 d 4 h",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
