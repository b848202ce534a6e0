package commit

import (
	"slices"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
)

// fences is what is known of the ids of all attempts (DESIGN rule 13).
type fences struct {
	// over is the newest attempt that is given up, gone the newest of which nothing can run any more.
	over, gone ident.Attempt
	handouts   map[HandoutKey]*handout
	list       []*handout           // in the order in which they came
	ids        map[string]*fencedID // of attempts that are over
}

// handout is a Handout and how far its fencing is.
type handout struct {
	Handout
	// round counts the rounds of fencing that began; 0 while the attempt runs.
	round int
	// gone says that the round of this moment is the last one.
	gone bool
	ids  []*fencedID // filled when the attempt is over
	// forgetting says that the deletion is asked for.
	forgetting bool
}

// fencedID is one id of an attempt that is over. It needs a fence while done < of.round.
type fencedID struct {
	of *handout
	n  int
	// began is the round in which the fence on its way began, 0 for none; done that of the newest one
	// that was answered OK.
	began, done int
	queued      bool
	failures    int
}

// fencedForGood says that nothing is left to do for any id.
func (h *handout) fencedForGood() bool {
	return h.gone && !slices.ContainsFunc(h.ids, func(f *fencedID) bool { return f.done < h.round })
}

// unfenced counts ids of attempts that are over and not fenced for good.
func (f *fences) unfenced() int {
	n := 0
	for _, h := range f.list {
		for _, id := range h.ids {
			if !h.gone || id.done < h.round {
				n++
			}
		}
	}
	return n
}

// handedOut takes a count that is durable. It rises for the running attempt, and for one that was just
// given up if its write was on its way.
func (m *Machine) handedOut(ev HandedOut) {
	f := &m.fences
	h := f.handouts[ev.Handout.HandoutKey]
	switch {
	case h == nil:
		h = &handout{Handout: ev.Handout}
		f.handouts[h.HandoutKey] = h
		f.list = append(f.list, h)
	case ev.Handout.Count <= h.Count:
		m.ignore(ev, "%d ids are handed out", h.Count)
		return
	default:
		h.Count = ev.Handout.Count
	}
	if h.Attempt <= f.over {
		h.gone = h.Attempt <= f.gone
		m.fenceAll(h, max(h.round, 1))
	}
}

// attemptOver begins the first round for all attempts up to this one.
func (m *Machine) attemptOver(ev AttemptOver) {
	f := &m.fences
	if ev.Attempt <= f.over {
		m.ignore(ev, "attempt %d is over", f.over)
		return
	}
	f.over = ev.Attempt
	for _, h := range f.list {
		if h.round == 0 && h.Attempt <= f.over {
			m.fenceAll(h, 1)
		}
	}
}

// attemptGone begins the last round for all attempts up to this one.
func (m *Machine) attemptGone(ev AttemptGone) {
	f := &m.fences
	if ev.Attempt <= f.gone {
		m.ignore(ev, "attempt %d is gone", f.gone)
		return
	}
	f.gone, f.over = ev.Attempt, max(f.over, ev.Attempt)
	for _, h := range f.list {
		if !h.gone && h.Attempt <= f.gone {
			h.gone = true
			m.fenceAll(h, h.round+1)
		}
	}
	for attempt := range m.named.seen {
		if attempt <= f.gone {
			delete(m.named.seen, attempt) // none of its acks can come any more
		}
	}
}

// signOfLife begins a round for what is over and not gone.
func (m *Machine) signOfLife(ev SignOfLife) {
	asked := false
	for _, h := range m.fences.list {
		if h.round > 0 && !h.gone {
			asked = true
			m.fenceAll(h, h.round+1)
		}
	}
	if !asked {
		m.ignore(ev, "every attempt that is over is gone")
	}
}

// fenceAll begins a round for every id of a hand-out.
func (m *Machine) fenceAll(h *handout, round int) {
	h.round = round
	for n := len(h.ids); n < h.Count; n++ {
		id := &fencedID{of: h, n: n}
		h.ids = append(h.ids, id)
		m.fences.ids[h.ID(n)] = id
	}
	for _, id := range h.ids {
		m.demand(id)
	}
	m.retire(h)
}

// demand queues an id that needs a fence, unless that has to wait for the answer to the one on its way.
func (m *Machine) demand(id *fencedID) {
	if id.done < id.of.round && id.began == 0 && !id.queued {
		id.queued = true
		m.lane(id.of.Cluster).fences.push(id, m.now)
	}
}

// blocked says that a completed manifest names a transaction under the id which is not marked: a fence
// would abort it.
func (m *Machine) blocked(id *fencedID) bool {
	return m.named.byID[id.of.ID(id.n)] > 0 && !failpoint.Bug(failpoint.InitBeforeCommit)
}

// fenced takes the answer to Fence.
func (m *Machine) fenced(ev Fenced) {
	h := m.fences.handouts[ev.Handout]
	if h == nil || ev.N < 0 || ev.N >= len(h.ids) || h.ids[ev.N].began == 0 {
		m.ignore(ev, "no fence of it is on its way")
		return
	}
	id, l := h.ids[ev.N], m.lane(h.Cluster)
	began := id.began
	l.fencing--
	id.began = 0
	if ev.Err != nil {
		id.queued = true
		l.fences.push(id, m.failed(&id.failures, "fence "+h.ID(id.n), ev.Err))
		return
	}
	m.succeeded(&id.failures)
	id.done = began
	m.demand(id)
	m.retire(h)
}

// retire asks for the deletion of a hand-out that is fenced for good.
func (m *Machine) retire(h *handout) {
	if h.fencedForGood() && !h.forgetting {
		h.forgetting = true
		m.forgets.add(h.HandoutKey, m.now)
	}
}

// forgotten takes the answer to Forget. Ids that came meanwhile are fenced as well, although the record is
// deleted: nobody hands out ids of an attempt that is gone, so no task manager knows them.
func (m *Machine) forgotten(ev Forgotten) {
	if len(ev.Handouts) == 0 || !slices.Equal(ev.Handouts, m.forgets.writing) {
		m.ignore(ev, "no such deletion is on its way")
		return
	}
	if ev.Err != nil {
		m.failed(&m.forgets.failures, "delete hand-outs that are fenced", ev.Err)
		m.forgets.again(m.now)
		return
	}
	m.succeeded(&m.forgets.failures)
	m.forgets.writing = nil
	f := &m.fences
	for _, k := range ev.Handouts {
		h := f.handouts[k]
		h.forgetting = false
		if !h.fencedForGood() {
			continue
		}
		delete(f.handouts, k)
		for n := range h.ids {
			delete(f.ids, h.ID(n))
		}
	}
	f.list = slices.DeleteFunc(f.list, func(h *handout) bool { return f.handouts[h.HandoutKey] == nil })
}
