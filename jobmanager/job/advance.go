package job

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// advance does what is due as things are at now; true if something moved, so that more may be due.
func (m *Machine) advance(now time.Time) bool {
	m.forget(now)
	switch m.rec.State {
	case Deploying:
		return m.advanceDeploying(now)
	case Running:
		return m.advanceRunning()
	case Restarting:
		if m.awaiting == (ident.Fence{}) && !now.Before(m.restartAt) {
			m.restartAt = time.Time{}
			m.wait(OnRetry)
			return true
		}
	case Finishing, Stopping:
		if m.final || m.rec.Attempt == 0 {
			return m.cleanUp()
		}
	case Canceling, Failing:
		return m.cleanUp()
	}
	return false
}

func (m *Machine) advanceDeploying(now time.Time) bool {
	if m.current.all(m.cfg.Subtasks, SubtaskRunning) {
		m.partial, m.deployBy, m.runningSince = 0, time.Time{}, now
		m.move(Running, OnAllRun)
		m.emit(StartCheckpoints{Fence: m.current.fence})
		return true
	}
	if !m.deployBy.IsZero() && !now.Before(m.deployBy) { // zero: it waits for commits
		m.restart(now, OnDeployFailed, Failure{Class: Internal, Message: fmt.Sprintf(
			"not all subtasks run %s after the deployment; first %s", m.deployTimeout, m.firstBelow(SubtaskRunning))}, costPause)
		return true
	}
	return false
}

// firstBelow names the first subtask of the current attempt that has not come to a state yet.
func (m *Machine) firstBelow(least SubtaskState) ident.Subtask {
	i := slices.IndexFunc(m.cfg.Subtasks, func(s ident.Subtask) bool { return m.current.state[s].rank() < least.rank() })
	return m.cfg.Subtasks[i]
}

func (m *Machine) advanceRunning() bool {
	switch {
	case m.rec.Intent == IntentStop || m.rec.Intent == IntentDrain:
		m.move(Stopping, OnStop)
		m.emit(FinalCheckpoint{Fence: m.current.fence, Drain: m.rec.Intent == IntentDrain})
	case len(m.cfg.Sources) > 0 && m.current.all(m.cfg.Sources, SubtaskAtEnd):
		m.move(Finishing, OnAllAtEnd)
		m.emit(FinalCheckpoint{Fence: m.current.fence})
	default:
		return false
	}
	return true
}

// forget drops given-up attempts of which nothing can run any more.
func (m *Machine) forget(now time.Time) {
	for _, r := range m.leaving {
		for _, p := range r.parts {
			if p.lost && !now.Before(p.goneAt) {
				p.over = true
			}
		}
	}
	m.leaving = slices.DeleteFunc(m.leaving, (*run).over)
	if !now.Before(m.foreignUntil) {
		m.foreignUntil = time.Time{}
	}
	m.tellGone()
}

// tellGone tells of attempts of which nothing can run any more.
func (m *Machine) tellGone() {
	if !m.foreignUntil.IsZero() {
		return
	}
	through := m.rec.Attempt
	if m.current != nil {
		through = m.current.fence.Attempt - 1
	}
	for _, r := range m.leaving {
		through = min(through, r.fence.Attempt-1)
	}
	if m.awaiting != (ident.Fence{}) { // a manifest of it may still become durable
		through = min(through, m.awaiting.Attempt-1)
	}
	if through > m.gone {
		m.gone = through
		m.emit(AttemptGone{Attempt: through})
	}
}

// cleanUp begins the clean-up once nothing of the job can run or be written any more.
func (m *Machine) cleanUp() bool {
	if m.cleaning || m.awaiting != (ident.Fence{}) || len(m.leaving) > 0 || !m.foreignUntil.IsZero() {
		return false
	}
	m.cleaning = true
	m.emit(CleanUp{})
	return true
}

func (m *Machine) onCleanedUp(ev CleanedUp) {
	if !m.cleaning {
		m.ignore(ev, "no clean-up is under way")
		return
	}
	m.cleaning = false
	to := map[State]State{Finishing: Finished, Stopping: Stopped, Canceling: Canceled, Failing: Failed}[m.rec.State]
	if m.rec.DataLoss {
		to = FailedDataLoss
	}
	m.move(to, OnCleanedUp)
	m.emit(ReleaseSlots{})
}

// giveUp ends the current attempt, if there is one: no checkpoint, no subtask of it goes on.
func (m *Machine) giveUp(why string) {
	r := m.current
	if r == nil {
		return
	}
	m.current, m.deployBy = nil, time.Time{}
	m.leaving = append(m.leaving, r)
	m.awaiting = r.fence
	m.emit(StopCheckpoints{Fence: r.fence, Why: why})
	for _, p := range r.parts {
		m.leave(r, p)
	}
}

// leave cancels what still runs of a part. Where all subtasks have ended their slots are free, and the task manager
// still has to be told: it keeps the rest of the attempt until then.
func (m *Machine) leave(r *run, p *part) {
	if p.over || p.lost {
		return
	}
	open := r.open(p)
	m.emit(CancelAttempt{Fence: r.fence, Worker: p.worker, Subtasks: open})
	if len(open) == 0 {
		p.over = true
		m.emit(VacateSlots{Attempt: r.fence.Attempt, Worker: p.worker})
	}
}

// restart gives the current attempt up for another one, if the policy has one left. Free ones always
// have.
func (m *Machine) restart(now time.Time, by Trigger, f Failure, c cost) {
	f.At = now
	m.rec.Failure = &f
	if f.Class != Fenced {
		m.rec.Fenced = 0
	}
	delay, ok := m.nextDelay(now, c)
	if !ok {
		m.move(Failing, OnBudget)
		m.emit(WithdrawRequest{})
		m.giveUp(f.String())
		return
	}
	m.rec.Restarts++
	m.restartAt = now.Add(delay)
	m.move(Restarting, by)
	m.giveUp(f.String())
}

// cost is what a restart costs.
type cost int

// The costs. A restart that is charged uses budget and waits by the policy; one with a pause waits ever
// longer but is always allowed; one that costs nothing waits like the first.
const (
	costCharged cost = iota + 1
	costPause
	costNothing
)

// costOfLoss is the cost of a lost task manager: nothing if the attempt has completed a checkpoint, so
// that work is not done again and again; a job that kills its task managers before it comes that far
// uses its budget up.
func (m *Machine) costOfLoss() cost {
	switch {
	case m.rec.State == Deploying:
		return costPause
	case m.current.progressed:
		return costNothing
	default:
		return costCharged
	}
}

// refund takes back what the failure of an attempt was charged with: it turned out to be the loss of a task
// manager. A job that fails already goes on failing.
func (m *Machine) refund(now time.Time, r *run) {
	if !r.progressed || m.rec.State == Failing {
		return
	}
	m.rec.BudgetUsed = max(0, m.rec.BudgetUsed-1)
	if m.rec.State != Restarting {
		return
	}
	if first := now.Add(Delay(m.cfg.Restart, 1, nil)); first.Before(m.restartAt) {
		m.restartAt = first
	}
}

// healthy says that the current attempt has run for so long that earlier failures do not count. One
// checkpoint does not show that: the first is drawn as soon as all subtasks run.
func (m *Machine) healthy(now time.Time) bool {
	return m.rec.State != Deploying && now.Sub(m.runningSince) >= m.cfg.Restart.HealthyAfter
}

func (m *Machine) nextDelay(now time.Time, c cost) (delay time.Duration, ok bool) {
	policy := m.cfg.Restart
	switch c {
	case costNothing:
		return Delay(policy, 1, nil), policy.Strategy != graph.NoRestart
	case costPause:
		m.partial++
		policy.Strategy, policy.Max = "", partialMax
		return Delay(policy, m.partial, m.cfg.Rand), true
	}
	if m.healthy(now) {
		m.rec.BudgetUsed = 0
	}
	if !Allowed(policy, m.rec.BudgetUsed+1) {
		return 0, false
	}
	m.rec.BudgetUsed++
	return Delay(policy, m.rec.BudgetUsed, m.cfg.Rand), true
}
