// Package slots is the slot pool of a cluster: who offers slots, who holds them, who waits for them. It is
// pure: plain methods that return what they decided; the caller serialises the calls.
//
// The rules
//   - A job gets all the slots that it asked for, or none.
//   - Waiters are ranked: jobs that ran before ahead of new ones, then by submit order. The first waiter
//     that could be served by the registered slots, but not by the free ones, holds up all behind it; a
//     waiter that needs more than all registered slots is passed over.
//   - A slot that a job has given back after an attempt is free, but softly reserved for the job's next
//     attempt: only a waiter of higher rank may take it. Nobody holds a slot while waiting.
//   - A slot counts as free only when its owner says that the old attempt has left it.
//   - Within a grant the slots are spread evenly over the task managers.
package slots

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// Request asks for the slots of one attempt of a job.
type Request struct {
	Job ident.JobID
	// Attempt is the attempt that the slots are for; they are given back under its number.
	Attempt ident.Attempt
	Slots   int
	// Restarting says that the job ran before; such jobs come before new ones.
	Restarting bool
	// SubmitOrder ranks jobs of the same kind: the smaller was submitted earlier.
	SubmitOrder uint64
	// Since is when the wait began, for Explain.
	Since time.Time
}

// Grant gives slots, in order of worker and index, to an attempt of a job.
type Grant struct {
	Job     ident.JobID
	Attempt ident.Attempt
	Slots   []ident.Slot
}

// Totals counts the slots of the cluster; Total = Free + Held, and Reserved of the free ones are softly
// reserved for a restarting job.
type Totals struct {
	Total, Free, Held, Reserved, Waiters int
}

// place is the state of one slot: held by holder, or free and perhaps reserved.
type place struct {
	holder   ident.JobID
	attempt  ident.Attempt
	reserved ident.JobID
}

// tenant is a job that asked at least once and was not released yet.
type tenant struct {
	Request
	waiting bool
	// leaving: the job will not ask again, so what it gives back is not reserved for it.
	leaving bool
	// lost are the workers that were lost while the job held slots of them, until its next grant.
	lost []ident.WorkerID
}

// Pool is the register of slots. Make one with New.
type Pool struct {
	workers  map[ident.WorkerID][]place
	jobs     map[ident.JobID]*tenant
	settling bool
}

// New makes an empty pool. In a pool that is settling no new job is served while a restarting one
// waits, so that after a start of the job manager the jobs that ran before get their slots back even though
// the task managers register one by one. Settled ends that.
func New(settling bool) *Pool {
	return &Pool{workers: map[ident.WorkerID][]place{}, jobs: map[ident.JobID]*tenant{}, settling: settling}
}

// Settled ends the time after a start in which new jobs give way to all restarting ones.
func (p *Pool) Settled() []Grant {
	p.settling = false
	return p.serve()
}

// Register adds n free slots of a worker. A worker that is known is lost first: whoever registers anew has
// left whatever it ran.
func (p *Pool) Register(worker ident.WorkerID, n int) []Grant {
	p.drop(worker)
	p.workers[worker] = make([]place, max(n, 0))
	for _, t := range p.jobs {
		t.lost = slices.DeleteFunc(t.lost, func(w ident.WorkerID) bool { return w == worker })
	}
	return p.serve()
}

// Lost removes a worker with all its slots, held or free. It returns grants because a waiter that the
// smaller cluster can no longer serve does not hold up those behind it.
func (p *Pool) Lost(worker ident.WorkerID) []Grant {
	p.drop(worker)
	return p.serve()
}

func (p *Pool) drop(worker ident.WorkerID) {
	for _, s := range p.workers[worker] {
		for _, job := range []ident.JobID{s.holder, s.reserved} {
			if t := p.jobs[job]; t != nil && !slices.Contains(t.lost, worker) {
				t.lost = append(t.lost, worker)
				slices.Sort(t.lost)
			}
		}
	}
	delete(p.workers, worker)
}

// Request enters a job in the line of waiters. A repeat replaces what is asked for and keeps the place and
// the begin of the wait. Slots that the job still holds for an older attempt stay held until released.
func (p *Pool) Request(r Request) []Grant {
	t := p.jobs[r.Job]
	if t == nil {
		t = &tenant{}
		p.jobs[r.Job] = t
	}
	if t.waiting && t.Since.Before(r.Since) {
		r.Since = t.Since
	}
	t.Request, t.waiting, t.leaving = r, true, false
	return p.serve()
}

// Withdraw takes a job that is about to end out of the line and drops its reservations. The slots that it
// holds stay held until Vacated or Release, and are not reserved for it then.
func (p *Pool) Withdraw(job ident.JobID) []Grant {
	if t := p.jobs[job]; t != nil {
		t.waiting, t.leaving = false, true
		p.each(func(_ ident.Slot, s *place) {
			if s.reserved == job {
				s.reserved = ""
			}
		})
	}
	return p.serve()
}

// Vacated frees the slots on one worker that a job holds for one attempt: the worker has confirmed that
// it ended there. They are softly reserved for the job's next attempt, unless that has its slots already or
// the job has withdrawn.
func (p *Pool) Vacated(job ident.JobID, attempt ident.Attempt, worker ident.WorkerID) []Grant {
	reserved := job
	if t := p.jobs[job]; t == nil || t.leaving || !t.waiting && attempt < t.Attempt {
		reserved = ""
	}
	places := p.workers[worker]
	for i := range places {
		if s := &places[i]; s.holder == job && s.attempt == attempt {
			*s = place{reserved: reserved}
		}
	}
	return p.serve()
}

// Release ends a job's part in the pool: its request, its reservations and all its slots are free.
func (p *Pool) Release(job ident.JobID) []Grant {
	p.each(func(_ ident.Slot, s *place) {
		if s.holder == job || s.reserved == job {
			*s = place{}
		}
	})
	delete(p.jobs, job)
	return p.serve()
}

// Held lists the slots that a job holds, for whichever attempt, by worker and index.
func (p *Pool) Held(job ident.JobID) []ident.Slot {
	var held []ident.Slot
	p.each(func(at ident.Slot, s *place) {
		if s.holder == job {
			held = append(held, at)
		}
	})
	return held
}

// FreeOn says how many slots of a worker nobody holds.
func (p *Pool) FreeOn(worker ident.WorkerID) int {
	n := 0
	for _, s := range p.workers[worker] {
		if s.holder == "" {
			n++
		}
	}
	return n
}

// JobsOn lists the jobs that hold slots of a worker, sorted.
func (p *Pool) JobsOn(worker ident.WorkerID) []ident.JobID {
	var jobs []ident.JobID
	for _, s := range p.workers[worker] {
		if s.holder != "" && !slices.Contains(jobs, s.holder) {
			jobs = append(jobs, s.holder)
		}
	}
	slices.Sort(jobs)
	return jobs
}

// Totals counts slots and waiters.
func (p *Pool) Totals() Totals {
	var n Totals
	p.each(func(_ ident.Slot, s *place) {
		n.Total++
		switch {
		case s.holder != "":
			n.Held++
		case s.reserved != "":
			n.Free++
			n.Reserved++
		default:
			n.Free++
		}
	})
	for _, t := range p.jobs {
		if t.waiting {
			n.Waiters++
		}
	}
	return n
}

// serve walks the line and grants whatever can be granted.
func (p *Pool) serve() []Grant {
	var grants []Grant
	restartingWaits := false
	total := p.total()
	for _, t := range p.line() {
		if p.settling && restartingWaits && !t.Restarting {
			break
		}
		if t.Slots > total {
			restartingWaits = restartingWaits || t.Restarting
			continue
		}
		free := p.available(t)
		if len(free) < t.Slots {
			break
		}
		grants = append(grants, p.grant(t, free))
	}
	return grants
}

// line is the waiters by rank.
func (p *Pool) line() []*tenant {
	var line []*tenant
	for _, t := range p.jobs {
		if t.waiting {
			line = append(line, t)
		}
	}
	slices.SortFunc(line, compareRank)
	return line
}

// compareRank orders tenants, the one to be served first at the front. A tenant that holds reservations
// but has not asked yet counts as the restarting job that it is.
func compareRank(a, b *tenant) int {
	return cmp.Or(cmp.Compare(a.class(), b.class()), cmp.Compare(a.SubmitOrder, b.SubmitOrder),
		strings.Compare(string(a.Job), string(b.Job)))
}

func (t *tenant) class() int {
	if t.waiting && !t.Restarting {
		return 1
	}
	return 0
}

func (p *Pool) total() int {
	n := 0
	for _, places := range p.workers {
		n += len(places)
	}
	return n
}

// available lists the free slots that t may take: unreserved, its own, or reserved for a lower rank.
func (p *Pool) available(t *tenant) []ident.Slot {
	var free []ident.Slot
	p.each(func(at ident.Slot, s *place) {
		if s.holder != "" {
			return
		}
		if s.reserved == "" || s.reserved == t.Job || compareRank(t, p.jobs[s.reserved]) < 0 {
			free = append(free, at)
		}
	})
	return free
}

func (p *Pool) grant(t *tenant, free []ident.Slot) Grant {
	chosen := p.spread(t, free)
	p.each(func(_ ident.Slot, s *place) {
		if s.reserved == t.Job {
			s.reserved = ""
		}
	})
	for _, at := range chosen {
		p.workers[at.Worker][at.Index] = place{holder: t.Job, attempt: t.Attempt}
	}
	t.waiting, t.lost = false, nil
	return Grant{Job: t.Job, Attempt: t.Attempt, Slots: chosen}
}

// each visits all slots by worker and index.
func (p *Pool) each(visit func(at ident.Slot, s *place)) {
	for _, w := range p.workerIDs() {
		places := p.workers[w]
		for i := range places {
			visit(ident.Slot{Worker: w, Index: i}, &places[i])
		}
	}
}

func (p *Pool) workerIDs() []ident.WorkerID {
	ids := make([]ident.WorkerID, 0, len(p.workers))
	for w := range p.workers {
		ids = append(ids, w)
	}
	slices.Sort(ids)
	return ids
}
