package subtask

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/operator"
)

// acks holds the ack that waits for its sinks. There is at most one: a newer barrier means that the job
// manager has given the older checkpoint up. Sinks report beside the loop, so that a full one, in whose
// Write the loop waits, does not hold the ack back.
type acks struct {
	reporter Reporter
	sinks    int

	mu      sync.Mutex
	pending *pendingAck // nil: none
}

// pendingAck waits for the subtask's own part and for every sink.
type pendingAck struct {
	ack    *manifest.Ack
	sealed []bool // per sink
	waits  int
}

// begin makes the ack of a checkpoint pending, before its sinks seal.
func (a *acks) begin(ack *manifest.Ack) {
	a.mu.Lock()
	old := a.pending
	a.pending = &pendingAck{ack: ack, sealed: make([]bool, a.sinks), waits: 1 + a.sinks}
	a.mu.Unlock()
	if old != nil {
		a.reporter.Decline(old.ack.Checkpoint, fmt.Sprintf("checkpoint %d came before the sinks had sealed %d", ack.Checkpoint, old.ack.Checkpoint))
	}
}

// drop forgets the ack of a checkpoint, or of an older one; false if none is pending.
func (a *acks) drop(id ident.CheckpointID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pending == nil || a.pending.ack.Checkpoint > id {
		return false
	}
	a.pending = nil
	return true
}

// own adds the subtask's own part.
func (a *acks) own(id ident.CheckpointID, positions []manifest.Position, state []manifest.State) {
	a.part(id, func(p *pendingAck) bool {
		p.ack.Positions, p.ack.State = positions, state
		return true
	})
}

// sealed adds the part of a sink. One of an older checkpoint than the pending one is passed over: what it
// lists comes again with the next (DESIGN rule 3).
func (a *acks) sealed(sink int, epoch operator.SealedEpoch) {
	a.part(epoch.Checkpoint, func(p *pendingAck) bool {
		if p.sealed[sink] {
			return false
		}
		p.sealed[sink] = true
		p.ack.Transactions = append(p.ack.Transactions, epoch.Transactions...)
		return true
	})
}

func (a *acks) part(id ident.CheckpointID, add func(*pendingAck) bool) {
	a.mu.Lock()
	p := a.pending
	if p == nil || p.ack.Checkpoint != id || !add(p) {
		a.mu.Unlock()
		return
	}
	p.waits--
	complete := p.waits == 0
	if complete {
		a.pending = nil
	}
	a.mu.Unlock()
	if complete {
		a.reporter.Ack(p.ack)
	}
}

// read handles the mail. An abort stands before a trigger: a trigger that it names is passed over.
func (l *loop) read(ctx context.Context) error {
	m := l.task.mailbox.take()
	if m.aborted != 0 {
		l.abort(m.aborted)
	}
	if l.cfg.Source == nil {
		return nil
	}
	l.removeSplits(m.removed)
	if err := l.addSplits(m.added); err != nil {
		return err
	}
	if m.trigger.id == 0 {
		return nil
	}
	return l.onTrigger(ctx, m.trigger)
}

// removeSplits leaves splits out of every checkpoint from now on that the job manager has stored where they stand. One
// that was read further since is kept: its position is known here alone.
func (l *loop) removeSplits(splits []manifest.Position) {
	source, ok := l.cfg.Source.(operator.SplitRemover)
	if !ok {
		return
	}
	gone := map[manifest.Split]bool{}
	for _, p := range splits {
		if l.positions.standsAt(p) && source.RemoveSplit(p.Split, p.Next) {
			gone[p.Split] = true
		}
	}
	if len(gone) > 0 {
		l.positions.remove(gone)
	}
}

// replaced lets go of splits that were kept, and whose topic has made room for another one of its name since. While records
// of the old one are on their way the new one cannot be read beside it: the next attempt reads it.
func (l *loop) replaced(added []manifest.Position) error {
	var over []manifest.Position
	for _, p := range added {
		if old, ok := l.positions.ofAnotherTopic(p); ok {
			over = append(over, old)
		}
	}
	l.removeSplits(over)
	for _, p := range added {
		if _, ok := l.positions.ofAnotherTopic(p); ok {
			return fmt.Errorf("topic %s was deleted and created again, and records of the old one are still on their way; the new one is read after a restart", p.Topic)
		}
	}
	return nil
}

// addSplits makes new splits part of every checkpoint from now on, before the source reads any of them. After a
// final barrier nothing is read any more.
func (l *loop) addSplits(splits []manifest.Position) error {
	if err := l.replaced(splits); err != nil {
		return err
	}
	fresh := l.positions.missing(splits)
	if len(fresh) == 0 || l.batches == nil {
		return nil
	}
	source, ok := l.cfg.Source.(operator.SplitAdder)
	if !ok {
		return fmt.Errorf("source %s takes no partitions while it runs", l.cfg.Vertex.Nodes[0].Name)
	}
	l.positions.add(fresh)
	source.AddSplits(fresh)
	return nil
}

func (l *loop) abort(id ident.CheckpointID) {
	if l.aligner.Abort(id) {
		l.cfg.Inputs.UnblockAll()
	}
	l.acks.drop(id)
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
	if l.keeper != nil {
		l.keeper.Barrier(id)
	}
	l.acks.begin(&manifest.Ack{Job: l.cfg.Job, Fence: l.cfg.Fence, Checkpoint: id, Subtask: l.cfg.Subtask})
	if err := l.chain.seal(ctx, id); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.Barrier); err != nil {
		return err
	}
	if err := l.chain.barrier(ctx, id); err != nil {
		return err
	}
	l.dirty = false
	state, err := l.snapshot()
	if err != nil {
		l.cfg.Logger.Warn("checkpoint declined", "checkpoint", id, "reason", err)
		if l.acks.drop(id) {
			l.cfg.Reporter.Decline(id, err.Error())
		}
		return nil
	}
	l.acks.own(id, slices.Clone(l.positions.all), state)
	return nil
}

// snapshot is the state of all operators as it is between two batches.
func (l *loop) snapshot() ([]manifest.State, error) {
	if err := failpoint.Hit(failpoint.Snapshot); err != nil {
		return nil, err
	}
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
