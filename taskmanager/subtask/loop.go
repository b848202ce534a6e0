package subtask

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/taskmanager/exchange"
)

// flushEvery bounds how long a record waits in an open batch while the loop is busy; an idle loop sends
// at once.
const flushEvery = 10 * time.Millisecond

// loop is what the subtask's goroutine owns while it runs.
type loop struct {
	task      *Task
	cfg       *Config
	chain     *chain
	aligner   *Aligner
	positions *positions
	keeper    operator.OffsetKeeper // nil: the positions are ours

	batches <-chan operator.SourceBatch // nil without a source, and after a final barrier
	arrived <-chan struct{}             // nil with a source
	acks    *acks

	ended   bool // End has been sent
	atEnd   bool // AtEnd has been reported
	dirty   bool // outputs may hold records that have not been sent
	flushed time.Time
}

// run is the subtask's goroutine.
func (t *Task) run(ctx, parent context.Context, g *errgroup.Group) error {
	l := &loop{task: t, cfg: &t.cfg, chain: newChain(ctx, &t.cfg, &t.counters)}
	if err := l.restore(); err != nil {
		return err
	}
	l.acks = &acks{reporter: t.cfg.Reporter, sinks: len(l.chain.sinks)}
	l.aligner = NewAligner(1)
	if l.cfg.Source != nil {
		l.positions = newPositions(l.cfg)
		l.batches = l.cfg.Source.Batches()
		l.keeper, _ = l.cfg.Source.(operator.OffsetKeeper)
	} else {
		l.positions = &positions{}
		l.aligner = NewAligner(l.cfg.Inputs.Count())
		l.arrived = l.cfg.Inputs.Ready()
	}
	l.start(ctx, parent, g)
	l.cfg.Reporter.Running()
	if err := l.endOfSource(ctx); err != nil {
		return err
	}
	for {
		if err := l.turn(ctx); err != nil {
			return err
		}
	}
}

func (l *loop) restore() error {
	for i, piece := range l.cfg.State {
		op, ok := l.cfg.Operators[piece.Operator].(operator.Stateful)
		if !ok {
			return fmt.Errorf("restore %s: there is no such operator with state here", piece.Operator)
		}
		if err := op.Restore(piece.Data); err != nil {
			return &Error{l.cfg.Subtask, piece.Operator, fmt.Errorf("restore %d bytes of state: %w", len(piece.Data), err)}
		}
		l.cfg.State[i].Data = nil // the operator has what it needs
	}
	l.cfg.State = nil
	return nil
}

// start runs the source and the sinks beside the loop.
func (l *loop) start(ctx, parent context.Context, g *errgroup.Group) {
	beside := func(name string, run func(context.Context) error) {
		g.Go(func() error {
			return l.task.guard(parent, name, func() error {
				err := run(ctx)
				if err == nil && ctx.Err() == nil {
					err = errors.New("it ended by itself")
				}
				return err
			})
		})
	}
	if l.cfg.Source != nil {
		beside(l.cfg.Vertex.Nodes[0].Name, l.cfg.Source.Run)
	}
	for i, s := range l.chain.sinks {
		beside(s.name, s.sink.Run)
		g.Go(func() error { return forward(ctx, i, s.sink.Sealed(), l.acks) })
	}
}

// forward hands on what a sink reports.
func forward(ctx context.Context, sink int, from <-chan operator.SealedEpoch, to *acks) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-from:
			to.sealed(sink, e)
		}
	}
}

// turn handles what there is to handle, or waits for it. Control comes between two batches.
func (l *loop) turn(ctx context.Context) error {
	if err := l.control(ctx); err != nil {
		return err
	}
	worked, err := l.work(ctx)
	if err != nil {
		return err
	}
	if l.dirty && (!worked || time.Since(l.flushed) >= flushEvery) {
		return l.flush(ctx)
	}
	if worked {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.task.mailbox.wake:
		return l.read(ctx)
	case sb := <-l.batches:
		return l.onSource(ctx, &sb)
	case <-l.arrived:
	}
	return nil
}

// control handles what has come beside the data, without waiting.
func (l *loop) control(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.task.mailbox.wake:
		return l.read(ctx)
	default:
		return nil
	}
}

// work takes one batch or element, if there is one.
func (l *loop) work(ctx context.Context) (worked bool, err error) {
	if l.cfg.Source != nil {
		select {
		case sb := <-l.batches:
			return true, l.onSource(ctx, &sb)
		default:
			return false, nil
		}
	}
	e, ok, err := l.cfg.Inputs.Next()
	if err != nil || !ok {
		return false, err
	}
	return true, l.onElement(ctx, e)
}

func (l *loop) flush(ctx context.Context) error {
	l.dirty = false
	l.flushed = time.Now()
	return l.chain.flush(ctx)
}

// onSource passes a batch through the chain; only then its position moves.
func (l *loop) onSource(ctx context.Context, sb *operator.SourceBatch) error {
	defer sb.Release()
	if l.keeper != nil && !l.keeper.Accept(sb) {
		return nil
	}
	if l.cfg.Until != nil {
		if l.positions.ended(sb.Split) {
			return nil // it was on its way when the split ended
		}
		if err := l.cut(sb); err != nil {
			return err
		}
	}
	if sb.Batch != nil {
		if err := l.process(sb.Batch); err != nil {
			return err
		}
	}
	if l.keeper != nil {
		l.keeper.Taken(sb)
		return nil
	}
	if err := l.positions.advance(sb); err != nil {
		return err
	}
	return l.endOfSource(ctx)
}

// cut ends the split of a batch at the record for which until holds. The position stays at this record.
func (l *loop) cut(sb *operator.SourceBatch) error {
	if sb.Batch == nil {
		return nil
	}
	rest, end, err := l.cfg.Until.Cut(sb.Batch)
	if err != nil {
		return l.chain.named(l.cfg.Vertex.Nodes[0].Name, err)
	}
	if sb.Batch = rest; rest.Len() == 0 {
		sb.Batch = nil
	}
	if end >= 0 {
		sb.Next = end
		l.positions.stop(sb.Split, end)
		if source, ok := l.cfg.Source.(operator.SplitEnder); ok {
			source.EndSplit(sb.Split, end)
		}
	}
	return l.chain.buried()
}

func (l *loop) process(b *operator.Batch) error {
	l.task.counters.in(b)
	l.dirty = len(l.chain.outputs) > 0
	if err := l.chain.head(b); err != nil {
		return err
	}
	return l.chain.buried()
}

// endOfSource ends the data of a bounded source that has read everything. The subtask stays.
func (l *loop) endOfSource(ctx context.Context) error {
	if l.atEnd || !l.positions.atEnd() {
		return nil
	}
	l.atEnd = true
	if err := l.endOfData(ctx); err != nil {
		return err
	}
	l.cfg.Reporter.AtEnd()
	return nil
}

func (l *loop) endOfData(ctx context.Context) error {
	if l.ended {
		return nil
	}
	l.ended = true
	return l.chain.end(ctx)
}

func (l *loop) onElement(ctx context.Context, e exchange.Element) error {
	switch e.Kind {
	case exchange.BarrierElement:
		return l.onBarrier(ctx, e.Input, e.Checkpoint)
	case exchange.EndElement:
		if l.aligner.End(e.Input) {
			return l.endOfData(ctx)
		}
		return nil
	default:
		defer l.cfg.Inputs.Release(e)
		return l.process(e.Batch)
	}
}

func (l *loop) onBarrier(ctx context.Context, input int, id ident.CheckpointID) error {
	d := l.aligner.Barrier(input, id)
	if d.Declined != 0 {
		l.cfg.Reporter.Decline(d.Declined, fmt.Sprintf("checkpoint %d came before the barriers of %d on all inputs", id, d.Declined))
	}
	if d.Release {
		l.cfg.Inputs.UnblockAll()
	}
	switch d.Action {
	case Hold:
		l.cfg.Inputs.Block(input)
	case Snapshot:
		return l.checkpoint(ctx, id)
	case Obsolete:
	}
	return nil
}
