package jobmanager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/blob"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

// recordVersion is that of storedJob; an unknown one is refused at start.
const recordVersion = 1

// storedJob is the job manager's record of a job, as JSON. Spec is what encodeGraph wrote.
type storedJob struct {
	Version     int        `json:"version"`
	SubmitOrder uint64     `json:"submitOrder"`
	Name        string     `json:"name,omitempty"` // that of the graph, for when it cannot be read
	SubmittedAt time.Time  `json:"submittedAt"`
	Spec        []byte     `json:"spec"`
	Record      job.Record `json:"record"`
	storedCounts
	EndedAt time.Time `json:"endedAt"`
}

// storedCounts carry the counters of checkpoints over a restart of the job manager: in the record, and since that was
// written in a small value (countsName) that each manifest brings along. Failures since the newest of them are forgotten.
type storedCounts struct {
	Completed uint64 `json:"completed"`
	Failed    uint64 `json:"failed"`
}

const countsName = "checkpoint-counts"

// putCounts is written with a manifest, which counts is about, too.
func putCounts(tx *boltstore.Tx, id ident.JobID, counts storedCounts) error {
	data, err := json.Marshal(counts)
	if err != nil {
		return fmt.Errorf("encode the checkpoint counts of a job: %w", err)
	}
	return tx.PutValue(id, countsName, data)
}

// countsOf are the newer ones of those in the record and beside it. They are only counted, so none keeps a job from running.
func countsOf(tx *boltstore.Tx, id ident.JobID, stored storedCounts) (storedCounts, error) {
	data, err := tx.Value(id, countsName)
	if errors.Is(err, boltstore.ErrNotFound) {
		return stored, nil
	}
	var beside storedCounts
	if err == nil {
		err = json.Unmarshal(data, &beside)
	}
	if err != nil {
		return stored, err
	}
	return storedCounts{max(stored.Completed, beside.Completed), max(stored.Failed, beside.Failed)}, nil
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
	stored := &storedJob{
		Version: recordVersion, SubmitOrder: m.nextOrder(), Name: j.Name, SubmittedAt: time.Now(), Spec: specBytes, Record: job.NewRecord(),
	}
	data, err := stored.encode()
	if err != nil {
		return nil, err
	}
	err = m.store.Update(context.Background(), func(tx *boltstore.Tx) error {
		for _, p := range aside {
			if err := storeSplit(tx, id, storedSplit{Position: p, aside: true}); err != nil {
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

// inheritance is a checkpoint that another job takes over, and what the job found and set aside beside it.
type inheritance struct {
	storedCheckpoint
	held  *manifest.Manifest
	aside []manifest.Position
}

// takenFrom reads all of it at one moment: the job may be dropped in the next.
func (m *Manager) takenFrom(id ident.JobID, n ident.CheckpointID) (out inheritance, err error) {
	err = m.store.View(func(tx *boltstore.Tx) error {
		if out.manifest, err = tx.Manifest(id, n); err != nil {
			return err
		}
		out.committed = len(checkpoint.Unmarked(out.manifest, tx.Marked(id))) == 0
		out.held, out.aside, err = withFound(tx, id, out.manifest)
		return err
	})
	return out, err
}

// checkpoints lists the completed checkpoints of a job, oldest first, without checkpoint 0.
func (m *Manager) checkpoints(id ident.JobID) (out []storedCheckpoint, err error) {
	err = m.store.View(func(tx *boltstore.Tx) error {
		found, err := tx.Manifests(id)
		var damaged []error
		for _, f := range found {
			switch {
			case f.Err != nil:
				damaged = append(damaged, f.Err)
			case f.Checkpoint > 0:
				out = append(out, storedCheckpoint{f.Manifest, len(checkpoint.Unmarked(f.Manifest, tx.Marked(id))) == 0})
			}
		}
		if len(damaged) > 0 { // a list without them would look whole
			return fmt.Errorf("%s; those of job %s that can be read: %s", sentenceOf(damaged), id, numbersOf(out))
		}
		return err
	})
	return out, err
}

func numbersOf(list []storedCheckpoint) string {
	var out []ident.CheckpointID
	for _, c := range list {
		out = append(out, c.manifest.Checkpoint)
	}
	return cmp.Or(strings.Join(texts(out), ", "), "none")
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
