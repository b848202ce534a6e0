package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

func open(t testing.TB, dir string, hook func(Step) error) *Store {
	t.Helper()
	s, err := Open(dir, Options{Hook: hook})
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

func update(t testing.TB, s *Store, fn func(*Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func sample(job ident.JobID, n ident.CheckpointID) *manifest.Manifest {
	return &manifest.Manifest{
		Job: job, Checkpoint: n, Identity: "v1", TriggeredAt: time.Unix(1, 2).UTC(), CompletedAt: time.Unix(3, 4).UTC(),
		Positions:    []manifest.Position{{Split: manifest.Split{Source: "orders", Topic: "orders"}, Next: int64(n) * 10, Stop: -1}},
		Transactions: []manifest.Transaction{{Sink: "out", TransactionalID: fmt.Sprintf("c/j/out/0/1/%d", n), ProducerID: 7, StartedAt: time.Unix(2, 0).UTC()}},
	}
}

// dump is everything that a store holds, for comparison.
func dump(t testing.TB, s *Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := s.View(func(tx *Tx) error {
		return tx.each("", func(key string, content []byte) error {
			if key != headerKey {
				all[key] = string(content)
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRecordsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	if s.LeaderEpoch() != 1 || s.Sequence() != 1 || len(s.ClusterID()) != 16 {
		t.Fatalf("new store: epoch %d, sequence %d, cluster %q", s.LeaderEpoch(), s.Sequence(), s.ClusterID())
	}
	update(t, s, func(tx *Tx) error {
		return errors.Join(
			tx.PutJob("b", []byte("record b")), tx.PutJob("a", []byte("record a")), tx.PutName("orders", "b"),
			tx.PutManifest(sample("a", 0)), tx.PutManifest(sample("a", 3)), tx.Reserve("a", 12), tx.Reserve("a", 5),
			tx.PutValue("a", "attempt/1", []byte("x")), tx.PutValue("a", "other", nil),
			tx.Mark("a", sample("a", 3).Transactions[0].Key()))
	})
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.PutSharedValue("a/1", []byte("x")), tx.PutSharedValue("a/2", nil), tx.PutSharedValue("b/1", nil), tx.DeleteSharedValue("a/2"))
	})
	cluster := s.ClusterID()
	closeStore(t, s)
	s = open(t, dir, nil)
	if s.LeaderEpoch() != 2 || s.Sequence() != 4 || s.ClusterID() != cluster || s.Witness() != checkpoint.WitnessAgrees {
		t.Fatalf("reopened: epoch %d, sequence %d, cluster %s, witness %d", s.LeaderEpoch(), s.Sequence(), s.ClusterID(), s.Witness())
	}
	if err := s.View(func(tx *Tx) error { checkSample(t, tx); return nil }); err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.DeleteJob("a"), tx.SharedValues("a/", func(name string, value []byte) error {
			if name != "a/1" || string(value) != "x" {
				t.Errorf("shared value %q: %q", name, value)
			}
			return tx.DeleteSharedValue("b/1")
		}))
	})
	if got := dump(t, s); len(got) != 3 || got["shared/a/1"] != "x" || got["job/b/record"] != "record b" || got["name/orders"] != "b" {
		t.Errorf("after deleting job a: %q", got)
	}
}

func checkSample(t *testing.T, tx *Tx) {
	jobs, err := tx.Jobs()
	if err != nil || len(jobs) != 2 || jobs[0] != "a" || jobs[1] != "b" {
		t.Errorf("Jobs: %v, %v", jobs, err)
	}
	if id, err := tx.JobOfName("orders"); id != "b" || err != nil {
		t.Errorf("JobOfName: %q, %v", id, err)
	}
	if _, err := tx.Job("c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Job of none: %v", err)
	}
	newest, err1 := tx.Newest("a")
	reserved, err2 := tx.Reserved("a")
	if newest != 3 || reserved != 12 || errors.Join(err1, err2) != nil {
		t.Errorf("newest %d, reserved %d, %v, %v", newest, reserved, err1, err2)
	}
	found, err := tx.Manifests("a")
	if err != nil || len(found) != 2 || cmp.Diff(found[1].Manifest, sample("a", 3)) != "" {
		t.Errorf("Manifests: %v, %v", found, err)
	}
	if m := tx.Marked("a"); !m(sample("a", 3).Transactions[0].Key()) || m(sample("a", 0).Transactions[0].Key()) {
		t.Error("marks are wrong")
	}
	var names []string
	err = tx.Values("a", "att", func(name string, value []byte) error {
		names = append(names, name+"="+string(value))
		return nil
	})
	if err != nil || strings.Join(names, ",") != "attempt/1=x" {
		t.Errorf("Values: %v, %v", names, err)
	}
}

func TestRefusedArguments(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	update(t, s, func(tx *Tx) error { return errors.Join(tx.PutManifest(sample("a", 0)), tx.PutManifest(sample("a", 4))) })
	for name, fn := range map[string]func(*Tx) error{
		"job id with a slash":     func(tx *Tx) error { return tx.PutJob("a/b", nil) },
		"empty job id":            func(tx *Tx) error { return tx.DeleteJob("") },
		"checkpoint stored twice": func(tx *Tx) error { return tx.PutManifest(sample("a", 4)) },
		"older checkpoint":        func(tx *Tx) error { return tx.PutManifest(sample("a", 3)) },
		"checkpoint 0 twice":      func(tx *Tx) error { return tx.PutManifest(sample("a", 0)) },
		"newest dropped":          func(tx *Tx) error { return tx.DeleteManifests("a", 4) },
	} {
		before := s.Sequence()
		if err := s.Update(t.Context(), fn); err == nil || s.Sequence() != before {
			t.Errorf("%s: error %v, sequence %d → %d", name, err, before, s.Sequence())
		}
	}
	update(t, s, func(tx *Tx) error { return tx.DeleteManifests("a", 0, 99) })
}

func TestMarksGoWithTheirManifest(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.PutManifest(sample("a", 1)), tx.PutManifest(sample("a", 2)),
			tx.Mark("a", sample("a", 1).Transactions[0].Key(), sample("a", 2).Transactions[0].Key()))
	})
	update(t, s, func(tx *Tx) error { return tx.DeleteManifests("a", 1) })
	for key := range dump(t, s) {
		if strings.Contains(key, "out/0/1/1") {
			t.Errorf("left behind: %s", key)
		}
	}
}

func TestAnErrorTakesEverythingBack(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	boom := errors.New("boom")
	err := s.Update(t.Context(), func(tx *Tx) error { return errors.Join(tx.PutJob("a", []byte("x")), boom) })
	if !errors.Is(err, boom) || len(dump(t, s)) != 0 || s.Sequence() != 1 {
		t.Fatalf("%v, %v, sequence %d", err, dump(t, s), s.Sequence())
	}
}

func TestSecondJobManagerIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, nil)
	_, err := Open(dir, Options{})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Fatalf("second Open: %v", err)
	}
}

func TestWritersTakeTurnsAndRespectTheirContext(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var block sync.Once
	armed := false
	s := open(t, t.TempDir(), func(step Step) error {
		if armed && step == StepWitness {
			block.Do(func() { close(entered); <-release })
		}
		return nil
	})
	armed = true
	first := make(chan error, 1)
	go func() {
		first <- s.Update(context.Background(), func(tx *Tx) error { return tx.PutJob("a", nil) })
	}()
	<-entered
	open := sync.OnceFunc(func() { close(release) })
	t.Cleanup(open)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	err := s.Update(ctx, func(*Tx) error { t.Error("a write began before the witness of the one before"); return nil })
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("second writer: %v", err)
	}
	if got := dump(t, s); len(got) != 1 {
		t.Errorf("readers wait for writers: %v", got)
	}
	open()
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// A write that failed at any step is, after a new start, either there as a whole or not at all, and the
// store says which error it is.
func TestFailedSteps(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "checkpoints.db", Err: syscall.ENOSPC}
	for _, tc := range []struct {
		name    string
		step    Step
		fault   error
		want    error
		there   bool // after a new start
		witness checkpoint.Witness
	}{
		{"disk full in bbolt", StepCommit, full, ErrNoSpace, false, checkpoint.WitnessAgrees},
		{"I/O error in bbolt", StepCommit, syscall.EIO, ErrUnknownOutcome, false, checkpoint.WitnessAgrees},
		{"disk full in fsync", StepCommit, syscall.ENOSPC, ErrUnknownOutcome, false, checkpoint.WitnessAgrees},
		{"I/O error at the witness", StepWitness, syscall.EIO, ErrUnknownOutcome, true, checkpoint.WitnessAdvanced},
		{"I/O error after the witness", StepDone, syscall.EIO, ErrUnknownOutcome, true, checkpoint.WitnessAgrees},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var fault error
			dir := t.TempDir()
			s := open(t, dir, func(step Step) error {
				if step == tc.step {
					return fault
				}
				return nil
			})
			fault = tc.fault
			put := func(tx *Tx) error { return tx.PutJob("a", []byte("x")) }
			if err := s.Update(t.Context(), put); !errors.Is(err, tc.want) || !errors.Is(err, tc.fault) {
				t.Fatalf("Update: %v, want %v", err, tc.want)
			}
			fault = nil
			if again := s.Update(t.Context(), put); errors.Is(tc.want, ErrNoSpace) != (again == nil) {
				t.Fatalf("next Update: %v", again)
			}
			if errors.Is(tc.want, ErrNoSpace) {
				return
			}
			if err := s.View(func(*Tx) error { return nil }); !errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("View after an unknown outcome: %v", err)
			}
			closeStore(t, s)
			s = open(t, dir, nil)
			if _, there := dump(t, s)["job/a/record"]; there != tc.there || s.Witness() != tc.witness {
				t.Errorf("after a new start: there %v, witness %d", there, s.Witness())
			}
		})
	}
}

// smallDisk is set in the process that runs TestFullDiskIsRetriable on a file system of its own.
const smallDisk = "SLUICE_TEST_SMALL_DISK"

func TestFullDiskIsRetriable(t *testing.T) {
	if dir := os.Getenv(smallDisk); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		fillDisk(t, dir)
		return
	}
	// The mount is made in a mount namespace that ends with the child: nothing is left, however it ends.
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDiskIsRetriable$", "-test.timeout=30s")
	cmd.Env = append(os.Environ(), smallDisk+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, Unshareflags: syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EACCES) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI skips nothing, and this needs the right to make a namespace: %v", err)
		}
		t.Skipf("SKIPPED, THE FULL DISK IS NOT TESTED: it needs the right to make a namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func fillDisk(t *testing.T, dir string) {
	s := open(t, dir, nil)
	put := func(name string, size int) error {
		return s.Update(t.Context(), func(tx *Tx) error { return tx.PutValue("a", name, bytes.Repeat([]byte{7}, size)) })
	}
	if err := put("first", 100_000); err != nil {
		t.Fatal(err)
	}
	before := dump(t, s)
	for range 3 {
		if err := put("large", 2_000_000); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("2 MB into 1 MiB: %v", err)
		}
	}
	if diff := cmp.Diff(before, dump(t, s)); diff != "" {
		t.Errorf("a failed write changed something: %s", diff)
	}
	if err := put("second", 1000); err != nil {
		t.Errorf("a write that fits: %v", err)
	}
	closeStore(t, s)
	if got := dump(t, open(t, dir, nil)); len(got) != 2 {
		t.Errorf("after a new start %d records", len(got))
	}
}

// The page check must accept whatever bbolt writes: random work, checked after every few writes.
func TestRandomWorkAgainstAModel(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		s := open(t, dir, nil)
		model := map[string]string{}
		for round := range 150 {
			update(t, s, func(tx *Tx) error {
				for range 1 + rng.IntN(60) {
					name := fmt.Sprintf("%0*d", 1+rng.IntN(40), rng.IntN(3000))
					if rng.IntN(5) < 2+round/75 {
						delete(model, "job/j/value/"+name)
						if err := tx.DeleteValue("j", name); err != nil {
							return err
						}
						continue
					}
					value := bytes.Repeat([]byte{byte(rng.IntN(256))}, rng.IntN(1+rng.IntN(1+rng.IntN(20_000))))
					model["job/j/value/"+name] = string(value)
					if err := tx.PutValue("j", name, value); err != nil {
						return err
					}
				}
				return nil
			})
			if head, err := verify(filepath.Join(dir, databaseFile), s.log); err != nil || head.sequence != s.Sequence() {
				t.Fatalf("seed %d, round %d: sequence %d, want %d: %v", seed, round, head.sequence, s.Sequence(), err)
			}
			if round%30 == 29 {
				closeStore(t, s)
				s = open(t, dir, nil)
				if diff := cmp.Diff(model, dump(t, s)); diff != "" {
					t.Fatalf("seed %d, round %d: %.2000s", seed, round, diff)
				}
			}
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := open(b, b.TempDir(), nil)
			content := bytes.Repeat([]byte{1}, size)
			n := byte(0)
			for b.Loop() {
				n++
				content[0] = n
				update(b, s, func(tx *Tx) error { return tx.PutJob("a", content) })
			}
		})
	}
}
