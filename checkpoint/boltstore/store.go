// Package boltstore is what a job manager remembers on disk: jobs, checkpoints, marks, in one bbolt
// database.
//
// bbolt alone is not enough (DESIGN rule 5): it has no checksums over data, a damaged newest meta page
// silently takes it back by one transaction, and a truncated file ends the process. So
//   - every record carries a CRC32C over key and value, and the header a digest over all records;
//   - every page is checked by plain reads before bbolt maps the file;
//   - a witness file beside the database holds the sequence number of the last write transaction;
//   - a memory fault while the file is mapped becomes an error.
//
// The directory holds
//
//	jobmanager.pid  the lock, and who holds it
//	checkpoints.db  the database
//	witness         the sequence number; made before the database
package boltstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/ident"
)

const (
	databaseFile = "checkpoints.db"
	witnessFile  = "witness"
	pidFile      = "jobmanager.pid"

	// lockTimeout bounds bbolt's own lock, which nobody holds who respects the pid file.
	lockTimeout = time.Second
	// slowWrite is from when on a write is worth a line in the log.
	slowWrite = time.Second
)

var (
	// ErrNotFound is returned for a record that is not there.
	ErrNotFound = errors.New("not found")
	// ErrDamaged is returned for files that are not as they were written. There is no way on without
	// an operator: an older state would repeat output.
	ErrDamaged = errors.New("the checkpoint store is damaged")
	// ErrInUse is returned for a directory that another job manager has opened.
	ErrInUse = errors.New("the data directory is in use")
	// ErrNoSpace is returned for a write that certainly changed nothing because the disk is full; it
	// may be repeated.
	ErrNoSpace = errors.New("no space left for the checkpoint store")
	// ErrUnknownOutcome is returned for a write of which nobody can say whether it is durable. The store
	// answers nothing else from then on; the process has to end, and the next start reads the truth.
	ErrUnknownOutcome = errors.New("whether the write is durable is unknown")
)

// Step is a point of a write transaction at which tests stop, delay or fail it.
type Step string

// The steps, in the order in which a write passes them.
const (
	// StepCommit is before bbolt writes; an error counts as bbolt's.
	StepCommit Step = "commit"
	// StepWitness is between bbolt's fsync and the write of the witness; an error counts as that of
	// the witness.
	StepWitness Step = "witness"
	// StepDone is after the fsync of the witness.
	StepDone Step = "done"
)

// Options are what Open needs beside the directory.
type Options struct {
	// Logger gets what an operator should know; nil: nothing.
	Logger *slog.Logger
	// Hook is called at each step of a write; nil: nothing is called.
	Hook func(Step) error
}

// Store is an open data directory. One writer at a time; readers do not wait for it.
type Store struct {
	dir     string
	log     *slog.Logger
	hook    func(Step) error
	lock    *pidLock
	db      *bolt.DB
	witness *witness
	// writer holds one token; who has it may write. A channel, so that waiting respects a context.
	writer chan struct{}
	// sequence is that of the last write whose witness is durable.
	sequence atomic.Uint64
	state    checkpoint.Witness
	epoch    ident.LeaderEpoch
	cluster  clusterID
	// broken is why the store answers nothing any more.
	broken atomic.Pointer[error]
	closed atomic.Bool
	// wedged: bbolt panicked, so its locks may be held for ever.
	wedged atomic.Bool
}

type clusterID [8]byte

func (c clusterID) String() string { return hex.EncodeToString(c[:]) }

// Open locks the directory, makes or checks its files and raises the leader epoch durably. Errors are
// ErrInUse, ErrDamaged or of the file system; all name the file.
func Open(dir string, opt Options) (*Store, error) {
	s := &Store{dir: dir, log: opt.Logger, hook: opt.Hook, writer: make(chan struct{}, 1), state: checkpoint.WitnessAgrees}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	var err error
	if s.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open() error {
	path := filepath.Join(s.dir, databaseFile)
	if err := s.openWitness(path); err != nil {
		return err
	}
	head, err := verify(path, s.log)
	if err != nil {
		return err
	}
	if err := s.compare(path, head); err != nil {
		return err
	}
	if s.db, err = openBolt(path); err != nil {
		return err
	}
	s.cluster = head.cluster
	s.sequence.Store(head.sequence)
	return s.Update(context.Background(), func(tx *Tx) error {
		tx.head.epoch++
		tx.dirty = true
		s.epoch = tx.head.epoch
		return nil
	})
}

// openWitness makes what is missing, in the order that a crash at any point can be told from a loss:
// the witness first, then the database under its name, then the first write.
func (s *Store) openWitness(path string) error {
	_, statErr := os.Stat(path)
	if statErr != nil && !errors.Is(statErr, os.ErrNotExist) {
		return fmt.Errorf("look for the checkpoint database: %w", statErr)
	}
	haveDB := statErr == nil
	var err error
	s.witness, err = openWitness(filepath.Join(s.dir, witnessFile))
	switch {
	case errors.Is(err, os.ErrNotExist) && haveDB:
		return s.replaceWitness(path)
	case errors.Is(err, os.ErrNotExist):
		s.cluster = newClusterID()
		if s.witness, err = makeWitness(filepath.Join(s.dir, witnessFile), s.cluster); err != nil {
			return err
		}
	case err != nil:
		return err
	case !haveDB && s.witness.sequence > 0:
		return fmt.Errorf("%s is missing, but %s says that it was written %d times; put the database back, "+
			"or use an empty data directory to begin anew: %w", path, s.witness.path, s.witness.sequence, ErrDamaged)
	default:
		s.cluster = s.witness.cluster
	}
	if haveDB {
		return nil
	}
	return createDatabase(path, s.cluster)
}

// replaceWitness accepts that the witness is missing only beside a database that was never written.
func (s *Store) replaceWitness(path string) error {
	head, err := verify(path, s.log)
	if err != nil {
		return err
	}
	name := filepath.Join(s.dir, witnessFile)
	if head.sequence > 0 {
		return fmt.Errorf("%s is missing beside %s, which is at sequence %d: whether the database is the newest cannot be known; "+
			"put the witness back: %w", name, path, head.sequence, ErrDamaged)
	}
	s.cluster = head.cluster
	s.witness, err = makeWitness(name, head.cluster)
	return err
}

// compare is the table of DESIGN rule 5.
func (s *Store) compare(path string, head header) error {
	w := s.witness
	switch {
	case head.cluster != w.cluster:
		return fmt.Errorf("%s is of cluster %s, but %s of cluster %s: they do not belong together: %w",
			path, head.cluster, w.path, w.cluster, ErrDamaged)
	case head.sequence == w.sequence:
		return nil
	case head.sequence == w.sequence+1:
		s.log.Warn("the last write of the previous run was durable but not yet witnessed; it counts",
			"database", head.sequence, "witness", w.sequence)
		s.state = checkpoint.WitnessAdvanced
		return w.advance(head.sequence)
	default:
		return fmt.Errorf("%s is at sequence %d, but %s at %d: the database is not the one that was last written; "+
			"put the newest database and its own witness back: %w", path, head.sequence, w.path, w.sequence, ErrDamaged)
	}
}

var errClosed = errors.New("the checkpoint store is closed")

// Close ends all use of the directory; running transactions are waited for. A repeat does nothing.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.writer <- struct{}{} // for good
	s.broken.CompareAndSwap(nil, &errClosed)
	var errs []error
	if s.db != nil && !s.wedged.Load() {
		errs = append(errs, s.db.Close())
	}
	if s.witness != nil {
		errs = append(errs, s.witness.close())
	}
	return errors.Join(append(errs, s.lock.unlock())...)
}

// LeaderEpoch is that of this opening; it is higher than any before.
func (s *Store) LeaderEpoch() ident.LeaderEpoch { return s.epoch }

// ClusterID is random and was made with the directory: 16 hexadecimal digits.
func (s *Store) ClusterID() string { return s.cluster.String() }

// Witness says how database and witness agreed at Open.
func (s *Store) Witness() checkpoint.Witness { return s.state }

// Sequence is the number of write transactions ever done.
func (s *Store) Sequence() uint64 { return s.sequence.Load() }

// Dir is the directory.
func (s *Store) Dir() string { return s.dir }
