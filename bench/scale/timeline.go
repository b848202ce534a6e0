package main

import (
	"sync"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// timeline notes, for the job that runs, when each of its subtasks passed the barrier of a checkpoint and when it
// heard of the commit. It is shared by all simulated task managers, which have one clock with the job manager.
type timeline struct {
	mu       sync.Mutex
	subtasks int // of the job
	rounds   map[ident.CheckpointID]*round
	told     int           // checkpoints that all subtasks have heard of
	changed  chan struct{} // closed and replaced when told rises
}

// round is one checkpoint as the subtasks saw it.
type round struct {
	barriers, commits       int
	lastBarrier, lastCommit time.Time
}

func newTimeline() *timeline {
	return &timeline{rounds: map[ident.CheckpointID]*round{}, changed: make(chan struct{})}
}

// begin forgets everything, for the next job; the one before has ended.
func (t *timeline) begin(subtasks int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subtasks, t.told = subtasks, 0
	clear(t.rounds)
}

// barrier says that a subtask passed the barrier of a checkpoint.
func (t *timeline) barrier(id ident.CheckpointID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.round(id)
	r.barriers++
	r.lastBarrier = time.Now()
}

// committed says that a subtask was told that a checkpoint is durable and committed.
func (t *timeline) committed(id ident.CheckpointID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.round(id)
	r.commits++
	r.lastCommit = time.Now()
	if r.commits == t.subtasks {
		t.told++
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// round is that of a checkpoint. Under mu.
func (t *timeline) round(id ident.CheckpointID) *round {
	r := t.rounds[id]
	if r == nil {
		r = &round{}
		t.rounds[id] = r
	}
	return r
}

// toldSoFar counts the checkpoints that all subtasks have heard of; changed is closed when there are more.
func (t *timeline) toldSoFar() (n int, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.told, t.changed
}

// complete are the checkpoints that all subtasks have heard of.
func (t *timeline) complete() map[ident.CheckpointID]round {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[ident.CheckpointID]round{}
	for id, r := range t.rounds {
		if r.commits == t.subtasks {
			out[id] = *r
		}
	}
	return out
}
