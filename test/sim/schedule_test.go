package sim

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
)

// schedule lets a whole seed happen.
func (w *world) schedule() {
	w.bootJM()
	for _, j := range w.jobs {
		w.after(w.between(0, 2*time.Second), func() { w.submit(j) })
		if w.rng.IntN(2) == 0 {
			w.after(w.between(0, w.faultPhase), func() { w.ask(j, w.rng.IntN(3)) })
		}
		if w.rng.IntN(6) == 0 {
			w.after(w.between(0, w.faultPhase), func() { w.ask(j, 0) })
		}
	}
	w.after(time.Second, w.faults)
	w.run(w.faultPhase, func() bool { return false })
	w.heal()
	w.arrive()
	for _, j := range w.jobs {
		if !w.disk.jobs[j.id].record.State.Terminal() {
			w.ask(j, 0)
		}
	}
	w.arrive()
	w.settle()
}

// arrive waits until every job is where its user wants it.
func (w *world) arrive() {
	w.run(w.now+healPhase, w.arrived)
	if !w.arrived() {
		w.violate("the cluster has been healthy for %s: %s", healPhase, w.situation())
	}
}

// submit stores the job with its checkpoint 0 and starts it; without a job manager it comes again later.
func (w *world) submit(j *job) {
	if w.jm == nil {
		w.after(500*time.Millisecond, func() { w.submit(j) })
		return
	}
	s := &stored{record: jobcore.NewRecord(), marks: map[manifest.TransactionKey]bool{}}
	s.manifests = append(s.manifests, zero(j))
	w.disk.jobs[j.id], j.submitted = s, true
	r := newRunner(w.jm, j, s)
	w.jm.runners = append(w.jm.runners, r)
	w.logf("%s is submitted: parallelism %d, bound %d, %d restarts", j.id, j.parallelism, j.bound, j.attempts)
	r.handle(jobcore.Submitted{})
}

// ask is a user's request; if the job manager dies over it, it is not answered.
func (w *world) ask(j *job, what int) {
	if w.jm == nil || !j.submitted {
		w.after(500*time.Millisecond, func() { w.ask(j, what) })
		return
	}
	jm, r := w.jm, w.jm.runner(j.id)
	late := w.history.final[j.id] != 0
	if what == 0 {
		r.handle(jobcore.Cancel{})
	} else {
		r.handle(jobcore.Stop{Drain: what == 2})
	}
	if jm.dead {
		w.after(500*time.Millisecond, func() { w.ask(j, what) })
		return
	}
	w.logf("%s: the user's request %d is answered", j.id, what)
	if what == 0 {
		j.cancelAnswered = j.cancelAnswered || !late
	} else {
		j.stopAnswered = true
	}
}

// faults come each second, as likely as the odds say.
func (w *world) faults() {
	if w.healed {
		return
	}
	for _, tm := range w.tms {
		if w.chance(w.odds.breakStream) {
			tm.stream.breakNow("network")
		}
		if w.chance(w.odds.cutStream) {
			tm.stream.cutNow()
			tm.unreachable = true
			w.after(w.between(0, 30*time.Second), func() { tm.unreachable = false })
		}
		if tm.alive && w.chance(w.odds.pauseTM) {
			tm.pause(w.between(0, 20*time.Second))
		}
		if w.chance(w.odds.killTM) {
			tm.kill("kill -9")
		}
		if w.chance(w.odds.failSubtask) {
			tm.failOne()
		}
	}
	if w.chance(w.odds.foreign) {
		w.fenceForeign(w.jobs[w.rng.IntN(len(w.jobs))])
	}
	if w.chance(w.odds.badSource) {
		w.failSource(w.jobs[w.rng.IntN(len(w.jobs))])
	}
	if w.jm != nil && w.chance(w.odds.crashJM) {
		w.jm.die("kill -9")
	}
	w.after(w.between(500*time.Millisecond, 1500*time.Millisecond), w.faults)
}

// failSource lets the job manager see that a source of a job must not be read on.
func (w *world) failSource(j *job) {
	if w.jm == nil || w.jm.runner(j.id) == nil {
		return
	}
	j.badSource = true
	r := w.jm.runner(j.id)
	r.handle(jobcore.SourceFailing{Fence: r.fence, Why: "its topic is another one"})
}

// heal ends all faults. There are just enough slots for all jobs at once then, so that none may be leaked.
func (w *world) heal() {
	w.healed = true
	w.logf("---- the faults stop")
	missing := 0
	for _, j := range w.jobs {
		missing += j.parallelism
	}
	for _, tm := range w.tms {
		missing -= tm.slots
	}
	if missing > 0 {
		w.tms = append(w.tms, newTaskManager(w, len(w.tms), missing))
	}
	for _, tm := range w.tms {
		tm.unreachable, tm.pausedUntil = false, min(tm.pausedUntil, w.now)
		tm.boot()
	}
	w.bootJM()
}

// arrived says whether every job is where its user wants it.
func (w *world) arrived() bool {
	for _, j := range w.jobs {
		if !w.isThere(j) {
			return false
		}
	}
	return true
}

func (w *world) isThere(j *job) bool {
	if !j.submitted || w.jm == nil {
		return false
	}
	state := w.disk.jobs[j.id].record.State
	switch {
	case state.Terminal():
		w.checkEnd(j, state)
		return true
	case j.cancelAnswered || j.stopAnswered || j.bound > 0:
		return false
	}
	r := w.jm.runner(j.id)
	return state == jobcore.Running && r.completedHealed > 0
}

// checkEnd: the terminal state is one that the user and the job can have wanted.
func (w *world) checkEnd(j *job, state jobcore.State) {
	final := w.history.final[j.id] != 0
	ok := false
	switch state {
	case jobcore.Finished:
		ok = final && j.bound > 0
	case jobcore.Stopped:
		ok = final || w.history.newest[j.id] == 0
	case jobcore.Canceled:
		ok = true
	case jobcore.Failed:
		ok = j.attempts < 1000 || j.foreign || j.badSource
	case jobcore.FailedDataLoss:
		ok = j.dataLost || j.commitInDoubt
	}
	if !ok || j.dataLost && state != jobcore.FailedDataLoss {
		w.violate("%s ended %s: bound %d, final checkpoint %t, restarts %d, data lost %t: %v", j.id, state, j.bound, final, j.attempts, j.dataLost, w.disk.jobs[j.id].record)
	}
}

func (w *world) situation() string {
	text := ""
	for _, j := range w.jobs {
		if w.disk.jobs[j.id] == nil || w.jm == nil {
			continue
		}
		text += string(j.id) + " " + w.disk.jobs[j.id].record.String()
		if r := w.jm.runner(j.id); r != nil {
			text += " " + r.machine.Waiting(w.time())
		}
		if r := w.jm.runner(j.id); r != nil {
			text += fmt.Sprintf(" %+v %s", r.committer.Status(), r.coord.Status().Waiting)
		}
		if e, waits := w.jm.pool.Explain(j.id, w.time()); waits {
			text += " (" + e.String() + ")"
		}
		text += "; "
	}
	return text
}
