package checkpoint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
)

const (
	// MaxInlineSubtaskBytes is how much state of a subtask travels in its ack and stands in the manifest
	// itself (DESIGN rule 1); more goes to the blob directory.
	MaxInlineSubtaskBytes = 256 << 10
	// MaxInlineManifestBytes is how much of it a manifest holds in all.
	MaxInlineManifestBytes = 1 << 20
	// minTransactionLeft is the least time that a transaction must have left when its manifest is
	// written (DESIGN rule 12); a fifth of its timeout if that is more.
	minTransactionLeft = 30 * time.Second
	// heldUpFor is how long a checkpoint is shown as held up after it was last said: longer than the pause between two tries.
	heldUpFor = 20 * time.Second
)

// InlineLimit is how many bytes of state each of n stateful subtasks may put into an ack, so that the
// manifest stays within MaxInlineManifestBytes.
func InlineLimit(n int) int64 {
	return min(MaxInlineSubtaskBytes, MaxInlineManifestBytes/int64(max(n, 1)))
}

type phase int

const (
	// phaseCollecting: acks are awaited; it may fail.
	phaseCollecting phase = iota + 1
	// phasePersisting: the write is on its way; only Persisted moves it.
	phasePersisting
	// phaseRetry: the write certainly failed and will be repeated at retryAt.
	phaseRetry
)

// pending is the checkpoint in flight.
type pending struct {
	id        ident.CheckpointID
	kind      Kind
	fence     ident.Fence
	triggered time.Time
	expires   time.Time // if the acks are not all there
	acks      map[ident.Subtask]*manifest.Ack
	phase     phase

	manifest *manifest.Manifest
	retryAt  time.Time
	tries    int
	reason   string
	hold     hold
}

// hold is that state of a subtask found no room.
type hold struct {
	by    ident.Subtask
	why   string    // empty: it never was; kept for the reason of a failure
	until time.Time // it is shown until then; zero: it is not
}

// missing lists the subtasks of a whose ack is awaited, in order.
func (p *pending) missing(a *attempt) []ident.Subtask {
	if a == nil {
		return nil
	}
	var list []ident.Subtask
	for _, s := range a.order {
		if p.acks[s] == nil {
			list = append(list, s)
		}
	}
	return list
}

// missingText names at most five subtasks.
func (p *pending) missingText(a *attempt) string {
	const shown = 5
	list := p.missing(a)
	names := make([]string, 0, shown+1)
	for _, s := range list[:min(shown, len(list))] {
		names = append(names, s.String())
	}
	if len(list) > shown {
		names = append(names, fmt.Sprintf("%d more", len(list)-shown))
	}
	return fmt.Sprintf("no ack from %s", strings.Join(names, ", "))
}

func (c *Coordinator) onAck(now time.Time, ev Ack) {
	old := failpoint.Bug(failpoint.AcceptOldAck) && c.attempt != nil && ev.Fence != c.attempt.fence
	if !old && c.stale(ev, ev.Fence) {
		return
	}
	p, a := c.pending, c.attempt
	_, expected := a.expected[ev.Subtask]
	switch {
	case ev.Job != c.job:
		c.ignore(ev, "it is of job %s", ev.Job)
	case p == nil:
		c.ignore(ev, "no checkpoint is in flight")
	case ev.Checkpoint != p.id && !old:
		c.ignore(ev, "checkpoint %d is in flight", p.id)
	case !expected:
		c.ignore(ev, "the subtask is not part of the attempt")
	case p.acks[ev.Subtask] != nil:
		c.ignore(ev, "it is a repeat")
	default:
		p.acks[ev.Subtask] = &ev.Ack
		if p.hold.by == ev.Subtask { // another one says so again
			p.release()
		}
		if len(p.acks) == len(a.expected) {
			c.complete(now)
		}
	}
}

func (c *Coordinator) onDecline(now time.Time, ev Decline) {
	if c.stale(ev, ev.Fence) {
		return
	}
	p := c.pending
	_, expected := c.attempt.expected[ev.Subtask]
	switch {
	case p == nil || ev.Checkpoint != p.id:
		c.ignore(ev, "the checkpoint is not in flight")
	case !expected:
		c.ignore(ev, "the subtask is not part of the attempt")
	case p.phase != phaseCollecting || p.acks[ev.Subtask] != nil:
		c.ignore(ev, "the subtask has acknowledged it")
	default:
		c.fail(now, fmt.Sprintf("declined by %s: %s", ev.Subtask, ev.Reason))
	}
}

// onHeldUp has a checkpoint wait for space, as one does whose manifest finds none: a restart, to which failures lead, makes no
// room. Whoever is held up has the whole timeout again, as a try may take long, and says so again if it fails.
func (c *Coordinator) onHeldUp(now time.Time, ev HeldUp) {
	if c.stale(ev, ev.Fence) {
		return
	}
	p, a := c.pending, c.attempt
	_, expected := a.expected[ev.Subtask]
	if p == nil || ev.Checkpoint != p.id || p.phase != phaseCollecting || p.acks[ev.Subtask] != nil || !expected {
		c.ignore(ev, "the checkpoint does not wait for it")
		return
	}
	p.hold = hold{by: ev.Subtask, why: fmt.Sprintf("state of %s: %s", ev.Subtask, ev.Reason), until: now.Add(heldUpFor)}
	p.reason = fmt.Sprintf("checkpoint %d waits for %s", p.id, p.hold.why)
	p.expires = later(p.expires, now.Add(max(c.cfg.Timeout, heldUpFor)))
	for _, s := range a.order {
		if ack := p.acks[s]; ack != nil && c.refuseOld(now, ack.Transactions) {
			return
		}
	}
}

// release ends a hold; why there was one stays known.
func (p *pending) release() { p.reason, p.hold.until = "", time.Time{} }

// held adds what held a checkpoint up to the reason why it failed.
func (p *pending) held(why string) string {
	if p.hold.why == "" {
		return why
	}
	return why + "; it waited for " + p.hold.why
}

// complete turns the full set of acks into a manifest and has it written.
func (c *Coordinator) complete(now time.Time) {
	m, err := c.assemble(now)
	if err != nil {
		c.fail(now, err.Error())
		return
	}
	c.pending.manifest = m
	c.persist(now)
}

// persist emits the write, again after it failed.
func (c *Coordinator) persist(now time.Time) {
	p := c.pending
	if c.refuseOld(now, p.manifest.Transactions) {
		return
	}
	p.phase = phasePersisting
	c.emit(Persist{Manifest: p.manifest, ReserveThrough: max(c.reserved, p.id+ReserveBlock)})
}

// refuseOld gives the attempt up if a transaction that no manifest names has become too old, as it may while the disk is full:
// nothing of the checkpoint is durable, so that loses nothing, and writing it might.
func (c *Coordinator) refuseOld(now time.Time, transactions []manifest.Transaction) bool {
	for i := range transactions {
		t := &transactions[i]
		err := checkAge(t, now)
		if err == nil || c.attempt.named.has(t.Key()) {
			continue
		}
		why := c.pending.held(err.Error())
		if c.pending.phase == phaseRetry {
			why += "; " + c.pending.reason
		}
		c.fail(now, why)
		c.giveUp(why)
		return true
	}
	return false
}

func (c *Coordinator) onPersisted(now time.Time, ev Persisted) {
	p := c.pending
	if p == nil || p.phase != phasePersisting || p.id != ev.Checkpoint {
		c.ignore(ev, "that checkpoint is not being written")
		return
	}
	switch {
	case ev.Unknown:
		c.dead = true
		p.reason = "whether it is durable is unknown: " + errText(ev.Err)
		c.emit(Die{Why: fmt.Sprintf("whether checkpoint %d is durable is unknown: %s", p.id, errText(ev.Err))})
	case ev.Err != nil && !c.owns(p):
		// It is certain that nothing was written, and there is no attempt left to write it for.
		c.fail(now, "the attempt ended, and the write failed: "+errText(ev.Err))
	case ev.Err != nil:
		p.phase, p.reason = phaseRetry, "write the manifest: "+errText(ev.Err)
		p.retryAt = now.Add(doubling(retryMin, retryMax, p.tries))
		p.tries++
	default:
		c.completed(now)
	}
}

func (c *Coordinator) owns(p *pending) bool { return c.attempt != nil && c.attempt.fence == p.fence }

func (c *Coordinator) completed(now time.Time) {
	p := c.pending
	c.pending = nil
	c.counts.Completed++
	c.reserved = max(c.reserved, p.id+ReserveBlock)
	c.latest, c.latestDuration = p.manifest, now.Sub(p.triggered)
	c.done = p.manifest.Final
	if c.owns(p) {
		a := c.attempt
		a.lastEnd, a.failures, a.pauseUntil = now, 0, time.Time{}
		for i := range p.manifest.Transactions {
			a.named.add(p.manifest.Transactions[i].Key())
		}
	}
	c.emit(Completed{Manifest: p.manifest, Duration: c.latestDuration})
}

// assemble makes the manifest in an order that depends on its content alone. It does not trust the
// acks: what does not fit together is an error, which fails the checkpoint.
func (c *Coordinator) assemble(now time.Time) (*manifest.Manifest, error) {
	p := c.pending
	m := &manifest.Manifest{
		Job: c.job, Checkpoint: p.id, Fence: p.fence, Identity: c.identity,
		TriggeredAt: p.triggered, CompletedAt: now, Final: p.kind != KindPeriodic,
	}
	listed := make(map[manifest.TransactionKey]struct{})
	for _, s := range slices.SortedFunc(maps.Keys(p.acks), ident.Subtask.Compare) {
		ack := p.acks[s]
		m.Positions = append(m.Positions, ack.Positions...)
		for _, st := range ack.State {
			if st.Subtask != s {
				return nil, fmt.Errorf("%s acknowledged state of %s", s, st.Subtask)
			}
			m.State = append(m.State, st)
		}
		for _, t := range ack.Transactions {
			key := t.Key()
			if c.attempt.named.has(key) {
				continue
			}
			if _, ok := listed[key]; ok {
				continue
			}
			listed[key] = struct{}{}
			m.Transactions = append(m.Transactions, t)
		}
	}
	slices.SortFunc(m.Positions, func(a, b manifest.Position) int { return a.Compare(b.Split) })
	slices.SortFunc(m.State, compareStates)
	slices.SortFunc(m.Transactions, func(a, b manifest.Transaction) int { return a.Key().Compare(b.Key()) })
	return m, checkManifest(m)
}

func compareStates(a, b manifest.State) int {
	return cmp.Or(strings.Compare(a.Operator, b.Operator), a.Subtask.Compare(b.Subtask),
		cmp.Compare(a.FirstKeyGroup, b.FirstKeyGroup))
}

// checkManifest refuses a cut in which one split or one piece of state stands twice, or that is too
// large. The lists are sorted.
func checkManifest(m *manifest.Manifest) error {
	for i := 1; i < len(m.Positions); i++ {
		if a, b := m.Positions[i-1], m.Positions[i]; a.Split == b.Split {
			return fmt.Errorf("two subtasks read %s of topic %s partition %d", a.Source, a.Topic, a.Partition)
		}
	}
	var inline int64
	for i, s := range m.State {
		if i > 0 && compareStates(m.State[i-1], s) == 0 {
			return fmt.Errorf("%s acknowledged the state of %s twice", s.Subtask, s.Operator)
		}
		inline += int64(len(s.Inline))
	}
	if inline > MaxInlineManifestBytes {
		return fmt.Errorf("%d bytes of state came in acks, at most %d may; larger state is to be uploaded", inline, MaxInlineManifestBytes)
	}
	return manifest.CheckSize(m)
}

// checkAge refuses a transaction that may time out before it is committed (DESIGN rule 12).
func checkAge(t *manifest.Transaction, now time.Time) error {
	timeout := time.Duration(t.TimeoutMs) * time.Millisecond
	left := timeout - now.Sub(t.StartedAt)
	if need := max(minTransactionLeft, timeout/5); timeout > 0 && left < need {
		return fmt.Errorf("transaction %s of sink %s has %s of its %s left, less than %s: shorten the checkpoint interval or timeout",
			t.TransactionalID, t.Sink, left.Round(time.Second), timeout, need)
	}
	return nil
}

func errText(err error) string {
	if err == nil {
		return "no reason given"
	}
	return err.Error()
}
