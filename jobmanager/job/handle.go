package job

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// maxFenced is how many attempts in a row may be fenced while they run; the last of them ends the job.
const maxFenced = 3

func (m *Machine) onSubmitted(ev Submitted) {
	if m.rec.State != Created {
		m.ignore(ev, "the job is %s", m.rec.State)
		return
	}
	m.wait(OnSubmitted)
}

// onRecovered takes up a job after a start of the job manager. What was deployed before is unknown, but
// it is fenced by the new epoch, and its task managers end it before they register or when their lease is
// over; only a terminal state has to wait for that.
func (m *Machine) onRecovered(now time.Time, ev Recovered) {
	if m.rec.Attempt > 0 {
		m.foreignUntil = now.Add(m.cfg.Lease)
	}
	m.final = ev.Final && m.rec.Attempt > 0
	switch state := m.rec.State; {
	case state == Canceling || state == Failing && (!m.final || m.rec.DataLoss):
		m.move(state, OnRecovered)
	case m.final:
		m.move(m.afterFinal(), OnRecovered)
	case state == Stopping && m.rec.Attempt == 0:
		m.move(Stopping, OnRecovered)
	default:
		if state.deployed() {
			m.rec.Restarts++
		}
		m.wait(OnRecovered)
	}
}

// afterFinal is the state in which a job with a final checkpoint ends.
func (m *Machine) afterFinal() State {
	if m.rec.Intent == IntentStop || m.rec.Intent == IntentDrain {
		return Stopping
	}
	return Finishing
}

func (m *Machine) onStatus(now time.Time, ev SubtaskStatus) {
	if c := m.current; c != nil && c.fence == ev.Fence {
		if !c.note(ev.Subtask, ev.State) {
			m.ignore(ev, "it is no news")
			return
		}
		m.onCurrentStatus(now, ev)
		return
	}
	for _, r := range m.leaving {
		if r.fence != ev.Fence {
			continue
		}
		if !r.note(ev.Subtask, ev.State) {
			m.ignore(ev, "it is no news")
			return
		}
		m.onLeavingStatus(r, ev)
		return
	}
	m.ignore(ev, "the attempt is not known or over")
}

func (m *Machine) onCurrentStatus(now time.Time, ev SubtaskStatus) {
	if !ev.State.over() {
		return
	}
	f := Failure{Class: External, Message: "the task manager canceled the subtask by itself"}
	switch {
	case ev.Failure != nil:
		f = *ev.Failure
	case ev.State == SubtaskFailed:
		f = Failure{Class: Internal, Message: "the subtask failed without a reason"}
	}
	f.Subtask = ev.Subtask.String()
	// While others are being deployed, a peer that cannot be reached is part of a partial deployment.
	c := costCharged
	if m.rec.State == Deploying && f.Class == External {
		c = costPause
	}
	if f.Class == Fenced {
		if m.healthy(now) {
			m.rec.Fenced = 0
		}
		if m.rec.Fenced++; m.rec.Fenced >= maxFenced {
			f.Message += fmt.Sprintf("; %d attempts in a row were fenced: something else uses the transactional ids of this job, "+
				"find it (a copy of the data directory, a foreign producer) before the job is submitted again", m.rec.Fenced)
			m.fail(now, OnFenced, f)
			return
		}
	}
	fence := ev.Fence
	m.restart(now, OnSubtaskFailed, f, c)
	if f.Class == External {
		m.blamed, m.blame = fence, m.rec.Failure
	}
}

// onLeavingStatus frees the slots of a worker that has confirmed the end of all its subtasks.
func (m *Machine) onLeavingStatus(r *run, ev SubtaskStatus) {
	p := r.partOf[ev.Subtask]
	if p.over || p.running > 0 {
		return
	}
	p.over = true
	if !p.lost {
		m.emit(VacateSlots{Attempt: ev.Fence.Attempt, Worker: p.worker})
	}
}

// onWorkerLost comes for every lost task manager of the cluster.
func (m *Machine) onWorkerLost(now time.Time, ev WorkerLost) {
	goneAt := now.Add(m.cfg.Lease)
	switch {
	case ev.Certain:
		goneAt = now
	case !ev.LastContact.IsZero() && ev.LastContact.Before(now):
		goneAt = ev.LastContact.Add(m.cfg.Lease)
	}
	f := Failure{At: now, Class: External, Message: ev.Reason}
	for _, r := range m.leaving {
		if r.lose(ev.Worker, goneAt) && r.fence == m.blamed {
			m.blamed = ident.Fence{}
			if m.rec.Failure == m.blame { // else something else has gone wrong since
				m.rec.Failure = &f
			}
			m.refund(now, r)
			m.emit(Persist{Record: m.rec})
		}
	}
	if m.current != nil && m.current.lose(ev.Worker, goneAt) {
		m.restart(now, OnWorkerLost, f, m.costOfLoss())
	}
}

// onWorkerResumed repeats to a worker what it may have missed.
func (m *Machine) onWorkerResumed(ev WorkerResumed) {
	for _, r := range m.leaving {
		if p := r.part(ev.Worker); p != nil {
			m.leave(r, p)
		}
	}
	if m.current != nil && m.current.part(ev.Worker) != nil {
		m.emit(RepeatDeploy{Fence: m.current.fence, Worker: ev.Worker})
	}
}

// deploying says that the attempt of ev is being deployed; else ev is ignored.
func (m *Machine) deploying(f ident.Fence, ev Event) bool {
	if m.current != nil && m.current.fence == f && m.rec.State == Deploying {
		return true
	}
	m.ignore(ev, "it is not being deployed")
	return false
}

func (m *Machine) onDeployHeld(ev DeployHeld) {
	if m.deploying(ev.Fence, ev) {
		m.deployBy = time.Time{}
	}
}

func (m *Machine) onDeploySent(now time.Time, ev DeploySent) {
	if m.deploying(ev.Fence, ev) {
		m.deployWithin(now, m.cfg.DeployTimeout+ev.Restore)
	}
}

func (m *Machine) deployWithin(now time.Time, d time.Duration) {
	m.deployBy, m.deployTimeout = now.Add(d), d
}

func (m *Machine) onDeployFailed(now time.Time, ev DeployFailed) {
	if !m.deploying(ev.Fence, ev) {
		return
	}
	for _, w := range ev.Gone {
		m.current.lose(w, now)
	}
	if !ev.Refused {
		m.restart(now, OnDeployFailed, ev.Failure, costPause)
		return
	}
	m.fail(now, OnRefused, ev.Failure)
}

// fail ends the job, whatever budget it has.
func (m *Machine) fail(now time.Time, by Trigger, f Failure) {
	f.At = now
	m.rec.Failure = &f
	m.move(Failing, by)
	m.emit(WithdrawRequest{})
	m.giveUp(f.String())
}

func (m *Machine) onCompleted(now time.Time, ev CheckpointCompleted) {
	if !ev.Final {
		if c := m.current; c != nil && c.fence == ev.Fence {
			c.progressed = true
		}
		return
	}
	switch state := m.rec.State; {
	case state == Canceling || state == Failing && m.rec.DataLoss:
		m.final = true
		return
	case state == Finishing || state == Stopping || state == Restarting || state == Failing:
		m.final = true
		m.restartAt = time.Time{}
		m.move(m.afterFinal(), OnFinal)
	default:
		m.ignore(ev, "no final checkpoint was asked for")
		return
	}
	m.emit(WithdrawRequest{})
	m.giveUp("the final checkpoint completed")
}

func (m *Machine) onSettled(ev CheckpointSettled) {
	if m.awaiting != ev.Fence {
		m.ignore(ev, "it was not asked for")
		return
	}
	m.awaiting = ident.Fence{}
}

func (m *Machine) onCheckpointsFailing(now time.Time, ev CheckpointsFailing) {
	if m.current == nil || m.current.fence != ev.Fence || m.rec.State == Deploying {
		m.ignore(ev, "the attempt does not run")
		return
	}
	m.restart(now, OnCheckpoints, Failure{Class: External, Message: ev.Why}, costCharged)
}

func (m *Machine) onSourceFailing(now time.Time, ev SourceFailing) {
	if m.current == nil || m.current.fence != ev.Fence || m.rec.State == Deploying {
		m.ignore(ev, "the attempt does not run")
		return
	}
	m.fail(now, OnSource, Failure{Class: External, Message: ev.Why})
}

func (m *Machine) onDataLost(now time.Time, ev DataLost) {
	if m.rec.State == Created || m.rec.State.Terminal() {
		m.ignore(ev, "the job is %s", m.rec.State)
		return
	}
	if known := m.rec.Failure; m.rec.DataLoss && known != nil {
		if known.Message == ev.Failure.Message {
			m.ignore(ev, "it is known")
			return
		}
		f := ev.Failure // more is lost, or more is known of it
		f.At = known.At
		m.rec.Failure = &f
		m.emit(Persist{Record: m.rec})
		return
	}
	m.rec.DataLoss = true
	m.fail(now, OnDataLost, ev.Failure)
}

func (m *Machine) onCancel(ev Cancel) {
	switch {
	case m.rec.State == Canceling:
		m.ignore(ev, "the job is %s", m.rec.State)
		return
	case m.rec.State == Failing:
		m.refuse(ev, "the job is FAILING, and ends with that")
		return
	case m.final:
		m.refuse(ev, "the final checkpoint is durable, and the job, which is %s, ends with that as soon as its output is committed", m.rec.State)
		return
	}
	m.rec.Intent = IntentCancel
	m.restartAt = time.Time{}
	m.move(Canceling, OnCancel)
	m.emit(WithdrawRequest{})
	m.giveUp("the job is canceled")
}

func (m *Machine) onStop(ev Stop) {
	want := IntentStop
	if ev.Drain {
		want = IntentDrain
	}
	switch {
	case m.rec.Intent == want:
		m.ignore(ev, "the intent is %s", m.rec.Intent)
		return
	case m.rec.Intent != NoIntent:
		m.refuse(ev, "the job is %s, as was asked for before (%s)", m.rec.State, m.rec.Intent)
		return
	case m.rec.State == Finishing || m.rec.State == Failing || m.final:
		m.refuse(ev, "the job is %s, and ends with that", m.rec.State)
		return
	}
	m.rec.Intent = want
	switch m.rec.State {
	case Running: // advance moves on
	case Created, WaitingForSlots:
		if m.rec.Attempt == 0 { // nothing was read: the start offsets are its last checkpoint
			m.move(Stopping, OnStop)
			m.emit(WithdrawRequest{})
			return
		}
		m.move(m.rec.State, OnStop)
	default:
		m.move(m.rec.State, OnStop)
	}
}
