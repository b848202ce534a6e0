package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/sluice-stream/sluice/ident"
)

// The records, by key:
//
//	!header                         see header
//	name/NAME                       id of the newest job of that name
//	job/ID/record                   the job manager's record of the job
//	job/ID/value/NAME               small values of the job manager, such as attempts
//	job/ID/reserved                 u64: highest checkpoint id that may have been used
//	job/ID/newest                   u64: newest completed checkpoint
//	job/ID/checkpoint/NUMBER        manifest; NUMBER has 20 digits
//	job/ID/mark/TRANSACTION         empty: its commit is known to have happened
//	shared/NAME                     small values of the job manager that are of no job
const (
	namePrefix   = "name/"
	jobPrefix    = "job/"
	sharedPrefix = "shared/"
)

// Tx is a transaction; it is valid until the function returns that it was given to. Its methods return
// ErrNotFound, ErrDamaged or an error that names a bad argument. What they return may be kept.
type Tx struct {
	bucket *bolt.Bucket
	head   header
	dirty  bool
}

func (s *Store) begin(btx *bolt.Tx) (*Tx, error) {
	b := btx.Bucket([]byte(bucketName))
	if b == nil {
		return nil, fmt.Errorf("bucket %q is missing: %w", bucketName, ErrDamaged)
	}
	head, err := decodeHeader(b.Get([]byte(headerKey)))
	if err != nil {
		return nil, err
	}
	return &Tx{bucket: b, head: head}, nil
}

func (tx *Tx) finish(sequence uint64) error {
	tx.head.sequence = sequence
	return tx.bucket.Put([]byte(headerKey), seal([]byte(headerKey), tx.head.encode()))
}

func (tx *Tx) put(key string, content []byte) error {
	k := []byte(key)
	old, value := tx.bucket.Get(k), seal(k, content)
	if bytes.Equal(old, value) {
		return nil
	}
	if old != nil {
		tx.head.digest -= weight(old)
	}
	if err := tx.bucket.Put(k, value); err != nil {
		return fmt.Errorf("put %q: %w", key, err)
	}
	tx.head.digest += weight(value)
	tx.dirty = true
	return nil
}

func (tx *Tx) get(key string) ([]byte, error) {
	value := tx.bucket.Get([]byte(key))
	if value == nil {
		return nil, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	content, err := unseal([]byte(key), value)
	return bytes.Clone(content), err
}

func (tx *Tx) delete(key string) error {
	k := []byte(key)
	old := tx.bucket.Get(k)
	if old == nil {
		return nil
	}
	w := weight(old)
	if err := tx.bucket.Delete(k); err != nil {
		return fmt.Errorf("delete %q: %w", key, err)
	}
	tx.head.digest -= w
	tx.dirty = true
	return nil
}

// each calls fn with the rest of every key with the prefix, in order; content aliases the file.
func (tx *Tx) each(prefix string, fn func(rest string, content []byte) error) error {
	c := tx.bucket.Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
		content, err := unseal(k, v)
		if err != nil {
			return err
		}
		if err := fn(string(k[len(prefix):]), content); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) keys(prefix string) ([]string, error) {
	var list []string
	err := tx.each(prefix, func(rest string, _ []byte) error {
		list = append(list, prefix+rest)
		return nil
	})
	return list, err
}

func (tx *Tx) getUint(key string) (uint64, error) {
	b, err := tx.get(key)
	switch {
	case errors.Is(err, ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case len(b) != 8:
		return 0, fmt.Errorf("record %q has %d bytes, want 8: %w", key, len(b), ErrDamaged)
	}
	return binary.LittleEndian.Uint64(b), nil
}

func (tx *Tx) raise(key string, to uint64) error {
	old, err := tx.getUint(key)
	if err != nil || old >= to {
		return err
	}
	return tx.put(key, binary.LittleEndian.AppendUint64(nil, to))
}

func jobKey(id ident.JobID, rest string) (string, error) {
	if err := ident.CheckName(string(id)); err != nil {
		return "", fmt.Errorf("job id: %w", err)
	}
	return jobPrefix + string(id) + "/" + rest, nil
}

// Jobs lists the ids of all jobs, sorted.
func (tx *Tx) Jobs() ([]ident.JobID, error) {
	var ids []ident.JobID
	err := tx.each(jobPrefix, func(rest string, _ []byte) error {
		if id, ok := strings.CutSuffix(rest, "/record"); ok && !strings.Contains(id, "/") {
			ids = append(ids, ident.JobID(id))
		}
		return nil
	})
	slices.Sort(ids)
	return ids, err
}

// Job reads a job's record.
func (tx *Tx) Job(id ident.JobID) ([]byte, error) {
	key, err := jobKey(id, "record")
	if err != nil {
		return nil, err
	}
	return tx.get(key)
}

// PutJob writes a job's record.
func (tx *Tx) PutJob(id ident.JobID, record []byte) error {
	key, err := jobKey(id, "record")
	if err != nil {
		return err
	}
	return tx.put(key, record)
}

// DeleteJob deletes everything of a job but its name; a job that is not there is no error.
func (tx *Tx) DeleteJob(id ident.JobID) error {
	prefix, err := jobKey(id, "")
	if err != nil {
		return err
	}
	keys, err := tx.keys(prefix)
	for _, key := range keys {
		err = errors.Join(err, tx.delete(key))
	}
	return err
}

// JobOfName finds the newest job of a name.
func (tx *Tx) JobOfName(name string) (ident.JobID, error) {
	id, err := tx.get(namePrefix + name)
	return ident.JobID(id), err
}

// PutName makes a job the newest of its name.
func (tx *Tx) PutName(name string, id ident.JobID) error {
	if err := errors.Join(ident.CheckName(name), ident.CheckName(string(id))); err != nil {
		return err
	}
	return tx.put(namePrefix+name, []byte(id))
}

// DeleteName forgets a name.
func (tx *Tx) DeleteName(name string) error { return tx.delete(namePrefix + name) }

// Value reads a small value of a job.
func (tx *Tx) Value(id ident.JobID, name string) ([]byte, error) {
	key, err := jobKey(id, "value/"+name)
	if err != nil {
		return nil, err
	}
	return tx.get(key)
}

// PutValue writes a small value of a job.
func (tx *Tx) PutValue(id ident.JobID, name string, value []byte) error {
	key, err := jobKey(id, "value/"+name)
	if err != nil {
		return err
	}
	return tx.put(key, value)
}

// DeleteValue deletes a small value of a job.
func (tx *Tx) DeleteValue(id ident.JobID, name string) error {
	key, err := jobKey(id, "value/"+name)
	if err != nil {
		return err
	}
	return tx.delete(key)
}

// Values calls fn for every small value of a job whose name begins with prefix, in the order of names.
func (tx *Tx) Values(id ident.JobID, prefix string, fn func(name string, value []byte) error) error {
	key, err := jobKey(id, "value/"+prefix)
	if err != nil {
		return err
	}
	return tx.each(key, func(rest string, content []byte) error { return fn(prefix+rest, bytes.Clone(content)) })
}

// NameOf is the name under which a job was submitted last; empty: a newer job has it, or the job is unknown.
func (tx *Tx) NameOf(id ident.JobID) (name string, err error) {
	err = tx.each(namePrefix, func(rest string, content []byte) error {
		if string(content) == string(id) {
			name = rest
		}
		return nil
	})
	return name, err
}

// PutSharedValue writes a small value that is of no job.
func (tx *Tx) PutSharedValue(name string, value []byte) error {
	return tx.put(sharedPrefix+name, value)
}

// DeleteSharedValue deletes a small value that is of no job.
func (tx *Tx) DeleteSharedValue(name string) error { return tx.delete(sharedPrefix + name) }

// SharedValues calls fn for every small value that is of no job and whose name begins with prefix, in the order of names.
func (tx *Tx) SharedValues(prefix string, fn func(name string, value []byte) error) error {
	return tx.each(sharedPrefix+prefix, func(rest string, content []byte) error { return fn(prefix+rest, bytes.Clone(content)) })
}
