package jobmanager

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/internal/failpoint"
)

// retentionPause is between two rounds of retention: each is a durable write that reads every manifest of the job, which a
// job with ten checkpoints a second need not pay for ten times. Until the next round a few checkpoints more are kept.
const retentionPause = time.Second

// retention is what a job loop knows of the round that drops old checkpoints.
type retention struct {
	// waiting: a round is on its way or waits for its time; due: a checkpoint was committed meanwhile.
	waiting, due bool
	last         time.Time
}

// retainSoon begins a round of retention, or lets another one follow that on its way.
func (r *runner) retainSoon(ctx context.Context) {
	if r.retention.waiting {
		r.retention.due = true
		return
	}
	r.retention.waiting, r.retention.due = true, false
	wait := time.Until(r.retention.last.Add(retentionPause))
	r.beside(ctx, func(ctx context.Context) error {
		if wait > 0 && pause(ctx, wait) != nil {
			return nil // the job manager ends; the next one drops the rest
		}
		return r.retain(ctx)
	}, func(now time.Time, err error) {
		r.logged("retention")(now, err)
		r.retention.waiting, r.retention.last = false, now
		if r.retention.due {
			r.retainSoon(ctx)
		}
	})
}

// retainLast drops what no later round will, as the job has ended and nothing is on its way any more. How a round went that
// was on its way is not known.
func (r *runner) retainLast(ctx context.Context) error {
	if !r.retention.waiting {
		return nil
	}
	if r.logged("retention")(time.Now(), r.retain(ctx)); r.doubt != nil {
		return fmt.Errorf("job %s: what is durable is in doubt: %w", r.id, r.doubt)
	}
	return nil
}

// retain drops the checkpoints that are kept no longer, first in the database, then their files.
func (r *runner) retain(ctx context.Context) error {
	if err := failpoint.Hit(failpoint.BeforeRetention); err != nil {
		return err
	}
	var plan checkpoint.Plan
	err := r.m.store.Update(ctx, func(tx *boltstore.Tx) error {
		found, err := tx.Manifests(r.id)
		if err != nil {
			return err
		}
		var list []*manifest.Manifest
		for _, f := range found {
			if f.Err != nil {
				return f.Err
			}
			list = append(list, f.Manifest)
		}
		plan = checkpoint.Retention(list, r.graph.Checkpoint.Retain, tx.Marked(r.id))
		return tx.DeleteManifests(r.id, plan.Drop...)
	})
	if err != nil {
		return fmt.Errorf("drop old checkpoints: %w", err)
	}
	if err := failpoint.Hit(failpoint.AfterRetention); err != nil {
		return err
	}
	return r.m.blobs.Delete(plan.Delete...)
}
