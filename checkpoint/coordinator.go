// Package checkpoint decides when the checkpoints of a job are drawn, when one is complete, which are
// kept and from which the job is restored. It is pure: the shell in package jobmanager does what the
// effects say and brings the outcomes back as events.
//
// What holds at any time (DESIGN section 6, rules 1 to 6 and 11 to 12):
//   - ids only rise, over attempts and starts of the job manager, and are never reused;
//   - at most one checkpoint is in flight;
//   - a checkpoint is complete if and only if every subtask of its own attempt has acknowledged it;
//   - once Persist is emitted the checkpoint neither expires nor is forgotten: only Persisted moves it;
//   - Completed follows only Persisted;
//   - every triggered checkpoint ends in exactly one of Completed, Abort, Die.
package checkpoint

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
)

const (
	// ReserveBlock is how many ids one reservation covers, so how many may be skipped by a crash.
	ReserveBlock = 10
	// backoffMin and backoffMax bound the pause after a failed checkpoint; it starts at the interval
	// and doubles with each failure in a row.
	backoffMin, backoffMax = 100 * time.Millisecond, 30 * time.Second
	// retryMin and retryMax bound the pause before a failed durable write is repeated.
	retryMin, retryMax = 250 * time.Millisecond, 5 * time.Second
	// secondAfter is from the first trigger of an attempt to its second, if the interval is not shorter. The first
	// comes as soon as all subtasks run, so often before their first records: without this a restarted job would
	// commit no output for a whole interval.
	secondAfter = 200 * time.Millisecond
)

// Config is when the checkpoints of a job are drawn.
type Config struct {
	// Interval is the time from trigger to trigger; 0: only final checkpoints are drawn.
	Interval time.Duration
	// Timeout is how long the acks may take, where there is room for state; above 0.
	Timeout time.Duration
	// MinPause is the least time between the end of one checkpoint and the trigger of the next.
	MinPause time.Duration
	// TolerableFailures is how many failures in a row the attempt survives.
	TolerableFailures int
}

// Validate names every setting that is out of range.
func (c Config) Validate() error {
	var errs []error
	if c.Interval < 0 {
		errs = append(errs, fmt.Errorf("checkpoint.interval: %s is negative; use 0 for no periodic checkpoints", c.Interval))
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("checkpoint.timeout: %s must be above 0", c.Timeout))
	}
	if c.MinPause < 0 {
		errs = append(errs, fmt.Errorf("checkpoint.minPause: %s is negative", c.MinPause))
	}
	if c.TolerableFailures < 0 {
		errs = append(errs, fmt.Errorf("checkpoint.tolerableFailures: %d is negative", c.TolerableFailures))
	}
	return errors.Join(errs...)
}

// Start is what is known of the job's checkpoints when the coordinator is made.
type Start struct {
	Job      ident.JobID
	Identity string
	// Reserved is the highest id that was ever durably reserved or completed; ids go on above it.
	Reserved ident.CheckpointID
	// Latest is the newest completed checkpoint; nil or checkpoint 0: none was drawn yet.
	Latest *manifest.Manifest
	// Completed and Failed continue the job's counters.
	Completed, Failed uint64
}

// Coordinator draws the checkpoints of one job over all its attempts.
type Coordinator struct {
	cfg      Config
	job      ident.JobID
	identity string

	// next is the id of the next checkpoint; it is triggered only if next <= reserved.
	next, reserved ident.CheckpointID
	reserve        reservation

	fence   ident.Fence // the newest ever seen
	attempt *attempt    // nil: none runs
	pending *pending    // nil: none in flight
	// done: a final checkpoint completed, none is drawn any more.
	done bool
	dead bool

	counts         Counts
	latest         *manifest.Manifest
	latestDuration time.Duration
	lastFailure    *Failure
	out            []Effect
}

type reservation struct {
	asked   bool
	retryAt time.Time
	tries   int
	err     error
}

// NewCoordinator makes the coordinator of one job; no attempt runs yet.
func NewCoordinator(cfg Config, start Start) *Coordinator {
	c := &Coordinator{
		cfg: cfg, job: start.Job, identity: start.Identity,
		reserved: start.Reserved, latest: start.Latest,
		counts: Counts{Completed: start.Completed, Failed: start.Failed},
	}
	if c.latest != nil {
		c.reserved = max(c.reserved, c.latest.Checkpoint)
		c.latestDuration = c.latest.CompletedAt.Sub(c.latest.TriggeredAt)
		c.done = c.latest.Final
	}
	c.next = c.reserved + 1
	return c
}

// Settling says that a manifest is being written: restart, cancel and fencing wait for its outcome.
func (c *Coordinator) Settling() bool { return c.pending != nil && c.pending.phase == phasePersisting }

// Step applies one event and returns what must now be done, in order.
func (c *Coordinator) Step(now time.Time, ev Event) []Effect {
	c.out = nil
	if c.dead {
		return []Effect{Ignored{What: ev.String(), Why: "the process is ending"}}
	}
	c.expire(now) // first: an ack that waited to be read must not complete what has been open for too long
	switch ev := ev.(type) {
	case AttemptStarted:
		c.onStarted(now, ev)
	case AttemptEnded:
		c.onEnded(now, ev)
	case Ack:
		c.onAck(now, ev)
	case Decline:
		c.onDecline(now, ev)
	case HeldUp:
		c.onHeldUp(now, ev)
	case IDsReserved:
		c.onReserved(now, ev)
	case Persisted:
		c.onPersisted(now, ev)
	case FinalRequested:
		c.onFinal(ev)
	case SinkReadiness:
		c.onReadiness(ev)
	case Tick:
	}
	if !c.dead {
		c.advance(now)
	}
	return c.out
}

func (c *Coordinator) emit(e Effect) { c.out = append(c.out, e) }

func (c *Coordinator) ignore(ev Event, why string, args ...any) {
	c.counts.Ignored++
	c.emit(Ignored{What: ev.String(), Why: fmt.Sprintf(why, args...)})
}

// stale ignores what does not belong to the running attempt.
func (c *Coordinator) stale(ev Event, f ident.Fence) bool {
	switch {
	case c.attempt == nil:
		c.ignore(ev, "no attempt runs")
	case f != c.attempt.fence:
		c.ignore(ev, "attempt %s runs", c.attempt.fence)
	default:
		return false
	}
	return true
}

// advance does what is due at now: retries, the next trigger. What expires has done so.
func (c *Coordinator) advance(now time.Time) {
	if p := c.pending; p != nil {
		switch {
		case p.phase == phaseRetry && !now.Before(p.retryAt):
			c.persist(now)
		case p.phase == phaseCollecting && !now.Before(p.hold.until):
			p.release()
		}
	}
	due := c.due()
	if due.IsZero() || now.Before(due) {
		return
	}
	if c.next > c.reserved {
		c.askIDs(now)
		return
	}
	c.trigger(now)
}

// expire gives a checkpoint up that was not acknowledged in time.
func (c *Coordinator) expire(now time.Time) {
	p := c.pending
	if p != nil && (p.phase == phaseCollecting || failpoint.Bug(failpoint.ExpireDuringWrite)) && !now.Before(p.expires) {
		c.fail(now, p.held(fmt.Sprintf("expired after %s: %s", p.expires.Sub(p.triggered), p.missingText(c.attempt))))
	}
}

// Deadline is when Step wants a Tick next; zero for never.
func (c *Coordinator) Deadline() time.Time {
	if c.dead {
		return time.Time{}
	}
	if p := c.pending; p != nil {
		switch p.phase {
		case phaseCollecting:
			if !p.hold.until.IsZero() {
				return p.hold.until // not after it expires
			}
			return p.expires
		case phaseRetry:
			return p.retryAt
		default:
			return time.Time{}
		}
	}
	due := c.due()
	if due.IsZero() || c.next <= c.reserved {
		return due
	}
	if c.reserve.asked {
		return time.Time{}
	}
	return later(due, c.reserve.retryAt)
}

// due is when the next checkpoint is to be triggered; zero: never, as things are.
func (c *Coordinator) due() time.Time {
	a := c.attempt
	if a == nil || a.failed || c.done || c.pending != nil || a.unready > 0 {
		return time.Time{}
	}
	if a.final != 0 {
		return later(a.started, a.pauseUntil)
	}
	if c.cfg.Interval == 0 {
		return time.Time{}
	}
	if a.triggers == 0 {
		return a.started
	}
	interval := c.cfg.Interval
	if a.triggers == 1 {
		interval = min(interval, secondAfter)
	}
	return later(a.lastTrigger.Add(interval), later(a.pauseUntil, a.lastEnd.Add(c.cfg.MinPause)))
}

func (c *Coordinator) askIDs(now time.Time) {
	r := &c.reserve
	if r.asked || now.Before(r.retryAt) {
		return
	}
	r.asked = true
	c.emit(ReserveIDs{Through: c.next + ReserveBlock - 1})
}

func (c *Coordinator) onReserved(now time.Time, ev IDsReserved) {
	r := &c.reserve
	if !r.asked {
		c.ignore(ev, "nothing was asked for")
		return
	}
	r.asked = false
	if r.err = ev.Err; ev.Err != nil {
		r.retryAt = now.Add(doubling(retryMin, retryMax, r.tries))
		r.tries++
		return
	}
	r.tries = 0
	c.reserved = max(c.reserved, ev.Through)
}

func (c *Coordinator) trigger(now time.Time) {
	a := c.attempt
	kind := KindPeriodic
	if a.final != 0 {
		kind = a.final
	}
	c.pending = &pending{
		id: c.next, kind: kind, fence: a.fence, triggered: now, expires: now.Add(c.cfg.Timeout),
		acks: make(map[ident.Subtask]*manifest.Ack, len(a.expected)), phase: phaseCollecting,
	}
	c.next++
	a.triggers, a.lastTrigger = a.triggers+1, now
	c.emit(Trigger{Checkpoint: c.pending.id, Fence: a.fence, Kind: kind, Sources: a.sources})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// doubling is low doubled n times, at most high.
func doubling(low, high time.Duration, n int) time.Duration {
	for range n {
		if low *= 2; low >= high {
			return high
		}
	}
	return min(low, high)
}
