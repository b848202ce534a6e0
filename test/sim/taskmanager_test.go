package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
)

// taskManager is one process, or the next one in its place: a crash raises incarnation.
type taskManager struct {
	w           *world
	id          ident.WorkerID
	slots       int
	alive       bool
	incarnation int
	session     int // 0: none
	stream      *stream
	// lastContact is when the stream broke or was cut.
	lastContact time.Duration
	instances   []*instance
	canceled    map[ident.JobID]ident.Fence
	acks        []checkpoint.Ack // newer than what was announced as completed
	unreachable bool             // dials fail
	// pausedUntil is when a process that was stopped goes on.
	pausedUntil time.Duration
}

// instance is one subtask in this process.
type instance struct {
	job     *job
	fence   ident.Fence
	subtask ident.Subtask
	slot    int
	state   jobcore.SubtaskState
	ending  bool
	// over: it has ended. It stays, so that its end can be told again, until its attempt is canceled.
	over    bool
	barrier ident.CheckpointID
	// A source reads an offset each millisecond from from on, since since, until frozen.
	from, frozenAt int64
	since          time.Duration
	frozen         bool
	// sent is what a source has emitted, in so many batches.
	sent    int64
	batches int
	sink    *sinkTask // of a sink that runs
	ids     handedIDs
}

func newTaskManager(w *world, n, slots int) *taskManager {
	tm := &taskManager{w: w, id: ident.WorkerID(fmt.Sprintf("tm-%d", n+1)), slots: slots}
	w.after(w.between(0, 200*time.Millisecond), tm.boot)
	return tm
}

func (tm *taskManager) boot() {
	if tm.alive {
		return
	}
	tm.alive, tm.session, tm.stream, tm.instances, tm.acks = true, 0, nil, nil, nil
	tm.canceled = map[ident.JobID]ident.Fence{}
	tm.w.logf("%s boots", tm.id)
	tm.dialSoon()
}

// kill ends the process; its supervisor starts it again after a while.
func (tm *taskManager) kill(why string) {
	if !tm.alive {
		return
	}
	tm.w.logf("%s dies: %s", tm.id, why)
	tm.alive, tm.instances = false, nil
	tm.incarnation++
	tm.w.after(tm.w.between(10*time.Millisecond, 15*time.Second), tm.boot)
	if !tm.stream.isCut() {
		tm.stream.breakNow("the process died")
	}
}

func (s *stream) isCut() bool { return s != nil && s.isOpen && s.cut }

// later runs f if the process still lives then.
func (tm *taskManager) later(d time.Duration, f func()) {
	inc := tm.incarnation
	tm.w.after(d, func() { tm.when(inc, f) })
}

// when runs f in a process, once it does not stand still.
func (tm *taskManager) when(incarnation int, f func()) {
	switch {
	case !tm.alive || tm.incarnation != incarnation:
	case tm.paused():
		tm.w.after(tm.pausedUntil-tm.w.now, func() { tm.when(incarnation, f) })
	default:
		f()
	}
}

func (tm *taskManager) paused() bool { return tm.w.now < tm.pausedUntil }

// pause stops the process for a while, as SIGSTOP does.
func (tm *taskManager) pause(d time.Duration) {
	tm.w.logf("%s stands still for %s", tm.id, d)
	tm.stream.cutNow()
	tm.pausedUntil = tm.w.now + d
}

func (tm *taskManager) dialSoon() {
	tm.later(tm.w.between(5*time.Millisecond, 300*time.Millisecond), tm.dial)
}

// dial resumes the session, or registers anew once nothing runs any more.
func (tm *taskManager) dial() {
	if tm.stream != nil && tm.stream.isOpen {
		return
	}
	jm := tm.w.jm
	switch {
	case jm == nil || tm.unreachable && !tm.w.healed:
	case tm.session != 0:
		if jm.resume(tm) {
			tm.resumed()
			return
		}
		tm.session = 0
		tm.cancelAll("session is over")
	case !slices.ContainsFunc(tm.instances, func(in *instance) bool { return !in.over }):
		tm.instances, tm.acks = nil, nil
		if jm.register(tm) {
			return
		}
	}
	tm.dialSoon()
}

// resumed repeats what the job manager may have missed.
func (tm *taskManager) resumed() {
	tm.w.logf("%s resumed", tm.id)
	for _, in := range tm.instances {
		tm.report(in, nil)
		if in.sink != nil && !in.over {
			in.sink.tellLevel()
		}
	}
	for _, a := range tm.acks {
		tm.stream.toJM(func(jm *jobManager) { jm.onAck(a) })
	}
}

func (tm *taskManager) onBroken(s *stream) {
	if tm.stream != s || !tm.alive {
		return
	}
	if !s.cut {
		tm.lastContact = tm.w.now
	}
	tm.stream = nil
	tm.dialSoon()
	contact := tm.lastContact
	tm.later(max(0, contact+heartbeatTimeout-tm.w.now), func() {
		if tm.stream == nil && tm.lastContact == contact && tm.w.bug != bugNoLease {
			tm.session = 0
			tm.cancelAll("lease is over")
		}
	})
}

// mayWrite says whether the lease holds.
func (tm *taskManager) mayWrite() bool {
	if tm.stream != nil && tm.stream.isOpen && !tm.stream.cut {
		return true
	}
	return tm.w.now < tm.lastContact+heartbeatTimeout
}

func (tm *taskManager) cancelAll(why string) {
	for _, in := range tm.instances {
		tm.end(in, why)
	}
}

// end lets a subtask run out; it takes a moment, and rarely hangs until the process ends itself.
func (tm *taskManager) end(in *instance, why string) {
	if in.ending {
		return
	}
	in.ending = true
	if tm.w.chance(tm.w.odds.hangCancel) {
		tm.w.logf("%s: %s of %s hangs in its cancel", tm.id, in.subtask, in.fence)
		tm.later(killAfter, func() { tm.kill("a cancel hung") })
		return
	}
	tm.later(tm.w.between(0, 100*time.Millisecond), func() { tm.gone(in, jobcore.SubtaskCanceled, nil) })
}

// gone says that a subtask has ended.
func (tm *taskManager) gone(in *instance, state jobcore.SubtaskState, f *jobcore.Failure) {
	in.state, in.over = state, true
	tm.report(in, f)
	tm.forget()
}

// forget drops subtasks that have ended in an attempt that was canceled.
func (tm *taskManager) forget() {
	tm.instances = slices.DeleteFunc(tm.instances, func(in *instance) bool {
		return in.over && compareFences(in.fence, tm.canceled[in.job.id]) <= 0
	})
}

func (tm *taskManager) report(in *instance, f *jobcore.Failure) {
	ev := jobcore.SubtaskStatus{Fence: in.fence, Subtask: in.subtask, State: in.state, Failure: f}
	tm.stream.toJM(func(jm *jobManager) { jm.onReport(in.job, ev) })
}

// placed is one subtask of a deployment.
type placed struct {
	subtask ident.Subtask
	slot    int
	from    int64
	ids     handedIDs // of a sink
}

func (tm *taskManager) onDeploy(j *job, fence ident.Fence, parts []placed) {
	if compareFences(fence, tm.canceled[j.id]) <= 0 {
		for _, p := range parts {
			tm.report(&instance{job: j, fence: fence, subtask: p.subtask, state: jobcore.SubtaskCanceled}, nil)
		}
		return
	}
	known := false
	for _, in := range tm.instances {
		if in.job == j && in.fence == fence {
			known = true
			tm.report(in, nil)
		}
	}
	if known {
		return
	}
	for _, p := range parts {
		for _, in := range tm.instances {
			if in.slot == p.slot && !in.over && (in.job != j || in.fence != fence) {
				tm.w.violate("slot %d of %s runs %s of %s attempt %s when %s of %s attempt %s is deployed into it",
					p.slot, tm.id, in.subtask, in.job.id, in.fence, p.subtask, j.id, fence)
			}
		}
		in := &instance{job: j, fence: fence, subtask: p.subtask, slot: p.slot, state: jobcore.SubtaskDeploying, from: p.from, sent: p.from, ids: p.ids}
		tm.instances = append(tm.instances, in)
		tm.report(in, nil)
		tm.later(tm.w.between(0, 50*time.Millisecond), func() { tm.runs(in) })
	}
}

func (tm *taskManager) runs(in *instance) {
	if in.ending || in.state != jobcore.SubtaskDeploying {
		return
	}
	in.state, in.since = jobcore.SubtaskRunning, tm.w.now
	tm.report(in, nil)
	if in.subtask.Vertex == "sink" {
		in.sink = newSinkTask(tm, in, in.ids)
		in.sink.wake()
		return
	}
	tm.emitLater(in)
	if in.job.bound > 0 && in.subtask.Vertex == "src" {
		tm.later(time.Duration(max(0, in.job.bound-in.from))*time.Millisecond, func() { tm.atEnd(in) })
	}
}

func (tm *taskManager) atEnd(in *instance) {
	if in.ending || in.state != jobcore.SubtaskRunning {
		return
	}
	in.state = jobcore.SubtaskAtEnd
	tm.report(in, nil)
}

// position is the next offset that a source will read.
func (in *instance) position(now time.Duration) int64 {
	if in.frozen {
		return in.frozenAt
	}
	p := in.from + int64((now-in.since)/time.Millisecond)
	if in.job.bound > 0 {
		p = min(p, max(in.job.bound, in.from))
	}
	return p
}

func (tm *taskManager) onCancel(j *job, fence ident.Fence, subtasks []ident.Subtask) {
	if compareFences(fence, tm.canceled[j.id]) > 0 {
		tm.canceled[j.id] = fence
	}
	defer tm.forget()
	for _, s := range subtasks {
		i := slices.IndexFunc(tm.instances, func(in *instance) bool { return in.job == j && in.fence == fence && in.subtask == s })
		if i < 0 {
			tm.report(&instance{job: j, fence: fence, subtask: s, state: jobcore.SubtaskCanceled}, nil)
			continue
		}
		tm.end(tm.instances[i], "canceled")
	}
}

func (tm *taskManager) onTrigger(j *job, t checkpoint.Trigger) {
	for _, in := range slices.Clone(tm.instances) {
		if in.job != j || in.fence != t.Fence || in.subtask.Vertex != "src" || in.ending || t.Checkpoint <= in.barrier {
			continue
		}
		in.barrier = t.Checkpoint
		at := in.position(tm.w.now)
		if t.Kind != checkpoint.KindPeriodic {
			in.frozen, in.frozenAt = true, at
		}
		if t.Kind == checkpoint.KindDrain {
			tm.atEnd(in)
		}
		tm.emit(in)
		for i := range in.job.sinks() {
			tm.w.flowOf(j, t.Fence).send(in.subtask.Index, i, element{barrier: t.Checkpoint})
		}
		pos := manifest.Position{Split: splitOf(j, in.subtask), Next: at, LeaderEpoch: -1, Stop: -1}
		tm.ackSoon(in, t.Checkpoint, []manifest.Position{pos}, nil)
	}
}

// onHandOut gives a sink more ids.
func (tm *taskManager) onHandOut(j *job, fence ident.Fence, sink ident.Subtask, below int) {
	for _, in := range tm.instances {
		if in.job != j || in.fence != fence || in.subtask != sink || in.over {
			continue
		}
		in.ids.count = max(in.ids.count, below)
		if in.sink != nil {
			in.sink.pool.HandOut(in.ids.count)
			in.sink.wake()
		}
	}
}

// onAborted gives a checkpoint up.
func (tm *taskManager) onAborted(j *job, fence ident.Fence, id ident.CheckpointID) {
	for _, in := range slices.Clone(tm.instances) {
		if in.job == j && in.fence == fence && in.sink != nil && !in.over {
			in.sink.aborted(id)
		}
	}
}

func (tm *taskManager) ackSoon(in *instance, id ident.CheckpointID, at []manifest.Position, transactions []manifest.Transaction) {
	tm.later(tm.w.delay(), func() {
		if in.ending {
			return
		}
		if tm.w.chance(tm.w.odds.decline) {
			d := checkpoint.Decline{Fence: in.fence, Checkpoint: id, Subtask: in.subtask, Reason: "no space"}
			tm.stream.toJM(func(jm *jobManager) { jm.onDecline(in.job, d) })
			return
		}
		a := checkpoint.Ack{Ack: manifest.Ack{Job: in.job.id, Fence: in.fence, Checkpoint: id, Subtask: in.subtask, Positions: at, Transactions: transactions}}
		tm.w.history.acked(a)
		tm.acks = append(tm.acks, a)
		tm.stream.toJM(func(jm *jobManager) { jm.onAck(a) })
	})
}

func (tm *taskManager) onCompleted(j *job, fence ident.Fence, id ident.CheckpointID) {
	tm.acks = slices.DeleteFunc(tm.acks, func(a checkpoint.Ack) bool { return a.Job == j.id && a.Fence == fence && a.Checkpoint <= id })
	for _, in := range slices.Clone(tm.instances) {
		if in.job == j && in.fence == fence && in.sink != nil && !in.over {
			in.sink.pool.Completed(id)
			in.sink.wake()
		}
	}
}

// failOne lets one subtask fail.
func (tm *taskManager) failOne() {
	if len(tm.instances) == 0 {
		return
	}
	in := tm.instances[tm.w.rng.IntN(len(tm.instances))]
	if in.ending || in.over {
		return
	}
	in.ending = true
	class := []jobcore.Class{jobcore.User, jobcore.External, jobcore.Internal}[tm.w.rng.IntN(3)]
	tm.w.logf("%s: %s of %s %s fails", tm.id, in.subtask, in.job.id, in.fence)
	tm.gone(in, jobcore.SubtaskFailed, &jobcore.Failure{Class: class, Message: "simulated"})
}

func splitOf(j *job, source ident.Subtask) manifest.Split {
	return manifest.Split{Source: "src", Topic: string(j.id), Partition: int32(source.Index)}
}
