package jobmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

// An ended job is kept for what is asked of it later: how it ended, and its checkpoints. It needs no loop for that, and
// not for ever (docs/decisions/0022).

// runJob runs the loop of a job; a job that has ended is kept without it.
func (m *Manager) runJob(ctx context.Context, r *runner) error {
	if err := r.run(ctx); err != nil || !r.ended() {
		return err
	}
	m.mu.Lock()
	m.runners[r.id] = r.retired()
	m.mu.Unlock()
	select {
	case m.retirements <- struct{}{}:
	default: // another one is not taken note of yet
	}
	return nil
}

// retired is what is kept in memory of a job that has ended and whose loop is over: its view, without what only the
// loop needed, and without the state in its newest checkpoint.
func (r *runner) retired() *runner {
	v := *r.view()
	if l := v.checkpoints.Latest; l != nil {
		v.checkpoints.Latest = withoutContent(l)
	}
	out := &runner{
		m: r.m, id: r.id, name: r.name, submitOrder: r.submitOrder, submittedAt: r.submittedAt, endedAt: r.endedAt, log: r.log, graph: r.graph, plan: r.plan,
		damage: r.damage, over: r.over, current: &v, changed: make(chan struct{}), isRetired: true, overdue: r.overdue,
	}
	out.isEnded.Store(true)
	return out
}

// withoutContent is a manifest as it is shown: positions and sizes.
func withoutContent(m *manifest.Manifest) *manifest.Manifest {
	out := *m
	out.Transactions = nil
	out.State = slices.Clone(m.State)
	for i := range out.State {
		out.State[i].Inline = nil
	}
	return &out
}

// endedJob is a job that may be dropped.
type endedJob struct {
	id       ident.JobID
	at       time.Time
	order    uint64 // of submission
	finished bool
}

// surplus lists the ended jobs that are kept no longer, oldest first. The newest keep jobs are kept that finished, and apart
// from them as many that ended otherwise: the checkpoint of one that was stopped, was cancelled or failed is where another job
// goes on, and no number of jobs that finish pushes one out. keep 0 keeps all.
func surplus(ended []endedJob, keep int) []ident.JobID {
	if keep == 0 {
		return nil
	}
	newestFirst := slices.SortedFunc(slices.Values(ended), func(a, b endedJob) int {
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.order, a.order))
	})
	var out []ident.JobID
	kept := map[bool]int{}
	for _, e := range newestFirst {
		if kept[e.finished]++; kept[e.finished] > keep {
			out = append(out, e.id)
		}
	}
	slices.Reverse(out)
	return out
}

// surplus lists the jobs that are to be dropped.
func (m *Manager) surplus() []ident.JobID {
	var ended []endedJob
	for _, r := range m.jobs() {
		if v := r.view(); r.isRetired {
			ended = append(ended, endedJob{r.id, v.endedAt, r.submitOrder, v.state == job.Finished})
		}
	}
	return surplus(ended, m.cfg.KeepEndedJobs)
}

// unfinishedError says why an ended job is kept, whatever its age.
type unfinishedError struct{ why string }

func (e *unfinishedError) Error() string { return e.why }

// dropEnded drops ended jobs that are kept no longer, at the start and whenever one has ended, until ctx ends. One at a
// time: the writes of the jobs that run do not wait for all of them.
func (m *Manager) dropEnded(ctx context.Context) error {
	if err := m.retainEnded(ctx); err != nil {
		return err
	}
	unfinished := map[ident.JobID]bool{}
	for {
		if err := m.dropSurplus(ctx, unfinished); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.retirements:
		}
	}
}

// dropSurplus drops what is kept no longer; unfinished are jobs of which something is left to do.
func (m *Manager) dropSurplus(ctx context.Context, unfinished map[ident.JobID]bool) error {
	for _, id := range m.surplus() {
		if unfinished[id] {
			continue
		}
		var why *unfinishedError
		err := m.drop(ctx, id)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case inDoubt(err):
			return fmt.Errorf("drop ended job %s: what is durable is in doubt: %w", id, err)
		case errors.As(err, &why):
			unfinished[id] = true
			m.log.Warn("an ended job is kept: something is left to do for it; please report it", "job", id, "reason", err)
		case err != nil: // the others would fail alike
			m.log.Warn("drop an ended job; it is tried again when the next one ends", "job", id, "reason", err)
			return nil
		}
	}
	return nil
}

// retainEnded drops the old checkpoints of ended jobs whose last round of retention an end of the job manager cut short.
func (m *Manager) retainEnded(ctx context.Context) error {
	for _, r := range m.jobs() {
		if !r.isRetired || r.damage != "" || !r.overdue {
			continue
		}
		if err := r.retain(ctx); inDoubt(err) {
			return fmt.Errorf("job %s: what is durable is in doubt: %w", r.id, err)
		} else if err != nil && ctx.Err() == nil {
			m.log.Warn("retention of an ended job; the next start tries again", "job", r.id, "reason", err)
		}
	}
	return nil
}

// keep lets the job of a checkpoint that is being taken over not be dropped, until it is released.
func (m *Manager) keep(s submission) (release func(), err error) {
	if s.fromCheckpoint == "" {
		return func() {}, nil
	}
	name, _, err := ident.ParseCheckpoint(s.fromCheckpoint)
	if err != nil {
		return nil, err
	}
	r, err := m.find(name)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dropping == r.id {
		return nil, fmt.Errorf("%w: %q", errUnknownJob, name)
	}
	m.heirs[r.id]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.heirs[r.id]--; m.heirs[r.id] == 0 {
			delete(m.heirs, r.id)
		}
	}, nil
}

// beginDrop says whether a job may be dropped now: no submission takes it over, and none may begin to.
func (m *Manager) beginDrop(id ident.JobID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heirs[id] > 0 {
		return false
	}
	m.dropping = id
	return true
}

func (m *Manager) endDrop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropping = ""
}

// drop forgets an ended job: first in the database, durably, then in memory, then its files, which the next start sweeps
// if this one ends in between. No id of it comes back: transactional ids hold the id of the job, which is random.
func (m *Manager) drop(ctx context.Context, id ident.JobID) error {
	r, err := m.find(string(id))
	if err != nil {
		return err
	}
	if !m.beginDrop(id) {
		return nil // when the next job ends
	}
	defer m.endDrop()
	err = m.store.Update(ctx, func(tx *boltstore.Tx) error {
		if err := unfinished(tx, id); err != nil {
			return err
		}
		err := inheritMade(tx, id, time.Now())
		newest, nameErr := tx.JobOfName(r.name)
		switch {
		case nameErr == nil && newest == id:
			err = errors.Join(err, tx.DeleteName(r.name))
		case !errors.Is(nameErr, boltstore.ErrNotFound):
			err = errors.Join(err, nameErr)
		}
		return errors.Join(err, tx.DeleteJob(id))
	})
	if err != nil {
		return err
	}
	m.forget(r)
	m.log.Info("dropped an ended job: the latest are kept", "job", id, "name", r.name, "endedAt", r.view().endedAt, "keepEndedJobs", m.cfg.KeepEndedJobs)
	m.decisions.of(id).note("dropped")
	if err := m.blobs.DeleteJob(id); err != nil {
		m.log.Warn("remove the state files of a dropped job; the next start does", "job", id, "reason", err)
	}
	return nil
}

// unfinished is an error if something is left to commit or to fence for a job. A terminal state is stored only when
// nothing is: this looks once more before it is forgotten.
func unfinished(tx *boltstore.Tx, id ident.JobID) error {
	stored, _, err := storedOf(tx, id)
	if err != nil {
		return err
	}
	state := stored.Record.State
	if !state.Terminal() {
		return &unfinishedError{fmt.Sprintf("its state is %s", state)}
	}
	handouts, err := readHandouts(tx, id)
	if err != nil || len(handouts) > 0 {
		return &unfinishedError{fmt.Sprintf("%d hand-outs of transactional ids are not fenced for good (%v)", len(handouts), err)}
	}
	found, err := tx.Manifests(id)
	if err != nil || state == job.FailedDataLoss { // what is not committed of that never can be
		return err
	}
	for _, f := range found {
		if f.Manifest != nil && len(checkpoint.Unmarked(f.Manifest, tx.Marked(id))) > 0 {
			return &unfinishedError{fmt.Sprintf("checkpoint %d is not committed", f.Checkpoint)}
		}
	}
	return nil
}

// forget takes a job out of the lists, and its name out of the metrics if no other job has it.
func (m *Manager) forget(r *runner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.runners, r.id)
	m.order = slices.DeleteFunc(m.order, func(id ident.JobID) bool { return id == r.id })
	for _, other := range m.runners {
		if other.name == r.name {
			return
		}
	}
	m.metrics.idsMade.DeleteLabelValues(r.name)
	m.metrics.checkpointDuration.DeleteLabelValues(r.name)
}
