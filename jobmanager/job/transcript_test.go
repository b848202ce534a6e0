package job

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// The transcripts in testdata drive a machine. `new` makes one for a job with 2 source and 2 sink
// subtasks; its arguments are fields of the restart policy. `do` runs the commands below it, one a line:
//
//	submit | stop | drain | cancel | settled | cleaned-up | tick
//	grant WORKER#INDEX…              for the attempt that is asked for; grant-late N …: for attempt N
//	all STATE                        every subtask of the newest attempt reports this
//	report EPOCH.ATTEMPT SUBTASK STATE [CLASS MESSAGE…]
//	lost WORKER [SILENT] | dead WORKER   not certain, last heard of so long ago | certain
//	resumed WORKER
//	deploy-failed [gone WORKER | refused]
//	checkpoint N [final]             of the newest attempt
//	checkpoints-failing | source-failing | data-lost [MESSAGE…]
//	wait DURATION                    the clock goes on, with a tick at each deadline on the way
//	crash [final]                    the job manager dies; the next one reads the persisted record
//	waiting                          what people are told
type transcript struct {
	m       *Machine
	cfg     Config
	durable Record
	now     time.Time
	newest  ident.Fence
	stopped ident.Fence
	out     strings.Builder
}

var epochStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		tr := &transcript{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			tr.out.Reset()
			switch d.Cmd {
			case "new":
				tr.make(t, d)
				return "ok\n"
			case "do":
				for line := range strings.Lines(d.Input) {
					tr.do(t, strings.TrimSpace(line))
				}
				return tr.out.String()
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
				return ""
			}
		})
	})
}

func testConfig(policy graph.Restart) Config {
	return Config{
		Epoch: 1, Slots: 2, Restart: policy, Lease: 6 * time.Second,
		Subtasks: []ident.Subtask{{Vertex: "src"}, {Vertex: "src", Index: 1}, {Vertex: "sink"}, {Vertex: "sink", Index: 1}},
		Sources:  []ident.Subtask{{Vertex: "src"}, {Vertex: "src", Index: 1}},
	}
}

func (tr *transcript) make(t *testing.T, d *datadriven.TestData) {
	policy, chained := graph.DefaultRestart(), false
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "strategy":
			policy.Strategy = graph.RestartStrategy(arg.Vals[0])
		case "attempts":
			policy.Attempts = number(t, arg.Vals[0])
		case "healthy":
			policy.HealthyAfter = duration(t, arg.Vals[0])
		case "initial":
			policy.Initial = duration(t, arg.Vals[0])
		case "max":
			policy.Max = duration(t, arg.Vals[0])
		case "chained": // a slot has one subtask
			chained = true
		default:
			d.Fatalf(t, "unknown argument %s", arg.Key)
		}
	}
	*tr = transcript{cfg: testConfig(policy), durable: NewRecord(), now: epochStart}
	if chained {
		tr.cfg.Subtasks = tr.cfg.Sources
	}
	tr.m = New(tr.cfg, tr.durable)
}

func (tr *transcript) do(t *testing.T, line string) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return
	}
	fmt.Fprintf(&tr.out, "> %s\n", line)
	args := words[1:]
	switch words[0] {
	case "wait":
		tr.wait(duration(t, args[0]))
	case "crash":
		tr.cfg.Epoch++
		tr.m = New(tr.cfg, tr.durable)
		tr.step(Recovered{Final: len(args) > 0})
	case "waiting":
		fmt.Fprintf(&tr.out, "%s\n", tr.m.Waiting(tr.now))
	case "all":
		for _, s := range tr.cfg.Subtasks {
			tr.step(SubtaskStatus{Fence: tr.newest, Subtask: s, State: SubtaskState(args[0])})
		}
	default:
		tr.step(tr.event(t, words[0], args))
	}
}

func (tr *transcript) event(t *testing.T, cmd string, args []string) Event {
	switch cmd {
	case "submit":
		return Submitted{}
	case "stop", "drain":
		return Stop{Drain: cmd == "drain"}
	case "cancel":
		return Cancel{}
	case "settled":
		return CheckpointSettled{Fence: tr.stopped}
	case "cleaned-up":
		return CleanedUp{}
	case "tick":
		return Tick{}
	case "grant":
		return SlotsGranted{Attempt: tr.m.Record().Attempt + 1, Slots: slotsOf(t, args)}
	case "grant-late":
		return SlotsGranted{Attempt: ident.Attempt(number(t, args[0])), Slots: slotsOf(t, args[1:])}
	case "report":
		return reportOf(t, args)
	case "lost", "dead":
		lost := WorkerLost{Worker: ident.WorkerID(args[0]), Reason: args[0] + " is gone", Certain: cmd == "dead"}
		if len(args) > 1 {
			silent, err := time.ParseDuration(args[1])
			if err != nil {
				t.Fatal(err)
			}
			lost.LastContact = tr.now.Add(-silent)
		}
		return lost
	case "resumed":
		return WorkerResumed{Worker: ident.WorkerID(args[0])}
	case "deploy-failed":
		ev := DeployFailed{Fence: tr.newest, Failure: Failure{Class: Internal, Message: "not sent"}}
		if len(args) > 0 && args[0] == "gone" {
			ev.Gone = []ident.WorkerID{ident.WorkerID(args[1])}
		}
		ev.Refused = len(args) > 0 && args[0] == "refused"
		return ev
	case "checkpoint":
		return CheckpointCompleted{Fence: tr.newest, Checkpoint: ident.CheckpointID(number(t, args[0])), Final: len(args) > 1}
	case "checkpoints-failing":
		return CheckpointsFailing{Fence: tr.newest, Why: "6 in a row"}
	case "source-failing":
		return SourceFailing{Fence: tr.newest, Why: "the topic is another one"}
	case "data-lost":
		message := "transaction expired"
		if len(args) > 0 {
			message = strings.Join(args, " ")
		}
		return DataLost{Failure: Failure{Class: External, Message: message}}
	default:
		t.Fatalf("unknown command %s", cmd)
		return nil
	}
}

func (tr *transcript) step(ev Event) {
	for _, eff := range tr.m.Step(tr.now, ev) {
		switch e := eff.(type) {
		case Persist:
			tr.durable = e.Record
		case Deploy:
			tr.newest = e.Fence
		case StopCheckpoints:
			tr.stopped = e.Fence
		}
		fmt.Fprintf(&tr.out, "%s %s\n", tr.now.Sub(epochStart), eff)
	}
}

func (tr *transcript) wait(d time.Duration) {
	until := tr.now.Add(d)
	for {
		due := tr.m.Deadline()
		if due.IsZero() || due.After(until) {
			break
		}
		tr.now = due
		tr.step(Tick{})
	}
	tr.now = until
}

func slotsOf(t *testing.T, args []string) []ident.Slot {
	var out []ident.Slot
	for _, a := range args {
		w, i, ok := strings.Cut(a, "#")
		if !ok {
			t.Fatalf("slot %q: want WORKER#INDEX", a)
		}
		out = append(out, ident.Slot{Worker: ident.WorkerID(w), Index: number(t, i)})
	}
	return out
}

func reportOf(t *testing.T, args []string) SubtaskStatus {
	epoch, attempt, _ := strings.Cut(args[0], ".")
	s, err := ident.ParseSubtask(args[1])
	if err != nil {
		t.Fatal(err)
	}
	ev := SubtaskStatus{
		Fence:   ident.Fence{Epoch: ident.LeaderEpoch(number(t, epoch)), Attempt: ident.Attempt(number(t, attempt))},
		Subtask: s, State: SubtaskState(args[2]),
	}
	if len(args) > 3 {
		ev.Failure = &Failure{Class: Class(args[3]), Message: strings.Join(args[4:], " ")}
	}
	return ev
}

func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t *testing.T, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
