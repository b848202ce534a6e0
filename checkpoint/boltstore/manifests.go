package boltstore

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

func checkpointKey(id ident.JobID, n ident.CheckpointID) (string, error) {
	return jobKey(id, fmt.Sprintf("checkpoint/%020d", n))
}

// PutManifest stores a completed checkpoint. Only checkpoint 0 may be older than the newest one, and
// none is stored twice.
func (tx *Tx) PutManifest(m *manifest.Manifest) error {
	key, err := checkpointKey(m.Job, m.Checkpoint)
	if err = errors.Join(err, manifest.CheckSize(m)); err != nil {
		return err
	}
	newest, err := tx.Newest(m.Job)
	if err != nil {
		return err
	}
	if tx.bucket.Get([]byte(key)) != nil || (m.Checkpoint > 0 && m.Checkpoint <= newest) {
		return fmt.Errorf("checkpoint %d of job %s: %d is stored already; ids are never reused", m.Checkpoint, m.Job, max(newest, m.Checkpoint))
	}
	newestKey, err := jobKey(m.Job, "newest")
	if err != nil {
		return err
	}
	return errors.Join(tx.put(key, manifest.Encode(m)), tx.raise(newestKey, uint64(m.Checkpoint)), tx.Reserve(m.Job, m.Checkpoint))
}

// Newest is the id of the newest completed checkpoint; 0: none but, possibly, checkpoint 0.
func (tx *Tx) Newest(id ident.JobID) (ident.CheckpointID, error) {
	key, err := jobKey(id, "newest")
	if err != nil {
		return 0, err
	}
	n, err := tx.getUint(key)
	return ident.CheckpointID(n), err
}

// Reserve remembers that checkpoint ids up to through may have been used.
func (tx *Tx) Reserve(id ident.JobID, through ident.CheckpointID) error {
	key, err := jobKey(id, "reserved")
	if err != nil {
		return err
	}
	return tx.raise(key, uint64(through))
}

// Reserved is the highest checkpoint id that may have been used; 0: none.
func (tx *Tx) Reserved(id ident.JobID) (ident.CheckpointID, error) {
	key, err := jobKey(id, "reserved")
	if err != nil {
		return 0, err
	}
	n, err := tx.getUint(key)
	return ident.CheckpointID(n), err
}

// Manifest reads one checkpoint.
func (tx *Tx) Manifest(id ident.JobID, n ident.CheckpointID) (*manifest.Manifest, error) {
	key, err := checkpointKey(id, n)
	if err != nil {
		return nil, err
	}
	b, err := tx.get(key)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %d of job %s: %w", n, id, err)
	}
	return decodeManifest(id, n, b)
}

// decodeManifest also refuses a manifest that stands where another one belongs.
func decodeManifest(id ident.JobID, n ident.CheckpointID, b []byte) (*manifest.Manifest, error) {
	m, err := manifest.Decode(b)
	if err == nil && (m.Job != id || m.Checkpoint != n) {
		err = fmt.Errorf("it says that it is checkpoint %d of job %s: %w", m.Checkpoint, m.Job, ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("read checkpoint %d of job %s: %w", n, id, err)
	}
	return m, nil
}

// Manifests reads all checkpoints of a job, oldest first; what cannot be read is an entry with Err.
func (tx *Tx) Manifests(id ident.JobID) ([]checkpoint.Found, error) {
	prefix, err := jobKey(id, "checkpoint/")
	if err != nil {
		return nil, err
	}
	var list []checkpoint.Found
	err = tx.each(prefix, func(rest string, content []byte) error {
		n, err := strconv.ParseUint(rest, 10, 64)
		if err != nil {
			return fmt.Errorf("record %q: %w: %w", prefix+rest, ErrDamaged, err)
		}
		f := checkpoint.Found{Checkpoint: ident.CheckpointID(n)}
		f.Manifest, f.Err = decodeManifest(id, f.Checkpoint, content)
		list = append(list, f)
		return nil
	})
	return list, err
}

// DeleteManifests drops checkpoints with the marks of their transactions. The newest one is refused.
func (tx *Tx) DeleteManifests(id ident.JobID, checkpoints ...ident.CheckpointID) error {
	newest, err := tx.Newest(id)
	if err != nil {
		return err
	}
	for _, n := range checkpoints {
		if n == newest {
			return fmt.Errorf("checkpoint %d is the newest of job %s and cannot be dropped", n, id)
		}
		m, err := tx.Manifest(id, n)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for i := range m.Transactions {
			key, err := markKey(id, m.Transactions[i].Key())
			if err = errors.Join(err, tx.delete(key)); err != nil {
				return err
			}
		}
		key, err := checkpointKey(id, n)
		if err = errors.Join(err, tx.delete(key)); err != nil {
			return err
		}
	}
	return nil
}

func markKey(id ident.JobID, k manifest.TransactionKey) (string, error) {
	return jobKey(id, "mark/"+k.String())
}

// Mark remembers that transactions are committed (DESIGN rule 8). A mark goes with its manifest.
func (tx *Tx) Mark(id ident.JobID, keys ...manifest.TransactionKey) error {
	for _, k := range keys {
		key, err := markKey(id, k)
		if err = errors.Join(err, tx.put(key, nil)); err != nil {
			return err
		}
	}
	return nil
}

// Marked says whether a transaction is marked. It may be used only inside of the transaction.
func (tx *Tx) Marked(id ident.JobID) checkpoint.Marked {
	return func(k manifest.TransactionKey) bool {
		key, err := markKey(id, k)
		return err == nil && tx.bucket.Get([]byte(key)) != nil
	}
}
