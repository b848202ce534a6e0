package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/operator"
)

const (
	sinkName = "out"
	cluster  = "kafka:9092"
	// firstIDs is how many transactional ids a sink subtask is deployed with.
	firstIDs = 4
	// tolerable is how many checkpoints in a row may fail.
	tolerable = 3
)

// committing is what a runner keeps for its committer, as package jobmanager has it.
type committing struct {
	committer *commit.Machine
	// handouts and ready are those of the attempt that was sent out last, by sink.
	handouts map[ident.Subtask]commit.Handout
	ready    map[ident.Subtask]int
	// wanted is what a sink last asked for; growing: a write of it is on its way, or waits to be repeated.
	wanted  map[ident.Subtask]int
	growing map[ident.Subtask]bool
	// held is a deployment that waits for commits.
	held *jobcore.Deploy
	// unannounced are completed checkpoints of this start; announced is the newest that was announced.
	unannounced []*manifest.Manifest
	announced   ident.CheckpointID
}

func newCommitting(w *world, s *stored) committing {
	begin := commit.Start{Handouts: slices.Clone(s.handouts)}
	if w.bug == bugLoseHandouts {
		begin.Handouts = nil
	}
	for _, m := range s.manifests {
		for _, t := range checkpoint.Unmarked(m, s.marked) {
			begin.Unmarked = append(begin.Unmarked, commit.Named{Checkpoint: m.Checkpoint, Transaction: t})
		}
	}
	return committing{committer: commit.New(commit.Config{Parallel: 1 + w.rng.IntN(4), MarkDelay: time.Duration(w.rng.IntN(3)) * 20 * time.Millisecond}, begin)}
}

func (r *runner) stepCommit(ev commit.Event) {
	w := r.jm.w
	for _, eff := range r.committer.Step(w.time(), ev) {
		if w.chance(w.odds.crashAtEffect) {
			r.jm.die("before " + eff.String())
			return
		}
		if w.log != nil {
			w.logf("%s     %v", r.job.id, eff)
		}
		r.performCommit(eff)
		if r.jm.dead {
			return
		}
	}
	if held := r.held; held != nil && r.committer.Settled() {
		r.held = nil
		if rec := r.machine.Record(); rec.State == jobcore.Deploying && rec.Attempt == held.Fence.Attempt {
			r.deploy(*held)
		}
	}
}

func (r *runner) performCommit(eff commit.Effect) {
	switch e := eff.(type) {
	case commit.Commit:
		r.commit(e)
	case commit.Mark:
		r.mark(e)
	case commit.Announce:
		r.announce(e)
	case commit.Fence:
		r.fenceID(e)
	case commit.Forget:
		r.store(func() {
			r.disk.handouts = slices.DeleteFunc(r.disk.handouts, func(h commit.Handout) bool { return slices.Contains(e.Handouts, h.HandoutKey) })
		}, func(err error) { r.handle(commit.Forgotten{Handouts: e.Handouts, Err: err}) })
	case commit.Lost:
		r.queue = append(r.queue, jobcore.DataLost{Failure: jobcore.Failure{Class: jobcore.External, Message: e.String()}})
	case commit.CleanedUp:
		r.queue = append(r.queue, jobcore.CleanedUp{})
	}
}

// ask sends a call of the job manager; the answer comes while it lives.
func (r *runner) ask(c call, answer func(code)) {
	c.from = &r.jm.w.jobManagerOut
	c.answer = func(got code) {
		if !r.jm.dead {
			answer(got)
		}
	}
	r.jm.w.send(c)
}

func (r *runner) commit(e commit.Commit) {
	w, key := r.jm.w, e.Transaction.Key()
	r.ask(call{carryOut: func() code {
		answer := w.kafka.endTxn(key)
		if w.log != nil {
			w.logf("kafka: commit %s: %s", key, answer)
		}
		return answer
	}}, func(got code) {
		ev := commit.Committed{Key: key}
		if got != ok {
			ev.Err, ev.Refused = fmt.Errorf("%s", got), !got.retriable()
		}
		r.handle(ev)
	})
}

func (r *runner) mark(e commit.Mark) {
	mark := func() {
		for _, k := range e.Keys {
			r.jm.w.checkMark(k)
			r.disk.marks[k] = true
		}
	}
	if r.jm.w.bug == bugAnnounceEarly {
		r.store(mark, func(error) {})
		r.queue = append(r.queue, commit.Marked{Keys: e.Keys})
		return
	}
	r.store(mark, func(err error) { r.handle(commit.Marked{Keys: e.Keys, Err: err}) })
}

// fenceID asks for an InitProducerId, which aborts what is open under the id.
func (r *runner) fenceID(e commit.Fence) {
	w, id := r.jm.w, e.Handout.ID(e.N)
	answer := func(got code) {
		ev := commit.Fenced{Handout: e.Handout.HandoutKey, N: e.N}
		if got != ok && (w.bug != bugFenceBusy || got != concurrent) {
			ev.Err = fmt.Errorf("%s", got)
		}
		r.handle(ev)
	}
	if w.bug == bugNoFence {
		w.after(0, func() { answer(ok) })
		return
	}
	r.ask(call{carryOut: func() code {
		got, _, _ := w.kafka.initProducerID(id, w.transactionTimeout)
		if w.log != nil {
			w.logf("kafka: fence %s: %s", id, got)
		}
		return got
	}}, answer)
}

// announce tells the sinks of a committed checkpoint, and lets retention run.
func (r *runner) announce(e commit.Announce) {
	w, j := r.jm.w, r.job
	w.checkAnnounce(r.disk, j, e.Checkpoint)
	r.announced = e.Checkpoint
	i := slices.IndexFunc(r.unannounced, func(m *manifest.Manifest) bool { return m.Checkpoint == e.Checkpoint })
	if i >= 0 {
		m := r.unannounced[i]
		r.unannounced = r.unannounced[i+1:]
		r.toAll(m.Fence, func(tm *taskManager) { tm.onCompleted(j, m.Fence, m.Checkpoint) })
		if w.healed {
			r.completedHealed++
		}
	}
	r.store(func() { r.disk.retain(w.bug == bugRetainBlind) }, func(error) {})
}

// toAll sends to every task manager of an attempt, if it is the one that is deployed.
func (r *runner) toAll(f ident.Fence, message func(*taskManager)) {
	for _, tm := range r.jm.w.tms {
		if r.deployed[tm.id] != nil && f == r.fence {
			r.jm.streamTo(tm.id).toTM(message)
		}
	}
}

// handOut makes the first ids of an attempt durable, before it is deployed.
func (r *runner) handOut(f ident.Fence) {
	w := r.jm.w
	r.handouts, r.ready = map[ident.Subtask]commit.Handout{}, map[ident.Subtask]int{}
	r.wanted, r.growing = map[ident.Subtask]int{}, map[ident.Subtask]bool{}
	for _, s := range r.job.sinks() {
		h := commit.Handout{
			HandoutKey: commit.HandoutKey{Attempt: f.Attempt, Sink: sinkName, Subtask: s.Index},
			Cluster:    cluster, Prefix: prefixOf(w, r.job, s.Index, f.Attempt), Count: firstIDs,
		}
		r.handouts[s] = h
		r.disk.handouts = append(r.disk.handouts, h)
		r.queue = append(r.queue, commit.HandedOut{Handout: h})
	}
}

// onLevel takes what a sink tells of its ids.
func (r *runner) onLevel(f ident.Fence, s ident.Subtask, l operator.TransactionLevel) {
	if f != r.fence || r.handouts == nil {
		return
	}
	r.ready[s], r.wanted[s] = l.Ready, l.Wanted
	r.handle(checkpoint.SinkReadiness{Fence: f, Subtask: s, Ready: l.Ready})
	if !r.jm.dead {
		r.grow(f, s)
	}
}

// grow hands out more ids: durable first, then told.
func (r *runner) grow(f ident.Fence, s ident.Subtask) {
	w, j, h := r.jm.w, r.job, r.handouts[s]
	if f != r.fence || r.wanted[s] <= h.Count || r.growing[s] {
		return
	}
	h.Count = r.wanted[s]
	r.growing[s] = true
	tell := func() {
		for worker, parts := range r.deployed {
			if slices.ContainsFunc(parts, func(p placed) bool { return p.subtask == s }) {
				r.jm.streamTo(worker).toTM(func(tm *taskManager) { tm.onHandOut(j, f, s, h.Count) })
			}
		}
	}
	if w.bug == bugForgetHandout {
		delete(r.growing, s)
		r.handouts[s] = h
		tell()
		return
	}
	forgotten := false
	r.store(func() { forgotten = !r.disk.raiseHandout(h) }, func(err error) {
		switch {
		case forgotten:
			return // the attempt is long over: nobody is told of these ids
		case f != r.fence:
			if err == nil {
				r.handle(commit.HandedOut{Handout: h})
			}
			return
		}
		if err != nil {
			w.after(time.Second, func() {
				if !r.jm.dead && f == r.fence {
					delete(r.growing, s)
					r.grow(f, s)
				}
			})
			return
		}
		delete(r.growing, s)
		r.handouts[s] = h
		r.handle(commit.HandedOut{Handout: h})
		if !r.jm.dead && f == r.fence {
			tell()
			r.grow(f, s) // the sink may have asked for more meanwhile
		}
	})
}

// store makes a small write durable and answers. A crash may come before, in the middle or after it.
func (r *runner) store(apply func(), answer func(error)) {
	w := r.jm.w
	w.after(w.writing(), func() {
		var err error
		switch {
		case r.jm.dead && (r.disk.record.State.Terminal() || w.disk.epoch != r.jm.epoch || w.rng.IntN(2) == 0):
			return
		case w.chance(w.odds.diskFull):
			err = errDiskFull
		default:
			apply()
			if w.chance(w.odds.crashAtEffect) {
				r.jm.die("before it learned that a write is durable")
			}
		}
		w.after(w.delay(), func() {
			if !r.jm.dead {
				answer(err)
			}
		})
	})
}
