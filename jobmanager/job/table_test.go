package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

func TestEveryStateIsReachableAndTerminalOnesHaveNoExit(t *testing.T) {
	reached := map[State]bool{Created: true}
	for range States() {
		for _, e := range Transitions() {
			reached[e.To] = reached[e.To] || reached[e.From]
		}
	}
	for _, s := range States() {
		if !reached[s] {
			t.Errorf("%s cannot be reached", s)
		}
		exits := slices.ContainsFunc(Transitions(), func(e Edge) bool { return e.From == s && e.To != s })
		if exits == s.Terminal() {
			t.Errorf("%s: terminal is %t, has exits is %t", s, s.Terminal(), exits)
		}
	}
}

func TestTheTableHasNoDoubles(t *testing.T) {
	seen := map[Edge]bool{}
	for _, e := range Transitions() {
		if seen[e] {
			t.Errorf("%v stands twice", e)
		}
		seen[e] = true
		if !slices.Contains(States(), e.From) || !slices.Contains(States(), e.To) {
			t.Errorf("%v names an unknown state", e)
		}
	}
}

func TestEveryStateHandlesCancelWorkerLostAndRecovery(t *testing.T) {
	for _, s := range States() {
		for _, trigger := range []Trigger{OnCancel, OnWorkerLost, OnRecovered} {
			handled := slices.ContainsFunc(Transitions(), func(e Edge) bool { return e.From == s && e.Event == trigger })
			if handled == s.Terminal() {
				t.Errorf("%s: terminal is %t, handles %q is %t", s, s.Terminal(), trigger, handled)
			}
		}
	}
}

// scenes bring a machine, from its making, into each state that is not terminal.
func scenes() map[State][]Event {
	f := ident.Fence{Epoch: 1, Attempt: 1}
	slots := []ident.Slot{{Worker: "tm-1"}, {Worker: "tm-2"}}
	waiting := []Event{Submitted{}}
	deploying := append(slices.Clone(waiting), SlotsGranted{Attempt: 1, Slots: slots})
	running := slices.Clone(deploying)
	finishing := slices.Clone(deploying)
	for _, s := range testConfig(graph.DefaultRestart()).Subtasks {
		running = append(running, SubtaskStatus{Fence: f, Subtask: s, State: SubtaskRunning})
		finishing = append(finishing, SubtaskStatus{Fence: f, Subtask: s, State: SubtaskAtEnd})
	}
	after := func(events []Event, more ...Event) []Event { return append(slices.Clone(events), more...) }
	return map[State][]Event{
		Created:         nil,
		WaitingForSlots: waiting,
		Deploying:       deploying,
		Running:         running,
		Finishing:       finishing,
		Restarting:      after(running, CheckpointsFailing{Fence: f, Why: "test"}),
		Stopping:        after(running, Stop{}),
		Canceling:       after(running, Cancel{}),
		Failing:         after(running, DataLost{Failure: Failure{Class: External, Message: "test"}}),
	}
}

// inState makes a machine in a state; the effects of its way there are not answered yet.
func inState(t *testing.T, s State) (*Machine, []Effect) {
	t.Helper()
	events, ok := scenes()[s]
	if !ok {
		t.Fatalf("no scene for %s", s)
	}
	m := New(testConfig(graph.DefaultRestart()), NewRecord())
	var effects []Effect
	for _, ev := range events {
		effects = append(effects, m.Step(epochStart, ev)...)
	}
	if m.State() != s {
		t.Fatalf("the scene for %s ends in %s", s, m.State())
	}
	return m, effects
}

// TestDeployHeld: while a deployment waits for commits its time does not run; then it has all of it.
func TestDeployHeld(t *testing.T) {
	m, _ := inState(t, Deploying)
	f, timeout := m.current.fence, m.cfg.DeployTimeout
	m.Step(epochStart, DeployHeld{Fence: ident.Fence{Epoch: 1, Attempt: 9}}) // another one
	m.Step(epochStart, DeployHeld{Fence: f})
	if !m.Deadline().IsZero() {
		t.Errorf("the deadline is %s", m.Deadline())
	}
	later := epochStart.Add(10 * timeout)
	if m.Step(later, Tick{}); m.State() != Deploying {
		t.Errorf("the job is %s while its deployment waits", m.State())
	}
	m.Step(later, DeploySent{Fence: f, Restore: 7 * time.Second})
	timeout += 7 * time.Second
	if m.Step(later.Add(timeout-1), Tick{}); m.State() != Deploying || m.Deadline() != later.Add(timeout) {
		t.Errorf("the job is %s, the deadline %s", m.State(), m.Deadline())
	}
	if m.Step(later.Add(timeout), Tick{}); m.State() != Restarting || !strings.Contains(m.Record().Failure.Message, timeout.String()) {
		t.Errorf("the job is %s: %s", m.State(), m.Record().Failure)
	}
	m.Step(later.Add(timeout), DeployHeld{Fence: f})
	m.Step(later.Add(timeout), DeploySent{Fence: f})
	if m.Ignored() != 3 {
		t.Errorf("%d events were ignored", m.Ignored())
	}
}

func TestCancelEndsTheJobFromEveryState(t *testing.T) {
	for s := range scenes() {
		t.Run(string(s), func(t *testing.T) {
			m, steps := inState(t, s)
			now := epochStart
			steps = append(steps, m.Step(now, Cancel{})...)
			for range 20 {
				if m.State().Terminal() {
					break
				}
				var next []Effect
				now = now.Add(time.Second)
				for _, eff := range steps {
					next = append(next, answer(m, now, eff)...)
				}
				steps = append(next, m.Step(now, Tick{})...)
			}
			want := Canceled
			if s == Failing {
				want = FailedDataLoss
			}
			if m.State() != want {
				t.Errorf("ends %s, want %s: %s", m.State(), want, m.Waiting(now))
			}
			for _, eff := range m.Step(now, SlotsGranted{Attempt: 2, Slots: []ident.Slot{{Worker: "tm-1"}}}) {
				if _, ok := eff.(Deploy); ok {
					t.Error("a canceled job was deployed")
				}
			}
		})
	}
}

// answer is a shell whose every answer is immediate.
func answer(m *Machine, now time.Time, eff Effect) []Effect {
	switch e := eff.(type) {
	case StopCheckpoints:
		return m.Step(now, CheckpointSettled{Fence: e.Fence})
	case CleanUp:
		return m.Step(now, CleanedUp{})
	case CancelAttempt:
		var out []Effect
		for _, s := range e.Subtasks {
			out = append(out, m.Step(now, SubtaskStatus{Fence: e.Fence, Subtask: s, State: SubtaskCanceled})...)
		}
		return out
	}
	return nil
}

// TestRecoveryFromEveryState checks the whole table of (state, intent, is the newest checkpoint final)
// against the few rules that decide it.
func TestRecoveryFromEveryState(t *testing.T) {
	for _, s := range States() {
		for _, intent := range []Intent{NoIntent, IntentStop, IntentDrain, IntentCancel} {
			for _, final := range []bool{false, true} {
				for _, attempt := range []ident.Attempt{0, 3} {
					rec := Record{State: s, Intent: intent, Attempt: attempt}
					if !possible(rec) {
						continue
					}
					t.Run(fmt.Sprintf("%s,%s,final=%t,attempt=%d", s, intent, final, attempt), func(t *testing.T) {
						checkRecovery(t, rec, final)
					})
				}
			}
		}
	}
}

// possible says whether a machine can leave such a record.
func possible(rec Record) bool {
	stop := rec.Intent == IntentStop || rec.Intent == IntentDrain
	switch rec.State {
	case Created:
		return rec.Attempt == 0 && rec.Intent == NoIntent
	case Canceling, Canceled:
		return rec.Intent == IntentCancel
	case Stopping, Stopped:
		return stop
	case Finishing, Finished:
		return rec.Attempt > 0 && rec.Intent == NoIntent
	case WaitingForSlots:
		return rec.Intent != IntentCancel && (rec.Attempt > 0 || !stop)
	default:
		return rec.Attempt > 0 && rec.Intent != IntentCancel
	}
}

func checkRecovery(t *testing.T, rec Record, final bool) {
	m := New(testConfig(graph.DefaultRestart()), rec)
	effects := m.Step(epochStart, Recovered{Final: final})
	want := WaitingForSlots
	switch ran := rec.Attempt > 0; {
	case rec.State.Terminal():
		want = rec.State
	case rec.Intent == IntentCancel:
		want = Canceling
	case final && ran && rec.Intent == NoIntent:
		want = Finishing
	case final && ran, rec.State == Stopping && !ran:
		want = Stopping
	case rec.State == Failing:
		want = Failing
	}
	if m.State() != want {
		t.Fatalf("goes to %s, want %s", m.State(), want)
	}
	requests := slices.ContainsFunc(effects, func(e Effect) bool { _, ok := e.(RequestSlots); return ok })
	if requests != (want == WaitingForSlots) {
		t.Errorf("requests slots: %t in %s", requests, want)
	}
	if requests && effects[len(effects)-1].(RequestSlots).Attempt != rec.Attempt+1 {
		t.Errorf("the attempt number does not rise: %s", effects[len(effects)-1])
	}
	cleansAtOnce := slices.Contains(effects, Effect(CleanUp{}))
	if ending := want == Canceling || want == Failing || want == Finishing || want == Stopping; cleansAtOnce != (ending && rec.Attempt == 0) {
		t.Errorf("cleans up at once: %t, though attempt %d may run on until its lease is over", cleansAtOnce, rec.Attempt)
	}
}

func TestDelay(t *testing.T) {
	exponential := graph.Restart{Strategy: graph.ExponentialDelay, Initial: 0, Max: 10 * time.Second}
	slow := graph.Restart{Strategy: graph.ExponentialDelay, Initial: 4 * time.Second, Max: 10 * time.Second}
	fixed := graph.Restart{Strategy: graph.FixedDelay, Initial: 3 * time.Second, Max: time.Second}
	most := func() float64 { return 1 }
	cases := []struct {
		policy graph.Restart
		n      int
		random func() float64
		want   time.Duration
	}{
		{exponential, 1, nil, 0},
		{exponential, 2, nil, time.Second},
		{exponential, 3, nil, 2 * time.Second},
		{exponential, 5, nil, 8 * time.Second},
		{exponential, 6, nil, 10 * time.Second},
		{exponential, 1 << 30, nil, 10 * time.Second},
		{exponential, 3, most, 1500 * time.Millisecond},
		{slow, 1, nil, 4 * time.Second},
		{slow, 2, nil, 8 * time.Second},
		{slow, 3, nil, 10 * time.Second},
		{fixed, 1, most, 3 * time.Second},
		{fixed, 9, most, 3 * time.Second},
	}
	for _, c := range cases {
		if got := Delay(c.policy, c.n, c.random); got != c.want {
			t.Errorf("Delay(%s, %d) = %s, want %s", c.policy.Strategy, c.n, got, c.want)
		}
	}
}

func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		strategy graph.RestartStrategy
		attempts int
		used     int
		want     bool
	}{
		{graph.ExponentialDelay, 2, 1, true}, {graph.ExponentialDelay, 2, 2, true}, {graph.ExponentialDelay, 2, 3, false},
		{graph.FixedDelay, 0, 1, false}, {graph.NoRestart, 9, 1, false},
	} {
		if got := Allowed(graph.Restart{Strategy: c.strategy, Attempts: c.attempts}, c.used); got != c.want {
			t.Errorf("%+v: got %t", c, got)
		}
	}
}

// TestWaitingBeforeRecovery: between New and Recovered the record may be in any state while no attempt is
// known; what is shown then must not depend on one. (A job manager killed while a job was DEPLOYING could not
// start again.)
func TestWaitingBeforeRecovery(t *testing.T) {
	for _, s := range States() {
		m := New(Config{Slots: 1, Subtasks: []ident.Subtask{{Vertex: "src"}}}, Record{State: s, Attempt: 3})
		if got := m.Waiting(time.Unix(0, 0)); s == Deploying && got == "" {
			t.Error("a recovered deployment waits for nothing")
		}
	}
}

// TestRefuses: who asks for what cannot come any more hears of it; who asks twice does not.
func TestRefuses(t *testing.T) {
	refusal := func(m *Machine, ev Event) (why string) {
		for _, eff := range m.Step(epochStart, ev) {
			if e, ok := eff.(Ignored); ok && e.Refused {
				why = e.Why
			}
		}
		return why
	}
	for _, c := range []struct {
		state State
		first Event
		then  Event
		why   string
	}{
		{Running, nil, Stop{}, ""},
		{Running, nil, Cancel{}, ""},
		{Running, Stop{}, Stop{}, ""},
		{Running, Stop{}, Cancel{}, ""},
		{Running, Stop{}, Stop{Drain: true}, "(stop)"},
		{Running, Stop{Drain: true}, Stop{}, "(drain)"},
		{Running, Cancel{}, Cancel{}, ""},
		{Running, Cancel{}, Stop{}, "CANCELING"},
		{Finishing, nil, Stop{}, "FINISHING"},
		{Finishing, nil, Cancel{}, ""},
		{Failing, nil, Stop{}, "FAILING"},
		{Failing, nil, Cancel{}, "FAILING"},
	} {
		m, _ := inState(t, c.state)
		if c.first != nil {
			m.Step(epochStart, c.first)
		}
		before := m.Record()
		why := refusal(m, c.then)
		if c.why == "" && why != "" || !strings.Contains(why, c.why) {
			t.Errorf("%s, %v, then %v: %q, want %q", c.state, c.first, c.then, why, c.why)
		}
		if why != "" && m.Record() != before {
			t.Errorf("%s, %v, then %v: refused, and the record became %s", c.state, c.first, c.then, m.Record())
		}
	}
	m, _ := inState(t, Finishing)
	m.Step(epochStart, CheckpointCompleted{Fence: m.current.fence, Checkpoint: 1, Final: true})
	if why := refusal(m, Cancel{}); !strings.Contains(why, "durable") {
		t.Errorf("behind a final checkpoint: %q", why)
	}
}

// TestLostOnce: what is told of a task manager that is lost already is of another process of its name, and does not shorten
// its lease.
func TestLostOnce(t *testing.T) {
	m, _ := inState(t, Running)
	m.Step(epochStart, WorkerLost{Worker: "tm-1", Reason: "its line broke"})
	lease := m.leaving[0].part("tm-1").goneAt
	m.Step(epochStart.Add(time.Second), WorkerLost{Worker: "tm-1", Reason: "its successor died", Certain: true})
	if got := m.leaving[0].part("tm-1").goneAt; got != lease || !got.After(epochStart.Add(time.Second)) {
		t.Errorf("gone at %s, its lease ends at %s", got, lease)
	}
}
