package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sluice-stream/sluice/internal/failpoint"
)

// Update runs fn in a write transaction and returns when the transaction is durable and witnessed; the
// next one does not begin before. An error of fn takes everything back, and so does the end of ctx, which
// bounds only the wait for other writers. Other errors are ErrNoSpace, after which nothing has changed,
// and ErrUnknownOutcome or ErrDamaged, after which the process has to end.
// fn must not use other resources: all writers wait for it.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	select {
	case s.writer <- struct{}{}:
		defer func() { <-s.writer }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the checkpoint store: %w", context.Cause(ctx))
	}
	if err := s.brokenErr(); err != nil {
		return err
	}
	began := time.Now()
	sequence, err := s.commit(fn)
	if err != nil || sequence == 0 {
		return err
	}
	if err := s.attest(sequence); err != nil {
		return s.breakDown(fmt.Errorf("witness sequence %d: %w: %w", sequence, ErrUnknownOutcome, err))
	}
	s.sequence.Store(sequence)
	if took := time.Since(began); took > slowWrite {
		s.log.Warn("slow disk under the checkpoint store", "took", took, "dir", s.dir)
	}
	return nil
}

// attest makes the sequence durable in the witness.
func (s *Store) attest(sequence uint64) error {
	if err := s.at(StepWitness); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.BetweenWitness); err != nil {
		return err
	}
	if err := s.witness.advance(sequence); err != nil {
		return err
	}
	return s.at(StepDone)
}

// View runs fn in a read transaction. It sees the newest committed state, which may be one write ahead
// of what is witnessed.
func (s *Store) View(fn func(*Tx) error) error {
	if err := s.brokenErr(); err != nil {
		return err
	}
	return s.guard(func() error {
		return s.db.View(func(btx *bolt.Tx) error {
			tx, err := s.begin(btx)
			if err != nil {
				return err
			}
			return fn(tx)
		})
	})
}

// commit makes what fn does durable in bbolt and returns its sequence; 0 if fn changed nothing.
func (s *Store) commit(fn func(*Tx) error) (sequence uint64, err error) {
	err = s.guard(func() error {
		btx, err := s.db.Begin(true)
		if err != nil {
			return s.breakDown(fmt.Errorf("begin a write: %w", err))
		}
		tx, err := s.begin(btx)
		if err == nil {
			err = fn(tx)
		}
		if err == nil && tx.dirty {
			sequence = tx.head.sequence + 1
			err = tx.finish(sequence)
		}
		if err != nil || sequence == 0 {
			return errors.Join(err, btx.Rollback())
		}
		return s.durable(btx)
	})
	if err != nil {
		return 0, err
	}
	return sequence, nil
}

func (s *Store) durable(btx *bolt.Tx) error {
	if err := s.at(StepCommit); err != nil {
		return s.commitFailed(errors.Join(err, btx.Rollback()))
	}
	if err := btx.Commit(); err != nil {
		return s.commitFailed(err)
	}
	return nil
}

// commitFailed tells the harmless failure from the others. A full disk shows when pages are written or
// the file grows, before the meta page that makes them count; whether that page was left alone is read
// back. An fsync that failed must not be repeated on the same file: its pages may have been dropped.
func (s *Store) commitFailed(err error) error {
	if noSpace(err) {
		if head, readErr := s.readHeader(); readErr == nil && head.sequence == s.sequence.Load() {
			return fmt.Errorf("write to %s: %w: %w", filepath.Join(s.dir, databaseFile), ErrNoSpace, err)
		}
	}
	return s.breakDown(fmt.Errorf("write to %s: %w: %w", filepath.Join(s.dir, databaseFile), ErrUnknownOutcome, err))
}

// noSpace says whether err is a write, not an fsync, for which there was no room. bbolt reports a file
// that cannot grow as text only; fsync errors come without a path.
func noSpace(err error) bool {
	var path *os.PathError
	if !errors.As(err, &path) {
		return strings.HasPrefix(err.Error(), "file resize error")
	}
	return path.Op == "write" &&
		(errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG))
}

func (s *Store) readHeader() (head header, err error) {
	err = s.guard(func() error {
		return s.db.View(func(btx *bolt.Tx) error {
			tx, err := s.begin(btx)
			if err == nil {
				head = tx.head
			}
			return err
		})
	})
	return head, err
}

func (s *Store) at(step Step) error {
	if s.hook == nil {
		return nil
	}
	return s.hook(step)
}

// breakDown makes every later call answer err.
func (s *Store) breakDown(err error) error {
	s.broken.CompareAndSwap(nil, &err)
	s.log.Error("the checkpoint store gave up; end the process and start it again", "dir", s.dir, "reason", err)
	return err
}

func (s *Store) brokenErr() error {
	if err := s.broken.Load(); err != nil {
		return fmt.Errorf("checkpoint store in %s gave up before: %w", s.dir, *err)
	}
	return nil
}

// guard turns a panic of bbolt, or a memory fault in the file that it maps, into ErrDamaged.
func (s *Store) guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			s.wedged.Store(true)
			s.log.Error("panic in the checkpoint store", "panic", r, "stack", string(debug.Stack()))
			err = s.breakDown(fmt.Errorf("read %s: %w: %v", filepath.Join(s.dir, databaseFile), ErrDamaged, r))
		}
	}()
	return fn()
}
