package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// files is the content of a data directory.
type files map[string][]byte

func read(t testing.TB, dir string) files {
	t.Helper()
	all := files{}
	for _, name := range []string{databaseFile, witnessFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = b
	}
	return all
}

// write makes a data directory; a nil file is left out.
func (f files) write(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "data")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range f {
		if content == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (f files) with(name string, content []byte) files {
	return files{databaseFile: f[databaseFile], witnessFile: f[witnessFile], name: content}
}

// history gives the files after each of three states of a store with pages of every kind, and the
// records of the last state.
func history(t testing.TB) (states []files, want map[string]string) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	put := func(n int) {
		update(t, s, func(tx *Tx) error {
			var err error
			for i := range n {
				value := make([]byte, 10+rng.IntN(3000))
				for j := range value {
					value[j] = byte(rng.Uint32())
				}
				err = errors.Join(err, tx.PutValue("j", fmt.Sprintf("v%05d", i), value))
			}
			return errors.Join(err, tx.PutJob("j", []byte(fmt.Sprint(n))))
		})
	}
	put(120)
	update(t, s, func(tx *Tx) error {
		for i := 20; i < 60; i++ {
			if err := tx.DeleteValue("j", fmt.Sprintf("v%05d", i)); err != nil {
				return err
			}
		}
		return nil
	})
	states = append(states, read(t, dir))
	for n := range ident.CheckpointID(3) {
		update(t, s, func(tx *Tx) error { return tx.PutManifest(large(n)) })
	}
	states = append(states, read(t, dir))
	update(t, s, func(tx *Tx) error { return tx.PutManifest(large(3)) })
	want = dump(t, s)
	closeStore(t, s)
	return append(states, read(t, dir)), want
}

// large is a checkpoint that takes some pages.
func large(n ident.CheckpointID) *manifest.Manifest {
	m := sample("j", n)
	m.State = []manifest.State{{Operator: "count", SizeBytes: 9000, Inline: bytes.Repeat([]byte{byte(n)}, 9000)}}
	return m
}

// check opens what damage left. It must be refused as damage, or hold exactly what it held.
func check(t *testing.T, what string, f files, want map[string]string) (refused bool) {
	t.Helper()
	s, err := Open(f.write(t), Options{})
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", what, err)
		}
		if !strings.Contains(err.Error(), databaseFile) && !strings.Contains(err.Error(), witnessFile) {
			t.Errorf("%s: the error names no file: %v", what, err)
		}
		return true
	}
	if diff := cmp.Diff(want, dump(t, s)); diff != "" {
		t.Errorf("%s: opened with other content: %.500s", what, diff)
	}
	closeStore(t, s)
	return false
}

func TestDamage(t *testing.T) {
	states, want := history(t)
	good := states[len(states)-1]
	db := good[databaseFile]
	pageSize := os.Getpagesize()
	pages := len(db) / pageSize
	rng := rand.New(rand.NewPCG(3, 4))
	change := func(fn func(b []byte)) files {
		b := bytes.Clone(db)
		fn(b)
		return good.with(databaseFile, b)
	}
	const rounds = 100
	for name, damage := range map[string]func() files{
		"bit flipped": func() files {
			at, bit := rng.IntN(len(db)), rng.IntN(8)
			return change(func(b []byte) { b[at] ^= 1 << bit })
		},
		"bit flipped in a page header or its elements": func() files {
			at := rng.IntN(pages)*pageSize + rng.IntN(64)
			bit := rng.IntN(8)
			return change(func(b []byte) { b[at] ^= 1 << bit })
		},
		"page zeroed": func() files {
			page := rng.IntN(pages)
			return change(func(b []byte) { clear(b[page*pageSize : (page+1)*pageSize]) })
		},
		"page of garbage": func() files {
			page := rng.IntN(pages)
			return change(func(b []byte) {
				for i := range pageSize {
					b[page*pageSize+i] = byte(rng.Uint32())
				}
			})
		},
		"page put elsewhere": func() files {
			from, to := rng.IntN(pages), rng.IntN(pages)
			return change(func(b []byte) { copy(b[to*pageSize:(to+1)*pageSize], db[from*pageSize:]) })
		},
		"page of an older state": func() files {
			old := states[rng.IntN(len(states)-1)][databaseFile]
			page := rng.IntN(len(old) / pageSize)
			return change(func(b []byte) { copy(b[page*pageSize:(page+1)*pageSize], old[page*pageSize:]) })
		},
		"cut off": func() files { return good.with(databaseFile, db[:rng.IntN(len(db))]) },
	} {
		t.Run(name, func(t *testing.T) {
			refused := 0
			for i := range rounds {
				if check(t, fmt.Sprintf("%s, round %d", name, i), damage(), want) {
					refused++
				}
			}
			t.Logf("%d of %d refused, the others opened with the right content", refused, rounds)
			if refused == 0 {
				t.Error("nothing was noticed")
			}
		})
	}
}

func TestWitnessTable(t *testing.T) {
	states, want := history(t)
	old, good := states[1], states[2] // one write apart
	corrupt := func(b []byte, slots ...int) []byte {
		b = bytes.Clone(b)
		for _, slot := range slots {
			b[slot*slotStride+20] ^= 1
		}
		return b
	}
	other := newClusterID()
	w := func(a, b uint64) []byte {
		content := make([]byte, slotStride+slotBytes)
		copy(content, encodeSlot(other, a))
		copy(content[slotStride:], encodeSlot(other, b))
		return content
	}
	for _, tc := range []struct {
		name    string
		files   files
		refused string // "" opens
	}{
		{"untouched", good, ""},
		{"database one ahead: crash between the two", good.with(witnessFile, old[witnessFile]), ""},
		{"database two ahead", good.with(witnessFile, states[0][witnessFile]), "sequence 7, but"},
		{"old database put back", good.with(databaseFile, old[databaseFile]), "sequence 6, but"},
		{"witness deleted", good.with(witnessFile, nil), "missing beside"},
		{"database deleted", good.with(databaseFile, nil), "is missing, but"},
		{"database empty", good.with(databaseFile, []byte{}), "neither meta page"},
		{"newest slot damaged: the other one is one behind", good.with(witnessFile, corrupt(good[witnessFile], 1)), ""},
		{"both slots damaged", good.with(witnessFile, corrupt(good[witnessFile], 0, 1)), "cannot be read"},
		{"witness empty", good.with(witnessFile, []byte{}), "cannot be read"},
		{"witness of another cluster", good.with(witnessFile, w(6, 7)), "do not belong together"},
		{"not a database", good.with(databaseFile, bytes.Repeat([]byte("text"), 9000)), "neither meta page"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Open(tc.files.write(t), Options{})
			if tc.refused != "" {
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), tc.refused) {
					t.Fatalf("Open: %v, want %q", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, dump(t, s)); diff != "" {
				t.Error(diff)
			}
			closeStore(t, s)
		})
	}
}

// A crash at any point of the first start leaves a directory that the next start takes.
func TestUnfinishedCreation(t *testing.T) {
	cluster := newClusterID()
	dir := t.TempDir()
	w, err := makeWitness(filepath.Join(dir, witnessFile), cluster)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if err := createDatabase(filepath.Join(dir, databaseFile), cluster); err != nil {
		t.Fatal(err)
	}
	both := read(t, dir)
	half := both.with(databaseFile, nil)
	half[databaseFile+".tmp"] = both[databaseFile][:5000]
	for name, f := range map[string]files{
		"only the witness": both.with(databaseFile, nil), "half a database": half, "no write yet": both,
		"half a witness":    {witnessFile + ".tmp": []byte("SLW")},
		"no witness before": both.with(witnessFile, nil),
	} {
		s, err := Open(f.write(t), Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.LeaderEpoch() != 1 {
			t.Errorf("%s: epoch %d", name, s.LeaderEpoch())
		}
		closeStore(t, s)
	}
}

// The file is cut off while it is mapped: reads are errors, the process lives.
func TestCutOffWhileOpen(t *testing.T) {
	states, _ := history(t)
	dir := states[2].write(t)
	s := open(t, dir, nil)
	if err := os.Truncate(filepath.Join(dir, databaseFile), int64(2*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	err := s.View(func(tx *Tx) error { return tx.each("", func(string, []byte) error { return nil }) })
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("View: %v", err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutJob("k", nil) }); !errors.Is(err, ErrDamaged) {
		t.Errorf("Update: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	path := filepath.Join(f.TempDir(), databaseFile)
	if err := createDatabase(path, newClusterID()); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	states, _ := history(f)
	f.Add(states[0][databaseFile][:4*os.Getpagesize()])
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := verifyPages(bytes.NewReader(data), int64(len(data)), slog.New(slog.DiscardHandler))
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%v, want ErrDamaged", err)
		}
	})
}
