package job

import (
	"slices"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// run is one attempt: which worker runs which subtasks, and what is known of them.
type run struct {
	fence ident.Fence
	parts []*part // by worker
	// partOf is the part of each subtask.
	partOf map[ident.Subtask]*part
	state  map[ident.Subtask]SubtaskState
	// passed is, per state, how many of the subtasks that are asked about are known to have it, from the first on:
	// states only rise, so they are not looked at again.
	passed map[SubtaskState]int
	// progressed: a checkpoint of this attempt completed, so what it did is not done again.
	progressed bool
}

// part is the share of one worker in an attempt.
type part struct {
	worker   ident.WorkerID
	subtasks []ident.Subtask
	// lost: the worker is gone, nothing can be sent to it. goneAt is when its subtasks have certainly
	// ended; it belongs to lost.
	lost   bool
	goneAt time.Time
	// over: every subtask has certainly ended.
	over bool
	// running is how many of the subtasks have not ended.
	running int
}

func newRun(fence ident.Fence, slots []ident.Slot, subtasks []ident.Subtask) *run {
	r := &run{fence: fence, state: make(map[ident.Subtask]SubtaskState, len(subtasks)), partOf: make(map[ident.Subtask]*part, len(subtasks)), passed: map[SubtaskState]int{}}
	byWorker := map[ident.WorkerID]*part{}
	for _, s := range subtasks {
		w := slots[s.Index].Worker
		p := byWorker[w]
		if p == nil {
			p = &part{worker: w}
			byWorker[w] = p
			r.parts = append(r.parts, p)
		}
		p.subtasks = append(p.subtasks, s)
		p.running++
		r.partOf[s] = p
		r.state[s] = ""
	}
	slices.SortFunc(r.parts, func(a, b *part) int { return ident.Slot{Worker: a.worker}.Compare(ident.Slot{Worker: b.worker}) })
	return r
}

// part is that of a worker; nil: it has none.
func (r *run) part(worker ident.WorkerID) *part {
	for _, p := range r.parts {
		if p.worker == worker {
			return p
		}
	}
	return nil
}

// note takes a report; false: it is no news.
func (r *run) note(s ident.Subtask, state SubtaskState) bool {
	old, ok := r.state[s]
	if !ok || state.rank() <= old.rank() {
		return false
	}
	r.state[s] = state
	if state.over() {
		r.partOf[s].running--
	}
	return true
}

// all says whether every one of the subtasks has at least this state and none of the attempt has ended. For one
// state it is always asked about the same subtasks.
func (r *run) all(subtasks []ident.Subtask, least SubtaskState) bool {
	n := r.passed[least]
	for n < len(subtasks) && r.state[subtasks[n]].rank() >= least.rank() {
		n++
	}
	r.passed[least] = n
	return n == len(subtasks) && !slices.ContainsFunc(r.parts, func(p *part) bool { return p.running < len(p.subtasks) })
}

// open lists the subtasks of a part that have not ended.
func (r *run) open(p *part) []ident.Subtask {
	var open []ident.Subtask
	for _, s := range p.subtasks {
		if !r.state[s].over() {
			open = append(open, s)
		}
	}
	return open
}

// lose notes that a worker is gone; its subtasks have ended at goneAt at the latest. Each session is lost once, so what is
// told of a worker that is lost already is of another process with the same id, and says nothing of this one's lease.
func (r *run) lose(worker ident.WorkerID, goneAt time.Time) (news bool) {
	p := r.part(worker)
	if p == nil || p.lost {
		return false
	}
	p.lost, p.goneAt = true, goneAt
	return true
}

// over says that every subtask of the attempt has certainly ended.
func (r *run) over() bool {
	return !slices.ContainsFunc(r.parts, func(p *part) bool { return !p.over })
}
