package sim

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
)

// truth is what durable manifests name, whatever retention drops, and what became of it.
type truth struct {
	named map[manifest.TransactionKey]*job
	lost  map[manifest.TransactionKey]bool
	// newest is the newest durable manifest of each job, announced the newest that was announced.
	newest    map[ident.JobID]*manifest.Manifest
	announced map[ident.JobID]ident.CheckpointID
}

// drawKafka makes the cluster and what differs of it between schedules.
func (w *world) drawKafka() {
	w.kafka, w.flows = newKafka(w), map[attemptKey]*flow{}
	w.truth = truth{
		named: map[manifest.TransactionKey]*job{}, lost: map[manifest.TransactionKey]bool{}, newest: map[ident.JobID]*manifest.Manifest{},
		announced: map[ident.JobID]ident.CheckpointID{},
	}
	w.kafka.onCommit, w.kafka.onAbort = w.onCommit, w.onAbort
	w.kafka.onReopened = w.onReopened
	w.faultPhase, w.transactionTimeout = 25*time.Second, 15*time.Minute
	w.emitEvery = w.between(200*time.Millisecond, time.Second)
	if w.rng.IntN(8) == 0 {
		w.kafka.firstEpoch = lastEpoch - 10 + w.rng.IntN(maxShort-lastEpoch+10)
	}
	if w.rng.IntN(20) == 0 { // time for transactions to expire
		w.faultPhase, w.transactionTimeout = 70*time.Second, 45*time.Second
		w.after(expiryScan, w.scan)
	}
	if w.rng.IntN(4) == 0 {
		w.after(w.between(0, w.faultPhase), func() { w.taskManagersOut.until = w.now + w.between(0, 20*time.Second) })
	}
	if w.rng.IntN(4) == 0 {
		w.after(w.between(0, w.faultPhase), func() { w.jobManagerOut.until = w.now + w.between(0, w.faultPhase) })
	}
}

// scan lets the broker expire transactions.
func (w *world) scan() {
	w.kafka.expire()
	w.after(expiryScan, w.scan)
}

// onCommit: only what a durable manifest names is committed.
func (w *world) onCommit(k manifest.TransactionKey) {
	if w.truth.named[k] == nil {
		w.violate("%s is committed, but no durable checkpoint names it", k)
	}
}

// onAbort: what a durable manifest names is not aborted by anything of ours.
func (w *world) onAbort(k manifest.TransactionKey, cause abortCause) {
	w.logf("kafka: %s is aborted by %s", k, cause)
	j := w.truth.named[k]
	if j == nil {
		return
	}
	if cause == byInit {
		w.violate("%s is aborted by %s, but a durable checkpoint names it", k, cause)
	}
	j.dataLost, w.truth.lost[k] = true, true
}

// onReopened: if the answer to the commit was lost, nobody can tell that it happened: the next one is refused,
// and the job ends in FAILED_DATA_LOSS although nothing is lost. That is loud, and rare: it takes a late
// AddPartitions and either somebody else's InitProducerId or a whole transaction timeout without a mark.
func (w *world) onReopened(k manifest.TransactionKey) {
	if j := w.truth.named[k]; j != nil && !w.disk.jobs[j.id].marked(k) {
		w.logf("kafka: nobody can tell any more that %s is committed", k)
		j.commitInDoubt = true
	}
}

// named takes a manifest that has just become durable.
func (w *world) named(j *job, m *manifest.Manifest) {
	w.truth.newest[j.id] = m
	for i := range m.Transactions {
		k := m.Transactions[i].Key()
		if w.truth.named[k] != nil {
			w.violate("checkpoint %d of %s names %s, which an older one named", m.Checkpoint, j.id, k)
		}
		w.truth.named[k] = j
		switch o := w.kafka.outcomes[k]; {
		case o.aborted && o.cause == byInit:
			w.violate("checkpoint %d of %s names %s, which was aborted by %s", m.Checkpoint, j.id, k, o.cause)
		case o.aborted:
			j.dataLost, w.truth.lost[k] = true, true
		}
	}
	if n := len(m.Transactions); n > 0 && w.chance(w.odds.loseData) {
		t := w.kafka.ids[m.Transactions[w.rng.IntN(n)].TransactionalID]
		if t.state == stateOngoing && w.truth.named[t.key()] != nil {
			w.kafka.abort(t, byAdmin)
		}
	}
}

// fenceForeign lets somebody else take the transactional ids of a job that are in use.
func (w *world) fenceForeign(j *job) {
	j.foreign = true
	prefix := string(j.id) + "/"
	for _, t := range w.kafka.order {
		if t.state == stateOngoing && strings.HasPrefix(t.name, prefix) {
			w.kafka.abort(t, byAdmin)
		}
	}
}

// checkMark: a mark says that the transaction is committed.
func (w *world) checkMark(k manifest.TransactionKey) {
	if !w.kafka.outcomes[k].committed {
		w.violate("%s is marked as committed, but is not", k)
	}
}

// checkAnnounce: in order, once in each start, and only what is durably marked.
func (w *world) checkAnnounce(s *stored, j *job, id ident.CheckpointID) {
	for _, m := range s.manifests {
		if left := checkpoint.Unmarked(m, s.marked); m.Checkpoint <= id && len(left) > 0 && w.bug != bugAnnounceEarly {
			w.violate("checkpoint %d of %s is announced, but %s of checkpoint %d is not marked", id, j.id, left[0].Key(), m.Checkpoint)
		}
	}
	if id <= w.truth.announced[j.id] && w.jm != nil && w.jm.runner(j.id).announced >= id {
		w.violate("checkpoint %d of %s is announced after %d", id, j.id, w.truth.announced[j.id])
	}
	w.truth.announced[j.id] = max(w.truth.announced[j.id], id)
}

// checkFenced: nothing of a job in a terminal state is open.
func (w *world) checkFenced(j *job) {
	prefix := string(j.id) + "/"
	for _, t := range w.kafka.order {
		if t.state == stateOngoing && strings.HasPrefix(t.name, prefix) {
			w.violate("%s is over, but %s is open", j.id, t.key())
		}
	}
	if s := w.disk.jobs[j.id]; len(s.handouts) > 0 {
		w.violate("%s is over, but ids of %v are not fenced for good", j.id, s.handouts)
	}
}

// settle lets everything that is still on its way arrive, and then judges the output.
func (w *world) settle() {
	w.run(w.now+time.Second, func() bool { return false })
	w.checkStable("a second after the last job ended")
	w.run(w.now+lateBy+10*time.Second, func() bool { return false })
	w.checkStable("when nothing is on its way any more")
	for _, j := range w.jobs {
		w.checkFenced(j)
		w.checkOutput(j)
	}
}

func (w *world) checkStable(when string) {
	for _, p := range w.kafka.parts {
		if !p.stable() {
			i := slices.IndexFunc(p.entries, func(e entry) bool { return e.state == entryOpen })
			w.violate("readers of %v hang behind %s %s", p.at, p.entries[i], when)
		}
	}
}

// checkOutput: of each source, what the newest checkpoint covers is visible exactly once, in order in each
// partition, but for what is known to be lost; and nothing else is.
func (w *world) checkOutput(j *job) {
	m := w.truth.newest[j.id]
	if m == nil {
		m = zero(j)
	}
	seen := make([][]entry, len(j.sources))
	for _, p := range w.kafka.parts {
		if p.at.Topic != string(j.id) {
			continue
		}
		last := make([]int64, len(j.sources))
		for _, e := range p.entries {
			lost := w.truth.lost[e.key]
			if e.state != entryCommitted && !lost {
				continue
			}
			if e.from < last[e.source] && !lost {
				w.violate("order in %v: %s comes after offset %d", p.at, e, last[e.source])
			}
			last[e.source] = max(last[e.source], e.from)
			seen[e.source] = append(seen[e.source], e)
		}
	}
	for _, pos := range m.Positions {
		w.checkSource(seen[pos.Partition], pos)
	}
}

// checkSource: batches follow one another without a gap and without an overlap up to the position.
func (w *world) checkSource(seen []entry, end manifest.Position) {
	slices.SortFunc(seen, func(a, b entry) int { return cmp.Compare(a.from, b.from) })
	at := int64(0)
	for _, e := range seen {
		switch {
		case e.from > at:
			w.violate("lost: [%d, %d) of %v; next is %s", at, e.from, end.Split, e)
		case e.from < at:
			w.violate("duplicate: [%d, %d) of %v is visible before %s", e.from, at, end.Split, e)
		}
		at = e.to
	}
	if at < end.Next {
		w.violate("lost: [%d, %d) of %v at the end", at, end.Next, end.Split)
	}
	if at > end.Next {
		w.violate("visible: %v up to %d, but the newest checkpoint ends at %d", end.Split, at, end.Next)
	}
}

// fenceNamed is a mistake: after a start everything is fenced, whatever completed checkpoints name.
func (r *runner) fenceNamed() {
	for _, h := range r.disk.handouts {
		for n := range h.Count {
			r.fenceID(commit.Fence{Handout: h, N: n})
		}
	}
}
