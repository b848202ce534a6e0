package boltstore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

func newClusterID() clusterID {
	var id clusterID
	rand.Read(id[:]) //nolint:errcheck // never fails: crypto/rand ends the process instead
	return id
}

// createDatabase makes the database at sequence 0, whole or not at all: bbolt's own initialisation does
// not survive a power cut in the middle.
func createDatabase(path string, cluster clusterID) error {
	temp := path + ".tmp"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an unfinished database: %w", err)
	}
	db, err := bolt.Open(temp, 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return fmt.Errorf("make checkpoint database %s: %w", temp, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucketName))
		if err != nil {
			return err
		}
		return b.Put([]byte(headerKey), seal([]byte(headerKey), header{cluster: cluster}.encode()))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("fill checkpoint database %s: %w", temp, err)
	}
	if err := publish(temp, path); err != nil {
		return fmt.Errorf("publish checkpoint database: %w", err)
	}
	return nil
}

// openBolt maps a database that was verified.
func openBolt(path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout: lockTimeout,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			return os.OpenFile(name, flag&^os.O_CREATE, perm)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open checkpoint database %s: %w", path, err)
	}
	return db, nil
}

// pidLock keeps other job managers out of the directory, from before the first file is made.
type pidLock struct{ file *os.File }

func lockDir(dir string) (*pidLock, error) {
	path := filepath.Join(dir, pidFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%s is held by %s: stop that job manager, or give this one another data directory: %w", path, holder(f), ErrInUse)
		} else {
			err = fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, errors.Join(err, f.Close())
	}
	l := &pidLock{file: f}
	if err := l.sign(); err != nil {
		return nil, errors.Join(fmt.Errorf("write lock file: %w", err), l.unlock())
	}
	return l, nil
}

func (l *pidLock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder names the process that wrote the lock file.
func holder(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || convErr != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}

// unlock leaves the file: removing it would let a third process lock a file that nobody sees.
func (l *pidLock) unlock() error { return l.file.Close() }
