package checkpoint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// world is a slow, obvious account of what the coordinator was told and what it said. Its rules are
// those of the package comment; it knows nothing of how the coordinator works.
type world struct {
	t    *testing.T
	rng  *rand.Rand
	c    *Coordinator
	now  time.Time
	log  []string
	next ident.Attempt

	fence    ident.Fence // of the running attempt; zero: none
	expected []ident.Subtask
	reserved ident.CheckpointID // durable
	asked    ident.CheckpointID
	highest  ident.CheckpointID // ever triggered
	inFlight ident.CheckpointID
	of       ident.Fence
	acked    map[ident.Subtask]bool
	writing  bool
	written  bool // Persist was emitted at least once for inFlight
	stored   []ident.CheckpointID
	named    map[manifest.TransactionKey]bool
	final    bool
	failed   map[ident.Fence]bool
	counts   Counts
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	from := max(0, len(w.log)-40)
	w.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.log[from:], "\n"))
}

func (w *world) step(ev Event) {
	w.log = append(w.log, fmt.Sprintf("%s > %s", w.now.Format("15:04:05.000"), ev))
	for _, e := range w.c.Step(w.now, ev) {
		w.log = append(w.log, "    "+e.String())
		w.effect(e)
	}
	if w.c.Settling() != w.writing {
		w.fatalf("Settling is %v, a write is on its way: %v", w.c.Settling(), w.writing)
	}
	if d := w.c.Deadline(); !d.IsZero() && d.Before(w.now) {
		w.fatalf("deadline %s has passed", d)
	}
	s := w.c.Status()
	if s.Completed != w.counts.Completed || s.Failed != w.counts.Failed {
		w.fatalf("counted %+v, seen %+v", s.Counts, w.counts)
	}
}

func (w *world) effect(e Effect) {
	switch e := e.(type) {
	case ReserveIDs:
		w.asked = e.Through
	case Trigger:
		w.trigger(e)
	case Persist:
		w.persist(e)
	case Completed:
		id := e.Manifest.Checkpoint
		if len(w.stored) == 0 || w.stored[len(w.stored)-1] != id || w.inFlight != id || !w.written {
			w.fatalf("completed %d, stored %v", id, w.stored)
		}
		w.final = e.Manifest.Final
		w.counts.Completed++
		w.inFlight = 0
	case Abort:
		if e.Checkpoint != w.inFlight || e.Fence != w.of || w.writing || slices.Contains(w.stored, e.Checkpoint) {
			w.fatalf("abort of %d; in flight %d, writing %v", e.Checkpoint, w.inFlight, w.writing)
		}
		w.counts.Failed++
		w.inFlight = 0
	case FailAttempt:
		if w.failed[e.Fence] {
			w.fatalf("attempt failed twice")
		}
		w.failed[e.Fence] = true
	case Discard:
		if slices.Contains(w.stored, e.Checkpoint) {
			w.fatalf("files of a completed checkpoint discarded")
		}
	case Ignored:
	default:
		w.fatalf("unexpected effect")
	}
}

func (w *world) trigger(e Trigger) {
	switch {
	case w.inFlight != 0:
		w.fatalf("triggered %d while %d is in flight", e.Checkpoint, w.inFlight)
	case e.Checkpoint <= w.highest || e.Checkpoint > w.reserved:
		w.fatalf("triggered %d; highest %d, reserved %d", e.Checkpoint, w.highest, w.reserved)
	case e.Fence != w.fence || w.final || w.failed[e.Fence]:
		w.fatalf("triggered for %s, %s runs, final %v", e.Fence, w.fence, w.final)
	}
	w.inFlight, w.of, w.highest = e.Checkpoint, e.Fence, e.Checkpoint
	w.acked, w.written = map[ident.Subtask]bool{}, false
}

func (w *world) persist(e Persist) {
	m := e.Manifest
	switch {
	case w.writing || m.Checkpoint != w.inFlight || m.Fence != w.of:
		w.fatalf("persist %d; in flight %d, writing %v", m.Checkpoint, w.inFlight, w.writing)
	case len(w.acked) != len(w.expected) || len(m.Positions) != len(w.expected):
		w.fatalf("persist with %d acks of %d", len(w.acked), len(w.expected))
	}
	if !w.written {
		for i := range m.Transactions {
			if k := m.Transactions[i].Key(); w.named[k] {
				w.fatalf("%s stands in two manifests", k)
			}
		}
	}
	w.writing, w.written = true, true
	w.asked = e.ReserveThrough
}

// act does one random thing, the unlikely ones too.
func (w *world) act() {
	switch w.rng.IntN(14) {
	case 0:
		if w.writing && w.rng.IntN(10) > 0 {
			return // the job core waits; now and then it does not
		}
		w.next++
		w.start(ident.Fence{Epoch: 1, Attempt: w.next})
	case 1:
		if w.fence != (ident.Fence{}) {
			f := w.fence
			w.fence = ident.Fence{}
			w.step(AttemptEnded{Fence: f, Why: "lost"})
		}
	case 2:
		if w.rng.IntN(10) > 0 {
			return // it ends the story: mostly late
		}
		w.step(FinalRequested{Fence: w.fence, Drain: w.rng.IntN(2) == 0})
	case 3:
		if w.rng.IntN(2) == 0 {
			w.step(HeldUp{Fence: w.anyFence(), Checkpoint: w.anyID(), Subtask: w.anySubtask(), Reason: "full"})
			return
		}
		w.step(Decline{Fence: w.anyFence(), Checkpoint: w.anyID(), Subtask: w.anySubtask(), Reason: "no"})
	case 4, 5:
		w.now = w.now.Add(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
		w.step(Tick{})
	case 6:
		if d := w.c.Deadline(); !d.IsZero() {
			w.now = d
		}
		w.step(Tick{})
	case 7:
		w.answerIDs()
	case 8, 9:
		w.answerPersist()
	default:
		w.ack()
	}
}

func (w *world) start(f ident.Fence) {
	w.fence, w.expected, w.named = f, nil, map[manifest.TransactionKey]bool{}
	for i := range 1 + w.rng.IntN(4) {
		w.expected = append(w.expected, ident.Subtask{Vertex: "v", Index: i})
	}
	w.step(AttemptStarted{Fence: f, Subtasks: w.expected, Sources: w.expected[:1]})
}

func (w *world) anyFence() ident.Fence {
	if w.rng.IntN(5) == 0 {
		return ident.Fence{Epoch: 1, Attempt: ident.Attempt(w.rng.Uint64N(uint64(w.next) + 1))}
	}
	return w.fence
}

func (w *world) anyID() ident.CheckpointID {
	if w.rng.IntN(5) == 0 {
		return ident.CheckpointID(w.rng.Uint64N(uint64(w.highest) + 2))
	}
	return w.inFlight
}

func (w *world) anySubtask() ident.Subtask {
	return ident.Subtask{Vertex: "v", Index: w.rng.IntN(max(1, len(w.expected)) + w.rng.IntN(2))}
}

func (w *world) ack() {
	a := manifest.Ack{Job: "j", Fence: w.anyFence(), Checkpoint: w.anyID(), Subtask: w.anySubtask()}
	a.Positions = []manifest.Position{{Split: manifest.Split{Source: "v", Partition: int32(a.Subtask.Index)}}}
	for range w.rng.IntN(3) {
		a.Transactions = append(a.Transactions, manifest.Transaction{
			TransactionalID: fmt.Sprintf("%s/%d", a.Fence, w.rng.IntN(30)), ProducerID: 1, StartedAt: w.now, TimeoutMs: 900_000})
	}
	if w.inFlight != 0 && a.Fence == w.of && a.Fence == w.fence && a.Checkpoint == w.inFlight && slices.Contains(w.expected, a.Subtask) {
		w.acked[a.Subtask] = true
	}
	w.step(Ack{a})
}

func (w *world) answerIDs() {
	if w.asked == 0 || w.writing {
		return
	}
	ev := IDsReserved{Through: w.asked}
	if w.rng.IntN(4) == 0 {
		ev.Err = errors.New("disk full")
	} else {
		w.reserved = max(w.reserved, w.asked)
	}
	w.asked = 0
	w.step(ev)
}

func (w *world) answerPersist() {
	ev := Persisted{Checkpoint: w.anyID()}
	if !w.writing || ev.Checkpoint != w.inFlight {
		if ev.Checkpoint != w.inFlight {
			w.step(ev)
		}
		return
	}
	w.writing = false
	if w.rng.IntN(3) == 0 {
		ev.Err = errors.New("disk full")
	} else {
		w.stored = append(w.stored, ev.Checkpoint)
		w.reserved = max(w.reserved, w.asked)
		if w.of == w.fence {
			for i := range w.c.pending.manifest.Transactions {
				w.named[w.c.pending.manifest.Transactions[i].Key()] = true
			}
		}
	}
	w.step(ev)
}

// Safety: whatever happens, in whatever order, the invariants hold. Liveness: when everything works
// again, a checkpoint completes.
func TestInvariantsUnderRandomEvents(t *testing.T) {
	rounds := uint64(3000)
	if testing.Short() {
		rounds = 300
	}
	var total Counts
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(seed, 7))
		w := &world{t: t, rng: rng, now: time.Unix(0, 0), failed: map[ident.Fence]bool{}}
		w.c = NewCoordinator(Config{
			Interval: time.Duration(rng.IntN(4)) * time.Second, Timeout: 5 * time.Second,
			MinPause: time.Duration(rng.IntN(2)) * time.Second, TolerableFailures: rng.IntN(4),
		}, Start{Job: "j", Reserved: 5})
		w.highest, w.reserved = 5, 5
		for range 120 {
			w.act()
		}
		w.heal()
		total.Completed += w.counts.Completed
		total.Failed += w.counts.Failed
	}
	t.Logf("%d schedules: %d checkpoints completed, %d failed", rounds, total.Completed, total.Failed)
}

func (w *world) heal() {
	for w.writing || w.asked != 0 {
		if w.writing {
			w.answerPersist()
		} else {
			w.answerIDs()
		}
	}
	if w.final {
		return
	}
	before := w.counts.Completed
	w.next++
	w.start(ident.Fence{Epoch: 2, Attempt: w.next})
	w.step(FinalRequested{Fence: w.fence})
	for range 1000 {
		switch d := w.c.Deadline(); {
		case w.final:
			if w.counts.Completed == before {
				w.fatalf("final without a completed checkpoint")
			}
			return
		case w.writing:
			w.answerPersist()
		case w.asked != 0:
			w.answerIDs()
		case w.inFlight != 0 && len(w.acked) < len(w.expected):
			w.ack()
		case d.IsZero():
			w.fatalf("nothing is due")
		default:
			w.now = d
			w.step(Tick{})
		}
	}
	w.fatalf("no final checkpoint")
}
