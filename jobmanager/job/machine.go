package job

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/placement"
)

const (
	// defaultLease is the heartbeat timeout of 5 s and the second that DESIGN rule 13 adds.
	defaultLease = 6 * time.Second
	// defaultDeployTimeout bounds what a subtask may take to restore its state.
	defaultDeployTimeout = 10 * time.Minute
	// partialMax bounds the delay between deployments that do not come to run; they never end the job.
	partialMax = 30 * time.Second
)

// Config is what the machine knows of its job and its cluster.
type Config struct {
	// Epoch is that of this start of the job manager.
	Epoch ident.LeaderEpoch
	// Slots is how many the job needs: its largest parallelism.
	Slots int
	// Subtasks are all of the job; Sources are those of source vertices.
	Subtasks, Sources []ident.Subtask
	Restart           graph.Restart
	// Lease is how long after its last contact a lost task manager may still run subtasks: the heartbeat
	// timeout and a second. 0: 6 s.
	Lease time.Duration
	// DeployTimeout is how long a deployment may take until all subtasks run, beside what DeploySent says. 0: 10 min.
	DeployTimeout time.Duration
	// Rand gives numbers in [0, 1) for the jitter of restart delays; nil: none.
	Rand func() float64
}

// Machine is the state machine of one job.
type Machine struct {
	cfg Config
	rec Record

	// current is the attempt that is out and not given up; nil: none.
	current *run
	// leaving are given-up attempts of which subtasks may still run.
	leaving []*run
	// previous is the worker of each position of the newest deployment.
	previous []ident.WorkerID
	// awaiting: StopCheckpoints for this attempt is not answered yet; zero: none.
	awaiting ident.Fence
	// gone is the newest attempt that AttemptGone was told of.
	gone ident.Attempt
	// final: the newest completed checkpoint is a final one.
	final bool
	// cleaning: CleanUp was emitted and not answered.
	cleaning bool

	restartAt, deployBy, runningSince time.Time
	// deployTimeout is the time that the deployment had until deployBy.
	deployTimeout time.Duration
	// foreignUntil is when the subtasks that an earlier start of the job manager deployed have certainly
	// ended; they are not known one by one.
	foreignUntil time.Time
	// partial counts the deployments in a row that did not come to run.
	partial int
	// blamed is the last attempt that ended by an external failure of a subtask; the loss
	// of one of its workers, told a little later, is the better explanation.
	blamed ident.Fence
	// blame is that failure: it may stand in the record no more.
	blame *Failure

	ignored uint64
	out     []Effect
}

// New makes the machine of a job from its record. The first event is Submitted or Recovered.
func New(cfg Config, rec Record) *Machine {
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	if cfg.DeployTimeout == 0 {
		cfg.DeployTimeout = defaultDeployTimeout
	}
	return &Machine{cfg: cfg, rec: rec}
}

// State is the job's.
func (m *Machine) State() State { return m.rec.State }

// Record is what was last said to be persisted, or New was given.
func (m *Machine) Record() Record { return m.rec }

// Ignored counts the events that had no effect.
func (m *Machine) Ignored() uint64 { return m.ignored }

// Step applies one event and returns what must now be done, in order.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.out = nil
	if m.rec.State.Terminal() {
		m.inTerminal(ev)
		return m.out
	}
	switch ev := ev.(type) {
	case Submitted:
		m.onSubmitted(ev)
	case Recovered:
		m.onRecovered(now, ev)
	case SlotsGranted:
		m.onGranted(now, ev)
	case WorkerLost:
		m.onWorkerLost(now, ev)
	case WorkerResumed:
		m.onWorkerResumed(ev)
	case SubtaskStatus:
		m.onStatus(now, ev)
	case DeployFailed:
		m.onDeployFailed(now, ev)
	case DeployHeld:
		m.onDeployHeld(ev)
	case DeploySent:
		m.onDeploySent(now, ev)
	case CheckpointCompleted:
		m.onCompleted(now, ev)
	case CheckpointSettled:
		m.onSettled(ev)
	case CheckpointsFailing:
		m.onCheckpointsFailing(now, ev)
	case SourceFailing:
		m.onSourceFailing(now, ev)
	case DataLost:
		m.onDataLost(now, ev)
	case Cancel:
		m.onCancel(ev)
	case Stop:
		m.onStop(ev)
	case CleanedUp:
		m.onCleanedUp(ev)
	case Tick:
	}
	for m.advance(now) {
	}
	return m.out
}

// inTerminal keeps the slots straight and ignores all else.
func (m *Machine) inTerminal(ev Event) {
	switch ev := ev.(type) {
	case SlotsGranted:
		m.giveBack(ev)
	case WorkerLost, WorkerResumed, Tick:
	default:
		m.ignore(ev, "the job is %s", m.rec.State)
	}
}

func (m *Machine) emit(e Effect) { m.out = append(m.out, e) }

func (m *Machine) ignore(ev Event, why string, args ...any) {
	m.ignored++
	m.emit(Ignored{What: ev.String(), Why: fmt.Sprintf(why, args...)})
}

// refuse ignores what a user asks for, who is to hear why.
func (m *Machine) refuse(ev Event, why string, args ...any) {
	m.ignored++
	m.emit(Ignored{What: ev.String(), Why: fmt.Sprintf(why, args...), Refused: true})
}

// move goes to another state, or notes that it stays: durable first, then told.
func (m *Machine) move(to State, by Trigger) {
	from := m.rec.State
	if !legal(from, by, to) {
		panic(fmt.Sprintf("job: no transition from %s to %s by %q", from, to, by))
	}
	m.rec.State = to
	m.emit(Persist{Record: m.rec})
	m.emit(Transition{From: from, To: to, Event: by})
}

func legal(from State, by Trigger, to State) bool {
	for _, e := range transitions {
		if e.From == from && e.Event == by && e.To == to {
			return true
		}
	}
	return false
}

// wait enters the line for slots.
func (m *Machine) wait(by Trigger) {
	m.move(WaitingForSlots, by)
	m.emit(RequestSlots{Attempt: m.rec.Attempt + 1, Slots: m.cfg.Slots, Restarting: m.rec.Attempt > 0})
}

func (m *Machine) onGranted(now time.Time, ev SlotsGranted) {
	if m.rec.State != WaitingForSlots || ev.Attempt != m.rec.Attempt+1 {
		m.giveBack(ev)
		m.ignore(ev, "the job is %s after attempt %d", m.rec.State, m.rec.Attempt)
		return
	}
	m.rec.Attempt = ev.Attempt
	order := placement.Order(ev.Slots, m.previous)
	m.previous = placement.Workers(order)
	m.current = newRun(ident.Fence{Epoch: m.cfg.Epoch, Attempt: ev.Attempt}, order, m.cfg.Subtasks)
	m.deployWithin(now, m.cfg.DeployTimeout)
	m.move(Deploying, OnGranted)
	m.emit(Deploy{Fence: m.current.fence, Slots: order})
}

// giveBack frees slots that came too late, but not those that a repeated grant names and an attempt uses.
func (m *Machine) giveBack(ev SlotsGranted) {
	if ev.Attempt <= m.rec.Attempt {
		return
	}
	for i, s := range ev.Slots {
		if i == 0 || ev.Slots[i-1].Worker != s.Worker {
			m.emit(VacateSlots{Attempt: ev.Attempt, Worker: s.Worker})
		}
	}
}

// Deadline is when Step wants a Tick next; zero for never.
func (m *Machine) Deadline() time.Time {
	var due time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	switch {
	case m.rec.State.Terminal():
		return time.Time{}
	case m.rec.State == Deploying:
		earlier(m.deployBy)
	case m.rec.State == Restarting && m.awaiting == ident.Fence{}:
		earlier(m.restartAt)
	}
	for _, r := range m.leaving {
		for _, p := range r.parts {
			if p.lost && !p.over {
				earlier(p.goneAt)
			}
		}
	}
	earlier(m.foreignUntil)
	return due
}
