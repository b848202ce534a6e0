package checkpoint

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// The transcripts in testdata/coordinator drive a coordinator by these commands; every argument but
// the first is optional.
//
//	new [interval= timeout= min-pause= tolerable= reserved= latest= final]
//	start EPOCH.ATTEMPT src/0 … [gated=(sink/0 …)]     subtasks src/… are the sources
//	end EPOCH.ATTEMPT
//	ack N EPOCH.ATTEMPT subtask… [txn=(id@pid:epoch …)] [age=] [next=] [inline=]
//	decline N EPOCH.ATTEMPT subtask
//	held N EPOCH.ATTEMPT subtask
//	reserved THROUGH [err=]
//	persisted N [err=] [unknown]
//	final EPOCH.ATTEMPT [drain]
//	ready EPOCH.ATTEMPT subtask LEVEL
//	wait DURATION            the clock goes on, with a tick at each deadline on the way
//	status
//
// Reservations and nothing else are answered at once, unless "new" says manual-ids.
type transcript struct {
	c         *Coordinator
	now       time.Time
	manualIDs bool
	start     time.Time
}

func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/coordinator", func(t *testing.T, path string) {
		tr := &transcript{start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out := tr.run(t, d)
			if out == "" {
				return "ok\n"
			}
			return out
		})
	})
}

func (tr *transcript) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "new":
		return tr.make(t, d)
	case "wait":
		return tr.wait(t, duration(t, d.CmdArgs[0].Key))
	case "stand": // as a process that is stopped: nothing is told of the time
		tr.now = tr.now.Add(duration(t, d.CmdArgs[0].Key))
		return ""
	case "status":
		return tr.status()
	case "ack":
		var out strings.Builder
		for _, a := range d.CmdArgs[2:] {
			if a.Vals == nil {
				out.WriteString(tr.step(tr.ack(t, d, a.Key)))
			}
		}
		return out.String()
	}
	return tr.step(tr.event(t, d))
}

func (tr *transcript) make(t *testing.T, d *datadriven.TestData) string {
	cfg := Config{Interval: time.Second, Timeout: 10 * time.Second, TolerableFailures: 2}
	start := Start{Job: "j", Identity: "v1"}
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "interval":
			cfg.Interval = duration(t, a.Vals[0])
		case "timeout":
			cfg.Timeout = duration(t, a.Vals[0])
		case "min-pause":
			cfg.MinPause = duration(t, a.Vals[0])
		case "tolerable":
			cfg.TolerableFailures = number(t, a.Vals[0])
		case "reserved":
			start.Reserved = ident.CheckpointID(number(t, a.Vals[0]))
		case "latest":
			start.Latest = &manifest.Manifest{Job: "j", Checkpoint: ident.CheckpointID(number(t, a.Vals[0])), Final: d.HasArg("final")}
		case "final":
		case "manual-ids":
		default:
			d.Fatalf(t, "unknown argument %s", a.Key)
		}
	}
	if err := cfg.Validate(); err != nil {
		return err.Error() + "\n"
	}
	tr.c, tr.now, tr.manualIDs = NewCoordinator(cfg, start), tr.start, d.HasArg("manual-ids")
	return ""
}

func (tr *transcript) event(t *testing.T, d *datadriven.TestData) Event {
	arg := func(i int) string { return d.CmdArgs[i].Key }
	var err error
	if d.HasArg("err") {
		var text string
		d.ScanArgs(t, "err", &text)
		err = errors.New(text)
	}
	switch d.Cmd {
	case "start":
		ev := AttemptStarted{Fence: fence(t, arg(0))}
		for _, a := range d.CmdArgs[1:] {
			if a.Key == "gated" {
				ev.Gated = subtasks(t, a.Vals)
				continue
			}
			s := subtasks(t, []string{a.Key})
			ev.Subtasks = append(ev.Subtasks, s...)
			if s[0].Vertex == "src" {
				ev.Sources = append(ev.Sources, s...)
			}
		}
		return ev
	case "end":
		return AttemptEnded{Fence: fence(t, arg(0)), Why: "tm-1 lost"}
	case "decline":
		return Decline{Checkpoint: id(t, arg(0)), Fence: fence(t, arg(1)), Subtask: subtasks(t, []string{arg(2)})[0], Reason: "disk full"}
	case "held":
		return HeldUp{Checkpoint: id(t, arg(0)), Fence: fence(t, arg(1)), Subtask: subtasks(t, []string{arg(2)})[0], Reason: "no space left"}
	case "reserved":
		return IDsReserved{Through: id(t, arg(0)), Err: err}
	case "persisted":
		return Persisted{Checkpoint: id(t, arg(0)), Err: err, Unknown: d.HasArg("unknown")}
	case "final":
		return FinalRequested{Fence: fence(t, arg(0)), Drain: d.HasArg("drain")}
	case "ready":
		return SinkReadiness{Fence: fence(t, arg(0)), Subtask: subtasks(t, []string{arg(1)})[0], Ready: number(t, arg(2))}
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return nil
}

func (tr *transcript) ack(t *testing.T, d *datadriven.TestData, name string) Ack {
	s := subtasks(t, []string{name})[0]
	a := manifest.Ack{Job: "j", Checkpoint: id(t, d.CmdArgs[0].Key), Fence: fence(t, d.CmdArgs[1].Key), Subtask: s}
	if s.Vertex == "src" {
		a.Positions = []manifest.Position{{Split: manifest.Split{Source: "src", Topic: "t", Partition: int32(s.Index)}, Next: 5, Stop: -1}}
	}
	age := time.Duration(0)
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "age":
			age = duration(t, arg.Vals[0])
		case "partition":
			a.Positions[0].Partition = int32(number(t, arg.Vals[0]))
		case "inline":
			n := number(t, arg.Vals[0])
			a.State = append(a.State, manifest.State{Operator: "count", Subtask: s, Inline: make([]byte, n), SizeBytes: int64(n)})
		case "txn":
			for _, text := range arg.Vals {
				name, rest, _ := strings.Cut(text, "@")
				pid, epoch, _ := strings.Cut(rest, ":")
				a.Transactions = append(a.Transactions, manifest.Transaction{Sink: s.Vertex, Subtask: s.Index, TransactionalID: name,
					ProducerID: int64(number(t, pid)), ProducerEpoch: int16(number(t, epoch)), TimeoutMs: 900_000})
			}
		}
	}
	for i := range a.Transactions {
		a.Transactions[i].StartedAt = tr.now.Add(-age)
	}
	return Ack{a}
}

// step applies an event and prints its effects, with the time since the beginning.
func (tr *transcript) step(ev Event) string {
	var out strings.Builder
	for _, e := range tr.c.Step(tr.now, ev) {
		if r, ok := e.(ReserveIDs); ok && !tr.manualIDs {
			out.WriteString(tr.step(IDsReserved{Through: r.Through}))
			continue
		}
		fmt.Fprintf(&out, "%s %s\n", tr.now.Sub(tr.start), e)
		if p, ok := e.(Persist); ok {
			for i := range p.Manifest.Transactions {
				fmt.Fprintf(&out, "   with %s\n", p.Manifest.Transactions[i].Key())
			}
		}
	}
	return out.String()
}

func (tr *transcript) wait(t *testing.T, d time.Duration) string {
	var out strings.Builder
	for until, n := tr.now.Add(d), 0; ; n++ {
		next := tr.c.Deadline()
		if next.IsZero() || next.After(until) {
			tr.now = until
			return out.String()
		}
		if n > 1000 {
			t.Fatalf("the deadline does not move: %s", next)
		}
		if next.After(tr.now) {
			tr.now = next
		}
		out.WriteString(tr.step(Tick{}))
	}
}

func (tr *transcript) status() string {
	s := tr.c.Status()
	out := fmt.Sprintf("completed=%d failed=%d ignored=%d in-a-row=%d settling=%v", s.Completed, s.Failed, s.Ignored, s.FailuresInRow, tr.c.Settling())
	if s.Latest != nil {
		out += fmt.Sprintf("\nlatest %d in %s", s.Latest.Checkpoint, s.LatestDuration)
	}
	if f := s.InFlight; f != nil {
		out += fmt.Sprintf("\nin flight: %d %s %d/%d missing=%v writing=%v reason=%q", f.Checkpoint, f.Kind, f.Acked, f.Expected, f.Missing, f.Writing, f.Reason)
	}
	if s.Waiting != "" {
		out += "\nwaiting: " + s.Waiting
	}
	if s.LastFailure != nil {
		out += fmt.Sprintf("\nlast failure: %d: %s", s.LastFailure.Checkpoint, s.LastFailure.Why)
	}
	return out + "\n"
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func id(t *testing.T, s string) ident.CheckpointID {
	t.Helper()
	return ident.CheckpointID(number(t, s))
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func fence(t *testing.T, s string) ident.Fence {
	t.Helper()
	a, b, _ := strings.Cut(s, ".")
	return ident.Fence{Epoch: ident.LeaderEpoch(number(t, a)), Attempt: ident.Attempt(number(t, b))}
}

func subtasks(t *testing.T, names []string) []ident.Subtask {
	t.Helper()
	var list []ident.Subtask
	for _, name := range names {
		s, err := ident.ParseSubtask(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}
