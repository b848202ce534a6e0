// Package blob keeps the state that is too large for a manifest as files, one per operator, subtask
// and checkpoint, below one directory of the job manager. A file is whole and durable before its name
// is given out; files are never changed, and go when no manifest names them any more.
package blob

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

const (
	// MaxBytes is the largest file that is taken.
	MaxBytes = 4 << 30
	// MaxChunkBytes is the largest piece of an upload that is taken at once.
	MaxChunkBytes = 1 << 20

	tempPrefix = "tmp-"
	// discardedFor is how long a checkpoint counts as discarded: longer than any upload takes. Ids are not used again.
	discardedFor = time.Hour
	// operatorBytes is how much of an operator's name stands in a file name, for people who look.
	operatorBytes = 64
)

var (
	// ErrUpload is returned for an upload that is not what its header announced.
	ErrUpload = errors.New("upload does not match its header")
	// ErrDiscarded is returned for an upload that comes when its checkpoint has failed.
	ErrDiscarded = errors.New("the checkpoint was given up")
	// ErrNoSpace is returned for an upload that finds no room on the disk: it can be sent again.
	ErrNoSpace = errors.New("no space left for state")
	// ErrDamaged is returned for a file that is not what the manifest says.
	ErrDamaged = errors.New("state file is damaged")
)

// Key says what a file holds.
type Key struct {
	Job        ident.JobID
	Checkpoint ident.CheckpointID
	Subtask    ident.Subtask
	Operator   string
}

// Store is the directory. Its methods may be called at the same time, except Sweep.
type Store struct {
	dir  string
	root *os.Root

	mu        sync.Mutex
	discarded map[discarded]time.Time // since when
}

// discarded is a checkpoint that failed.
type discarded struct {
	job        ident.JobID
	checkpoint ident.CheckpointID
}

// Open opens the directory, and makes it if needed.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	return &Store{dir: dir, root: root, discarded: map[discarded]time.Time{}}, nil
}

// Close gives the directory back.
func (s *Store) Close() error { return s.root.Close() }

// Put stores sizeBytes bytes with the given CRC32C that next returns piece by piece, until io.EOF. The
// name it returns is durable. An upload that differs from size or checksum is ErrUpload, one for a checkpoint that was
// discarded meanwhile ErrDiscarded, one for which there is no room ErrNoSpace; after an error nothing is left but possibly a
// temporary file, which Sweep removes.
func (s *Store) Put(ctx context.Context, key Key, sizeBytes int64, crc uint32, next func() ([]byte, error)) (manifest.Blob, error) {
	if err := checkKey(key); err != nil {
		return manifest.Blob{}, err
	}
	if sizeBytes <= 0 || sizeBytes > MaxBytes {
		return manifest.Blob{}, fmt.Errorf("state of %s by %s: %d bytes announced, want 1 to %d: %w",
			key.Operator, key.Subtask, sizeBytes, int64(MaxBytes), ErrUpload)
	}
	blob := manifest.Blob{Name: fileName(key), SizeBytes: sizeBytes, CRC32C: crc}
	if err := s.writeFor(ctx, discarded{key.Job, key.Checkpoint}, blob, next); err != nil {
		if errno, full := noSpace(err); full { // the file that met it has a name of no meaning
			return manifest.Blob{}, fmt.Errorf("%w in %s: %w", ErrNoSpace, s.dir, errno)
		}
		return manifest.Blob{}, fmt.Errorf("store state of %s by %s for checkpoint %d in %s: %w",
			key.Operator, key.Subtask, key.Checkpoint, s.dir, err)
	}
	return blob, nil
}

// noSpace says whether the disk is full, or what its owner may use of it. A file that could not be written whole is thrown
// away, so that it does not matter which step met it.
func noSpace(err error) (errno syscall.Errno, is bool) {
	return errno, errors.As(err, &errno) && (errno == syscall.ENOSPC || errno == syscall.EDQUOT)
}

// writeFor writes a file that stays only if its checkpoint is not discarded: Discard, which may list the files while
// this one is written, makes that known before.
func (s *Store) writeFor(ctx context.Context, of discarded, blob manifest.Blob, next func() ([]byte, error)) error {
	if s.isDiscarded(of) {
		return ErrDiscarded
	}
	if err := s.write(ctx, blob, next); err != nil {
		return err
	}
	if s.isDiscarded(of) {
		return errors.Join(ErrDiscarded, s.remove(blob.Name))
	}
	return nil
}

func (s *Store) isDiscarded(of discarded) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, is := s.discarded[of]
	return is
}

func checkKey(key Key) error {
	return errors.Join(ident.CheckName(string(key.Job)), ident.CheckName(key.Operator), ident.CheckName(key.Subtask.Vertex))
}

// fileName is JOB/CHECKPOINT-OPERATOR-INDEX-RANDOM: a repeated upload gets a file of its own, so a file
// that an ack names is never written again.
func fileName(key Key) string {
	operator := key.Operator[:min(len(key.Operator), operatorBytes)]
	return path.Join(string(key.Job), fmt.Sprintf("%d-%s-%d-%s", key.Checkpoint, operator, key.Subtask.Index, random()))
}

func random() string {
	var b [8]byte
	rand.Read(b[:]) //nolint:errcheck // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

func (s *Store) write(ctx context.Context, blob manifest.Blob, next func() ([]byte, error)) error {
	job := path.Dir(blob.Name)
	if err := s.makeDir(job); err != nil {
		return err
	}
	temp := path.Join(job, tempPrefix+random())
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = fill(ctx, f, blob, next)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.root.Rename(temp, blob.Name)
	}
	if err != nil {
		return errors.Join(err, s.removeTemp(temp))
	}
	if err := s.syncDir(job); err != nil { // its name may be lost, so nobody learns it
		return errors.Join(err, s.remove(blob.Name))
	}
	return nil
}

// removeTemp does not hide the reason that it is called for: what it leaves, Sweep removes.
func (s *Store) removeTemp(temp string) error {
	if err := s.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what was written: %w", err)
	}
	return nil
}

func fill(ctx context.Context, w io.Writer, blob manifest.Blob, next func() ([]byte, error)) error {
	var size int64
	var crc uint32
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		chunk, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("receive after %d of %d bytes: %w", size, blob.SizeBytes, err)
		}
		if len(chunk) > MaxChunkBytes || size+int64(len(chunk)) > blob.SizeBytes {
			return fmt.Errorf("a piece of %d bytes after %d of %d: %w", len(chunk), size, blob.SizeBytes, ErrUpload)
		}
		size += int64(len(chunk))
		crc = crc32.Update(crc, castagnoli, chunk)
		if _, err := w.Write(chunk); err != nil {
			return err
		}
	}
	if size != blob.SizeBytes || crc != blob.CRC32C {
		return fmt.Errorf("got %d bytes with checksum %08x, announced were %d with %08x: %w", size, crc, blob.SizeBytes, blob.CRC32C, ErrUpload)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *Store) makeDir(job string) error {
	err := s.root.Mkdir(job, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.syncDir(".")
}

func (s *Store) syncDir(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Open reads a file that a manifest names. The reader answers ErrDamaged instead of io.EOF when length
// or checksum are wrong, so what was read before must not be used until io.EOF.
func (s *Store) Open(blob manifest.Blob) (io.ReadCloser, error) {
	if !validName(blob.Name) {
		return nil, fmt.Errorf("state file name %q: want JOB/FILE: %w", blob.Name, ErrDamaged)
	}
	f, err := s.root.Open(blob.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("state file %s is gone from %s: %w", blob.Name, s.dir, errors.Join(ErrDamaged, err))
	}
	if err != nil {
		return nil, fmt.Errorf("open state file in %s: %w", s.dir, err)
	}
	return &reader{f: f, blob: blob}, nil
}

func validName(name string) bool {
	job, file, ok := strings.Cut(name, "/")
	_, isFile := checkpointOf(file)
	return ok && isFile && ident.CheckName(job) == nil && !strings.Contains(file, "/")
}

// checkpointOf reads the id off a file name.
func checkpointOf(file string) (ident.CheckpointID, bool) {
	digits, _, ok := strings.Cut(file, "-")
	id, err := strconv.ParseUint(digits, 10, 64)
	return ident.CheckpointID(id), ok && err == nil
}

type reader struct {
	f    *os.File
	blob manifest.Blob
	size int64
	crc  uint32
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	r.size += int64(n)
	r.crc = crc32.Update(r.crc, castagnoli, p[:n])
	if r.size > r.blob.SizeBytes {
		return 0, r.damaged()
	}
	if errors.Is(err, io.EOF) && (r.size != r.blob.SizeBytes || r.crc != r.blob.CRC32C) {
		return n, r.damaged()
	}
	return n, err
}

func (r *reader) damaged() error {
	return fmt.Errorf("%s holds %d bytes or more with checksum %08x, the manifest says %d with %08x: %w",
		r.f.Name(), r.size, r.crc, r.blob.SizeBytes, r.blob.CRC32C, ErrDamaged)
}

func (r *reader) Close() error { return r.f.Close() }

// Link stores the content of files under other keys, all of one job that takes over a checkpoint: as files are never
// changed, by a second name of each. The names are durable when it returns. It does not read what it links, other than
// where the file system cannot link: who reads a file checks it.
func (s *Store) Link(ctx context.Context, files []manifest.Blob, keys []Key) ([]manifest.Blob, error) {
	var out []manifest.Blob
	for i, file := range files {
		linked, err := s.link(file, keys[i])
		if errors.Is(err, errCannotLink) {
			linked, err = s.copy(ctx, file, keys[i])
		}
		if err != nil {
			return nil, fmt.Errorf("take state file %s over: %w", file.Name, err)
		}
		out = append(out, linked)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return out, s.syncDir(string(keys[0].Job))
}

var errCannotLink = errors.New("the file system cannot link")

func (s *Store) link(file manifest.Blob, key Key) (manifest.Blob, error) {
	if err := checkKey(key); err != nil {
		return manifest.Blob{}, err
	}
	f, err := s.Open(file) // says what is wrong with one that is not there
	if err != nil {
		return manifest.Blob{}, err
	}
	if err := errors.Join(f.Close(), s.makeDir(string(key.Job))); err != nil {
		return manifest.Blob{}, err
	}
	out := manifest.Blob{Name: fileName(key), SizeBytes: file.SizeBytes, CRC32C: file.CRC32C}
	if err := s.root.Link(file.Name, out.Name); err != nil {
		return manifest.Blob{}, fmt.Errorf("%w: %w", errCannotLink, err)
	}
	return out, nil
}

// copy stores the content of a file under another key.
func (s *Store) copy(ctx context.Context, blob manifest.Blob, key Key) (manifest.Blob, error) {
	r, err := s.Open(blob)
	if err != nil {
		return manifest.Blob{}, err
	}
	buf := make([]byte, MaxChunkBytes)
	out, err := s.Put(ctx, key, blob.SizeBytes, blob.CRC32C, func() ([]byte, error) {
		n, err := r.Read(buf)
		if n > 0 && errors.Is(err, io.EOF) {
			err = nil // the next read says io.EOF again
		}
		return buf[:n], err
	})
	return out, errors.Join(err, r.Close())
}
