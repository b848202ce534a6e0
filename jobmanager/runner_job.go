package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/discovery"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/jobmanager/publish"
	"github.com/sluice-stream/sluice/slots"
)

// storeRetry is the pause before a job record that could not be stored is written again.
const storeRetry = time.Second

// enqueue puts an event for one of the cores behind those that wait already.
func (r *runner) enqueue(ev any) { r.queue = append(r.queue, ev) }

// drain applies the events that wait, and those that their effects produce, until none is left.
func (r *runner) drain(ctx context.Context) error {
	for {
		if r.doubt != nil {
			return fmt.Errorf("job %s: what is durable is in doubt: %w", r.id, r.doubt)
		}
		if len(r.queue) == 0 {
			break
		}
		ev := r.queue[0]
		r.queue = r.queue[1:]
		var err error
		switch ev := ev.(type) {
		case job.Event:
			err = r.stepJob(ctx, time.Now(), ev)
		case asked:
			err = r.stepAsked(ctx, time.Now(), ev)
		case checkpoint.Event:
			err = r.stepCheckpoint(ctx, time.Now(), ev)
		case commit.Event:
			err = r.stepCommit(ctx, time.Now(), ev)
		case discovery.Event:
			r.stepDiscovery(ctx, time.Now(), ev)
		case publish.Event:
			r.stepPublish(ctx, time.Now(), ev)
		case growth:
			r.grow(ctx, ev)
		}
		if err != nil {
			return err
		}
	}
	r.queue = nil
	if len(r.answers) > 0 {
		r.publish() // who asked sees what came of it
	}
	for _, answer := range r.answers {
		answer <- nil // buffered; what was asked for is durable now
	}
	r.answers = nil
	return nil
}

// receive turns a message into events for the cores.
func (r *runner) receive(now time.Time, msg any) {
	switch m := msg.(type) {
	case jobEvent:
		r.enqueue(m.event)
	case checkpointEvent:
		r.enqueue(m.event)
	case subtaskReport:
		r.onReport(m)
	case workerLost:
		r.onWorkerLost(m)
	case workerResumed:
		r.enqueue(job.WorkerResumed{Worker: m.worker})
		r.onSignOfLife()
	case workerRegistered:
		r.onSignOfLife()
	case sinkLevel:
		r.onLevel(m)
	case asked:
		r.enqueue(m)
	case done:
		m.then(now)
	}
}

func (r *runner) onSignOfLife() {
	if r.committer.Status().Unfenced > 0 {
		r.enqueue(commit.SignOfLife{})
	}
}

func (r *runner) onReport(m subtaskReport) {
	if r.deployed != nil && m.fence == r.deployed.fence {
		v := r.subtasks[m.subtask]
		v.state = string(m.state)
		r.subtasks[m.subtask] = v
	}
	r.enqueue(job.SubtaskStatus{Fence: m.fence, Subtask: m.subtask, State: m.state, Failure: m.failure})
}

func (r *runner) onWorkerLost(m workerLost) {
	if r.deployed != nil {
		for s, w := range r.deployed.placement {
			if w == m.worker {
				r.subtasks[s] = subtaskView{state: "LOST", worker: w}
			}
		}
	}
	r.enqueue(job.WorkerLost{Worker: m.worker, Reason: m.reason, Certain: m.certain, LastContact: m.lastContact})
}

// repeat sends a task manager what belongs to the current attempt and what it may have missed while its
// stream was broken.
func (r *runner) repeat(e job.RepeatDeploy) {
	d := r.deployed
	if d == nil || d.fence != e.Fence {
		return
	}
	if m, ok := r.deployMessages[e.Worker]; ok {
		r.m.sessions.sendIn(e.Worker, d.targets[e.Worker].session, m)
	}
	if s := r.coord.Status(); s.Latest != nil && s.Latest.Fence == d.fence && r.announced > d.restored.Checkpoint {
		r.m.sessions.send(e.Worker, completedMessage(r.id, d.fence, r.announced))
	}
	r.repeatSplits(e.Worker)
	for ref, h := range d.handouts {
		if d.placement[ref.subtask] == e.Worker && h.Count > firstIDs { // the first ones come with the deployment
			r.m.sessions.send(e.Worker, handOutMessage(r.id, d.fence, ref, h.Count))
		}
	}
	if r.aborted != nil {
		r.m.sessions.send(e.Worker, r.aborted)
	}
	if r.trigger != nil {
		r.m.sessions.send(e.Worker, r.trigger)
	}
}

// stepJob applies an event to the job and carries out what it says.
func (r *runner) stepJob(ctx context.Context, now time.Time, ev job.Event) error {
	for _, eff := range r.machine.Step(now, ev) {
		if err := r.performJob(ctx, now, eff); err != nil {
			return err
		}
	}
	return nil
}

// stepAsked does the same with a request, and answers it: at once if it is refused, else when all is durable.
func (r *runner) stepAsked(ctx context.Context, now time.Time, a asked) error {
	var refused error
	for _, eff := range r.machine.Step(now, a.event) {
		if e, ok := eff.(job.Ignored); ok && e.Refused {
			refused = status.Errorf(codes.FailedPrecondition, "%s of job %s (%s) is refused: %s", e.What, r.name, r.id, e.Why)
		}
		if err := r.performJob(ctx, now, eff); err != nil {
			return err
		}
	}
	if refused != nil {
		a.answer <- refused // buffered
		return nil
	}
	r.answers = append(r.answers, a.answer)
	return nil
}

func (r *runner) performJob(ctx context.Context, now time.Time, eff job.Effect) error {
	switch e := eff.(type) {
	case job.Persist:
		return r.persistRecord(ctx, e.Record)
	case job.RequestSlots:
		r.m.scheduler.request(slots.Request{
			Job: r.id, Attempt: e.Attempt, Slots: e.Slots, Restarting: e.Restarting, SubmitOrder: r.submitOrder, Since: now,
		})
		if x, waits := r.m.scheduler.explain(r.id); waits {
			r.log.Info("waiting for slots: "+x.String(), "attempt", e.Attempt, "need", x.Need, "have", x.Have)
		}
	case job.WithdrawRequest:
		r.m.scheduler.withdraw(r.id)
	case job.VacateSlots:
		r.m.scheduler.vacated(r.id, e.Attempt, e.Worker)
	case job.ReleaseSlots:
		r.m.scheduler.release(r.id)
	case job.Deploy:
		return r.deploy(ctx, e)
	case job.RepeatDeploy:
		r.repeat(e)
	case job.CancelAttempt:
		r.m.sessions.send(e.Worker, cancelMessage(r.id, e.Fence, e.Subtasks))
	case job.StartCheckpoints:
		gated := r.gated()
		r.enqueue(checkpoint.AttemptStarted{Fence: e.Fence, Subtasks: r.plan.Subtasks(), Sources: r.sources(), Gated: gated})
		for _, s := range gated { // levels may have come before
			r.tellReadiness(s)
		}
		r.enqueue(discovery.Started{Fence: e.Fence, Splits: r.deployed.splits})
	case job.StopCheckpoints:
		r.enqueue(checkpoint.AttemptEnded{Fence: e.Fence, Why: e.Why})
		r.enqueue(discovery.Ended{Fence: e.Fence})
	case job.FinalCheckpoint:
		r.enqueue(checkpoint.FinalRequested{Fence: e.Fence, Drain: e.Drain})
	case job.AttemptGone:
		r.enqueue(commit.AttemptGone{Attempt: e.Attempt})
	case job.CleanUp:
		r.enqueue(commit.CleanUp{})
	case job.Transition:
		r.onTransition(now, e)
	case job.Ignored:
		r.m.metrics.dropped("job")
		r.log.Debug("ignored", "what", e.What, "reason", e.Why)
	}
	return nil
}

// persistRecord returns when the record is durable. While the disk is full it tries again, and the job
// waits visibly; an outcome that is unknown ends the job manager.
func (r *runner) persistRecord(ctx context.Context, rec job.Record) error {
	r.stored.Record = rec
	r.stored.Completed, r.stored.Failed = r.coord.Status().Completed, r.coord.Status().Failed
	if rec.State.Terminal() {
		r.stored.EndedAt = r.m.endNow()
	}
	for {
		err := r.m.store.Update(ctx, func(tx *boltstore.Tx) error { return putRecord(tx, r.id, r.stored) })
		switch {
		case err == nil:
			if r.storeError != "" {
				r.storeError = ""
				r.enqueue(commit.Tick{}) // a deployment may have waited for what was committed meanwhile
			}
			return nil
		case !errors.Is(err, boltstore.ErrNoSpace):
			return fmt.Errorf("store the record of job %s: %w", r.id, err)
		}
		if text := fmt.Sprintf("the job cannot go on: %v", err); text != r.storeError {
			r.storeError = text
			r.log.Error("store job record", "reason", err)
			r.publish()
		}
		if err := r.commitMeanwhile(ctx, storeRetry); err != nil {
			return err
		}
	}
}

// commitMeanwhile lets commits go on for a time in which the loop waits for its disk: brokers abort what is not committed
// in time. All other messages wait for the loop, as many as its inbox holds.
func (r *runner) commitMeanwhile(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		inbox := r.inbox
		if len(r.postponed) >= cap(r.inbox) {
			inbox = nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			r.enqueue(commit.Tick{}) // what was refused may be due again
			return r.commitQueued(ctx)
		case msg := <-inbox:
			outcome, ok := msg.(done)
			if !ok {
				r.postponed = append(r.postponed, msg)
				continue
			}
			outcome.then(time.Now())
			if err := r.commitQueued(ctx); err != nil {
				return err
			}
		}
	}
}

// commitQueued takes the events for the committer out of the queue, and that a manifest is durable, of which come more, and
// carries out what comes of them. A deployment that waits for commits goes on waiting.
func (r *runner) commitQueued(ctx context.Context) error {
	for {
		i := slices.IndexFunc(r.queue, func(ev any) bool {
			_, ofCommitter := ev.(commit.Event)
			_, durable := ev.(checkpoint.Persisted)
			return ofCommitter || durable
		})
		if i < 0 || r.doubt != nil {
			return nil // drain ends the job manager
		}
		ev, err := r.queue[i], error(nil)
		r.queue = slices.Delete(r.queue, i, i+1)
		switch ev := ev.(type) {
		case commit.Event:
			err = r.stepCommitter(ctx, time.Now(), ev)
		case checkpoint.Persisted:
			err = r.stepCheckpoint(ctx, time.Now(), ev)
		}
		if err != nil {
			return err
		}
	}
}

func (r *runner) sources() []ident.Subtask {
	var out []ident.Subtask
	for s := range r.deployed.splits {
		out = append(out, s)
	}
	return out
}

// deploy restores the newest checkpoint and sends the attempt out, once everything that completed checkpoints
// name is committed. An error is one after which the job manager has to end.
func (r *runner) deploy(ctx context.Context, e job.Deploy) error {
	d, err := r.decide()
	switch {
	case err != nil:
		r.enqueue(job.DeployFailed{Fence: e.Fence, Failure: internalFailure(err)}) // tried again
		return nil
	case d.Action == checkpoint.CommitThenRestore && !r.committer.Settled():
		r.log.Info("the deployment waits for commits", "attempt", e.Fence.Attempt, "checkpoint", d.Checkpoint, "transactions", len(d.Commit))
		r.heldDeploy = &e
		r.enqueue(job.DeployHeld{Fence: e.Fence})
		return nil
	case d.Action != checkpoint.Restore:
		r.enqueue(job.DeployFailed{Fence: e.Fence, Failure: internalFailure(fmt.Errorf("the job cannot be restored: %s", d)), Refused: true})
		return nil
	}
	from, err := r.m.restorePoint(r.id, d.Manifest)
	if err != nil {
		r.enqueue(job.DeployFailed{Fence: e.Fence, Failure: internalFailure(err)}) // tried again
		return nil
	}
	dep, gone := r.newDeployment(e, r.seedPositions(ctx, from))
	r.deployed, r.trigger, r.aborted, r.restored = dep, nil, nil, d.Checkpoint
	r.levels, r.growing = map[sinkRef]sinkLevel{}, map[sinkRef]bool{}
	r.subtasks = map[ident.Subtask]subtaskView{}
	for s, w := range dep.placement {
		r.subtasks[s] = subtaskView{state: "SCHEDULED", worker: w}
	}
	if len(gone) > 0 {
		r.enqueue(job.DeployFailed{Fence: e.Fence, Failure: job.Failure{At: time.Now(), Class: job.External, Message: fmt.Sprintf("task managers %v have gone", gone)}, Gone: gone})
		return nil
	}
	return r.sendOut(ctx, e, dep)
}

// sendOut hands out the first transactional ids of an attempt, durably, and sends it to its task managers.
func (r *runner) sendOut(ctx context.Context, e job.Deploy, dep *deployment) error {
	messages, err := dep.messages()
	if err != nil {
		r.enqueue(job.DeployFailed{Fence: e.Fence, Failure: internalFailure(err), Refused: true})
		return nil
	}
	if err := r.handOutFirst(ctx, dep); err != nil {
		if r.doubtful(err); r.doubt == nil { // nothing was written: tried again
			r.enqueue(job.DeployFailed{Fence: e.Fence, Failure: internalFailure(err)})
		}
		return nil
	}
	r.deployMessages = messages
	r.enqueue(job.DeploySent{Fence: e.Fence, Restore: restoreTimeout(dep.restored)})
	r.log.Info("deploying", "attempt", e.Fence.Attempt, "slots", len(e.Slots), "checkpoint", r.restored)
	r.decisions.fenced("deploy", e.Fence, "checkpoint", uint64(r.restored), "needed", r.plan.Slots, "granted", len(e.Slots))
	for w, m := range seedDeploy(r.deployMessages) {
		r.m.sessions.sendIn(w, dep.targets[w].session, m)
	}
	return nil
}

func internalFailure(err error) job.Failure {
	return job.Failure{At: time.Now(), Class: job.Internal, Message: err.Error()}
}

// newDeployment places the subtasks; gone are the workers that have no session any more, or a newer one
// than the slots were granted of.
func (r *runner) newDeployment(e job.Deploy, from *manifest.Manifest) (dep *deployment, gone []ident.WorkerID) {
	dep = &deployment{
		job: r.id, fence: e.Fence, graph: r.graph, plan: r.plan, restored: from, placement: map[ident.Subtask]ident.WorkerID{},
		targets: map[ident.WorkerID]target{}, splits: assignSplits(r.m.connector, r.plan, from.Positions), added: map[ident.Subtask][]manifest.Position{}, removed: map[ident.Subtask][]removedSplit{},
		handouts: newHandouts(r.m.store.ClusterID(), r.id, r.plan, e.Fence.Attempt), idCap: idCap(r.graph),
		transactional: map[ident.Subtask][]sinkRef{},
	}
	for ref := range dep.handouts {
		dep.transactional[ref.subtask] = append(dep.transactional[ref.subtask], ref)
	}
	for _, s := range r.plan.Subtasks() {
		dep.placement[s] = e.Slots[s.Index].Worker
	}
	sessions := map[ident.WorkerID]target{}
	for _, slot := range e.Slots {
		if to, ok := r.m.sessions.targetOf(slot.Worker); ok {
			sessions[slot.Worker] = to
		}
	}
	held := map[ident.Slot]bool{} // asked for last: the loss of one of these sessions would change it
	for _, slot := range r.m.scheduler.held(r.id) {
		held[slot] = true
	}
	for _, slot := range e.Slots {
		if to, ok := sessions[slot.Worker]; ok && held[slot] {
			dep.targets[slot.Worker] = to
		} else if !slices.Contains(gone, slot.Worker) {
			gone = append(gone, slot.Worker)
		}
	}
	return dep, gone
}
