package jobmanager

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
)

// endedNote is the small value of a job that has ended in which its record stands once more, without the graph: that
// the job has ended, when and how is known, too, when the record cannot be read. Releases may add to it, none changes
// what its fields mean, so its version is not looked at.
const endedNote = "ended"

// recover reads every job and sweeps state files that nothing names. What of a job cannot be read keeps no other job
// from running (docs/decisions/0022): one that has ended is shown with its damage, any other is shown and not run.
func (m *Manager) recover() error {
	var reachable []manifest.Blob
	var unread []ident.JobID
	err := m.store.View(func(tx *boltstore.Tx) error {
		ids, err := tx.Jobs()
		if err != nil {
			return err
		}
		for _, id := range ids {
			k, err := m.readJob(tx, id)
			if err != nil {
				return fmt.Errorf("recover job %s from %s: %w", id, m.cfg.DataDir, err)
			}
			if k.before.damage != "" { // which files its checkpoints name is not known
				unread = append(unread, id)
			}
			reachable = append(reachable, k.blobs...)
			r := m.newRunner(id, k.graph, k.plan, k.stored, k.before)
			if r.ended() {
				r = r.retired()
			}
			m.add(r)
		}
		if err := m.ids.readInherited(tx); err != nil {
			m.log.Warn("the transactional ids that dropped jobs made in the last days cannot be counted", "reason", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	n, err := m.blobs.Sweep(reachable, unread...)
	if err != nil { // what is left takes room and does no other harm
		m.log.Warn("state files that nothing names could not be removed; the next start tries again", "reason", err)
	}
	if n > 0 {
		m.log.Info("removed state files that no checkpoint names", "files", n)
	}
	return nil
}

// kept is what the store holds of a job.
type kept struct {
	stored *storedJob
	graph  *graph.Job
	plan   *graph.Physical
	before past
	blobs  []manifest.Blob
}

// readJob reads a job. An error is one of the store itself, or a record of which nobody can tell whether its job has
// ended; other damage stands in past.damage.
func (m *Manager) readJob(tx *boltstore.Tx, id ident.JobID) (k kept, err error) {
	k.before.recovered = true
	if err := m.ids.read(tx, id); err != nil { // they are only counted
		m.log.Warn("the transactional ids that a job made in the last days cannot be counted", "job", id, "reason", err)
	}
	var damage error
	if k.stored, damage, err = storedOf(tx, id); err != nil {
		return k, err
	}
	if damage == nil {
		k.graph, k.plan, damage = m.storedGraph(k.stored)
	}
	start := &k.before.checkpoints
	if k.stored.storedCounts, err = countsOf(tx, id, k.stored.storedCounts); err != nil {
		m.log.Warn("the newest counts of checkpoints cannot be read", "job", id, "reason", err)
	}
	*start = checkpoint.Start{Job: id, Completed: k.stored.Completed, Failed: k.stored.Failed}
	if damage != nil {
		return k, k.unread(tx, id, damage)
	}
	k.stored.Name = k.graph.Name // records of older releases have none
	start.Identity = k.plan.Identity
	facts, err := factsOf(tx, id, k.plan, k.graph, m.store.Witness())
	if err != nil {
		return k, err
	}
	if start.Reserved, err = tx.Reserved(id); err != nil {
		return k, err
	}
	for _, f := range facts.Found {
		if f.Manifest == nil {
			continue
		}
		k.blobs = append(k.blobs, checkpoint.Blobs(f.Manifest)...)
		if f.Checkpoint == facts.Newest { // never an older one in its place
			start.Latest = f.Manifest
		}
	}
	k.before.overdue = len(facts.Found) > k.graph.Checkpoint.Retain+1 // checkpoint 0 beside them
	if k.before.damage = damageOf(facts, k.stored.Record.State.Terminal()); k.before.damage != "" {
		k.before.committed = isCommitted(tx, id, start.Latest)
		return k, nil
	}
	if k.before.commits, err = commitsOf(tx, id, facts); err != nil { // the rest of its ids cannot be fenced
		k.before.damage = err.Error()
	}
	return k, nil
}

// unread makes of a job without a graph what can be shown: its name, and its newest checkpoint, which needs no graph.
func (k *kept) unread(tx *boltstore.Tx, id ident.JobID, damage error) error {
	name := k.stored.Name
	if name == "" {
		var err error
		if name, err = tx.NameOf(id); err != nil {
			return err
		}
	}
	k.graph, k.plan = &graph.Job{Name: cmp.Or(name, string(id))}, &graph.Physical{}
	k.before.damage = damage.Error()
	newest, err := tx.Newest(id)
	if err != nil {
		return err
	}
	found, err := tx.Manifests(id)
	for _, f := range found {
		if f.Manifest != nil && f.Checkpoint == newest {
			k.before.checkpoints.Latest = f.Manifest
		}
	}
	k.before.committed = isCommitted(tx, id, k.before.checkpoints.Latest)
	return err
}

func isCommitted(tx *boltstore.Tx, id ident.JobID, m *manifest.Manifest) bool {
	return m != nil && len(checkpoint.Unmarked(m, tx.Marked(id))) == 0
}

// storedOf reads the record of a job, or what is noted of it if it has ended and the record is damaged.
func storedOf(tx *boltstore.Tx, id ident.JobID) (stored *storedJob, damage, err error) {
	data, err := tx.Job(id)
	if err != nil {
		return nil, nil, err
	}
	stored = &storedJob{}
	if err := json.Unmarshal(data, stored); err != nil {
		damage = fmt.Errorf("decode its record: %w", err)
	} else if stored.Version != recordVersion {
		damage = fmt.Errorf("its record has version %d, this job manager reads %d: install the release that wrote it", stored.Version, recordVersion)
	}
	if damage == nil {
		return stored, nil, nil
	}
	note, err := tx.Value(id, endedNote)
	if errors.Is(err, boltstore.ErrNotFound) {
		return nil, nil, fmt.Errorf("whether it has ended cannot be told: %w", damage)
	}
	stored = &storedJob{}
	if err == nil {
		err = json.Unmarshal(note, stored)
	}
	if err == nil && !stored.Record.State.Terminal() {
		err = fmt.Errorf("state %.40q is none of an ended job", stored.Record.State)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w; what is noted of its end does not help: %w", damage, err)
	}
	return stored, damage, nil
}

// putRecord writes the record of a job, and notes when it has ended.
func putRecord(tx *boltstore.Tx, id ident.JobID, s *storedJob) error {
	data, err := s.encode()
	if err != nil {
		return err
	}
	if err := tx.PutJob(id, data); err != nil || !s.Record.State.Terminal() {
		return err
	}
	note := *s
	note.Spec = nil
	if data, err = note.encode(); err != nil {
		return err
	}
	return tx.PutValue(id, endedNote, data)
}

// damageOf says what of the checkpoints of a job cannot be used; empty: nothing. An ended job is deployed no more: that
// its graph would not take its state over is no damage.
func damageOf(f *checkpoint.Facts, ended bool) string {
	if !ended {
		if d := checkpoint.Decide(*f); d.Action == checkpoint.Refuse {
			return d.Why
		}
		return ""
	}
	var errs []error
	newest := f.Newest == 0
	for _, found := range f.Found {
		if found.Err != nil {
			errs = append(errs, found.Err)
		}
		newest = newest || found.Checkpoint == f.Newest
	}
	if !newest {
		errs = append(errs, fmt.Errorf("checkpoint %d, the newest, is not there", f.Newest))
	}
	return sentenceOf(errs)
}

// sentenceOf puts errors on one line.
func sentenceOf(errs []error) string {
	var out []string
	for _, err := range errs {
		out = append(out, err.Error())
	}
	return strings.Join(out, "; ")
}

// commitsOf reads what is left to commit and to fence, oldest first.
func commitsOf(tx *boltstore.Tx, id ident.JobID, facts *checkpoint.Facts) (commit.Start, error) {
	var start commit.Start
	for _, f := range facts.Found { // oldest first, as the store gives them
		for _, t := range checkpoint.Unmarked(f.Manifest, facts.Marked) {
			start.Unmarked = append(start.Unmarked, commit.Named{Checkpoint: f.Checkpoint, Transaction: t})
		}
	}
	var err error
	start.Handouts, err = readHandouts(tx, id)
	return start, err
}

func (m *Manager) storedGraph(s *storedJob) (*graph.Job, *graph.Physical, error) {
	j, err := decodeGraph(s.Spec)
	if err != nil {
		return nil, nil, fmt.Errorf("decode its graph: %w", err)
	}
	j.SetDefaults()
	plan, err := graph.Plan(j, m.expressions)
	if err != nil {
		return nil, nil, fmt.Errorf("plan its graph: %w", err)
	}
	return j, plan, nil
}

// setDamage says of a job that is not run what of it cannot be read.
func (r *runner) setDamage(why string) {
	if r.machine.State().Terminal() {
		r.damage = fmt.Sprintf("what is kept of this job is damaged: %s; --from-checkpoint refuses what cannot be read; "+
			"put the newest copy of the data directory back, or use the release that wrote it", why)
		r.log.Warn("an ended job is damaged; the others go on", "state", r.machine.State(), "reason", why)
		return
	}
	r.damage = fmt.Sprintf("the job manager does not run this job, nor commit or fence anything of it, for it cannot be read: %s; "+
		"put the newest copy of the data directory back, or use the release that wrote it, and start the job manager again", why)
	r.log.Error("a job cannot be read and is not run; the others go on", "state", r.machine.State(), "reason", why)
}
