package jobmanager

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/slots"
)

func TestSurplus(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	jobs := []endedJob{
		{"a", at(5), 1, false}, {"b", at(1), 2, false}, {"c", at(3), 3, true}, {"d", at(4), 4, false}, {"e", at(2), 5, true}, {"f", at(4), 6, false},
	}
	for keep, want := range map[int][]ident.JobID{
		0: nil, 1: {"b", "e", "d", "f"}, 2: {"b", "d"}, 3: {"b"}, 4: nil,
	} {
		if diff := cmp.Diff(want, surplus(jobs, keep)); diff != "" {
			t.Errorf("keep %d: %s", keep, diff)
		}
	}
}

// stateOf is what the store, the files and the manager hold of jobs.
func stateOf(t *testing.T, m *Manager, dir string, ids []ident.JobID) (inStore, inMemory, files []bool) {
	t.Helper()
	if err := m.store.View(func(tx *boltstore.Tx) error {
		stored, err := tx.Jobs()
		for _, id := range ids {
			inStore = append(inStore, slices.Contains(stored, id))
			_, known := m.find(string(id))
			inMemory = append(inMemory, known == nil)
			files = append(files, exists(dir+"/blobs/"+string(id)))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return inStore, inMemory, files
}

// dropped runs a manager until n jobs are left.
func dropped(t *testing.T, m *Manager, n int) {
	t.Helper()
	stop := running(t, m)
	defer stop()
	awaitJobs(t, m, n)
}

// awaitJobs waits for what no event tells of.
func awaitJobs(t *testing.T, m *Manager, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for len(m.jobs()) != n {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d jobs are left, want %d", len(m.jobs()), n)
		}
	}
}

func keeping(n int) func(*Config) { return func(c *Config) { c.KeepEndedJobs = n } }

// TestOldEndedJobsAreDropped at the start, with all that was stored of them: record, name, checkpoints, files. The
// newest that finished, the newest of the others and those that have not ended stay.
func TestOldEndedJobsAreDropped(t *testing.T) {
	dir := t.TempDir()
	m := openIn(t, dir, nil)
	var ids []ident.JobID
	for i, state := range []job.State{job.Finished, job.Stopped, job.Running, job.Failed, job.Finished, job.FailedDataLoss} {
		ids = append(ids, named(t, m, fmt.Sprintf("job-%d", i), state, goodCheckpoint(1)))
		stateFile(t, dir, ids[i])
	}
	closed(t, m)
	m = openIn(t, dir, keeping(1))
	for _, id := range ids {
		stateFile(t, dir, id) // as of a manifest: the start has swept the others
	}
	dropped(t, m, 3)
	want := []bool{false, false, true, false, true, true}
	if _, _, files := stateOf(t, m, dir, ids); !slices.Equal(files, want) { // the next start would sweep them
		t.Errorf("files %v, want %v", files, want)
	}
	closed(t, m)
	m = openIn(t, dir, keeping(1))
	defer closed(t, m)
	inStore, inMemory, _ := stateOf(t, m, dir, ids)
	if !slices.Equal(inStore, want) || !slices.Equal(inMemory, want) {
		t.Errorf("in the store %v, in memory %v; want %v", inStore, inMemory, want)
	}
	if err := m.store.View(func(tx *boltstore.Tx) error {
		_, err := tx.Manifest(ids[1], 1)
		_, nameErr := tx.JobOfName("job-1")
		if !errors.Is(err, boltstore.ErrNotFound) || !errors.Is(nameErr, boltstore.ErrNotFound) {
			t.Errorf("of a dropped job: checkpoint %v, name %v", err, nameErr)
		}
		_, nameErr = tx.JobOfName("job-4")
		return nameErr
	}); err != nil {
		t.Fatal(err)
	}
	_, _, err := m.submit(t.Context(), submission{job: countJob(1), fromCheckpoint: string(ids[1]) + "/1"})
	if !errors.Is(err, errUnknownJob) || !strings.Contains(err.Error(), "of those that ended the latest") {
		t.Errorf("an heir of a dropped job: %v", err)
	}
	if r := submitted(t, m, countJob(1)); r.submitOrder != 7 {
		t.Errorf("the next job is number %d: two would have one place", r.submitOrder)
	}
}

// TestHeirsKeepJobs: a job is not dropped while a submission takes it over, nor taken over while it is being dropped.
func TestHeirsKeepJobs(t *testing.T) {
	dir := t.TempDir()
	m := openIn(t, dir, nil)
	id := named(t, m, "old", job.Stopped, goodCheckpoint(1))
	closed(t, m)
	m = openIn(t, dir, nil)
	defer closed(t, m)
	release, err := m.keep(submission{fromCheckpoint: string(id) + "/1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.drop(t.Context(), id); err != nil || len(m.jobs()) != 1 {
		t.Errorf("dropped under an heir: %v, %d jobs", err, len(m.jobs()))
	}
	release()
	if !m.beginDrop(id) {
		t.Fatal("nobody takes it over any more")
	}
	if _, err := m.keep(submission{fromCheckpoint: "old/1"}); !errors.Is(err, errUnknownJob) {
		t.Errorf("taken over while it is dropped: %v", err)
	}
	m.endDrop()
	if err := m.drop(t.Context(), id); err != nil || len(m.jobs()) != 0 {
		t.Errorf("%v, %d jobs", err, len(m.jobs()))
	}
}

// TestRetentionThatWasCutShort: a start drops what the last one did not come to drop of jobs that have ended.
func TestRetentionThatWasCutShort(t *testing.T) {
	dir := t.TempDir()
	m := openIn(t, dir, nil)
	id := named(t, m, "old", job.Stopped, both(goodCheckpoint(1), goodCheckpoint(2), goodCheckpoint(3), goodCheckpoint(4), goodCheckpoint(5), goodCheckpoint(6)))
	closed(t, m)
	m = openIn(t, dir, nil)
	defer closed(t, m)
	r, err := m.find(string(id))
	if err != nil || r.graph.Checkpoint.Retain >= 5 {
		t.Fatalf("%v, %d are to be kept", err, r.graph.Checkpoint.Retain)
	}
	if err := m.retainEnded(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := m.checkpoints(id)
	if err != nil || len(list) != r.graph.Checkpoint.Retain || list[len(list)-1].manifest.Checkpoint != 6 {
		t.Errorf("%v, %d are kept of %d", err, len(list), r.graph.Checkpoint.Retain)
	}
}

// TestEndsRise: the job that ends is the newest that ended, though the clock was ahead before.
func TestEndsRise(t *testing.T) {
	dir := t.TempDir()
	m := openIn(t, dir, nil)
	ahead := time.Now().Add(time.Hour).Round(0)
	named(t, m, "old", job.Stopped, func(tx *boltstore.Tx, id ident.JobID) error {
		r, err := m.find(string(id))
		if err == nil {
			r.stored.EndedAt = ahead
			err = putRecord(tx, id, r.stored)
		}
		return err
	})
	closed(t, m)
	m = openIn(t, dir, nil)
	defer closed(t, m)
	first := m.endNow()
	if second := m.endNow(); !first.After(ahead) || !second.After(first) {
		t.Errorf("ended at %v, then %v and %v", ahead, first, second)
	}
}

// TestEndedJobsAreDroppedWhenOneEnds, while the job manager runs; the same name may come back.
func TestEndedJobsAreDroppedWhenOneEnds(t *testing.T) {
	dir := t.TempDir()
	m := openIn(t, dir, keeping(2))
	defer closed(t, m)
	stop := running(t, m)
	defer stop()
	var orders []uint64
	for range 5 {
		r := submitted(t, m, countJob(1))
		orders = append(orders, r.submitOrder)
		if err := m.ask(t.Context(), r, job.Cancel{}); err != nil {
			t.Fatal(err)
		}
		<-r.over
	}
	awaitJobs(t, m, 2)
	if !slices.Equal(orders, []uint64{1, 2, 3, 4, 5}) {
		t.Errorf("places in the order of submission: %v", orders)
	}
	for i, r := range m.jobs() {
		if want := uint64(5 - i); r.submitOrder != want || r.view().state != job.Canceled {
			t.Errorf("job %d is kept, %s; want %d", r.submitOrder, r.view().state, want)
		}
	}
	if r, err := m.find("job"); err != nil || r.submitOrder != 5 {
		t.Errorf("the job of that name: %v", err)
	}
}

// TestUnfinishedJobsAreKept: where something is left to commit or to fence nothing is dropped, whatever the state says.
func TestUnfinishedJobsAreKept(t *testing.T) {
	open := manifest.Transaction{Sink: "z", TransactionalID: "x", ProducerID: 1, StartedAt: time.Now()}
	uncommitted := func(tx *boltstore.Tx, id ident.JobID) error {
		return tx.PutManifest(&manifest.Manifest{Job: id, Checkpoint: 5, Transactions: []manifest.Transaction{open}})
	}
	handout := func(tx *boltstore.Tx, id ident.JobID) error {
		return tx.PutValue(id, handoutPrefix+"1/z/0", []byte(`{"prefix": "p", "count": 4}`))
	}
	for name, tc := range map[string]struct {
		state job.State
		more  func(*boltstore.Tx, ident.JobID) error
		kept  bool
	}{
		"hand-out":     {job.Finished, handout, true},
		"unmarked":     {job.Failed, uncommitted, true},
		"marked":       {job.Failed, both(uncommitted, func(tx *boltstore.Tx, id ident.JobID) error { return tx.Mark(id, open.Key()) }), false},
		"lost":         {job.FailedDataLoss, uncommitted, false},
		"damaged":      {job.Finished, damagedCheckpoint(5), false},
		"not readable": {job.Finished, otherRecord("{"), false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := openIn(t, dir, nil)
			named(t, m, "old", tc.state, tc.more)
			for i := range 3 { // all drops but that of old, if it is kept, come to pass
				named(t, m, fmt.Sprintf("newer-%d", i), tc.state, nil)
			}
			closed(t, m)
			m = openIn(t, dir, keeping(1))
			defer closed(t, m)
			left := 1
			if tc.kept {
				left = 2
			}
			dropped(t, m, left)
			if _, err := m.find("old"); (err == nil) != tc.kept {
				t.Errorf("find: %v", err)
			}
		})
	}
}

// TestDroppedIDsAreStillCounted: brokers remember the transactional ids of a job that was dropped.
func TestDroppedIDsAreStillCounted(t *testing.T) {
	dir := t.TempDir()
	m := openIn(t, dir, nil)
	now := time.Now()
	for i := range 4 {
		named(t, m, fmt.Sprintf("job-%d", i), job.Finished, func(tx *boltstore.Tx, id ident.JobID) error {
			return errors.Join(countMade(tx, id, 10, now), tx.PutValue(id, madePrefix+"2001-01-01", []byte("7")))
		})
	}
	closed(t, m)
	for range 2 {
		m = openIn(t, dir, keeping(1))
		if n := m.ids.recent(now); n != 40 {
			t.Errorf("%d ids in the last days, want 40", n)
		}
		dropped(t, m, 1)
		closed(t, m)
	}
	m = openIn(t, dir, nil)
	defer closed(t, m)
	var names []string
	if err := m.store.View(func(tx *boltstore.Tx) error {
		return tx.SharedValues("", func(name string, _ []byte) error { names = append(names, name); return nil })
	}); err != nil || len(names) != 1 {
		t.Errorf("%q is kept of dropped jobs, %v: days that brokers have forgotten go", names, err)
	}
}

// TestAnEndedJobIsSmall: no inbox, no cores, no state of its checkpoint.
func TestAnEndedJobIsSmall(t *testing.T) {
	dir := t.TempDir()
	m := openIn(t, dir, nil)
	const jobs = 40
	state := func(tx *boltstore.Tx, id ident.JobID) error {
		return tx.PutManifest(&manifest.Manifest{Job: id, Checkpoint: 1, State: []manifest.State{{Operator: "o", SizeBytes: 64 << 10, Inline: make([]byte, 64<<10)}}})
	}
	for i := range jobs {
		named(t, m, fmt.Sprintf("job-%d", i), job.Finished, state)
	}
	closed(t, m)
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	m = openIn(t, dir, nil)
	defer closed(t, m)
	each := (int64(heap()) - int64(before)) / jobs
	t.Logf("%d bytes each", each)
	if each > 32<<10 {
		t.Errorf("an ended job takes %d bytes: less than its inbox was wanted", each)
	}
	for _, r := range m.jobs() {
		if l := r.view().checkpoints.Latest; r.inbox != nil || r.coord != nil || l == nil || l.State[0].Inline != nil || l.SizeBytes() != 64<<10 {
			t.Fatalf("job %s keeps more than is shown of it, or less", r.id)
		}
	}
}

// TestAGrantForAnEndedJob comes when its loop is over: it goes back, and nobody waits.
func TestAGrantForAnEndedJob(t *testing.T) {
	dir := t.TempDir()
	m := openIn(t, dir, nil)
	named(t, m, "old", job.Finished, nil)
	closed(t, m)
	m = openIn(t, dir, nil)
	defer closed(t, m)
	r, err := m.find("old")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.scheduler.workerRegistered("w", 1)
		m.scheduler.request(slots.Request{Job: r.id, Attempt: 1, Slots: 1, SubmitOrder: 1, Since: time.Now()})
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the scheduler waits for a job that has ended")
	}
	if n := m.scheduler.totals().Held; n != 0 {
		t.Errorf("%d slots are held by an ended job", n)
	}
}
