package jobmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/blob"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

// recordVersion is that of storedJob; an unknown one is refused at start.
const recordVersion = 1

// storedJob is the job manager's record of a job, as JSON. Spec is what encodeGraph wrote.
type storedJob struct {
	Version     int        `json:"version"`
	SubmitOrder uint64     `json:"submitOrder"`
	SubmittedAt time.Time  `json:"submittedAt"`
	Spec        []byte     `json:"spec"`
	Record      job.Record `json:"record"`
	// Completed and Failed carry the counters of checkpoints over a restart of the job manager; they
	// may lag behind.
	Completed uint64    `json:"completed"`
	Failed    uint64    `json:"failed"`
	EndedAt   time.Time `json:"endedAt"`
}

func (s *storedJob) encode() ([]byte, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the record of a job: %w", err)
	}
	return data, nil
}

// create stores a new job with its checkpoint 0, and what is set aside of that, in one write, and makes its runner.
func (m *Manager) create(id ident.JobID, j *graph.Job, plan *graph.Physical, zero *manifest.Manifest, aside []manifest.Position) (*runner, error) {
	specBytes, err := encodeGraph(j)
	if err != nil {
		return nil, err
	}
	stored := &storedJob{Version: recordVersion, SubmittedAt: time.Now(), Spec: specBytes, Record: job.NewRecord()}
	err = m.store.Update(context.Background(), func(tx *boltstore.Tx) error {
		ids, err := tx.Jobs()
		if err != nil {
			return err
		}
		stored.SubmitOrder = uint64(len(ids)) + 1
		data, err := stored.encode()
		if err != nil {
			return err
		}
		for _, p := range aside {
			if err := storeSplit(tx, id, storedSplit{p, true}); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutJob(id, data), tx.PutName(j.Name, id), tx.PutManifest(zero))
	})
	if err != nil {
		err = fmt.Errorf("store job %s: %w", j.Name, err)
		if inDoubt(err) {
			select {
			case m.doubt <- err:
			default: // the first one is enough
			}
		}
		return nil, err
	}
	return m.newRunner(id, j, plan, stored, past{checkpoints: checkpoint.Start{Job: id, Identity: plan.Identity, Latest: zero}}), nil
}

// recover reads every job and sweeps state files that nothing names.
func (m *Manager) recover() error {
	var reachable []manifest.Blob
	err := m.store.View(func(tx *boltstore.Tx) error {
		ids, err := tx.Jobs()
		if err != nil {
			return err
		}
		for _, id := range ids {
			r, blobs, err := m.recoverJob(tx, id)
			if err != nil {
				return fmt.Errorf("recover job %s from %s: %w", id, m.cfg.DataDir, err)
			}
			reachable = append(reachable, blobs...)
			m.add(r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	n, err := m.blobs.Sweep(reachable)
	if err != nil {
		return fmt.Errorf("sweep state files: %w", err)
	}
	if n > 0 {
		m.log.Info("removed state files that no checkpoint names", "files", n)
	}
	return nil
}

func (m *Manager) recoverJob(tx *boltstore.Tx, id ident.JobID) (*runner, []manifest.Blob, error) {
	data, err := tx.Job(id)
	if err != nil {
		return nil, nil, err
	}
	stored := &storedJob{}
	if err := json.Unmarshal(data, stored); err != nil {
		return nil, nil, fmt.Errorf("decode its record: %w", err)
	}
	if stored.Version != recordVersion {
		return nil, nil, fmt.Errorf("its record has version %d, this job manager reads %d: install the release that wrote it", stored.Version, recordVersion)
	}
	j, plan, err := m.storedGraph(stored)
	if err != nil {
		return nil, nil, err
	}
	facts, err := factsOf(tx, id, plan, j, m.store.Witness())
	if err != nil {
		return nil, nil, err
	}
	start := checkpoint.Start{Job: id, Identity: plan.Identity, Completed: stored.Completed, Failed: stored.Failed}
	if start.Reserved, err = tx.Reserved(id); err != nil {
		return nil, nil, err
	}
	var blobs []manifest.Blob
	for _, f := range facts.Found {
		if f.Err != nil {
			return nil, nil, f.Err
		}
		blobs = append(blobs, checkpoint.Blobs(f.Manifest)...)
		if start.Latest == nil || f.Checkpoint > start.Latest.Checkpoint {
			start.Latest = f.Manifest
		}
	}
	if d := checkpoint.Decide(*facts); d.Action == checkpoint.Refuse && !stored.Record.State.Terminal() {
		return nil, nil, errors.New(d.Why)
	}
	commits, err := commitsOf(tx, id, facts)
	if err != nil {
		return nil, nil, err
	}
	return m.newRunner(id, j, plan, stored, past{checkpoints: start, commits: commits, recovered: true}), blobs, m.ids.read(tx, id)
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

// factsOf reads all that the recovery decision depends on.
func factsOf(tx *boltstore.Tx, id ident.JobID, plan *graph.Physical, j *graph.Job, w checkpoint.Witness) (*checkpoint.Facts, error) {
	f := &checkpoint.Facts{Job: id, Identity: plan.Identity, MaxParallelism: j.MaxParallelism, Witness: w, Marked: tx.Marked(id)}
	for i := range plan.Vertices {
		if len(stateful(&plan.Vertices[i])) > 0 {
			f.Parallelism = max(f.Parallelism, plan.Vertices[i].Parallelism)
		}
	}
	var err error
	if f.Found, err = tx.Manifests(id); err != nil {
		return nil, err
	}
	f.Newest, err = tx.Newest(id)
	return f, err
}

// decide says from which checkpoint the next attempt is to be restored.
func (r *runner) decide() (d checkpoint.Decision, err error) {
	err = r.m.store.View(func(tx *boltstore.Tx) error {
		f, err := factsOf(tx, r.id, r.plan, r.graph, r.m.store.Witness())
		if err == nil {
			seedRestore(f)
			d = checkpoint.Decide(*f)
		}
		return err
	})
	return d, err
}

// checkpointOf reads one checkpoint of a job.
func (m *Manager) checkpointOf(id ident.JobID, n ident.CheckpointID) (out storedCheckpoint, err error) {
	err = m.store.View(func(tx *boltstore.Tx) error {
		out.manifest, err = tx.Manifest(id, n)
		if err == nil {
			out.committed = len(checkpoint.Unmarked(out.manifest, tx.Marked(id))) == 0
		}
		return err
	})
	return out, err
}

// storedCheckpoint is a completed checkpoint; committed: all of its transactions are marked.
type storedCheckpoint struct {
	manifest  *manifest.Manifest
	committed bool
}

// checkpoints lists the completed checkpoints of a job, oldest first, without checkpoint 0.
func (m *Manager) checkpoints(id ident.JobID) (out []storedCheckpoint, err error) {
	err = m.store.View(func(tx *boltstore.Tx) error {
		found, err := tx.Manifests(id)
		for _, f := range found {
			if f.Err != nil {
				return f.Err
			}
			if f.Checkpoint > 0 {
				out = append(out, storedCheckpoint{f.Manifest, len(checkpoint.Unmarked(f.Manifest, tx.Marked(id))) == 0})
			}
		}
		return err
	})
	return out, err
}

// linkBlobs gives the files of an adopted checkpoint to the job that took it over.
func (m *Manager) linkBlobs(ctx context.Context, id ident.JobID, adopted *manifest.Manifest) error {
	var files []manifest.Blob
	var keys []blob.Key
	for i := range adopted.State {
		if s := &adopted.State[i]; s.Blob.Name != "" {
			files, keys = append(files, s.Blob), append(keys, blob.Key{Job: id, Subtask: s.Subtask, Operator: s.Operator})
		}
	}
	linked, err := m.blobs.Link(ctx, files, keys)
	if err != nil {
		return err
	}
	for i := range adopted.State {
		if s := &adopted.State[i]; s.Blob.Name != "" {
			s.Blob, linked = linked[0], linked[1:]
		}
	}
	return nil
}

// retain drops the checkpoints that are kept no longer, first in the database, then their files.
func (r *runner) retain(ctx context.Context) error {
	if err := failpoint.Hit(failpoint.BeforeRetention); err != nil {
		return err
	}
	var plan checkpoint.Plan
	err := r.m.store.Update(ctx, func(tx *boltstore.Tx) error {
		found, err := tx.Manifests(r.id)
		if err != nil {
			return err
		}
		var list []*manifest.Manifest
		for _, f := range found {
			if f.Err != nil {
				return f.Err
			}
			list = append(list, f.Manifest)
		}
		plan = checkpoint.Retention(list, r.graph.Checkpoint.Retain, tx.Marked(r.id))
		return tx.DeleteManifests(r.id, plan.Drop...)
	})
	if err != nil {
		return fmt.Errorf("drop old checkpoints: %w", err)
	}
	if err := failpoint.Hit(failpoint.AfterRetention); err != nil {
		return err
	}
	return r.m.blobs.Delete(plan.Delete...)
}
