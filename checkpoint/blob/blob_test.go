package blob

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var key = Key{Job: "j", Checkpoint: 12, Subtask: ident.Subtask{Vertex: "count", Index: 3}, Operator: "count"}

// chunks hands content out in pieces of n bytes.
func chunks(content []byte, n int) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(content) == 0 {
			return nil, io.EOF
		}
		n := min(n, len(content))
		p := content[:n]
		content = content[n:]
		return p, nil
	}
}

func put(t testing.TB, s *Store, key Key, content []byte) manifest.Blob {
	t.Helper()
	b, err := s.Put(t.Context(), key, int64(len(content)), crc32.Checksum(content, castagnoli), chunks(content, 1000))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func get(s *Store, b manifest.Blob) ([]byte, error) {
	r, err := s.Open(b)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(r)
	return content, errors.Join(err, r.Close())
}

// list names the files below dir.
func list(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPutAndOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	content := bytes.Repeat([]byte("state "), 5000)
	b := put(t, s, key, content)
	if !strings.HasPrefix(b.Name, "j/12-count-3-") {
		t.Errorf("name %q", b.Name)
	}
	if got, err := get(s, b); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if again := put(t, s, key, content); again.Name == b.Name {
		t.Error("a second upload wrote the file of the first one")
	}
}

// TestLink: a job that takes files over has names of its own for the same files, which stay when the others go.
func TestLink(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	content := bytes.Repeat([]byte("state "), 5000)
	b, heir := put(t, s, key, content), Key{Job: "heir", Operator: "count", Subtask: key.Subtask}
	linked, err := s.Link(t.Context(), []manifest.Blob{b, b}, []Key{heir, heir})
	if err != nil || len(linked) != 2 || !strings.HasPrefix(linked[0].Name, "heir/0-") || linked[0].Name == linked[1].Name {
		t.Fatalf("%+v, %v", linked, err)
	}
	was, err1 := os.Stat(filepath.Join(dir, b.Name))
	is, err2 := os.Stat(filepath.Join(dir, linked[0].Name))
	if err1 != nil || err2 != nil || !os.SameFile(was, is) {
		t.Errorf("the content was copied: %v, %v", err1, err2)
	}
	if err := s.DeleteJob("j"); err != nil {
		t.Fatal(err)
	}
	if got, err := get(s, linked[1]); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := s.Link(t.Context(), []manifest.Blob{b}, []Key{heir}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a file that is gone: %v", err)
	}
	copied, err := s.copy(t.Context(), linked[0], heir) // where the file system cannot link
	if got, err2 := get(s, copied); err != nil || err2 != nil || !bytes.Equal(got, content) {
		t.Errorf("copy: %d bytes, %v, %v", len(got), err, err2)
	}
	if linked, err := s.Link(t.Context(), nil, nil); err != nil || linked != nil {
		t.Errorf("nothing to link: %v, %v", linked, err)
	}
}

func TestRefusedUploads(t *testing.T) {
	content := []byte("0123456789")
	sum := crc32.Checksum(content, castagnoli)
	lost := errors.New("connection lost")
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(lost)
	for _, tc := range []struct {
		name string
		ctx  context.Context
		key  Key
		size int64
		crc  uint32
		next func() ([]byte, error)
		want error
	}{
		{"too short", t.Context(), key, 11, sum, chunks(content, 4), ErrUpload},
		{"too long", t.Context(), key, 9, sum, chunks(content, 4), ErrUpload},
		{"wrong checksum", t.Context(), key, 10, sum + 1, chunks(content, 4), ErrUpload},
		{"empty", t.Context(), key, 0, 0, chunks(nil, 1), ErrUpload},
		{"over the limit", t.Context(), key, MaxBytes + 1, sum, chunks(content, 4), ErrUpload},
		{"piece over the limit", t.Context(), key, 2 * MaxChunkBytes, sum, chunks(make([]byte, 2*MaxChunkBytes), 2*MaxChunkBytes), ErrUpload},
		{"connection lost", t.Context(), key, 10, sum, func() ([]byte, error) { return nil, lost }, lost},
		{"canceled", canceled, key, 10, sum, chunks(content, 4), lost},
		{"job outside", t.Context(), Key{Job: "../j", Operator: "o", Subtask: key.Subtask}, 10, sum, chunks(content, 4), ident.ErrName},
		{"operator outside", t.Context(), Key{Job: "j", Operator: "../o", Subtask: key.Subtask}, 10, sum, chunks(content, 4), ident.ErrName},
	} {
		dir := t.TempDir()
		if _, err := open(t, dir).Put(tc.ctx, tc.key, tc.size, tc.crc, tc.next); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		if left := list(t, dir); len(left) > 0 {
			t.Errorf("%s: left %v", tc.name, left)
		}
	}
}

func TestDamageIsNoticed(t *testing.T) {
	for name, damage := range map[string]func(path string, b []byte) error{
		"bit flipped": func(path string, b []byte) error { b[50] ^= 1; return os.WriteFile(path, b, 0o600) },
		"cut off":     func(path string, b []byte) error { return os.Truncate(path, 99) },
		"longer":      func(path string, b []byte) error { return os.WriteFile(path, append(b, 0), 0o600) },
		"empty":       func(path string, b []byte) error { return os.Truncate(path, 0) },
		"gone":        func(path string, b []byte) error { return os.Remove(path) },
	} {
		dir := t.TempDir()
		s := open(t, dir)
		content := bytes.Repeat([]byte{7}, 100)
		b := put(t, s, key, content)
		if err := damage(filepath.Join(dir, b.Name), content); err != nil {
			t.Fatal(err)
		}
		if _, err := get(s, b); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), b.Name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := open(t, t.TempDir())
	for _, name := range []string{"", "j", "../j/1-a", "j/../1-a", "j/1-a/b", "/etc/1-a", "j/tmp-1"} {
		if _, err := s.Open(manifest.Blob{Name: name}); !errors.Is(err, ErrDamaged) {
			t.Errorf("name %q: %v", name, err)
		}
		if err := s.Delete(manifest.Blob{Name: name}); err == nil {
			t.Errorf("name %q deleted", name)
		}
	}
}

// A directory that cannot be written is an error that names it; the caller declines the checkpoint.
func TestUnusableDirectory(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "j"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Put(t.Context(), key, 1, 0, chunks([]byte{1}, 1))
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "count/3") {
		t.Errorf("Put: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "j")); err == nil {
		t.Error("opened a file as the directory")
	}
}

func TestDeletion(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	at := func(job ident.JobID, id ident.CheckpointID) manifest.Blob {
		return put(t, s, Key{Job: job, Checkpoint: id, Operator: "o", Subtask: key.Subtask}, []byte("x"))
	}
	a1, a12, a2, b1 := at("a", 1), at("a", 12), at("a", 2), at("b", 1)
	check := func(what string, want ...manifest.Blob) {
		t.Helper()
		got := list(t, dir)
		for _, b := range want {
			if _, err := get(s, b); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %v left, want %v", what, got, want)
		}
	}
	if err := s.Discard("a", 1); err != nil {
		t.Fatal(err)
	}
	check("after the failure of one", a12, a2, b1)
	if err := os.WriteFile(filepath.Join(dir, "a", "tmp-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Discard("nobody", 1), s.Delete(a1)); err != nil {
		t.Errorf("what is gone is gone: %v", err)
	}
	n, err := s.Sweep([]manifest.Blob{a12, b1})
	if n != 2 || err != nil { // the temporary file and a2
		t.Errorf("sweep removed %d, %v", n, err)
	}
	check("after the sweep", a12, b1)
	for _, job := range []string{"dropped", "unread"} {
		name := filepath.Join(dir, job, filepath.Base(a2.Name))
		if err := errors.Join(os.Mkdir(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	n, err = s.Sweep([]manifest.Blob{a12, b1}, "unread")
	_, gone := os.Stat(filepath.Join(dir, "dropped"))
	if left, _ := os.ReadDir(filepath.Join(dir, "unread")); n != 1 || err != nil || !errors.Is(gone, os.ErrNotExist) || len(left) != 1 {
		t.Errorf("sweep removed %d, %v; the directory of a dropped job: %v; files of one that is not read: %v", n, err, gone, left)
	}
	if err := os.RemoveAll(filepath.Join(dir, "unread")); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "lost+found") // no job can have such a name
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err = s.Sweep([]manifest.Blob{a12, b1}); n != 0 || err != nil {
		t.Errorf("sweep removed %d beside a directory of somebody else: %v", n, err)
	}
	if err := os.Remove(foreign); err != nil {
		t.Error(err)
	}
	if err := s.Delete(a12); err != nil {
		t.Fatal(err)
	}
	check("after delete", b1)
	if err := errors.Join(s.DeleteJob("b"), s.DeleteJob("b")); err != nil {
		t.Error(err)
	}
	check("after the job")
	if err := s.DeleteJob(".."); err == nil {
		t.Error("deleted the directory above")
	}
}

// TestLateUpload: what comes when its checkpoint has failed is refused, whether it began before that or after, and leaves
// nothing behind.
func TestLateUpload(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	content := []byte("state")
	sum := crc32.Checksum(content, castagnoli)
	during := chunks(content, 5)
	_, err := s.Put(t.Context(), key, int64(len(content)), sum, func() ([]byte, error) {
		chunk, end := during()
		if end != nil {
			if err := s.Discard(key.Job, key.Checkpoint); err != nil {
				t.Error(err)
			}
		}
		return chunk, end
	})
	if !errors.Is(err, ErrDiscarded) {
		t.Errorf("during the upload: %v", err)
	}
	if _, err := s.Put(t.Context(), key, int64(len(content)), sum, chunks(content, 5)); !errors.Is(err, ErrDiscarded) {
		t.Errorf("before the upload: %v", err)
	}
	if left := list(t, dir); len(left) > 0 {
		t.Errorf("%v left", left)
	}
	next := key
	next.Checkpoint++
	put(t, s, next, content)
	s.noteDiscarded(discarded{"j", 99}, time.Now().Add(2*discardedFor))
	if len(s.discarded) != 1 {
		t.Errorf("%d checkpoints count as discarded hours later, want the newest only", len(s.discarded))
	}
}

// TestNoSpace: a disk that fills up during an upload is told apart from all else, and nothing is left.
func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, c := range []struct {
		errno syscall.Errno
		want  bool
	}{{syscall.ENOSPC, true}, {syscall.EDQUOT, true}, {syscall.EIO, false}} {
		_, err := s.Put(t.Context(), key, 5, 0, func() ([]byte, error) { return nil, &os.PathError{Op: "write", Path: "f", Err: c.errno} })
		if errors.Is(err, ErrNoSpace) != c.want {
			t.Errorf("%v: %v", c.errno, err)
		}
	}
	if left := list(t, dir); len(left) > 0 {
		t.Errorf("%v left", left)
	}
}
