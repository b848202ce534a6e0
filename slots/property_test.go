package slots

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/ident"
)

// check tests what holds of a pool at any time.
func check(p *Pool) error {
	n := p.Totals()
	if n.Total != n.Free+n.Held || n.Reserved > n.Free {
		return fmt.Errorf("totals do not add up: %+v", n)
	}
	var err error
	p.each(func(at ident.Slot, s *place) {
		switch {
		case s.holder != "" && s.reserved != "":
			err = fmt.Errorf("%s is held by %s and reserved for %s", at, s.holder, s.reserved)
		case s.holder != "" && p.jobs[s.holder] == nil:
			err = fmt.Errorf("%s is held by %s, which is gone", at, s.holder)
		case s.reserved != "" && p.jobs[s.reserved] == nil:
			err = fmt.Errorf("%s is reserved for %s, which is gone", at, s.reserved)
		}
	})
	return err
}

// model is the slow, obvious pool: one row a slot, one row a waiter, and the rules of the package comment
// read aloud. It says who is to be served and checks which slots it gets; it does not choose slots.
type model struct {
	rows     []row
	waiters  []Request
	order    map[ident.JobID]uint64 // of every job that ever asked and is not released
	leaving  map[ident.JobID]bool
	served   map[ident.JobID]ident.Attempt // the newest attempt that has its slots
	settling bool
}

type row struct {
	at       ident.Slot
	holder   ident.JobID
	attempt  ident.Attempt
	reserved ident.JobID
}

// before says whether waiter a is served before b: those that ran before first, then by submission.
func before(aRestarting bool, aOrder uint64, bRestarting bool, bOrder uint64) bool {
	if aRestarting != bRestarting {
		return aRestarting
	}
	return aOrder < bOrder
}

// mayTake says whether a waiter may take a free slot that is reserved for another job.
func (m *model) mayTake(w Request, reserved ident.JobID) bool {
	if reserved == "" || reserved == w.Job {
		return true
	}
	restarting := true // whoever holds a reservation ran before
	for _, o := range m.waiters {
		if o.Job == reserved {
			restarting = o.Restarting
		}
	}
	return before(w.Restarting, w.SubmitOrder, restarting, m.order[reserved])
}

// serve compares the grants of the pool with who is due, and takes over the choice of slots.
func (m *model) serve(t *rapid.T, grants []Grant) {
	for _, g := range grants {
		next := m.due()
		if next == nil || next.Job != g.Job || next.Attempt != g.Attempt {
			t.Fatalf("%s was served, due is %v", g.Job, next)
		}
		m.take(t, g, *next)
	}
	if next := m.due(); next != nil {
		t.Fatalf("%s is due but was not served", next.Job)
	}
}

func (m *model) due() *Request {
	sorted := slices.Clone(m.waiters)
	slices.SortFunc(sorted, func(a, b Request) int {
		if before(a.Restarting, a.SubmitOrder, b.Restarting, b.SubmitOrder) {
			return -1
		}
		return 1
	})
	restartingWaits := false
	for _, w := range sorted {
		if m.settling && restartingWaits && !w.Restarting {
			return nil
		}
		if w.Slots > len(m.rows) {
			restartingWaits = restartingWaits || w.Restarting
			continue
		}
		free := 0
		for _, r := range m.rows {
			if r.holder == "" && m.mayTake(w, r.reserved) {
				free++
			}
		}
		if free >= w.Slots {
			return &w
		}
		return nil
	}
	return nil
}

func (m *model) take(t *rapid.T, g Grant, w Request) {
	if len(g.Slots) != w.Slots {
		t.Fatalf("%s gets %d slots, asked for %d", w.Job, len(g.Slots), w.Slots)
	}
	stolen, leftUnreserved := 0, 0
	perWorker, freeOn := map[ident.WorkerID]int{}, map[ident.WorkerID]int{}
	for i := range m.rows {
		r := &m.rows[i]
		if r.holder != "" || !m.mayTake(w, r.reserved) {
			if slices.Contains(g.Slots, r.at) {
				t.Fatalf("%s gets %s, which it may not take: %+v", w.Job, r.at, *r)
			}
			continue
		}
		foreign := r.reserved != "" && r.reserved != w.Job
		if !slices.Contains(g.Slots, r.at) {
			if !foreign {
				leftUnreserved++
				freeOn[r.at.Worker]++
			}
			continue
		}
		if foreign {
			stolen++
		}
		perWorker[r.at.Worker]++
		*r = row{at: r.at, holder: w.Job, attempt: w.Attempt}
	}
	if stolen > 0 && leftUnreserved > 0 {
		t.Fatalf("%s took %d reserved slots and left %d others", w.Job, stolen, leftUnreserved)
	}
	for worker := range freeOn { // it could have given one more
		for other, n := range perWorker {
			if stolen == 0 && n > perWorker[worker]+1 {
				t.Fatalf("%s gets %d slots of %s and %d of %s, which has more", w.Job, n, other, perWorker[worker], worker)
			}
		}
	}
	m.unreserve(w.Job)
	m.unqueue(w.Job)
	m.served[w.Job] = w.Attempt
}

func (m *model) unqueue(job ident.JobID) {
	m.waiters = slices.DeleteFunc(m.waiters, func(r Request) bool { return r.Job == job })
}

func (m *model) dropWorker(w ident.WorkerID) {
	m.rows = slices.DeleteFunc(m.rows, func(r row) bool { return r.at.Worker == w })
}

func (m *model) unreserve(job ident.JobID) {
	for i := range m.rows {
		if m.rows[i].reserved == job {
			m.rows[i].reserved = ""
		}
	}
}

func (m *model) free(job ident.JobID, also func(row) bool, reserve ident.JobID) {
	for i := range m.rows {
		if r := &m.rows[i]; r.holder == job && also(*r) {
			*r = row{at: r.at, reserved: reserve}
		}
	}
}

func TestPoolAgainstModel(t *testing.T) {
	// In rapid's 100 checks a contested reservation is rare.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set(f.Name, "2000"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		settling := rapid.Bool().Draw(t, "settling")
		t.Repeat(rapid.StateMachineActions(&both{
			p: New(settling), m: &model{settling: settling, order: map[ident.JobID]uint64{}, leaving: map[ident.JobID]bool{}, served: map[ident.JobID]ident.Attempt{}},
		}))
	})
}

// both drives a pool and its model through the same calls; each exported method is one.
type both struct {
	p *Pool
	m *model
}

var (
	someWorker = rapid.SampledFrom([]ident.WorkerID{"tm-1", "tm-2", "tm-3", "tm-4"})
	someJob    = rapid.SampledFrom([]ident.JobID{"a", "b", "c", "d"})
)

func someAttempt(t *rapid.T) ident.Attempt {
	return ident.Attempt(rapid.IntRange(1, 3).Draw(t, "attempt"))
}

func (x *both) Register(t *rapid.T) {
	w, n := someWorker.Draw(t, "worker"), rapid.IntRange(1, 4).Draw(t, "slots")
	x.m.dropWorker(w)
	for i := range n {
		x.m.rows = append(x.m.rows, row{at: ident.Slot{Worker: w, Index: i}})
	}
	x.m.serve(t, x.p.Register(w, n))
}

func (x *both) Lost(t *rapid.T) {
	w := someWorker.Draw(t, "worker")
	x.m.dropWorker(w)
	x.m.serve(t, x.p.Lost(w))
}

func (x *both) Settled(t *rapid.T) {
	x.m.settling = false
	x.m.serve(t, x.p.Settled())
}

func (x *both) Request(t *rapid.T) {
	x.request(t, Request{
		Job: someJob.Draw(t, "job"), Attempt: someAttempt(t),
		Slots: rapid.IntRange(1, 6).Draw(t, "need"), Restarting: rapid.Bool().Draw(t, "restarting"),
	})
}

func (x *both) Withdraw(t *rapid.T) {
	job := someJob.Draw(t, "job")
	x.m.unqueue(job)
	x.m.leaving[job] = true
	x.m.unreserve(job)
	x.m.serve(t, x.p.Withdraw(job))
}

func (x *both) Vacated(t *rapid.T) {
	x.vacate(t, someJob.Draw(t, "job"), someAttempt(t), someWorker.Draw(t, "worker"))
}

// Restart is what a job does that lost an attempt.
func (x *both) Restart(t *rapid.T) {
	held := slices.DeleteFunc(slices.Clone(x.m.rows), func(r row) bool { return r.holder == "" })
	if len(held) == 0 {
		t.Skip("nobody holds a slot")
	}
	r := rapid.SampledFrom(held).Draw(t, "held")
	for _, at := range x.p.Held(r.holder) {
		x.vacate(t, r.holder, r.attempt, at.Worker)
	}
	if rapid.Bool().Draw(t, "at once") {
		x.request(t, Request{Job: r.holder, Attempt: r.attempt + 1, Slots: rapid.IntRange(1, 6).Draw(t, "need"), Restarting: true})
	}
}

func (x *both) Release(t *rapid.T) {
	job := someJob.Draw(t, "job")
	x.m.unqueue(job)
	x.m.free(job, func(row) bool { return true }, "")
	x.m.unreserve(job)
	delete(x.m.order, job)
	delete(x.m.leaving, job)
	delete(x.m.served, job)
	x.m.serve(t, x.p.Release(job))
}

func (x *both) request(t *rapid.T, r Request) {
	m := x.m
	r.SubmitOrder, r.Since = uint64(r.Job[0]), time.Unix(1, 0)
	m.unqueue(r.Job)
	m.waiters = append(m.waiters, r)
	m.order[r.Job], m.leaving[r.Job] = r.SubmitOrder, false
	delete(m.served, r.Job)
	m.serve(t, x.p.Request(r))
}

func (x *both) vacate(t *rapid.T, job ident.JobID, attempt ident.Attempt, worker ident.WorkerID) {
	m := x.m
	reserve := job
	if m.leaving[job] || attempt < m.served[job] {
		reserve = ""
	}
	m.free(job, func(r row) bool { return r.at.Worker == worker && r.attempt == attempt }, reserve)
	m.serve(t, x.p.Vacated(job, attempt, worker))
}

// Check holds the whole pool against the model; it runs after each call.
func (x *both) Check(t *rapid.T) {
	p, m := x.p, x.m
	if err := check(p); err != nil {
		t.Fatal(err)
	}
	n := p.Totals()
	if n.Total != len(m.rows) || n.Waiters != len(m.waiters) {
		t.Fatalf("pool %+v, model has %d slots and %d waiters", n, len(m.rows), len(m.waiters))
	}
	for _, r := range m.rows {
		if got := p.workers[r.at.Worker][r.at.Index]; got != (place{holder: r.holder, attempt: r.attempt, reserved: r.reserved}) {
			t.Fatalf("%s: pool %+v, model %+v", r.at, got, r)
		}
	}
	for _, w := range m.waiters {
		e, waits := p.Explain(w.Job, time.Unix(3, 0))
		if !waits || e.Need != w.Slots || e.For != 2*time.Second || e.PassedOver != (w.Slots > len(m.rows)) {
			t.Fatalf("Explain(%s) = %+v, %t", w.Job, e, waits)
		}
		if !e.PassedOver && e.Have >= e.Need && e.Behind == "" {
			t.Fatalf("Explain(%s) gives no reason: %s", w.Job, e)
		}
	}
}
