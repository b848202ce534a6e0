package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

// stepCheckpoint applies an event to the coordinator and carries out what it says.
func (r *runner) stepCheckpoint(ctx context.Context, now time.Time, ev checkpoint.Event) error {
	if a, ok := ev.(checkpoint.Ack); ok {
		if err := failpoint.Hit(failpoint.ReceiveAck); err != nil {
			return nil // lost on the way
		}
		r.decisions.fenced("ack", a.Fence, "checkpoint", uint64(a.Checkpoint), "subtask", a.Subtask.String(), "transactions", keysOf(a.Transactions))
	}
	for _, eff := range r.coord.Step(now, ev) {
		if err := r.performCheckpoint(ctx, eff); err != nil {
			return err
		}
	}
	if ended, ok := ev.(checkpoint.AttemptEnded); ok {
		r.settling = ended.Fence
	}
	if r.settling != (ident.Fence{}) && (!r.coord.Settling() || failpoint.Bug(failpoint.FenceDuringWrite)) {
		r.enqueue(commit.AttemptOver{Attempt: r.settling.Attempt})
		r.enqueue(job.CheckpointSettled{Fence: r.settling})
		r.settling = ident.Fence{}
	}
	return nil
}

func (r *runner) performCheckpoint(ctx context.Context, eff checkpoint.Effect) error {
	switch e := eff.(type) {
	case checkpoint.Trigger:
		r.log.Debug("checkpoint triggered", "checkpoint", e.Checkpoint, "attempt", e.Fence.Attempt, "kind", e.Kind.String())
		if err := failpoint.Hit(failpoint.Trigger); err != nil {
			return err
		}
		r.decisions.fenced("trigger", e.Fence, "checkpoint", uint64(e.Checkpoint))
		r.trigger = triggerMessage(r.id, e)
		r.sendToSubtasks(e.Sources, r.trigger)
	case checkpoint.ReserveIDs:
		r.beside(ctx, func(ctx context.Context) error {
			return r.m.store.Update(ctx, func(tx *boltstore.Tx) error { return tx.Reserve(r.id, e.Through) })
		}, func(_ time.Time, err error) {
			r.doubtful(err)
			r.enqueue(checkpoint.IDsReserved{Through: e.Through, Err: err})
		})
	case checkpoint.Persist:
		r.persistManifest(ctx, e)
	case checkpoint.Completed:
		r.completed(e)
	case checkpoint.Abort:
		r.log.Warn("checkpoint failed", "checkpoint", e.Checkpoint, "attempt", e.Fence.Attempt, "reason", e.Why)
		r.decisions.fenced("aborted", e.Fence, "checkpoint", uint64(e.Checkpoint), "reason", e.Why)
		r.trigger, r.aborted = nil, abortedMessage(r.id, e)
		r.seedAbort(ctx, e.Fence)
		r.sendToAll(e.Fence, r.aborted)
	case checkpoint.Discard:
		r.beside(ctx, func(context.Context) error { return r.m.blobs.Discard(r.id, e.Checkpoint) }, r.logged("discard state files"))
	case checkpoint.FailAttempt:
		r.enqueue(job.CheckpointsFailing{Fence: e.Fence, Why: e.Why})
	case checkpoint.Ignored:
		r.m.metrics.dropped("checkpoint")
		r.log.Debug("ignored", "what", e.What, "reason", e.Why)
	case checkpoint.Die:
		return fmt.Errorf("job %s: %s", r.id, e.Why)
	}
	return nil
}

// logged is for children whose failure costs nothing but space, if it is certain.
func (r *runner) logged(what string) func(time.Time, error) {
	return func(_ time.Time, err error) {
		r.doubtful(err)
		if err != nil {
			r.log.Warn(what, "reason", err)
		}
	}
}

func (r *runner) persistManifest(ctx context.Context, e checkpoint.Persist) {
	var refused error // by the transaction itself: nothing was written
	if failpoint.Bug(failpoint.CommitBeforeDurable) {
		r.enqueue(commit.Completed{Manifest: e.Manifest})
	}
	counts := storedCounts{r.coord.Status().Completed + 1, r.coord.Status().Failed}
	r.beside(ctx, func(ctx context.Context) error {
		if refused = failpoint.Hit(failpoint.BeforePersist); refused != nil {
			return refused
		}
		return r.m.store.Update(ctx, func(tx *boltstore.Tx) error {
			refused = errors.Join(tx.PutManifest(e.Manifest), tx.Reserve(r.id, e.ReserveThrough), putCounts(tx, r.id, counts))
			return refused
		})
	}, func(_ time.Time, err error) {
		if err == nil {
			err = failpoint.Hit(failpoint.AfterPersist)
		}
		if err != nil { // the coordinator shows it as the reason of the pending checkpoint
			r.log.Error("store checkpoint", "checkpoint", e.Manifest.Checkpoint, "reason", err)
		}
		certain := errors.Is(err, boltstore.ErrNoSpace) || refused != nil && !errors.Is(err, boltstore.ErrDamaged)
		r.enqueue(checkpoint.Persisted{Checkpoint: e.Manifest.Checkpoint, Err: err, Unknown: err != nil && !certain})
	})
}

// completed has the transactions of a durable checkpoint committed; then it is announced.
func (r *runner) completed(e checkpoint.Completed) {
	m := e.Manifest
	r.log.Debug("checkpoint completed", "checkpoint", m.Checkpoint, "attempt", m.Fence.Attempt, "duration", e.Duration, "sizeBytes", m.SizeBytes(), "final", m.Final)
	r.m.metrics.checkpointDuration.WithLabelValues(r.name).Observe(e.Duration.Seconds())
	r.decisions.fenced("completed", m.Fence, "checkpoint", uint64(m.Checkpoint), "final", m.Final, "transactions", keysOf(m.Transactions))
	r.trigger = nil
	r.settleRemoved(m)
	r.unannounced = append(r.unannounced, m)
	r.enqueue(commit.Completed{Manifest: m})
	r.enqueue(job.CheckpointCompleted{Fence: m.Fence, Checkpoint: m.Checkpoint, Final: m.Final})
}

// sendToSubtasks sends one message to each task manager that runs one of the subtasks.
func (r *runner) sendToSubtasks(subtasks []ident.Subtask, m message) {
	sent := map[ident.WorkerID]bool{}
	for _, s := range subtasks {
		if w := r.deployed.placement[s]; !sent[w] {
			sent[w] = true
			r.m.sessions.send(w, m)
		}
	}
}

// sendToAll sends a message to every task manager of an attempt, if it is the one that is deployed.
func (r *runner) sendToAll(fence ident.Fence, m message) {
	if r.deployed == nil || r.deployed.fence != fence {
		return
	}
	for w := range r.deployed.targets {
		r.m.sessions.send(w, m)
	}
}
