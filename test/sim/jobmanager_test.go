package sim

import (
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/slots"
)

// jobManager is one start of the job manager; what it knows dies with it.
type jobManager struct {
	w        *world
	epoch    ident.LeaderEpoch
	dead     bool
	pool     *slots.Pool
	sessions map[ident.WorkerID]*session
	lastID   int
	runners  []*runner
}

// session is what the job manager knows of one registration.
type session struct {
	tm          *taskManager
	id          int
	incarnation int
	stream      *stream // nil while suspended
	lost        bool
}

// bootJM starts a job manager: the epoch rises durably, then the jobs are taken up.
func (w *world) bootJM() {
	if w.jm != nil {
		return
	}
	w.disk.epoch++
	jm := &jobManager{w: w, epoch: w.disk.epoch, pool: slots.New(true), sessions: map[ident.WorkerID]*session{}}
	w.jm = jm
	w.logf("job manager starts, epoch %d", jm.epoch)
	for _, j := range w.jobs {
		if s := w.disk.jobs[j.id]; s != nil && !jm.dead {
			r := newRunner(jm, j, s)
			jm.runners = append(jm.runners, r)
			final := s.latest().Final
			if w.bug == bugForgetFinal {
				final = false
			}
			if w.bug == bugFenceNamed {
				r.fenceNamed()
			}
			r.handle(jobcore.Recovered{Final: final})
		}
	}
	w.after(heartbeatTimeout, func() {
		if !jm.dead {
			jm.grant(jm.pool.Settled())
		}
	})
}

// die ends the process; it is started again after a while.
func (jm *jobManager) die(why string) {
	if jm.dead {
		return
	}
	w := jm.w
	w.logf("job manager dies: %s", why)
	jm.dead = true
	w.jm = nil
	for _, tm := range w.tms {
		if s := tm.stream; s != nil && s.isOpen && !s.cut {
			s.isOpen = false
			tm.onBroken(s)
		}
	}
	w.after(w.between(10*time.Millisecond, 3*time.Second), w.bootJM)
}

// open makes a stream with a task manager.
func (jm *jobManager) open(tm *taskManager, s *session) {
	s.stream = &stream{w: jm.w, tm: tm, jm: jm, isOpen: true}
	tm.stream, tm.session = s.stream, s.id
}

func (jm *jobManager) register(tm *taskManager) bool {
	old := jm.sessions[tm.id]
	if old != nil && !old.lost {
		if old.stream != nil && old.stream.isOpen && old.incarnation != tm.incarnation {
			return false // its id is in use, as far as the job manager knows
		}
		jm.lose(old, old.incarnation != tm.incarnation)
		if jm.dead {
			return false
		}
	}
	jm.lastID++
	s := &session{tm: tm, id: jm.lastID, incarnation: tm.incarnation}
	jm.sessions[tm.id] = s
	jm.open(tm, s)
	jm.w.logf("%s registers with %d slots", tm.id, tm.slots)
	jm.signOfLife()
	jm.grant(jm.pool.Register(tm.id, tm.slots))
	return true
}

func (jm *jobManager) resume(tm *taskManager) bool {
	s := jm.sessions[tm.id]
	if s == nil || s.lost || s.id != tm.session || s.incarnation != tm.incarnation {
		return false
	}
	jm.open(tm, s)
	for _, r := range jm.runners {
		r.post(jobcore.WorkerResumed{Worker: tm.id})
	}
	jm.signOfLife()
	return true
}

// onBroken: a dead process refuses connections, which the job manager learns at once; a living one has
// the resume window.
func (jm *jobManager) onBroken(st *stream) {
	s := jm.sessions[st.tm.id]
	if jm.dead || s == nil || s.stream != st || s.lost {
		return
	}
	s.stream = nil
	if !st.tm.alive && !jm.w.chance(0.3) {
		jm.w.after(jm.w.delay(), func() { jm.lose(s, true) })
		return
	}
	jm.w.after(resumeWindow, func() {
		if s.stream == nil {
			jm.lose(s, false)
		}
	})
}

// onSilent: nothing was heard for the heartbeat timeout.
func (jm *jobManager) onSilent(st *stream) {
	s := jm.sessions[st.tm.id]
	if s != nil && s.stream == st {
		s.stream = nil
		jm.lose(s, false)
	}
}

func (jm *jobManager) lose(s *session, certain bool) {
	if jm.dead || s.lost {
		return
	}
	s.lost, s.stream = true, nil
	certain = certain || jm.w.bug == bugCertainLoss
	jm.w.logf("%s is lost, certain %t", s.tm.id, certain)
	jm.grant(jm.pool.Lost(s.tm.id))
	for _, r := range jm.runners {
		r.post(jobcore.WorkerLost{Worker: s.tm.id, Reason: "lost", Certain: certain})
	}
}

// grant hands slots to their jobs, behind what was posted before.
func (jm *jobManager) grant(grants []slots.Grant) {
	for _, g := range grants {
		jm.w.logf("pool grants %v to %s for attempt %d", g.Slots, g.Job, g.Attempt)
		if r := jm.runner(g.Job); r != nil {
			r.post(jobcore.SlotsGranted{Attempt: g.Attempt, Slots: g.Slots})
		}
	}
}

func (jm *jobManager) runner(id ident.JobID) *runner {
	for _, r := range jm.runners {
		if r.job.id == id {
			return r
		}
	}
	return nil
}

// streamTo is the open stream to a worker; nil: none.
func (jm *jobManager) streamTo(worker ident.WorkerID) *stream {
	if s := jm.sessions[worker]; s != nil && !s.lost {
		return s.stream
	}
	return nil
}

func (jm *jobManager) onReport(j *job, ev jobcore.SubtaskStatus) {
	if r := jm.runner(j.id); r != nil {
		r.handle(ev)
	}
}

// onLevel takes the level of a sink, from the newest stream of its task manager only.
func (jm *jobManager) onLevel(j *job, f ident.Fence, s ident.Subtask, l operator.TransactionLevel) {
	if r := jm.runner(j.id); r != nil {
		r.onLevel(f, s, l)
	}
}

// signOfLife tells that a task manager came back.
func (jm *jobManager) signOfLife() {
	for _, r := range jm.runners {
		if r.committer.Status().Unfenced > 0 {
			r.post(commit.SignOfLife{})
		}
	}
}

func (jm *jobManager) onDecline(j *job, ev checkpoint.Decline) {
	if r := jm.runner(j.id); r != nil {
		r.handle(ev)
	}
}

func (jm *jobManager) onAck(a checkpoint.Ack) {
	if r := jm.runner(a.Job); r != nil {
		r.onAck(a)
	}
}
