package slots

import (
	"cmp"
	"slices"

	"github.com/sluice-stream/sluice/ident"
)

// host is what one worker can contribute to a grant.
type host struct {
	worker ident.WorkerID
	// open are its slots in the order in which they are taken: the job's own reserved ones, unreserved
	// ones, then those reserved for jobs of lower rank; foreign counts the last kind.
	open    []ident.Slot
	foreign int
	own     int
	taken   int
}

// spread chooses t.Slots of the free slots. One by one it takes a slot of the worker that has given the
// fewest so far; ties go to a worker on which the job ran before, then to the one with the most free slots,
// then by name. Slots that are reserved for others are taken only when nothing else is left.
func (p *Pool) spread(t *tenant, free []ident.Slot) []ident.Slot {
	hosts := p.hosts(t, free)
	var chosen []ident.Slot
	for len(chosen) < t.Slots {
		best := slices.MinFunc(hosts, compareHosts)
		chosen = append(chosen, best.open[0])
		best.open = best.open[1:]
		best.own = max(best.own-1, 0)
		best.taken++
		if len(best.open) == 0 {
			hosts = slices.DeleteFunc(hosts, func(h *host) bool { return h == best })
		}
	}
	slices.SortFunc(chosen, ident.Slot.Compare)
	return chosen
}

func (p *Pool) hosts(t *tenant, free []ident.Slot) []*host {
	var hosts []*host
	for at := range slices.Values(free) {
		if len(hosts) == 0 || hosts[len(hosts)-1].worker != at.Worker {
			hosts = append(hosts, &host{worker: at.Worker})
		}
		h := hosts[len(hosts)-1]
		h.open = append(h.open, at)
		switch p.kind(t, at) {
		case kindOwn:
			h.own++
		case kindForeign:
			h.foreign++
		}
	}
	for _, h := range hosts {
		slices.SortStableFunc(h.open, func(a, b ident.Slot) int { return cmp.Compare(p.kind(t, a), p.kind(t, b)) })
	}
	return hosts
}

// The kinds of free slots as a waiter sees them, in the order in which it takes them.
const (
	kindOwn = iota
	kindUnreserved
	kindForeign
)

func (p *Pool) kind(t *tenant, at ident.Slot) int {
	switch p.workers[at.Worker][at.Index].reserved {
	case t.Job:
		return kindOwn
	case "":
		return kindUnreserved
	default:
		return kindForeign
	}
}

func compareHosts(a, b *host) int {
	return cmp.Or(
		cmp.Compare(a.onlyForeign(), b.onlyForeign()),
		cmp.Compare(a.taken, b.taken),
		cmp.Compare(min(b.own, 1), min(a.own, 1)),
		cmp.Compare(len(b.open), len(a.open)),
		cmp.Compare(a.worker, b.worker),
	)
}

// onlyForeign is 1 when every slot that is left is reserved for another job.
func (h *host) onlyForeign() int {
	if h.foreign == len(h.open) {
		return 1
	}
	return 0
}
