package job

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// walker feeds a machine with random events, most of them answers to what it asked for, and keeps its own
// account of what the machine may do. It knows the rules of the package comment, not the code.
type walker struct {
	t   *testing.T
	rng *rand.Rand
	m   *Machine
	cfg Config
	now time.Time
	log []string

	durable  Record
	open     []Event // answers that are on their way
	deployed ident.Attempt
	// live are the subtasks of every attempt of this epoch that have not ended; place is their worker.
	live  map[ident.Fence]map[ident.Subtask]ident.WorkerID
	lease map[ident.Fence]map[ident.WorkerID]time.Time // when a lost worker's subtasks have ended
	// foreign is when what earlier epochs deployed has ended.
	foreign   time.Time
	unsettled ident.Fence
	final     bool
	cleaned   bool
	vacated   map[string]bool
	terminal  bool
}

func (w *walker) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.log[max(0, len(w.log)-60):], "\n"))
}

func (w *walker) step(ev Event) {
	w.log = append(w.log, fmt.Sprintf("%s > %s", w.now.Sub(epochStart), ev))
	for _, eff := range w.m.Step(w.now, ev) {
		w.log = append(w.log, "    "+eff.String())
		w.effect(eff)
	}
	if d := w.m.Deadline(); !d.IsZero() && !d.After(w.now) {
		w.fatalf("deadline %s is not after now", d.Sub(epochStart))
	}
	if !w.terminal && w.m.Record() != w.durable {
		w.fatalf("the record %s is not durable: %s", w.m.Record(), w.durable)
	}
}

func (w *walker) effect(eff Effect) {
	if w.terminal {
		switch eff.(type) {
		case Ignored, VacateSlots, ReleaseSlots, Transition:
		default:
			w.fatalf("%s after the end", eff)
		}
	}
	switch e := eff.(type) {
	case Persist:
		w.onPersist(e.Record)
	case RequestSlots:
		w.open = append(w.open, SlotsGranted{Attempt: e.Attempt, Slots: w.someSlots()})
	case Deploy:
		w.onDeploy(e)
	case CancelAttempt:
		for _, s := range e.Subtasks {
			w.open = append(w.open, SubtaskStatus{Fence: e.Fence, Subtask: s, State: SubtaskCanceled})
		}
	case VacateSlots:
		w.onVacate(e)
	case StopCheckpoints:
		w.unsettled = e.Fence
	case FinalCheckpoint:
		w.open = append(w.open, CheckpointCompleted{Fence: e.Fence, Checkpoint: 9, Final: true})
	case CleanUp:
		w.onCleanUp()
	}
}

func (w *walker) onPersist(r Record) {
	if r.Attempt < w.durable.Attempt {
		w.fatalf("attempt went back")
	}
	if w.durable.Intent == IntentCancel && r.Intent != IntentCancel {
		w.fatalf("the cancel was forgotten")
	}
	if r.State.Terminal() {
		if !w.cleaned {
			w.fatalf("terminal before the clean-up")
		}
		w.terminal = true
	}
	w.durable = r
}

func (w *walker) onDeploy(e Deploy) {
	switch {
	case e.Fence.Attempt != w.durable.Attempt || e.Fence.Attempt <= w.deployed:
		w.fatalf("attempt %d deployed, durable is %d, the one before was %d", e.Fence.Attempt, w.durable.Attempt, w.deployed)
	case w.unsettled != ident.Fence{}:
		w.fatalf("deployed before the checkpoints of %s settled", w.unsettled)
	case w.final:
		w.fatalf("deployed after a final checkpoint")
	case w.durable.Intent == IntentCancel:
		w.fatalf("deployed a canceled job")
	}
	w.deployed = e.Fence.Attempt
	w.live[e.Fence] = map[ident.Subtask]ident.WorkerID{}
	w.lease[e.Fence] = map[ident.WorkerID]time.Time{}
	for _, s := range w.cfg.Subtasks {
		w.live[e.Fence][s] = e.Slots[s.Index].Worker
		w.open = append(w.open, SubtaskStatus{Fence: e.Fence, Subtask: s, State: SubtaskRunning})
	}
}

func (w *walker) onVacate(e VacateSlots) {
	key := e.String() + fmt.Sprint(w.cfg.Epoch)
	for f, live := range w.live {
		for s, on := range live {
			if f.Attempt == e.Attempt && on == e.Worker {
				w.fatalf("slots on %s freed while %s of %s runs", e.Worker, s, f)
			}
		}
	}
	if w.vacated[key] && e.Attempt <= w.deployed {
		w.fatalf("slots freed twice")
	}
	w.vacated[key] = true
}

func (w *walker) onCleanUp() {
	w.expire()
	for f, live := range w.live {
		for s := range live {
			w.fatalf("clean-up while %s of %s may run", s, f)
		}
	}
	if w.now.Before(w.foreign) {
		w.fatalf("clean-up while an attempt of an earlier epoch may run")
	}
	if w.unsettled != (ident.Fence{}) {
		w.fatalf("clean-up before the checkpoints settled")
	}
	w.cleaned = true
	w.open = append(w.open, CleanedUp{})
}

// expire ends subtasks whose worker's lease is over.
func (w *walker) expire() {
	for f, workers := range w.lease {
		for worker, at := range workers {
			for s, on := range w.live[f] {
				if on == worker && !w.now.Before(at) {
					delete(w.live[f], s)
				}
			}
		}
	}
}

func (w *walker) someSlots() []ident.Slot {
	slots := make([]ident.Slot, w.cfg.Slots)
	for i := range slots {
		slots[i] = ident.Slot{Worker: ident.WorkerID(fmt.Sprintf("tm-%d", w.rng.IntN(3))), Index: i}
	}
	return slots
}

// move lets one thing happen.
func (w *walker) move() {
	if len(w.open) > 0 && w.rng.IntN(10) < 6 {
		i := w.rng.IntN(len(w.open))
		ev := w.open[i]
		w.open = append(w.open[:i], w.open[i+1:]...)
		w.deliver(ev)
		return
	}
	worker := ident.WorkerID(fmt.Sprintf("tm-%d", w.rng.IntN(3)))
	switch w.rng.IntN(40) {
	case 0, 1, 2:
		w.lose(worker, w.rng.IntN(2) == 0)
	case 3:
		w.step(WorkerResumed{Worker: worker})
	case 4, 5:
		w.report(SubtaskFailed)
	case 6, 7, 8, 9:
		w.report(SubtaskAtEnd)
	case 10:
		w.step(CheckpointsFailing{Fence: w.newest(), Why: "test"})
	case 11:
		w.step(DeployFailed{Fence: w.newest(), Refused: w.rng.IntN(8) == 0})
	case 12:
		w.crash()
	case 13:
		if w.rng.IntN(4) == 0 {
			w.step(Cancel{})
		}
	case 14:
		w.step(Stop{Drain: w.rng.IntN(2) == 0})
	case 15:
		if w.rng.IntN(10) == 0 {
			w.step(DataLost{})
		}
	case 22:
		if w.rng.IntN(10) == 0 {
			w.step(SourceFailing{Fence: w.newest(), Why: "test"})
		}
	case 16, 17, 18, 19, 20, 21:
		w.settle()
	default:
		w.pass(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	}
}

func (w *walker) newest() ident.Fence {
	return ident.Fence{Epoch: w.cfg.Epoch, Attempt: w.durable.Attempt}
}

// deliver hands an answer over; some come twice.
func (w *walker) deliver(ev Event) {
	switch e := ev.(type) {
	case SubtaskStatus:
		if e.State.over() {
			delete(w.live[e.Fence], e.Subtask)
		}
	case CheckpointCompleted:
		if w.unsettled == (ident.Fence{}) && e.Fence != w.newest() || w.durable.Attempt != e.Fence.Attempt || w.final {
			return // the coordinator would not have completed it
		}
		if s := w.durable.State; s == Deploying || s == Running || s == WaitingForSlots {
			return
		}
		w.final = true
	case CleanedUp:
		if e := w.durable.State; e.Terminal() {
			return
		}
	}
	w.step(ev)
	if _, once := ev.(CheckpointCompleted); !once && w.rng.IntN(8) == 0 {
		w.step(ev)
	}
}

func (w *walker) settle() {
	if w.unsettled != (ident.Fence{}) {
		f := w.unsettled
		w.unsettled = ident.Fence{}
		w.step(CheckpointSettled{Fence: f})
	}
}

func (w *walker) report(state SubtaskState) {
	f := w.newest()
	for _, s := range w.cfg.Subtasks {
		if _, ok := w.live[f][s]; ok && w.rng.IntN(2) == 0 {
			w.deliver(SubtaskStatus{Fence: f, Subtask: s, State: state, Failure: &Failure{Class: User, Message: "test"}})
		}
	}
}

func (w *walker) lose(worker ident.WorkerID, certain bool) {
	at := w.now.Add(w.cfg.Lease)
	if certain {
		at = w.now
	}
	for f, workers := range w.lease {
		for _, on := range w.live[f] {
			if old, ok := workers[worker]; on == worker && (!ok || at.Before(old)) {
				workers[worker] = at
			}
		}
	}
	w.expire()
	w.step(WorkerLost{Worker: worker, Reason: "test", Certain: certain})
}

func (w *walker) crash() {
	w.cfg.Epoch++
	w.open, w.unsettled = nil, ident.Fence{}
	w.live, w.lease, w.cleaned = map[ident.Fence]map[ident.Subtask]ident.WorkerID{}, map[ident.Fence]map[ident.WorkerID]time.Time{}, false
	if w.durable.Attempt > 0 {
		w.foreign = w.now.Add(w.cfg.Lease)
	}
	w.m = New(w.cfg, w.durable)
	w.step(Recovered{Final: w.final})
}

func (w *walker) pass(d time.Duration) {
	until := w.now.Add(d)
	for due := w.m.Deadline(); !due.IsZero() && !due.After(until); due = w.m.Deadline() {
		w.now = due
		w.expire()
		w.step(Tick{})
	}
	w.now = until
	w.expire()
}

func TestRandomWalks(t *testing.T) {
	ended := map[State]int{}
	for seed := range uint64(3000) {
		policy := graph.DefaultRestart()
		policy.Attempts = 4
		w := &walker{
			t: t, rng: rand.New(rand.NewPCG(seed, 1)), cfg: testConfig(policy), now: epochStart, durable: NewRecord(),
			live: map[ident.Fence]map[ident.Subtask]ident.WorkerID{}, lease: map[ident.Fence]map[ident.WorkerID]time.Time{}, vacated: map[string]bool{},
			log: []string{fmt.Sprintf("seed %d", seed)},
		}
		w.m = New(w.cfg, w.durable)
		w.step(Submitted{})
		for range 300 {
			w.move()
		}
		ended[w.m.State()]++
	}
	for _, s := range States() {
		if s.Terminal() && ended[s] == 0 {
			t.Errorf("no walk ended %s: %v", s, ended)
		}
	}
}
