package jobmanager

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/operator/expression"
)

// openIn opens a job manager on a directory; the caller closes it.
func openIn(t *testing.T, dir string, change func(*Config)) *Manager {
	t.Helper()
	m, err := tryOpen(dir, change)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tryOpen(dir string, change func(*Config)) (*Manager, error) {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Logger = dir, slog.New(slog.DiscardHandler)
	if change != nil {
		change(&cfg)
	}
	return Open(cfg, fakeConnector{}, expression.Checker{})
}

func closed(t *testing.T, m *Manager) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// named is a job that is not running, in a state, with what is stored beside.
func named(t *testing.T, m *Manager, name string, state job.State, more func(*boltstore.Tx, ident.JobID) error) ident.JobID {
	t.Helper()
	j := countJob(1)
	j.Name = name
	r := submitted(t, m, j)
	r.stored.Record.State, r.stored.Completed = state, 5
	if state.Terminal() {
		r.stored.EndedAt = time.Now()
	}
	if err := m.store.Update(t.Context(), func(tx *boltstore.Tx) error {
		err := putRecord(tx, r.id, r.stored)
		if more != nil {
			err = errors.Join(err, more(tx, r.id))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return r.id
}

// damagedCheckpoint stores checkpoint n so that it cannot be read: no subtask has such an index.
func damagedCheckpoint(n ident.CheckpointID) func(*boltstore.Tx, ident.JobID) error {
	return func(tx *boltstore.Tx, id ident.JobID) error {
		return tx.PutManifest(&manifest.Manifest{Job: id, Checkpoint: n, State: []manifest.State{{Operator: "o", Subtask: ident.Subtask{Vertex: "o", Index: 1 << 40}}}})
	}
}

func goodCheckpoint(n ident.CheckpointID) func(*boltstore.Tx, ident.JobID) error {
	return func(tx *boltstore.Tx, id ident.JobID) error {
		return tx.PutManifest(&manifest.Manifest{Job: id, Checkpoint: n, Positions: []manifest.Position{{Split: manifest.Split{Source: "s", Topic: "t"}, Next: 7, Stop: -1}}})
	}
}

func both(all ...func(*boltstore.Tx, ident.JobID) error) func(*boltstore.Tx, ident.JobID) error {
	return func(tx *boltstore.Tx, id ident.JobID) error {
		var err error
		for _, f := range all {
			err = errors.Join(err, f(tx, id))
		}
		return err
	}
}

// otherRecord replaces the record of a job by one that this release cannot read.
func otherRecord(text string) func(*boltstore.Tx, ident.JobID) error {
	return func(tx *boltstore.Tx, id ident.JobID) error { return tx.PutJob(id, []byte(text)) }
}

// stateFile makes a file of a job that no manifest names.
func stateFile(t *testing.T, dir string, id ident.JobID) string {
	t.Helper()
	path := filepath.Join(dir, "blobs", string(id), "4-o-0-0123456789abcdef")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestDamageOfAnEndedJob: what cannot be read of jobs that have ended is told, and keeps nothing else from running.
func TestDamageOfAnEndedJob(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(*boltstore.Tx, ident.JobID) error
		from   string // the checkpoint that is asked for
		says   []string
	}{
		"newest checkpoint": {both(goodCheckpoint(4), damagedCheckpoint(5)), "5", []string{"read checkpoint 5", "manifest is damaged"}},
		"older checkpoint":  {both(damagedCheckpoint(4), goodCheckpoint(5)), "4", []string{"read checkpoint 4", "manifest is damaged"}},
		"record":            {both(goodCheckpoint(5), otherRecord("{")), "", []string{"decode its record"}},
		"newer record":      {both(goodCheckpoint(5), otherRecord(`{"version": 2}`)), "", []string{"its record has version 2"}},
		"graph":             {both(goodCheckpoint(5), otherRecord(`{"version": 1, "spec": "AAAA", "completed": 5, "endedAt": "2026-01-01T00:00:00Z", "record": {"state": "FINISHED"}}`)), "", []string{"decode its graph"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := openIn(t, dir, nil)
			id := named(t, m, "old", job.Finished, tc.damage)
			other := named(t, m, "other", job.WaitingForSlots, nil)
			closed(t, m)
			file, orphan := stateFile(t, dir, id), stateFile(t, dir, other)
			m = openIn(t, dir, nil)
			defer closed(t, m)
			checkDamaged(t, m, id, tc.says, tc.from != "5")
			if r, err := m.find("other"); err != nil || !r.runs() {
				t.Errorf("the other job: %v, %+v", err, r)
			}
			if !exists(file) || exists(orphan) {
				t.Errorf("its state file, which its checkpoint may name: kept %t; one that nothing names: kept %t", exists(file), exists(orphan))
			}
			if _, _, err := m.submit(t.Context(), submission{job: countJob(1), fromCheckpoint: string(id) + "/" + tc.from}); tc.from != "" {
				if !errors.Is(err, errNotRestorable) || !strings.Contains(err.Error(), "is damaged, or of a newer release, and nothing can go on from it") {
					t.Errorf("--from-checkpoint %s: %v", tc.from, err)
				}
			}
		})
	}
}

func checkDamaged(t *testing.T, m *Manager, id ident.JobID, says []string, readable bool) {
	t.Helper()
	r, err := m.find("old")
	if err != nil || r.id != id || !r.ended() || r.runs() {
		t.Fatalf("the ended job: %v, %+v", err, r)
	}
	s := m.statusToProto(r)
	text := strings.Join(s.GetWaiting(), "; ")
	for _, want := range append(says, "what is kept of this job is damaged") {
		if !strings.Contains(text, want) {
			t.Errorf("status says %q, want %q", text, want)
		}
	}
	if l := s.GetCheckpoints().GetLatest(); s.GetState() != "FINISHED" || s.GetEndedAt() == nil || s.GetCheckpoints().GetCompleted() != 5 || (l != nil) != readable || l != nil && l.GetId() != 5 || s.GetDamage() == "" {
		t.Errorf("status %+v: an older checkpoint must not look like the newest", s)
	}
	if _, err := m.Explain(t.Context(), "old"); err != nil {
		t.Error(err)
	}
	if _, err := m.metrics.registry.Gather(); err != nil {
		t.Error(err)
	}
	if v := r.view(); v.broken != "" || v.damage == "" {
		t.Errorf("broken %q, damage %q: it has ended, and is not to run", v.broken, v.damage)
	}
}

// TestDamageOfAJobThatHasNotEnded: it is not started from anything, takes no request, keeps its name and its files,
// and the others go on.
func TestDamageOfAJobThatHasNotEnded(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(*boltstore.Tx, ident.JobID) error
		says   string
	}{
		"newest checkpoint": {both(goodCheckpoint(4), damagedCheckpoint(5)), "checkpoint 5 of job"},
		"older checkpoint":  {both(damagedCheckpoint(4), goodCheckpoint(5)), "checkpoint 4 of job"},
		"another graph":     {goodCheckpoint(5), "was drawn by a graph of identity"},
		"hand-outs": {func(tx *boltstore.Tx, id ident.JobID) error {
			return tx.PutValue(id, handoutPrefix+"1/z/0", []byte("{"))
		},
			"hand-out"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := openIn(t, dir, nil)
			id := named(t, m, "bad", job.Running, tc.damage)
			named(t, m, "other", job.Running, nil)
			closed(t, m)
			file := stateFile(t, dir, id)
			m = openIn(t, dir, nil)
			defer closed(t, m)
			stop := running(t, m)
			checkHeld(t, m, id, tc.says)
			if !exists(file) {
				t.Error("a state file that its checkpoint may name is gone")
			}
			other, err := m.find("other")
			if err != nil {
				t.Fatal(err)
			}
			for v, changed := other.watch(); v.state != job.WaitingForSlots; v, changed = other.watch() {
				select {
				case <-changed:
				case <-time.After(10 * time.Second):
					t.Fatalf("the other job is %s", v.state)
				}
			}
			stop()
		})
	}
}

// running runs a manager until the function is called that it returns.
func running(t *testing.T, m *Manager) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, l) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func checkHeld(t *testing.T, m *Manager, id ident.JobID, says string) {
	t.Helper()
	r, err := m.find("bad")
	if err != nil || r.id != id || r.ended() || r.runs() {
		t.Fatalf("the damaged job: %v, %+v", err, r)
	}
	text := strings.Join(m.statusToProto(r).GetWaiting(), "; ")
	if !strings.Contains(text, says) || !strings.Contains(text, "does not run this job, nor commit or fence anything of it") || r.view().broken == "" {
		t.Errorf("status says %q, want %q", text, says)
	}
	if err := m.ask(t.Context(), r, job.Cancel{}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), says) {
		t.Errorf("cancel: %v", err)
	}
	again := countJob(1)
	again.Name = "bad"
	if _, _, err := m.submit(t.Context(), submission{job: again}); !errors.Is(err, errNameInUse) {
		t.Errorf("another job of its name: %v", err)
	}
	if _, _, err := m.submit(t.Context(), submission{job: countJob(1), fromCheckpoint: string(id) + "/4"}); !errors.Is(err, errNotRestorable) {
		t.Errorf("an heir of it: %v", err)
	}
	m.post(t.Context(), id, workerRegistered{}) // must not wait for a loop that there is none of
	m.broadcast(workerRegistered{})
	if _, err := m.Explain(t.Context(), "bad"); err != nil {
		t.Error(err)
	}
	if got := gauge(t, m, "sluice_job_broken", "bad"); got != 1 {
		t.Errorf("sluice_job_broken is %v", got)
	}
}

// gauge is the value of a metric of a job.
func gauge(t *testing.T, m *Manager, name, of string) float64 {
	t.Helper()
	families, err := m.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, v := range f.GetMetric() {
			if f.GetName() == name && v.GetLabel()[0].GetValue() == of {
				return v.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// TestRecordOfWhichNobodyKnowsTheEnd: without a note that the job has ended its damaged record stops the start, as
// it may be of a job that has something to commit.
func TestRecordOfWhichNobodyKnowsTheEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		state job.State
		more  func(*boltstore.Tx, ident.JobID) error
		says  string
	}{
		"running": {job.Running, otherRecord("{"), "whether it has ended cannot be told"},
		"note of nothing": {job.Finished, both(otherRecord("{"), func(tx *boltstore.Tx, id ident.JobID) error { return tx.PutValue(id, endedNote, []byte(`{}`)) }),
			"none of an ended job"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := openIn(t, dir, nil)
			named(t, m, "bad", tc.state, tc.more)
			closed(t, m)
			if _, err := tryOpen(dir, nil); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

// TestListOfDamagedCheckpoints does not leave one out as if it had never been.
func TestListOfDamagedCheckpoints(t *testing.T) {
	m := open(t)
	id := named(t, m, "old", job.Stopped, both(goodCheckpoint(3), goodCheckpoint(4), damagedCheckpoint(5)))
	_, err := m.Checkpoints(t.Context(), string(id))
	if err == nil || !strings.Contains(err.Error(), "read checkpoint 5") || !strings.Contains(err.Error(), "can be read: 3, 4") {
		t.Errorf("checkpoints: %v", err)
	}
}

// TestCountsOutliveARestart: those beside the record are newer. What cannot be read keeps no job from running.
func TestCountsOutliveARestart(t *testing.T) {
	for text, want := range map[string]uint64{`{"completed": 9, "failed": 2}`: 9, `{"completed": 3}`: 5, "{": 5} {
		dir := t.TempDir()
		m := openIn(t, dir, nil)
		named(t, m, "old", job.Running, func(tx *boltstore.Tx, id ident.JobID) error {
			return tx.PutValue(id, countsName, []byte(text))
		})
		closed(t, m)
		m = openIn(t, dir, nil)
		r, err := m.find("old")
		if err != nil || r.view().checkpoints.Completed != want || !r.runs() {
			t.Errorf("%s: %v, %+v", text, err, r.view().checkpoints)
		}
		closed(t, m)
	}
}

// TestGarbageThatStays: what cannot be removed takes room, and keeps no job manager from starting.
func TestGarbageThatStays(t *testing.T) {
	dir := t.TempDir()
	m := openIn(t, dir, nil)
	id := named(t, m, "old", job.Running, nil)
	closed(t, m)
	stuck := filepath.Join(dir, "blobs", string(id), "tmp-1", "x") // a directory where a file is looked for
	if err := errors.Join(os.MkdirAll(filepath.Dir(stuck), 0o700), os.WriteFile(stuck, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	m = openIn(t, dir, nil)
	defer closed(t, m)
	if r, err := m.find("old"); err != nil || !r.runs() || !exists(stuck) {
		t.Errorf("%v, %+v", err, r)
	}
}
