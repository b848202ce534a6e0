package checkpoint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// attempt is what the coordinator knows of the attempt that runs.
type attempt struct {
	fence    ident.Fence
	started  time.Time
	expected map[ident.Subtask]struct{}
	order    []ident.Subtask // those of expected, sorted
	sources  []ident.Subtask
	// levels holds the gated sinks and how many transactional ids each has ready; unready counts those with none.
	levels  map[ident.Subtask]int
	unready int
	// final is the kind of the last checkpoint that was asked for; 0: none yet.
	final Kind
	// named holds what the attempt's completed checkpoints named, whatever retention dropped: a transaction stands in
	// one manifest only (DESIGN rule 8).
	named named

	// triggers counts the checkpoints that the attempt was asked for.
	triggers             int
	lastTrigger, lastEnd time.Time
	// pauseUntil is the end of the back-off after a failure.
	pauseUntil time.Time
	// failures counts those in a row; failed says that the attempt was given up because of them.
	failures int
	failed   bool
}

// firstUnready is the first gated sink without a prepared id; nil: none. It looks at all of them, so it is for
// people: what is decided depends on the count.
func (a *attempt) firstUnready() *ident.Subtask {
	var first *ident.Subtask
	for s, level := range a.levels {
		if level < 1 && (first == nil || s.Compare(*first) < 0) {
			first = &s
		}
	}
	return first
}

// named are transactions, as the highest epoch of each transactional and producer id: an id has one transaction after
// the other, each in a higher epoch, so it is as large as the ids are many, however long an attempt runs.
type named map[writer]int16

// writer is a transactional id with a producer id that it was given.
type writer struct {
	transactionalID string
	producerID      int64
}

func (n named) add(k manifest.TransactionKey) {
	w := writer{k.TransactionalID, k.ProducerID}
	if highest, ok := n[w]; !ok || k.ProducerEpoch > highest {
		n[w] = k.ProducerEpoch
	}
}

func (n named) has(k manifest.TransactionKey) bool {
	highest, ok := n[writer{k.TransactionalID, k.ProducerID}]
	return ok && k.ProducerEpoch <= highest
}

func compareFences(a, b ident.Fence) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Attempt, b.Attempt))
}

func (c *Coordinator) onStarted(now time.Time, ev AttemptStarted) {
	switch {
	case compareFences(ev.Fence, c.fence) <= 0:
		c.ignore(ev, "attempt %s was seen", c.fence)
		return
	case c.done:
		c.ignore(ev, "final checkpoint %d completed", c.latest.Checkpoint)
		return
	case len(ev.Subtasks) == 0:
		c.ignore(ev, "it has no subtasks")
		return
	}
	c.fence = ev.Fence
	if c.attempt != nil {
		c.end(now, "attempt "+ev.Fence.String()+" started")
	}
	if c.pending != nil {
		// The new attempt was restored without knowing how the write ends: what it reads may be older
		// than what is being made durable.
		c.emit(FailAttempt{Fence: ev.Fence, Why: fmt.Sprintf("it was deployed while checkpoint %d was being written", c.pending.id)})
		return
	}
	a := &attempt{
		fence: ev.Fence, started: now, sources: slices.Clone(ev.Sources),
		expected: make(map[ident.Subtask]struct{}, len(ev.Subtasks)),
		levels:   make(map[ident.Subtask]int, len(ev.Gated)),
		named:    named{},
	}
	slices.SortFunc(a.sources, ident.Subtask.Compare)
	for _, s := range ev.Subtasks {
		a.expected[s] = struct{}{}
	}
	a.order = slices.SortedFunc(maps.Keys(a.expected), ident.Subtask.Compare)
	for _, s := range ev.Gated {
		a.levels[s] = 0
	}
	a.unready = len(a.levels)
	c.attempt = a
}

func (c *Coordinator) onEnded(now time.Time, ev AttemptEnded) {
	if compareFences(ev.Fence, c.fence) > 0 {
		// It ended before all of its subtasks ran; a late start of it must not be believed.
		c.fence = ev.Fence
	} else if c.stale(ev, ev.Fence) {
		return
	}
	if c.attempt != nil {
		c.end(now, ev.Why)
	}
}

// end forgets the attempt. A checkpoint whose write is on its way stays pending: see Settling.
func (c *Coordinator) end(now time.Time, why string) {
	if c.pending != nil && c.pending.phase != phasePersisting {
		c.fail(now, "the attempt ended: "+why)
	}
	c.attempt = nil
}

func (c *Coordinator) onFinal(ev FinalRequested) {
	if c.done {
		c.ignore(ev, "final checkpoint %d completed", c.latest.Checkpoint)
		return
	}
	if !c.stale(ev, ev.Fence) {
		c.attempt.final = ev.kind()
	}
}

func (c *Coordinator) onReadiness(ev SinkReadiness) {
	if c.stale(ev, ev.Fence) {
		return
	}
	a := c.attempt
	before, ok := a.levels[ev.Subtask]
	if !ok {
		c.ignore(ev, "the subtask is not a gated sink of the attempt")
		return
	}
	a.levels[ev.Subtask] = ev.Ready
	switch {
	case before < 1 && ev.Ready >= 1:
		a.unready--
	case before >= 1 && ev.Ready < 1:
		a.unready++
	}
}

// fail ends the pending checkpoint without a manifest.
func (c *Coordinator) fail(now time.Time, why string) {
	p := c.pending
	c.pending = nil
	c.counts.Failed++
	c.lastFailure = &Failure{Checkpoint: p.id, At: now, Why: why}
	c.emit(Abort{Checkpoint: p.id, Fence: p.fence, Why: why})
	c.emit(Discard{Checkpoint: p.id})
	a := c.attempt
	if a == nil || a.fence != p.fence {
		return
	}
	a.lastEnd = now
	base := min(max(c.cfg.Interval, backoffMin), backoffMax)
	a.pauseUntil = now.Add(doubling(base, backoffMax, a.failures))
	a.failures++
	if a.failures > c.cfg.TolerableFailures {
		c.giveUp(fmt.Sprintf("%d checkpoints failed in a row, %d are tolerated; the last one, %d: %s",
			a.failures, c.cfg.TolerableFailures, p.id, why))
	}
}

// giveUp ends the attempt, once.
func (c *Coordinator) giveUp(why string) {
	if !c.attempt.failed {
		c.attempt.failed = true
		c.emit(FailAttempt{Fence: c.attempt.fence, Why: why})
	}
}
