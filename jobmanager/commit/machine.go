package commit

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// beforeStart stands for the attempt of transactions that Start brings; real ones begin at 1.
const beforeStart ident.Attempt = 0

// defaultParallel is Config.Parallel when it is not set.
const defaultParallel = 16

// Machine is the committer of one job over all its attempts. What holds at any time:
//   - a transaction is committed until the answer is known, and never again once it is marked;
//   - checkpoints are announced in order, once each, when all their marks and those before are durable;
//   - no id is fenced while a transaction that a completed manifest names under it is neither marked nor lost;
//   - a hand-out is forgotten only when each of its ids answered OK to a fence that began after the attempt
//     was gone.
type Machine struct {
	parallel  int
	markDelay time.Duration
	now       time.Time
	out       []Effect

	lanes    map[string]*lane
	laneList []*lane // in the order in which they came, so that equal events give equal effects

	named  names
	marks  batch[manifest.TransactionKey]
	fences fences
	// forgets are hand-outs that are fenced for good.
	forgets batch[HandoutKey]

	cleaning bool
	ignored  int
	// troubled counts what failed and has not succeeded since; reason is that of the last of them.
	troubled int
	reason   string
}

// lane is what is on its way to one cluster and what waits for it. Commits go before fences, and fences leave
// a quarter of the places to commits: those that hang on a dead broker hold up no output.
type lane struct {
	commits             backlog[*transaction]
	fences              backlog[*fencedID]
	committing, fencing int // on their way
}

func (l *lane) mayCommit(parallel int) bool { return l.committing+l.fencing < parallel }

func (l *lane) mayFence(parallel int) bool {
	return l.mayCommit(parallel) && l.fencing < parallel-parallel/4
}

// New makes the committer of a job. Deadline is in the past when Start leaves something to do.
func New(cfg Config, start Start) *Machine {
	m := &Machine{
		parallel: cfg.Parallel, markDelay: cfg.MarkDelay, lanes: map[string]*lane{}, named: newNames(),
		fences: fences{handouts: map[HandoutKey]*handout{}, ids: map[string]*fencedID{}},
	}
	if m.parallel <= 0 {
		m.parallel = defaultParallel
	}
	unmarked := slices.Clone(start.Unmarked)
	slices.SortStableFunc(unmarked, func(a, b Named) int { return cmp.Compare(a.Checkpoint, b.Checkpoint) })
	for len(unmarked) > 0 {
		id := unmarked[0].Checkpoint
		var of []manifest.Transaction
		for ; len(unmarked) > 0 && unmarked[0].Checkpoint == id; unmarked = unmarked[1:] {
			of = append(of, unmarked[0].Transaction)
		}
		m.name(id, beforeStart, of)
	}
	for _, h := range start.Handouts {
		m.fences.over = max(m.fences.over, h.Attempt)
	}
	for _, h := range start.Handouts {
		m.handedOut(HandedOut{h})
	}
	return m
}

// Step applies one event and returns what is to be done, in order.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.now, m.out = now, nil
	m.named.begin(now)
	switch ev := ev.(type) {
	case Completed:
		m.completed(ev)
	case Committed:
		m.committed(ev)
	case Marked:
		m.marked(ev)
	case HandedOut:
		m.handedOut(ev)
	case AttemptOver:
		m.attemptOver(ev)
	case AttemptGone:
		m.attemptGone(ev)
	case SignOfLife:
		m.signOfLife(ev)
	case Fenced:
		m.fenced(ev)
	case Forgotten:
		m.forgotten(ev)
	case CleanUp:
		m.cleaning = true
	case Tick:
	}
	m.proceed()
	return m.out
}

// proceed begins whatever can begin.
func (m *Machine) proceed() {
	if keys := m.marks.take(m.now, m.marksBy()); keys != nil {
		m.emit(Mark{slices.Clone(keys)})
	}
	if keys := m.forgets.take(m.now, time.Time{}); keys != nil {
		m.emit(Forget{slices.Clone(keys)})
	}
	for _, l := range m.laneList {
		m.send(l)
	}
	if m.cleaning && m.Settled() && len(m.fences.handouts) == 0 {
		m.cleaning = false
		m.emit(CleanedUp{})
	}
}

// marksBy is when marks that wait are written at the latest; zero: at once, as no commit is on its way.
func (m *Machine) marksBy() time.Time {
	for _, l := range m.laneList {
		if l.committing > 0 {
			return m.marks.since.Add(m.markDelay)
		}
	}
	return time.Time{}
}

// send fills the lane: commits first.
func (m *Machine) send(l *lane) {
	for l.mayCommit(m.parallel) {
		t, ok := l.commits.take(m.now)
		if !ok {
			break
		}
		l.committing++
		t.state = sent
		m.emit(Commit{Checkpoint: t.checkpoint.id, Transaction: t.Transaction})
	}
	for l.mayFence(m.parallel) {
		f, ok := l.fences.take(m.now)
		if !ok {
			break
		}
		f.queued = false
		if m.blocked(f) {
			continue // it comes again with the mark
		}
		l.fencing++
		f.began = f.of.round
		m.emit(Fence{Handout: f.of.Handout, N: f.n})
	}
}

// Deadline is when Step wants a Tick; zero: only an event can change anything.
func (m *Machine) Deadline() time.Time {
	var first time.Time
	found := false
	consider := func(at time.Time, ok bool) {
		if ok && (!found || at.Before(first)) {
			first, found = at, true
		}
	}
	consider(m.marks.next(m.marksBy()))
	consider(m.forgets.next(time.Time{}))
	for _, l := range m.laneList {
		if l.mayCommit(m.parallel) {
			consider(l.commits.next())
		}
		if l.mayFence(m.parallel) {
			consider(l.fences.next())
		}
	}
	if found && first.IsZero() {
		return time.Unix(0, 0) // what New left to do; the zero time would say never
	}
	return first
}

// Settled says that every transaction that a completed checkpoint names is durably marked, or lost: the
// next deployment waits for it.
func (m *Machine) Settled() bool { return len(m.named.unmarked) == 0 }

// Status is what is shown.
func (m *Machine) Status() Status {
	return Status{
		Uncommitted: len(m.named.unmarked), Since: m.named.since(), Unfenced: m.fences.unfenced(),
		Lost: m.named.lost, Ignored: m.ignored, Reason: m.reason,
	}
}

func (m *Machine) emit(e Effect) { m.out = append(m.out, e) }

func (m *Machine) ignore(ev Event, why string, args ...any) {
	m.ignored++
	m.emit(Ignored{What: ev.String(), Why: fmt.Sprintf(why, args...)})
}

// lane gives the lane of a cluster.
func (m *Machine) lane(cluster string) *lane {
	l := m.lanes[cluster]
	if l == nil {
		l = &lane{}
		m.lanes[cluster] = l
		m.laneList = append(m.laneList, l)
	}
	return l
}

// failed counts a failure and says when to try again.
func (m *Machine) failed(failures *int, what string, err error) time.Time {
	if *failures == 0 {
		m.troubled++
	}
	*failures++
	m.reason = fmt.Sprintf("%s: %v", what, err)
	return m.now.Add(backoff(*failures))
}

// succeeded ends a series of failures; the reason stays while others fail.
func (m *Machine) succeeded(failures *int) {
	if *failures == 0 {
		return
	}
	*failures = 0
	if m.troubled--; m.troubled == 0 {
		m.reason = ""
	}
}
