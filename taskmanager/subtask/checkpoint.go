package subtask

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// pendingAck is an ack that waits for its sinks. There is at most one: a newer barrier means that the
// job manager has given the older checkpoint up.
type pendingAck struct {
	ack    *manifest.Ack
	sealed []bool // per sink
	waits  int
}

// read handles the mail. An abort stands before a trigger: a trigger that it names is passed over.
func (l *loop) read(ctx context.Context) error {
	m := l.task.mailbox.take()
	if m.completed != 0 {
		for _, s := range l.chain.sinks {
			s.sink.Completed(m.completed)
		}
	}
	for _, id := range m.aborted {
		l.abort(id)
	}
	if m.trigger.id == 0 || l.cfg.Source == nil {
		return nil
	}
	return l.onTrigger(ctx, m.trigger)
}

func (l *loop) abort(id ident.CheckpointID) {
	if l.aligner.Abort(id) {
		l.cfg.Inputs.UnblockAll()
	}
	if l.pending != nil && l.pending.ack.Checkpoint == id {
		l.pending = nil
	}
}

func (l *loop) onTrigger(ctx context.Context, t trigger) error {
	if l.aligner.Barrier(0, t.id).Action != Snapshot {
		return nil
	}
	if t.kind == Drain {
		if err := l.endOfData(ctx); err != nil {
			return err
		}
	}
	if t.kind != Periodic {
		l.batches = nil // nothing is read any more, so nothing is emitted behind the barrier
	}
	return l.checkpoint(ctx, t.id)
}

// checkpoint takes this subtask's share. The flow goes on as soon as the barrier is sent; the ack
// follows when the sinks' answers are in.
func (l *loop) checkpoint(ctx context.Context, id ident.CheckpointID) error {
	if p := l.pending; p != nil {
		l.pending = nil
		l.cfg.Reporter.Decline(p.ack.Checkpoint, fmt.Sprintf("checkpoint %d came before the sinks had sealed %d", id, p.ack.Checkpoint))
	}
	if err := l.chain.seal(ctx, id); err != nil {
		return err
	}
	if err := l.chain.barrier(ctx, id); err != nil {
		return err
	}
	l.dirty = false
	state, err := l.snapshot()
	if err != nil {
		l.cfg.Logger.Warn("checkpoint declined", "checkpoint", id, "reason", err)
		l.cfg.Reporter.Decline(id, err.Error())
		return nil
	}
	ack := &manifest.Ack{
		Job: l.cfg.Job, Fence: l.cfg.Fence, Checkpoint: id, Subtask: l.cfg.Subtask,
		Positions: slices.Clone(l.positions.all), State: state,
	}
	if len(l.chain.sinks) == 0 {
		l.cfg.Reporter.Ack(ack)
		return nil
	}
	l.pending = &pendingAck{ack: ack, sealed: make([]bool, len(l.chain.sinks)), waits: len(l.chain.sinks)}
	return nil
}

// snapshot is the state of all operators as it is between two batches.
func (l *loop) snapshot() ([]manifest.State, error) {
	var all []manifest.State
	for i := range l.cfg.Vertex.Nodes {
		n := &l.cfg.Vertex.Nodes[i]
		op, ok := l.cfg.Operators[n.Name].(operator.Stateful)
		if n.Kind != graph.KindOperator || !ok {
			continue
		}
		data, err := op.Snapshot()
		if err != nil {
			return nil, fmt.Errorf("snapshot of %s: %w", n.Name, err)
		}
		first, last := graph.KeyGroupsOf(l.cfg.Subtask.Index, l.cfg.Vertex.Parallelism, l.cfg.MaxParallelism)
		all = append(all, manifest.State{
			Operator: n.Name, Subtask: l.cfg.Subtask, FirstKeyGroup: first, LastKeyGroup: last,
			SizeBytes: int64(len(data)), Inline: data,
		})
	}
	return all, nil
}

// onSealed takes a sink's report. One of an older checkpoint than the pending one is passed over: what
// it lists comes again with the next (DESIGN rule 3).
func (l *loop) onSealed(s sinkSealed) {
	p := l.pending
	if p == nil || s.epoch.Checkpoint != p.ack.Checkpoint || p.sealed[s.sink] {
		return
	}
	p.sealed[s.sink] = true
	p.waits--
	p.ack.Transactions = append(p.ack.Transactions, s.epoch.Transactions...)
	if p.waits == 0 {
		l.pending = nil
		l.cfg.Reporter.Ack(p.ack)
	}
}
