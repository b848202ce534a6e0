package taskmanager

import (
	"context"
	"sync"

	"github.com/sluice-stream/sluice/ident"
)

// uploads are the acks of an attempt whose state is on its way to the job manager. What belongs to a checkpoint that is over is
// given up: it would take the line, and the memory, from the next one.
type uploads struct {
	running sync.WaitGroup
	mu      sync.Mutex
	cancels map[ident.CheckpointID][]context.CancelFunc
	over    ident.CheckpointID // the newest checkpoint that is
}

// start runs an upload for a checkpoint until ctx ends or the checkpoint is over. One checkpoint is drawn at a time, so
// older ones are over.
func (u *uploads) start(ctx context.Context, id ident.CheckpointID, upload func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.endLocked(id - 1)
	if id <= u.over {
		cancel() // it was aborted before its ack was ready; the upload says so
	}
	if u.cancels == nil {
		u.cancels = map[ident.CheckpointID][]context.CancelFunc{}
	}
	u.cancels[id] = append(u.cancels[id], cancel)
	u.running.Go(func() {
		defer cancel()
		upload(ctx)
	})
}

// end gives up what belongs to checkpoints up to this one.
func (u *uploads) end(through ident.CheckpointID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.endLocked(through)
}

func (u *uploads) endLocked(through ident.CheckpointID) {
	u.over = max(u.over, through)
	for id, cancels := range u.cancels {
		if id > through {
			continue
		}
		for _, cancel := range cancels {
			cancel()
		}
		delete(u.cancels, id)
	}
}
