package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

// publishTimeout bounds one publication of offsets; the next checkpoint publishes newer ones.
const publishTimeout = 10 * time.Second

// stepCheckpoint applies an event to the coordinator and carries out what it says.
func (r *runner) stepCheckpoint(ctx context.Context, now time.Time, ev checkpoint.Event) error {
	for _, eff := range r.coord.Step(now, ev) {
		if err := r.performCheckpoint(ctx, eff); err != nil {
			return err
		}
	}
	if ended, ok := ev.(checkpoint.AttemptEnded); ok {
		r.settling = ended.Fence
	}
	if r.settling != (ident.Fence{}) && !r.coord.Settling() {
		r.enqueue(job.CheckpointSettled{Fence: r.settling})
		r.settling = ident.Fence{}
	}
	return nil
}

func (r *runner) performCheckpoint(ctx context.Context, eff checkpoint.Effect) error {
	switch e := eff.(type) {
	case checkpoint.Trigger:
		r.log.Debug("checkpoint triggered", "checkpoint", e.Checkpoint, "attempt", e.Fence.Attempt, "kind", e.Kind.String())
		r.trigger = triggerMessage(r.id, e)
		r.sendToSubtasks(e.Sources, r.trigger)
	case checkpoint.ReserveIDs:
		r.beside(ctx, func(ctx context.Context) error {
			return r.m.store.Update(ctx, func(tx *boltstore.Tx) error { return tx.Reserve(r.id, e.Through) })
		}, func(_ time.Time, err error) { r.enqueue(checkpoint.IDsReserved{Through: e.Through, Err: err}) })
	case checkpoint.Persist:
		r.persistManifest(ctx, e)
	case checkpoint.Completed:
		r.completed(ctx, e)
	case checkpoint.Abort:
		r.log.Warn("checkpoint failed", "checkpoint", e.Checkpoint, "attempt", e.Fence.Attempt, "reason", e.Why)
		r.trigger = nil
		r.sendToAll(e.Fence, abortedMessage(r.id, e))
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

// logged is for children whose failure costs nothing but space.
func (r *runner) logged(what string) func(time.Time, error) {
	return func(_ time.Time, err error) {
		if err != nil {
			r.log.Warn(what, "reason", err)
		}
	}
}

func (r *runner) persistManifest(ctx context.Context, e checkpoint.Persist) {
	var refused error // by the transaction itself: nothing was written
	r.beside(ctx, func(ctx context.Context) error {
		return r.m.store.Update(ctx, func(tx *boltstore.Tx) error {
			refused = errors.Join(tx.PutManifest(e.Manifest), tx.Reserve(r.id, e.ReserveThrough))
			return refused
		})
	}, func(_ time.Time, err error) {
		if err != nil { // the coordinator shows it as the reason of the pending checkpoint
			r.log.Error("store checkpoint", "checkpoint", e.Manifest.Checkpoint, "reason", err)
		}
		certain := errors.Is(err, boltstore.ErrNoSpace) || refused != nil && !errors.Is(err, boltstore.ErrDamaged)
		r.enqueue(checkpoint.Persisted{Checkpoint: e.Manifest.Checkpoint, Err: err, Unknown: err != nil && !certain})
	})
}

// completed announces a durable checkpoint, publishes its offsets, and lets retention run.
func (r *runner) completed(ctx context.Context, e checkpoint.Completed) {
	m := e.Manifest
	r.log.Debug("checkpoint completed", "checkpoint", m.Checkpoint, "attempt", m.Fence.Attempt, "duration", e.Duration, "sizeBytes", m.SizeBytes(), "final", m.Final)
	r.m.metrics.checkpointDuration.WithLabelValues(r.name).Observe(e.Duration.Seconds())
	r.trigger = nil
	r.sendToAll(m.Fence, completedMessage(r.id, m.Fence, m.Checkpoint))
	r.publishOffsets(ctx, m)
	r.beside(ctx, r.retain, r.logged("retention"))
	r.enqueue(job.CheckpointCompleted{Fence: m.Fence, Checkpoint: m.Checkpoint, Final: m.Final})
}

// publishOffsets publishes the newest offsets; one publication runs at a time and those that would come
// in between are left out.
func (r *runner) publishOffsets(ctx context.Context, m *manifest.Manifest) {
	if r.publishing {
		r.next = m
		return
	}
	r.publishing = true
	r.beside(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		return r.m.connector.PublishOffsets(ctx, r.graph, m)
	}, func(_ time.Time, err error) {
		r.publishing = false
		if text := errorText(err); text != r.publishErr {
			r.publishErr = text
			if err != nil {
				r.log.Warn("publish offsets", "checkpoint", m.Checkpoint, "reason", err)
			}
		}
		if next := r.next; next != nil {
			r.next = nil
			r.publishOffsets(ctx, next)
		}
	})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// sendToSubtasks sends one message to each task manager that runs one of the subtasks.
func (r *runner) sendToSubtasks(subtasks []ident.Subtask, m message) {
	var workers []ident.WorkerID
	for _, s := range subtasks {
		if w := r.deployed.placement[s]; !slices.Contains(workers, w) {
			workers = append(workers, w)
		}
	}
	for _, w := range workers {
		r.m.sessions.send(w, m)
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
