package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/slots"
)

// runner is the loop of one job in one start of the job manager, as package jobmanager has it.
type runner struct {
	jm      *jobManager
	job     *job
	disk    *stored
	machine *jobcore.Machine
	coord   *checkpoint.Coordinator
	queue   []fmt.Stringer
	inbox   time.Duration // when the last posted message arrives
	armed   time.Duration // the deadline that the timer is set to

	deployed map[ident.WorkerID][]placed
	fence    ident.Fence
	trigger  *checkpoint.Trigger
	settling ident.Fence
	// completedHealed counts announced checkpoints since the faults stopped.
	completedHealed int
	committing
}

func newRunner(jm *jobManager, j *job, s *stored) *runner {
	r := &runner{jm: jm, job: j, disk: s, committing: newCommitting(jm.w, s)}
	policy := graph.Restart{Strategy: graph.ExponentialDelay, Max: 3 * time.Second, Attempts: j.attempts, HealthyAfter: 10 * time.Second}
	r.machine = jobcore.New(jobcore.Config{
		Epoch: jm.epoch, Slots: j.parallelism, Subtasks: j.subtasks, Sources: j.sources, Restart: policy,
		Lease: heartbeatTimeout + leaseMargin, DeployTimeout: healPhase * 2, Rand: jm.w.rng.Float64,
	}, s.record)
	start := checkpoint.Start{Job: j.id, Identity: identity, Reserved: s.reserved, Latest: s.latest()}
	if jm.w.bug == bugForgetReserved {
		start.Reserved, start.Latest = s.newest, nil
	}
	r.coord = checkpoint.NewCoordinator(checkpoint.Config{Interval: time.Second, Timeout: 5 * time.Second, TolerableFailures: tolerable}, start)
	return r
}

// post hands over a message behind those posted before.
func (r *runner) post(ev fmt.Stringer) {
	w := r.jm.w
	r.inbox = max(r.inbox, w.now+w.between(0, time.Millisecond))
	w.after(r.inbox-w.now, func() { r.handle(ev) })
}

// handle applies an event and all that follows from it.
func (r *runner) handle(ev fmt.Stringer) {
	if r.jm.dead {
		return
	}
	r.queue = append(r.queue, ev)
	for len(r.queue) > 0 && !r.jm.dead {
		ev := r.queue[0]
		r.queue = r.queue[1:]
		if r.jm.w.log != nil {
			r.jm.w.logf("%s > %v", r.job.id, ev)
		}
		switch ev := ev.(type) {
		case jobcore.Event:
			r.stepJob(ev)
		case checkpoint.Event:
			r.stepCheckpoint(ev)
		case commit.Event:
			r.stepCommit(ev)
		}
	}
	r.arm()
}

// arm sets the timer to the next deadline.
func (r *runner) arm() {
	due := r.coord.Deadline()
	for _, d := range []time.Time{r.machine.Deadline(), r.committer.Deadline()} {
		if due.IsZero() || !d.IsZero() && d.Before(due) {
			due = d
		}
	}
	if r.jm.dead || due.IsZero() {
		r.armed = 0
		return
	}
	w := r.jm.w
	at := max(due.Sub(start), w.now+time.Microsecond)
	if at == r.armed {
		return
	}
	r.armed = at
	w.after(at-w.now, func() {
		if r.armed == at && !r.jm.dead {
			r.armed = 0
			r.queue = append(r.queue, jobcore.Tick{}, commit.Tick{})
			r.handle(checkpoint.Tick{})
		}
	})
}

func (r *runner) stepJob(ev jobcore.Event) {
	w := r.jm.w
	for _, eff := range r.machine.Step(w.time(), ev) {
		if w.chance(w.odds.crashAtEffect) {
			r.jm.die("before " + eff.String())
			return
		}
		if w.log != nil {
			w.logf("%s     %v", r.job.id, eff)
		}
		r.performJob(eff)
		if r.jm.dead {
			return
		}
	}
}

func (r *runner) performJob(eff jobcore.Effect) {
	w, pool := r.jm.w, r.jm.pool
	switch e := eff.(type) {
	case jobcore.Persist:
		r.persist(e.Record)
	case jobcore.RequestSlots:
		r.jm.grant(pool.Request(slots.Request{
			Job: r.job.id, Attempt: e.Attempt, Slots: e.Slots, Restarting: e.Restarting, SubmitOrder: r.job.order, Since: w.time(),
		}))
	case jobcore.WithdrawRequest:
		r.jm.grant(pool.Withdraw(r.job.id))
	case jobcore.VacateSlots:
		r.jm.grant(pool.Vacated(r.job.id, e.Attempt, e.Worker))
	case jobcore.ReleaseSlots:
		r.jm.grant(pool.Release(r.job.id))
	case jobcore.Deploy:
		r.deploy(e)
	case jobcore.RepeatDeploy:
		r.repeat(e)
	case jobcore.CancelAttempt:
		r.cancel(e)
	case jobcore.StartCheckpoints:
		r.queue = append(r.queue, checkpoint.AttemptStarted{Fence: e.Fence, Subtasks: r.job.subtasks, Sources: r.job.sources, Gated: r.job.sinks()})
		for _, s := range r.job.sinks() { // levels may have come before
			r.queue = append(r.queue, checkpoint.SinkReadiness{Fence: e.Fence, Subtask: s, Ready: r.ready[s]})
		}
	case jobcore.StopCheckpoints:
		w.history.stopped(r.job, e.Fence)
		r.queue = append(r.queue, checkpoint.AttemptEnded{Fence: e.Fence, Why: e.Why})
	case jobcore.FinalCheckpoint:
		r.queue = append(r.queue, checkpoint.FinalRequested{Fence: e.Fence, Drain: e.Drain})
	case jobcore.AttemptGone:
		r.queue = append(r.queue, commit.AttemptGone{Attempt: e.Attempt})
	case jobcore.CleanUp:
		w.checkNothingWrites(r.job)
		if w.bug == bugTerminalEarly {
			r.queue = append(r.queue, jobcore.CleanedUp{})
			return
		}
		r.queue = append(r.queue, commit.CleanUp{})
	case jobcore.Transition:
		w.edges[jobcore.Edge{From: e.From, Event: e.Event, To: e.To}]++
	}
}

func (r *runner) persist(rec jobcore.Record) {
	w := r.jm.w
	if w.bug == bugForgetAttempt && rec.State == jobcore.Deploying {
		return
	}
	if w.bug == bugForgetCancel && rec.State == jobcore.Canceling {
		return
	}
	w.checkRecord(r.job, r.disk.record, rec)
	r.disk.record = rec
}

func (r *runner) deploy(e jobcore.Deploy) {
	w := r.jm.w
	d := checkpoint.Decide(r.disk.facts(r.job.id))
	if d.Action == checkpoint.CommitThenRestore && !r.committer.Settled() {
		r.held = &e
		return
	}
	if d.Action == checkpoint.CommitThenRestore { // what cannot be committed any more is on its way to the job
		r.queue = append(r.queue, jobcore.DeployFailed{Fence: e.Fence, Failure: jobcore.Failure{Class: jobcore.Internal, Message: d.String()}, Refused: true})
		return
	}
	from := d.Manifest
	if w.bug == bugRestoreOlder && len(r.disk.manifests) > 1 {
		from = r.disk.manifests[len(r.disk.manifests)-2]
	}
	w.checkDeploy(r.job, e.Fence, from)
	if d.Action != checkpoint.Restore && w.bug == bugNone {
		w.violate("%s cannot be restored: %s", r.job.id, d)
	}
	r.deployed, r.fence, r.trigger, r.handouts = map[ident.WorkerID][]placed{}, e.Fence, nil, nil
	var gone []ident.WorkerID
	held := r.jm.pool.Held(r.job.id)
	for _, s := range r.job.subtasks {
		slot := e.Slots[s.Index]
		if s := r.jm.sessions[slot.Worker]; s == nil || s.lost || !slices.Contains(held, slot) {
			if !slices.Contains(gone, slot.Worker) {
				gone = append(gone, slot.Worker)
			}
			continue
		}
		p := placed{subtask: s, slot: slot.Index}
		if s.Vertex == "sink" {
			p.ids = handedIDs{prefixOf(w, r.job, s.Index, e.Fence.Attempt), firstIDs}
		}
		for _, pos := range from.Positions {
			if pos.Split == splitOf(r.job, s) && s.Vertex == "src" {
				p.from = pos.Next
			}
		}
		r.deployed[slot.Worker] = append(r.deployed[slot.Worker], p)
	}
	if len(gone) > 0 {
		r.queue = append(r.queue, jobcore.DeployFailed{Fence: e.Fence, Failure: jobcore.Failure{Class: jobcore.External, Message: "gone"}, Gone: gone})
		return
	}
	if w.chance(w.odds.diskFull) {
		r.queue = append(r.queue, jobcore.DeployFailed{Fence: e.Fence, Failure: jobcore.Failure{Class: jobcore.Internal, Message: errDiskFull.Error()}})
		return
	}
	r.handOut(e.Fence)
	if w.chance(w.odds.crashAtEffect) {
		r.jm.die("before the deployment is sent")
		return
	}
	for _, tm := range w.tms {
		if parts := r.deployed[tm.id]; parts != nil {
			w.history.sent(r.job, e.Fence, tm.id)
			r.jm.streamTo(tm.id).toTM(func(tm *taskManager) { tm.onDeploy(r.job, e.Fence, parts) })
		}
	}
}

// repeat sends a resumed worker what it may have missed.
func (r *runner) repeat(e jobcore.RepeatDeploy) {
	if e.Fence != r.fence {
		return
	}
	st, parts, j := r.jm.streamTo(e.Worker), r.deployed[e.Worker], r.job
	st.toTM(func(tm *taskManager) { tm.onDeploy(j, e.Fence, parts) })
	if m := r.coord.Status().Latest; m != nil && m.Fence == e.Fence && r.announced > 0 {
		announced := r.announced
		st.toTM(func(tm *taskManager) { tm.onCompleted(j, e.Fence, announced) })
	}
	for _, p := range parts {
		if p.subtask.Vertex == "sink" {
			count := r.handouts[p.subtask].Count
			st.toTM(func(tm *taskManager) { tm.onHandOut(j, e.Fence, p.subtask, count) })
		}
	}
	if t := r.trigger; t != nil {
		st.toTM(func(tm *taskManager) { tm.onTrigger(j, *t) })
	}
}

func (r *runner) cancel(e jobcore.CancelAttempt) {
	r.jm.w.history.canceled(r.job, e.Fence, e.Worker)
	if r.jm.w.bug == bugVacateEarly {
		r.jm.grant(r.jm.pool.Vacated(r.job.id, e.Fence.Attempt, e.Worker))
	}
	j := r.job
	r.jm.streamTo(e.Worker).toTM(func(tm *taskManager) { tm.onCancel(j, e.Fence, e.Subtasks) })
}

// onAck hands an ack to the coordinator, and sees to it that a full set is acted upon.
func (r *runner) onAck(a checkpoint.Ack) {
	w := r.jm.w
	switch f := r.coord.Status().InFlight; {
	case f == nil || len(f.Missing) == 0:
	case w.bug == bugOldAck && a.Fence.Attempt < r.fence.Attempt:
		a.Fence, a.Checkpoint = r.fence, f.Checkpoint
	case w.bug == bugCountAcks && a.Checkpoint == f.Checkpoint && !slices.Contains(f.Missing, a.Subtask):
		a.Subtask, a.Positions = f.Missing[0], nil
	}
	before := r.coord.Status().InFlight
	r.handle(a)
	if r.jm.dead || before == nil || len(before.Missing) != 1 || before.Missing[0] != a.Subtask || a.Checkpoint != before.Checkpoint || a.Fence != r.fence {
		return
	}
	if f := r.coord.Status().InFlight; f != nil && f.Checkpoint == before.Checkpoint && !f.Writing {
		w.violate("%s: every subtask has acknowledged checkpoint %d, but it is not written", r.job.id, a.Checkpoint)
	}
}

func (r *runner) stepCheckpoint(ev checkpoint.Event) {
	w := r.jm.w
	for _, eff := range r.coord.Step(w.time(), ev) {
		if w.chance(w.odds.crashAtEffect) {
			r.jm.die("before " + eff.String())
			return
		}
		if w.log != nil {
			w.logf("%s     %v", r.job.id, eff)
		}
		r.performCheckpoint(eff)
		if r.jm.dead {
			return
		}
	}
	if e, ok := ev.(checkpoint.AttemptEnded); ok {
		r.settling = e.Fence
	}
	if r.settling != (ident.Fence{}) && w.bug == bugFenceDuringWrite {
		r.queue = append(r.queue, commit.AttemptOver{Attempt: r.settling.Attempt})
	}
	if r.settling != (ident.Fence{}) && (!r.coord.Settling() || w.bug == bugSettleEarly) {
		r.queue = append(r.queue, commit.AttemptOver{Attempt: r.settling.Attempt})
		if w.bug == bugNoFinalRound {
			r.queue = append(r.queue, commit.AttemptGone{Attempt: r.settling.Attempt})
		}
		r.queue = append(r.queue, jobcore.CheckpointSettled{Fence: r.settling})
		r.settling = ident.Fence{}
	}
}

func (r *runner) performCheckpoint(eff checkpoint.Effect) {
	w, j := r.jm.w, r.job
	switch e := eff.(type) {
	case checkpoint.Trigger:
		w.checkTrigger(j, e)
		r.trigger = &e
		for _, tm := range w.tms {
			if r.deployed[tm.id] != nil {
				r.jm.streamTo(tm.id).toTM(func(tm *taskManager) { tm.onTrigger(j, e) })
			}
		}
	case checkpoint.ReserveIDs:
		r.reserve(e.Through)
	case checkpoint.Persist:
		w.checkManifest(j, e.Manifest)
		w.checkAge(e.Manifest)
		if w.bug == bugCommitEarly {
			r.queue = append(r.queue, commit.Completed{Manifest: e.Manifest})
		}
		r.write(e)
	case checkpoint.Completed:
		r.completed(e)
	case checkpoint.Abort:
		r.trigger = nil
		r.toAll(e.Fence, func(tm *taskManager) { tm.onAborted(j, e.Fence, e.Checkpoint) })
	case checkpoint.FailAttempt:
		r.queue = append(r.queue, jobcore.CheckpointsFailing{Fence: e.Fence, Why: e.Why})
	case checkpoint.Die:
		r.jm.die(e.Why)
	}
}

// reserve makes the reservation durable and answers; a crash may come before or in between.
func (r *runner) reserve(through ident.CheckpointID) {
	w := r.jm.w
	w.after(w.writing(), func() {
		if r.jm.dead {
			return
		}
		var err error
		if w.chance(w.odds.diskFull) {
			err = errDiskFull
		} else {
			r.disk.reserved = max(r.disk.reserved, through)
		}
		w.after(w.delay(), func() { r.handle(checkpoint.IDsReserved{Through: through, Err: err}) })
	})
}

// write makes a manifest durable and answers. The write goes on when the job manager dies in the middle of
// it, as one that the kernel has already; its outcome may be unknown.
func (r *runner) write(e checkpoint.Persist) {
	w := r.jm.w
	w.after(w.writing(), func() {
		answer := checkpoint.Persisted{Checkpoint: e.Manifest.Checkpoint}
		switch {
		case r.jm.dead && (r.disk.record.State.Terminal() || w.disk.epoch != r.jm.epoch || w.rng.IntN(2) == 0):
			return
		case w.chance(w.odds.diskFull):
			answer.Err = errDiskFull
		case w.chance(w.odds.diskFull / 10):
			answer.Err, answer.Unknown = errDiskFull, true
			if w.rng.IntN(2) == 0 {
				r.durable(e)
			}
		default:
			r.durable(e)
			often := 4.0
			if e.Manifest.Final { // the moment at which a job must not come back
				often = 40
			}
			if w.chance(w.odds.crashAtEffect * often) {
				r.jm.die("before it learned that the checkpoint is durable")
			}
		}
		w.after(w.delay(), func() { r.handle(answer) })
	})
}

func (r *runner) durable(e checkpoint.Persist) {
	r.jm.w.logf("%s: checkpoint %d of %s is durable", r.job.id, e.Manifest.Checkpoint, e.Manifest.Fence)
	r.jm.w.checkDurable(r.job, r.disk, e.Manifest)
	r.disk.put(e.Manifest, e.ReserveThrough)
	r.jm.w.named(r.job, e.Manifest)
}

func (r *runner) completed(e checkpoint.Completed) {
	m := e.Manifest
	r.trigger = nil
	r.unannounced = append(r.unannounced, m)
	r.queue = append(r.queue, commit.Completed{Manifest: m})
	r.queue = append(r.queue, jobcore.CheckpointCompleted{Fence: m.Fence, Checkpoint: m.Checkpoint, Final: m.Final})
}

// zero is checkpoint 0 of a job.
func zero(j *job) *manifest.Manifest {
	var positions []manifest.Position
	for _, s := range j.sources {
		positions = append(positions, manifest.Position{Split: splitOf(j, s), LeaderEpoch: -1, Stop: -1})
	}
	return checkpoint.Zero(j.id, identity, positions, start)
}
