package sim

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
)

var errDiskFull = errors.New("disk full")

func compareFences(a, b ident.Fence) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Attempt, b.Attempt))
}

// history is what has really happened, whoever knows of it.
type history struct {
	attempts map[attemptKey]*attemptHistory
	newest   map[ident.JobID]ident.Attempt
	// triggered is the newest checkpoint that was triggered, final the final one that became durable.
	triggered map[ident.JobID]ident.CheckpointID
	final     map[ident.JobID]ident.CheckpointID
	barriers  map[barrierKey]*barrierHistory
}

type attemptKey struct {
	job   ident.JobID
	fence ident.Fence
}

// attemptHistory is one attempt: the workers to which it was sent, those on which it was canceled.
type attemptHistory struct {
	sent, canceled []ident.WorkerID
	stopped        bool
}

type barrierKey struct {
	attemptKey
	id ident.CheckpointID
}

// barrierHistory is one checkpoint: the acks that were sent.
type barrierHistory struct {
	acks map[ident.Subtask]checkpoint.Ack
}

func newHistory() history {
	return history{
		attempts: map[attemptKey]*attemptHistory{}, newest: map[ident.JobID]ident.Attempt{}, triggered: map[ident.JobID]ident.CheckpointID{},
		final: map[ident.JobID]ident.CheckpointID{}, barriers: map[barrierKey]*barrierHistory{},
	}
}

func (h *history) attempt(j *job, f ident.Fence) *attemptHistory {
	k := attemptKey{j.id, f}
	if h.attempts[k] == nil {
		h.attempts[k] = &attemptHistory{}
	}
	return h.attempts[k]
}

func (h *history) sent(j *job, f ident.Fence, w ident.WorkerID) {
	a := h.attempt(j, f)
	a.sent = append(a.sent, w)
}

func (h *history) canceled(j *job, f ident.Fence, w ident.WorkerID) {
	a := h.attempt(j, f)
	a.canceled = append(a.canceled, w)
}

func (h *history) stopped(j *job, f ident.Fence) { h.attempt(j, f).stopped = true }

func (h *history) barrierOf(job ident.JobID, f ident.Fence, id ident.CheckpointID) *barrierHistory {
	k := barrierKey{attemptKey{job, f}, id}
	if h.barriers[k] == nil {
		h.barriers[k] = &barrierHistory{acks: map[ident.Subtask]checkpoint.Ack{}}
	}
	return h.barriers[k]
}

func (h *history) acked(a checkpoint.Ack) {
	h.barrierOf(a.Job, a.Fence, a.Checkpoint).acks[a.Subtask] = a
}

// checkDeploy: the attempt number is new, the checkpoint is the newest, the job may run, and what ran
// before in this start of the job manager was given up.
func (w *world) checkDeploy(j *job, f ident.Fence, from *manifest.Manifest) {
	h, s := &w.history, w.disk.jobs[j.id]
	switch {
	case f.Attempt <= h.newest[j.id]:
		w.violate("%s: attempt %s is deployed, but %d was deployed before", j.id, f, h.newest[j.id])
	case from == nil:
		w.violate("%s: attempt %s is deployed from no checkpoint", j.id, f)
	case from.Checkpoint != s.newest:
		w.violate("%s: attempt %s is restored from checkpoint %d, the newest durable one is %d", j.id, f, from.Checkpoint, s.newest)
	case h.final[j.id] != 0:
		w.violate("%s: attempt %s is deployed after final checkpoint %d", j.id, f, h.final[j.id])
	case j.cancelAnswered:
		w.violate("%s: attempt %s is deployed after a cancel that was answered", j.id, f)
	case s.record.State.Terminal():
		w.violate("%s: attempt %s is deployed in state %s", j.id, f, s.record.State)
	}
	if s.record.Attempt != f.Attempt {
		w.violate("%s: attempt %s is deployed, durable is %d", j.id, f, s.record.Attempt)
	}
	for k, a := range h.attempts {
		if k.job == j.id && k.fence.Epoch == f.Epoch {
			w.checkGivenUp(j, k.fence, a)
		}
	}
	h.newest[j.id] = f.Attempt
}

// checkGivenUp: the checkpoints of an older attempt are stopped, and it was canceled on each worker that
// it was sent to, unless that worker is lost or has ended it by itself.
func (w *world) checkGivenUp(j *job, f ident.Fence, a *attemptHistory) {
	if !a.stopped {
		w.violate("%s: a newer attempt is deployed while checkpoints of %s are drawn", j.id, f)
	}
	for _, tm := range w.tms {
		if !slices.Contains(a.sent, tm.id) || slices.Contains(a.canceled, tm.id) || w.jm.streamTo(tm.id) == nil {
			continue
		}
		for _, in := range tm.instances {
			if in.job == j && in.fence == f && !in.ending {
				w.violate("%s: a newer attempt is deployed while %s of %s runs on %s and was not canceled", j.id, in.subtask, f, tm.id)
			}
		}
	}
}

// checkTrigger: ids rise over attempts and starts of the job manager.
func (w *world) checkTrigger(j *job, t checkpoint.Trigger) {
	if t.Checkpoint <= w.history.triggered[j.id] {
		w.violate("%s: checkpoint %d is triggered, but %d was before", j.id, t.Checkpoint, w.history.triggered[j.id])
	}
	w.history.triggered[j.id] = t.Checkpoint
}

// checkManifest: every subtask of that attempt has acknowledged it, with these positions.
func (w *world) checkManifest(j *job, m *manifest.Manifest) {
	b := w.history.barrierOf(j.id, m.Fence, m.Checkpoint)
	for _, s := range j.subtasks {
		if _, ok := b.acks[s]; !ok {
			w.violate("%s: checkpoint %d of %s is complete without an ack of %s", j.id, m.Checkpoint, m.Fence, s)
		}
	}
	var want []manifest.Position
	for _, s := range j.sources {
		want = append(want, b.acks[s].Positions...)
	}
	if !slices.Equal(m.Positions, want) {
		w.violate("%s: checkpoint %d of %s has positions %v, acknowledged were %v", j.id, m.Checkpoint, m.Fence, m.Positions, want)
	}
}

// checkAge: every transaction of a manifest had enough time left when the last ack came (DESIGN rule 12).
func (w *world) checkAge(m *manifest.Manifest) {
	for i := range m.Transactions {
		k := m.Transactions[i].Key()
		t := w.kafka.ids[k.TransactionalID]
		left := start.Add(t.since + t.timeout).Sub(m.CompletedAt)
		if t.state == stateOngoing && t.key() == k && left < 30*time.Second {
			w.violate("checkpoint %d of %s names %s, which has %s left", m.Checkpoint, m.Job, k, left)
		}
	}
}

// checkDurable: nothing newer was deployed, ids and positions rise, a final one is the last.
func (w *world) checkDurable(j *job, s *stored, m *manifest.Manifest) {
	h := &w.history
	switch {
	case m.Fence.Attempt < h.newest[j.id]:
		w.violate("%s: checkpoint %d of %s becomes durable after attempt %d was deployed", j.id, m.Checkpoint, m.Fence, h.newest[j.id])
	case m.Checkpoint <= s.newest:
		w.violate("%s: checkpoint %d becomes durable after %d", j.id, m.Checkpoint, s.newest)
	case h.final[j.id] != 0:
		w.violate("%s: checkpoint %d becomes durable after final checkpoint %d", j.id, m.Checkpoint, h.final[j.id])
	}
	for i, p := range s.latest().Positions {
		if m.Positions[i].Next < p.Next {
			w.violate("%s: checkpoint %d has %v, the one before had %v", j.id, m.Checkpoint, m.Positions[i], p)
		}
	}
	if m.Final {
		h.final[j.id] = m.Checkpoint
	}
}

// checkRecord: what is durable of a job never goes back.
func (w *world) checkRecord(j *job, old, rec jobcore.Record) {
	switch {
	case old.State.Terminal():
		w.violate("%s: %s is written after %s", j.id, rec, old)
	case rec.Attempt < old.Attempt || rec.Restarts < old.Restarts:
		w.violate("%s: %s is written after %s", j.id, rec, old)
	case rec.State == jobcore.Failed && rec.BudgetUsed < j.attempts && !j.foreign && !j.badSource:
		w.violate("%s failed with restarts left: %s", j.id, rec)
	}
	if rec.State.Terminal() {
		w.checkNothingWrites(j)
		w.checkFenced(j)
	}
}

// checkNothingWrites: no subtask of the job runs under a lease that holds.
func (w *world) checkNothingWrites(j *job) {
	for _, tm := range w.tms {
		for _, in := range tm.instances {
			if in.job == j && !in.over && tm.mayWrite() {
				w.violate("%s is over, but %s of %s can write on %s", j.id, in.subtask, in.fence, tm.id)
			}
		}
	}
}
