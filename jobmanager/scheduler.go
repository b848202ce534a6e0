package jobmanager

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/slots"
)

// scheduler serialises the calls to the slot pool and hands out grants. A job has at most one request
// open, so it never has more than one grant to take, and handing one out never blocks.
type scheduler struct {
	m    *Manager
	mu   sync.Mutex
	pool *slots.Pool
}

func newScheduler(m *Manager) *scheduler {
	return &scheduler{m: m, pool: slots.New(true)}
}

// run ends the settling time: as long as a task manager may take to find the new job manager, jobs that
// ran before go first.
func (s *scheduler) run(ctx context.Context) error {
	t := time.NewTimer(s.m.cfg.HeartbeatTimeout)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
		s.change(func(p *slots.Pool) []slots.Grant { return p.Settled() })
		<-ctx.Done()
	}
	return context.Cause(ctx)
}

func (s *scheduler) change(f func(*slots.Pool) []slots.Grant) {
	s.mu.Lock()
	grants := f(s.pool)
	s.mu.Unlock()
	for _, g := range grants {
		s.m.granted(g)
	}
}

func (s *scheduler) workerRegistered(worker ident.WorkerID, n int) {
	s.change(func(p *slots.Pool) []slots.Grant { return p.Register(worker, n) })
}

func (s *scheduler) workerLost(worker ident.WorkerID) {
	s.change(func(p *slots.Pool) []slots.Grant { return p.Lost(worker) })
}

func (s *scheduler) request(r slots.Request) {
	s.change(func(p *slots.Pool) []slots.Grant { return p.Request(r) })
}

func (s *scheduler) withdraw(job ident.JobID) {
	s.change(func(p *slots.Pool) []slots.Grant { return p.Withdraw(job) })
}

func (s *scheduler) vacated(job ident.JobID, upTo ident.Attempt, worker ident.WorkerID) {
	s.change(func(p *slots.Pool) []slots.Grant { return p.Vacated(job, upTo, worker) })
}

func (s *scheduler) release(job ident.JobID) {
	s.change(func(p *slots.Pool) []slots.Grant { return p.Release(job) })
}

func (s *scheduler) totals() slots.Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pool.Totals()
}

// explain says why a job waits; false when it does not.
func (s *scheduler) explain(job ident.JobID) (slots.Explanation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pool.Explain(job, time.Now())
}

// onWorker is how many slots of a worker are free, and which jobs hold others of it.
func (s *scheduler) onWorker(worker ident.WorkerID) (free int, jobs []ident.JobID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pool.FreeOn(worker), s.pool.JobsOn(worker)
}

func (s *scheduler) held(job ident.JobID) []ident.Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pool.Held(job)
}
