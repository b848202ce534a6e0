package jobmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/jobmanager/publish"
)

// commitTimeout bounds one commit or fence; the committer repeats it. A job manager that ends waits for
// those on their way.
const commitTimeout = 5 * time.Second

// markDelay is what marks wait for each other at most; the answers of one broker come within a few milliseconds.
const markDelay = 50 * time.Millisecond

// stepCommit applies an event to the committer and carries out what it says, and what waited for it.
func (r *runner) stepCommit(ctx context.Context, now time.Time, ev commit.Event) error {
	if err := r.stepCommitter(ctx, now, ev); err != nil {
		return err
	}
	if held := r.heldDeploy; held != nil && r.committer.Settled() {
		r.heldDeploy = nil
		rec := r.machine.Record()
		if rec.State == job.Deploying && rec.Attempt == held.Fence.Attempt {
			return r.deploy(ctx, *held)
		}
	}
	return nil
}

func (r *runner) stepCommitter(ctx context.Context, now time.Time, ev commit.Event) error {
	for _, eff := range r.committer.Step(now, ev) {
		if err := r.performCommit(ctx, eff); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) performCommit(ctx context.Context, eff commit.Effect) error {
	switch e := eff.(type) {
	case commit.Commit:
		r.commit(ctx, e)
	case commit.Mark:
		r.mark(ctx, e)
	case commit.Announce:
		return r.announce(ctx, e)
	case commit.Fence:
		r.fence(ctx, e)
	case commit.Forget:
		r.beside(ctx, func(ctx context.Context) error {
			return r.m.store.Update(ctx, func(tx *boltstore.Tx) (err error) {
				for _, k := range e.Handouts {
					err = errors.Join(err, tx.DeleteValue(r.id, handoutName(k)))
				}
				return err
			})
		}, func(_ time.Time, err error) {
			r.doubtful(err)
			r.enqueue(commit.Forgotten{Handouts: e.Handouts, Err: err})
		})
	case commit.Lost:
		r.log.Error("a completed checkpoint cannot be committed", "checkpoint", e.Checkpoint, "transactions", len(e.Transactions))
		r.losses = append(r.losses, e)
		r.enqueue(job.DataLost{Failure: r.lossSoFar()})
	case commit.CleanedUp:
		if len(r.losses) > 0 { // a checkpoint that was being written at the first loss may have completed since
			r.enqueue(job.DataLost{Failure: r.lossSoFar()})
		}
		r.enqueue(publish.Ending{})
	case commit.Ignored:
		r.m.metrics.dropped("commit")
		r.log.Debug("ignored", "what", e.What, "reason", e.Why)
	}
	return nil
}

// call runs a call to Kafka beside the loop; it ends by its own deadline, also when the job manager ends.
func (r *runner) call(ctx context.Context, f func(context.Context) error, then func(now time.Time, err error)) {
	r.beside(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
		defer cancel()
		return f(ctx)
	}, then)
}

func (r *runner) commit(ctx context.Context, e commit.Commit) {
	refused := false
	r.call(ctx, func(ctx context.Context) (err error) {
		if err = failpoint.Hit(failpoint.BeforeCommit); err != nil {
			return err
		}
		if refused, err = r.m.connector.Commit(ctx, r.graph, &e.Transaction); err != nil {
			return err
		}
		return failpoint.Hit(failpoint.AfterCommit)
	}, func(_ time.Time, err error) {
		key := e.Transaction.Key()
		switch {
		case refused:
			r.decisions.note("refused", "transaction", key.String(), "reason", err.Error())
		case err == nil:
			r.decisions.note("committed", "transaction", key.String())
		}
		r.enqueue(commit.Committed{Key: key, Err: err, Refused: refused})
	})
}

func (r *runner) mark(ctx context.Context, e commit.Mark) {
	r.beside(ctx, func(ctx context.Context) error {
		if err := failpoint.Hit(failpoint.BeforeMark); err != nil {
			return err
		}
		err := r.m.store.Update(ctx, func(tx *boltstore.Tx) error { return tx.Mark(r.id, e.Keys...) })
		if err == nil {
			_ = failpoint.Hit(failpoint.AfterMark) // nothing here can fail any more
		}
		return err
	}, func(_ time.Time, err error) {
		if err == nil {
			names := make([]string, 0, len(e.Keys))
			for _, k := range e.Keys {
				names = append(names, k.String())
			}
			r.decisions.note("marked", "transactions", names)
		}
		r.doubtful(err)
		r.enqueue(commit.Marked{Keys: e.Keys, Err: err})
	})
}

func (r *runner) fence(ctx context.Context, e commit.Fence) {
	id := e.Handout.ID(e.N)
	r.call(ctx, func(ctx context.Context) error {
		if err := failpoint.Hit(failpoint.BeforeFence); err != nil {
			return err
		}
		return r.m.connector.Fence(ctx, r.graph, e.Handout.Sink, e.Handout.Cluster, id)
	}, func(_ time.Time, err error) {
		if err == nil {
			r.decisions.note("fenced", "attempt", uint64(e.Handout.Attempt), "id", id)
		}
		r.enqueue(commit.Fenced{Handout: e.Handout.HandoutKey, N: e.N, Err: err})
	})
}

// doubtful ends the job manager when nobody can tell whether a write is durable: the next start reads the
// truth from disk.
func (r *runner) doubtful(err error) {
	if inDoubt(err) {
		r.doubt = cmp.Or(r.doubt, err)
	}
}

// inDoubt says that nobody can tell from the error of a write whether it is durable.
func inDoubt(err error) bool {
	return errors.Is(err, boltstore.ErrUnknownOutcome) || errors.Is(err, boltstore.ErrDamaged)
}

// announce tells everybody of a committed checkpoint.
func (r *runner) announce(ctx context.Context, e commit.Announce) error {
	if err := failpoint.Hit(failpoint.BeforeAnnounce); err != nil {
		return err
	}
	r.announced = max(r.announced, e.Checkpoint)
	r.decisions.note("announced", "checkpoint", uint64(e.Checkpoint))
	// The newest checkpoint that the start found may name nothing that was left to commit. One of which the output is lost is
	// settled, too, and is never announced.
	if r.earlier != nil && r.committer.Settled() && r.committer.Status().Lost == 0 {
		r.announced = max(r.announced, r.earlier.Checkpoint)
		r.enqueue(publish.Announced{Manifest: r.earlier})
	}
	i := slices.IndexFunc(r.unannounced, func(m *manifest.Manifest) bool { return m.Checkpoint == e.Checkpoint })
	if i >= 0 { // else it is an old one of which only a commit was missing
		m := r.unannounced[i]
		r.unannounced = slices.Delete(r.unannounced, 0, i+1)
		r.sendToAll(m.Fence, completedMessage(r.id, m.Fence, m.Checkpoint))
		r.enqueue(publish.Announced{Manifest: m})
	}
	r.retainSoon(ctx)
	return nil
}

// onLevel takes what a transactional sink tells of its ids.
func (r *runner) onLevel(l sinkLevel) {
	if r.deployed == nil || r.deployed.fence != l.fence {
		r.m.metrics.dropped("sink level")
		return
	}
	h, ok := r.deployed.handouts[l.sinkRef]
	if !ok || l.sequence < r.levels[l.sinkRef].sequence { // the latter from a stream that was replaced
		r.m.metrics.dropped("sink level")
		return
	}
	l.wanted = min(l.wanted, maxIDs)
	r.levels[l.sinkRef] = l
	r.tellReadiness(l.subtask)
	if l.wanted > h.Count {
		r.enqueue(growth{l.fence, l.sinkRef})
	}
}

// tellReadiness gives the coordinator the level of a subtask: the lowest of its sinks.
func (r *runner) tellReadiness(s ident.Subtask) {
	level := -1
	for _, ref := range r.deployed.transactional[s] {
		if ready := r.levels[ref].ready; level < 0 || ready < level {
			level = ready
		}
	}
	r.enqueue(checkpoint.SinkReadiness{Fence: r.deployed.fence, Subtask: s, Ready: max(level, 0)})
}

// gated lists the subtasks with transactional sinks.
func (r *runner) gated() []ident.Subtask {
	return slices.SortedFunc(maps.Keys(r.deployed.transactional), ident.Subtask.Compare)
}

// growth asks for more ids for a sink that wants some.
type growth struct {
	fence ident.Fence
	sinkRef
}

// grow hands out more ids: durable first, then told. It goes on until the sink has what it wants: a sink tells
// its level only when it has changed, so it would not ask again.
func (r *runner) grow(ctx context.Context, g growth) {
	d := r.deployed
	if d == nil || d.fence != g.fence || r.growing[g.sinkRef] {
		return
	}
	h := d.handouts[g.sinkRef]
	made := r.levels[g.sinkRef].wanted - h.Count
	if made <= 0 {
		return
	}
	h.Count += made
	growing := r.growing // that of this attempt
	growing[g.sinkRef] = true
	r.beside(ctx, func(ctx context.Context) error { return r.storeHandouts(ctx, made, h) }, func(_ time.Time, err error) {
		r.doubtful(err)
		if errors.Is(err, errForgotten) { // the attempt is over, and nobody was told of the ids
			return
		}
		if err != nil {
			r.log.Warn("hand out transactional ids", "sink", g.sink, "subtask", g.subtask.String(), "reason", err)
			r.beside(ctx, func(ctx context.Context) error { return pause(ctx, storeRetry) }, func(time.Time, error) {
				delete(growing, g.sinkRef)
				r.enqueue(g)
			})
			return
		}
		delete(growing, g.sinkRef)
		r.enqueue(commit.HandedOut{Handout: h})
		if r.deployed != d {
			return
		}
		d.handouts[g.sinkRef] = h
		r.enqueue(g)
		r.log.Info("more transactional ids", "sink", g.sink, "subtask", g.subtask.String(), "attempt", d.fence.Attempt, "count", h.Count)
		r.m.sessions.send(d.placement[g.subtask], handOutMessage(r.id, d.fence, g.sinkRef, h.Count))
	})
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// storeHandouts makes hand-outs durable and counts the ids that they make.
func (r *runner) storeHandouts(ctx context.Context, made int, list ...commit.Handout) error {
	if err := failpoint.Hit(failpoint.BeforeHandOut); err != nil {
		return err
	}
	now := time.Now()
	err := r.m.store.Update(ctx, func(tx *boltstore.Tx) error {
		err := countMade(tx, r.id, made, now)
		for _, h := range list {
			err = errors.Join(err, raiseHandout(tx, r.id, h))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("store the transactional ids of attempt %d: %w", list[0].Attempt, err)
	}
	r.m.metrics.idsMade.WithLabelValues(r.name).Add(float64(made))
	if r.m.ids.add(made, now) {
		r.log.Warn("very many transactional ids: brokers remember each for 7 days, and suffer; jobs restart too often or have too many sink subtasks",
			"last7Days", r.m.ids.recent(now), "limit", manyIDs)
	}
	for _, h := range list {
		r.decisions.note("handedOut", "attempt", uint64(h.Attempt), "sink", h.Sink, "subtask", h.Subtask, "count", h.Count)
	}
	_ = failpoint.Hit(failpoint.AfterHandOut) // they are durable: nothing here can fail any more
	return nil
}

// handOutFirst hands out the first ids of an attempt, before it is deployed.
func (r *runner) handOutFirst(ctx context.Context, d *deployment) error {
	if len(d.handouts) == 0 {
		return nil
	}
	var list []commit.Handout
	for _, h := range d.handouts {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b commit.Handout) int {
		return cmp.Or(cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.Subtask, b.Subtask))
	})
	if err := r.storeHandouts(ctx, len(list)*firstIDs, list...); err != nil {
		return err
	}
	for _, h := range list {
		r.enqueue(commit.HandedOut{Handout: h})
	}
	return nil
}

// committing says what of completed checkpoints is not visible yet, for people.
func (r *runner) committing(now time.Time) string {
	s := r.committer.Status()
	switch {
	case s.Uncommitted > 0 && now.Sub(s.Since) > time.Second:
		return fmt.Sprintf("%d transactions of completed checkpoints are not committed after %s: %s",
			s.Uncommitted, now.Sub(s.Since).Round(time.Second), cmp.Or(s.Reason, "waiting for Kafka"))
	case s.Unfenced > 0 && s.Reason != "":
		return fmt.Sprintf("%d transactional ids of ended attempts are not fenced yet: %s", s.Unfenced, s.Reason)
	default:
		return ""
	}
}
