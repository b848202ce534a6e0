package jobmanager

import (
	"context"
	"fmt"
	"time"
)

// rollbackTimeout bounds the question for published offsets at a start.
const rollbackTimeout = 3 * time.Second

// checkRollback compares, once at a start of the job manager, the newest checkpoint on disk with the one
// that the published offsets name (DESIGN rule 15). A higher one there means that the disk, with its witness,
// or the whole machine was rolled back: to go on would write output a second time. An answer that does not
// come is no reason to stand still.
func (r *runner) checkRollback(ctx context.Context) error {
	if r.earlier == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, rollbackTimeout)
	defer cancel()
	published, found, err := r.m.connector.ReadCommitted(ctx, r.graph, r.id, r.earlier.Positions)
	if err != nil {
		r.log.Warn("the published offsets cannot be compared with the newest checkpoint", "checkpoint", r.earlier.Checkpoint, "reason", err)
	}
	if !found || published <= r.earlier.Checkpoint {
		return nil
	}
	return fmt.Errorf("job %s (%s): its published offsets are of checkpoint %d, but the newest one in %s is %d: this is an older copy of the data directory, "+
		"and going on would write output a second time; restore the newest copy, or submit the job anew with other start offsets on an empty data directory",
		r.name, r.id, published, r.m.cfg.DataDir, r.earlier.Checkpoint)
}
