// Package job is a stopgap.
package job

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

type State string

const (
	Created         State = "CREATED"
	WaitingForSlots State = "WAITING_FOR_SLOTS"
	Deploying       State = "DEPLOYING"
	Running         State = "RUNNING"
	Finishing       State = "FINISHING"
	Finished        State = "FINISHED"
	Stopping        State = "STOPPING"
	Stopped         State = "STOPPED"
	Canceling       State = "CANCELING"
	CanceledJob     State = "CANCELED"
	Restarting      State = "RESTARTING"
	Failing         State = "FAILING"
	Failed          State = "FAILED"
	FailedDataLoss  State = "FAILED_DATA_LOSS"
)

func (s State) Terminal() bool {
	return s == Finished || s == Stopped || s == CanceledJob || s == Failed || s == FailedDataLoss
}

type Class string

const Internal Class = "internal"
const External Class = "external"

type Failure struct {
	At      time.Time
	Class   Class
	Message string
	Subtask string
}
type Record struct {
	State    State
	Intent   string
	Attempt  ident.Attempt
	Restarts int
	Failure  *Failure
}

func NewRecord() Record { return Record{State: Created} }

type Event interface{ event() }
type Effect interface{ effect() }
type (
	Submitted    struct{}
	Recovered    struct{}
	SlotsGranted struct {
		Attempt ident.Attempt
		Slots   []ident.Slot
	}
	WorkerLost struct {
		Worker  ident.WorkerID
		Reason  string
		Certain bool
	}
	SubtaskStatus struct {
		Fence   ident.Fence
		Subtask ident.Subtask
		State   string
		Failure *Failure
	}
	DeployFailed struct {
		Fence   ident.Fence
		Failure Failure
	}
	CheckpointCompleted struct {
		Fence      ident.Fence
		Checkpoint ident.CheckpointID
		Final      bool
	}
	CheckpointSettled  struct{}
	CheckpointsFailing struct {
		Fence ident.Fence
		Why   string
	}
	Cancel    struct{}
	Stop      struct{ Drain bool }
	CleanedUp struct{}
	Tick      struct{}
)
type (
	Persist      struct{ Record Record }
	RequestSlots struct {
		Attempt    ident.Attempt
		Restarting bool
	}
	WithdrawRequest struct{}
	VacateSlots     struct {
		Attempt ident.Attempt
		Worker  ident.WorkerID
	}
	ReleaseSlots struct{}
	Deploy       struct {
		Fence ident.Fence
		Slots []ident.Slot
	}
	CancelAttempt    struct{}
	StartCheckpoints struct{ Fence ident.Fence }
	StopCheckpoints  struct {
		Fence ident.Fence
		Why   string
	}
	FinalCheckpoint struct {
		Fence ident.Fence
		Drain bool
	}
	CleanUp    struct{}
	Transition struct {
		From, To State
		Event    string
	}
	Ignored struct{ What, Why string }
)

func (Submitted) event()           {}
func (Recovered) event()           {}
func (SlotsGranted) event()        {}
func (WorkerLost) event()          {}
func (SubtaskStatus) event()       {}
func (DeployFailed) event()        {}
func (CheckpointCompleted) event() {}
func (CheckpointSettled) event()   {}
func (CheckpointsFailing) event()  {}
func (Cancel) event()              {}
func (Stop) event()                {}
func (CleanedUp) event()           {}
func (Tick) event()                {}
func (Persist) effect()            {}
func (RequestSlots) effect()       {}
func (WithdrawRequest) effect()    {}
func (VacateSlots) effect()        {}
func (ReleaseSlots) effect()       {}
func (Deploy) effect()             {}
func (CancelAttempt) effect()      {}
func (StartCheckpoints) effect()   {}
func (StopCheckpoints) effect()    {}
func (FinalCheckpoint) effect()    {}
func (CleanUp) effect()            {}
func (Transition) effect()         {}
func (Ignored) effect()            {}

type Config struct {
	Epoch             ident.LeaderEpoch
	Slots             int
	Subtasks, Sources []ident.Subtask
	Restart           graph.Restart
	Rand              func() float64
}
type Machine struct {
	cfg      Config
	rec      Record
	out      []Effect
	slots    []ident.Slot
	status   map[ident.Subtask]string
	worker   map[ident.WorkerID]bool // of the attempt, not yet vacated
	final    bool
	started  bool
	retryAt  time.Time
	inARow   int
	ranSince time.Time
}

func New(cfg Config, rec Record) *Machine {
	return &Machine{cfg: cfg, rec: rec, status: map[ident.Subtask]string{}, worker: map[ident.WorkerID]bool{}}
}
func (m *Machine) State() State        { return m.rec.State }
func (m *Machine) Record() Record      { return m.rec }
func (m *Machine) Deadline() time.Time { return m.retryAt }
func (m *Machine) fence() ident.Fence  { return ident.Fence{Epoch: m.cfg.Epoch, Attempt: m.rec.Attempt} }
func (m *Machine) to(s State, ev Event) {
	old := m.rec.State
	m.rec.State = s
	m.emit(Persist{m.rec})
	m.emit(Transition{old, s, fmt.Sprintf("%T", ev)})
}
func (m *Machine) emit(e Effect) { m.out = append(m.out, e) }

func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.out = nil
	switch e := ev.(type) {
	case Submitted:
		m.wait(ev)
	case Recovered:
		switch m.rec.Intent {
		case "cancel":
			m.to(CanceledJob, ev)
		default:
			m.wait(ev)
		}
	case SlotsGranted:
		if m.rec.State != WaitingForSlots || e.Attempt != m.rec.Attempt {
			break
		}
		m.slots = e.Slots
		clear(m.status)
		clear(m.worker)
		for _, s := range e.Slots {
			m.worker[s.Worker] = true
		}
		m.started = false
		m.to(Deploying, ev)
		m.emit(Deploy{m.fence(), e.Slots})
	case SubtaskStatus:
		if e.Fence != m.fence() {
			break
		}
		m.status[e.Subtask] = e.State
		if e.State == "FAILED" && (m.rec.State == Running || m.rec.State == Deploying || m.rec.State == Finishing || m.rec.State == Stopping) {
			m.rec.Failure = e.Failure
			m.restart(now, ev)
		}
		if m.rec.State == Deploying && m.all("RUNNING", "AT_END") {
			m.to(Running, ev)
			m.started = true
			m.ranSince = now
			m.emit(StartCheckpoints{m.fence()})
			if m.rec.Intent != "" {
				m.to(Stopping, ev)
				m.emit(FinalCheckpoint{m.fence(), m.rec.Intent == "drain"})
			}
		}
		if m.rec.State == Running && m.sourcesAtEnd() {
			m.to(Finishing, ev)
			m.emit(FinalCheckpoint{m.fence(), false})
		}
		m.ended(now, ev)
	case WorkerLost:
		if !m.worker[e.Worker] {
			break
		}
		delete(m.worker, e.Worker)
		if m.rec.State == Running || m.rec.State == Deploying || m.rec.State == Finishing || m.rec.State == Stopping {
			m.rec.Failure = &Failure{At: now, Class: External, Message: e.Reason}
			m.restart(now, ev)
		}
		m.ended(now, ev)
	case DeployFailed:
		m.rec.Failure = &e.Failure
		m.restart(now, ev)
	case CheckpointsFailing:
		m.rec.Failure = &Failure{At: now, Class: External, Message: e.Why}
		m.restart(now, ev)
	case CheckpointCompleted:
		if e.Final {
			m.final = true
			m.emit(StopCheckpoints{m.fence(), "final"})
			m.emit(CancelAttempt{})
		}
	case Cancel:
		if m.rec.State.Terminal() {
			break
		}
		m.rec.Intent = "cancel"
		if m.rec.State == WaitingForSlots {
			m.to(CanceledJob, ev)
			m.emit(ReleaseSlots{})
			break
		}
		m.to(Canceling, ev)
		m.emit(StopCheckpoints{m.fence(), "cancel"})
		m.emit(CancelAttempt{})
	case Stop:
		m.rec.Intent = "stop"
		if e.Drain {
			m.rec.Intent = "drain"
		}
		if m.rec.State == Running {
			m.to(Stopping, ev)
			m.emit(FinalCheckpoint{m.fence(), e.Drain})
		} else {
			m.emit(Persist{m.rec})
		}
	case Tick:
		if !m.retryAt.IsZero() && !now.Before(m.retryAt) {
			m.retryAt = time.Time{}
			if m.rec.State == Restarting {
				m.wait(ev)
			}
		}
	}
	return m.out
}
func (m *Machine) wait(ev Event) {
	restarting := m.rec.Attempt > 0
	m.rec.Attempt++
	m.to(WaitingForSlots, ev)
	m.emit(RequestSlots{m.rec.Attempt, restarting})
}
func (m *Machine) all(states ...string) bool {
	for _, s := range m.cfg.Subtasks {
		ok := false
		for _, w := range states {
			ok = ok || m.status[s] == w
		}
		if !ok {
			return false
		}
	}
	return true
}
func (m *Machine) sourcesAtEnd() bool {
	for _, s := range m.cfg.Sources {
		if m.status[s] != "AT_END" {
			return false
		}
	}
	return true
}
func (m *Machine) restart(now time.Time, ev Event) {
	if m.rec.Intent == "cancel" {
		return
	}
	m.inARow++
	if now.Sub(m.ranSince) > m.cfg.Restart.HealthyAfter {
		m.inARow = 1
	}
	if m.inARow > m.cfg.Restart.Attempts {
		m.to(Failing, ev)
	} else {
		m.rec.Restarts++
		m.to(Restarting, ev)
	}
	m.emit(StopCheckpoints{m.fence(), "restart"})
	m.emit(CancelAttempt{})
	m.ended(now, ev)
}

// ended: all workers of the attempt have reported the end of their subtasks?
func (m *Machine) ended(now time.Time, ev Event) {
	switch m.rec.State {
	case Restarting, Canceling, Failing:
	case Finishing, Stopping:
		if !m.final {
			return
		}
	default:
		return
	}
	if len(m.worker) > 0 && !m.goneOn() {
		return
	}
	for w := range m.worker {
		m.emit(VacateSlots{m.rec.Attempt, w})
	}
	clear(m.worker)
	switch m.rec.State {
	case Restarting:
		if m.inARow > 1 {
			d := min(time.Second<<min(m.inARow-2, 10), m.cfg.Restart.Max)
			m.retryAt = now.Add(d)
		} else {
			m.wait(ev)
		}
	case Canceling:
		m.to(CanceledJob, ev)
		m.emit(ReleaseSlots{})
	case Failing:
		m.to(Failed, ev)
		m.emit(ReleaseSlots{})
	case Finishing:
		m.to(Finished, ev)
		m.emit(ReleaseSlots{})
	case Stopping:
		m.to(Stopped, ev)
		m.emit(ReleaseSlots{})
	}
}
func (m *Machine) goneOn() bool {
	idx := map[int]ident.WorkerID{}
	for i, s := range m.slots {
		idx[i] = s.Worker
	}
	for _, s := range m.cfg.Subtasks {
		if !m.worker[idx[s.Index]] {
			continue
		}
		if st := m.status[s]; st != "CANCELED" && st != "FAILED" {
			return false
		}
	}
	return true
}
