package jobmanager

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/operator/expression"
)

// exactJob is countJob with an exactly-once sink that asks for a prefix.
func exactJob(parallelism int) *graph.Job {
	j := countJob(parallelism)
	j.Checkpoint = graph.Checkpointing{Interval: time.Second}
	k := j.Sinks[0].Kafka
	k.Guarantee, k.TransactionalIDPrefix, k.Properties = graph.ExactlyOnce, "team-", map[string]string{"bootstrap.servers": "b:9092"}
	j.SetDefaults()
	return j
}

func planOf(t *testing.T, j *graph.Job) *graph.Physical {
	t.Helper()
	plan, err := graph.Plan(j, expression.Checker{})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestHandoutKey(t *testing.T) {
	for _, test := range []struct {
		text string
		want commit.HandoutKey
		ok   bool
	}{
		{"3/out/1", commit.HandoutKey{Attempt: 3, Sink: "out", Subtask: 1}, true},
		{"18446744073709551615/a.b-c/999", commit.HandoutKey{Attempt: 1<<64 - 1, Sink: "a.b-c", Subtask: 999}, true},
		{"", commit.HandoutKey{}, false},
		{"3/out", commit.HandoutKey{}, false},
		{"3/out/1/2", commit.HandoutKey{}, false},
		{"x/out/1", commit.HandoutKey{}, false},
		{"3/out/x", commit.HandoutKey{}, false},
	} {
		got, err := handoutKey(test.text)
		if (err == nil) != test.ok || test.ok && (got != test.want || got.String() != test.text) {
			t.Errorf("%q: %v, %v", test.text, got, err)
		}
	}
}

// TestNewHandouts: no two sinks, subtasks, attempts, jobs or data directories have an id in common.
func TestNewHandouts(t *testing.T) {
	plan := planOf(t, exactJob(3))
	seen := map[string]bool{}
	for _, cluster := range []string{"c1", "c2"} {
		for _, id := range []ident.JobID{"j1", "j2"} {
			for _, attempt := range []ident.Attempt{1, 11} {
				out := newHandouts(cluster, id, plan, attempt)
				if len(out) != 3 {
					t.Fatalf("%d hand-outs for 3 subtasks", len(out))
				}
				for ref, h := range out {
					want := fmt.Sprintf("team-%s/%s/z/%d/%d/3", cluster, id, ref.subtask.Index, attempt)
					if got := h.ID(3); got != want || seen[got] || h.Count != firstIDs || h.Cluster != "b:9092" || h.Attempt != attempt {
						t.Errorf("%+v has id %s, want %s", h, got, want)
					}
					seen[h.ID(3)] = true
				}
			}
		}
	}
	if n := len(newHandouts("c", "j", planOf(t, countJob(3)), 1)); n != 0 {
		t.Errorf("%d hand-outs for a sink that is not exactly-once", n)
	}
}

func update(t *testing.T, m *Manager, f func(tx *boltstore.Tx) error) {
	t.Helper()
	if err := m.store.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestHandoutsAreStored(t *testing.T) {
	m := open(t)
	want := []commit.Handout{
		{HandoutKey: commit.HandoutKey{Attempt: 1, Sink: "z", Subtask: 0}, Cluster: "b:1,b:2", Prefix: "p/c/j/z/0/1/", Count: 7},
		{HandoutKey: commit.HandoutKey{Attempt: 2, Sink: "z", Subtask: 0}, Cluster: "b:1", Prefix: "p/c/j/z/0/2/", Count: 4},
	}
	first := want[0]
	first.Count = firstIDs
	update(t, m, func(tx *boltstore.Tx) error {
		return errors.Join(raiseHandout(tx, "j", first), raiseHandout(tx, "j", want[0]), raiseHandout(tx, "j", want[1]), raiseHandout(tx, "other", first))
	})
	read := func() (out []commit.Handout, err error) {
		_ = m.store.View(func(tx *boltstore.Tx) error { // err is looked at by the caller
			out, err = readHandouts(tx, "j")
			return nil
		})
		return out, err
	}
	if got, err := read(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, name := range []string{"ids/1/z/0", "ids/nonsense"} {
		update(t, m, func(tx *boltstore.Tx) error { return tx.PutValue("j", name, []byte("{")) })
		if _, err := read(); !errors.Is(err, boltstore.ErrDamaged) || !strings.Contains(err.Error(), `of job j`) {
			t.Errorf("%s: %v", name, err)
		}
		update(t, m, func(tx *boltstore.Tx) error { return tx.DeleteValue("j", name) })
	}
}

// TestForgottenHandoutIsNotRaised: its ids are all fenced for good, and a record of it would outlive the job.
func TestForgottenHandoutIsNotRaised(t *testing.T) {
	m := open(t)
	grown := commit.Handout{HandoutKey: commit.HandoutKey{Attempt: 1, Sink: "z"}, Prefix: "c/j/z/0/1/", Count: firstIDs + 1}
	err := m.store.Update(t.Context(), func(tx *boltstore.Tx) error { return raiseHandout(tx, "j", grown) })
	if !errors.Is(err, errForgotten) {
		t.Errorf("raised: %v", err)
	}
}

// TestCountMade keeps a sum per day, and forgets days that brokers have forgotten.
func TestCountMade(t *testing.T) {
	m := open(t)
	day := func(d int) time.Time { return time.Date(2026, 2, 26, 23, 30, 0, 0, time.UTC).AddDate(0, 0, d) }
	for _, step := range []struct{ day, n, total int }{
		{0, 4, 4}, {0, 3, 7}, {1, 10, 17}, {6, 1, 18}, {7, 1, 19}, {8, 1, 13}, {9, 1, 4}, {30, 5, 5},
	} {
		now := day(step.day).In(time.FixedZone("east", 9*3600)) // days are UTC's
		update(t, m, func(tx *boltstore.Tx) error { return countMade(tx, "j", step.n, now) })
		c := newIDCounter()
		if err := m.store.View(func(tx *boltstore.Tx) error { return c.read(tx, "j") }); err != nil {
			t.Fatal(err)
		}
		if got := c.recent(now); got != step.total {
			t.Errorf("day %d: %d ids in the last %d days, want %d", step.day, got, idDays, step.total)
		}
	}
	update(t, m, func(tx *boltstore.Tx) error { return tx.PutValue("j", "ids-made/2026-03-28", []byte("x")) })
	if err := m.store.View(func(tx *boltstore.Tx) error { return newIDCounter().read(tx, "j") }); !errors.Is(err, boltstore.ErrDamaged) {
		t.Errorf("a count that is no number: %v", err)
	}
}

// TestIDCounterWarns once a day while there are too many.
func TestIDCounterWarns(t *testing.T) {
	c, now := newIDCounter(), time.Date(2026, 2, 26, 12, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		after time.Duration
		n     int
		alarm bool
	}{
		{0, manyIDs, false}, {0, 1, true}, {time.Hour, 1, false}, {24 * time.Hour, 1, true}, {0, 1, false}, {10 * 24 * time.Hour, 1, false}, {0, manyIDs, true},
	} {
		now = now.Add(step.after)
		if got := c.add(step.n, now); got != step.alarm {
			t.Errorf("%s: %d more, alarm %v, of %d", now, step.n, got, c.recent(now))
		}
	}
}

// TestManySinksTooLargeToDeploy counts the ids that are handed out as well.
func TestManySinksTooLargeToDeploy(t *testing.T) {
	job := func(sinks int) *graph.Job {
		j := exactJob(100)
		j.Sinks[0].Kafka.TransactionalIDPrefix = strings.Repeat("p", 60)
		for n := range sinks - 1 {
			s := j.Sinks[0]
			s.Name = fmt.Sprintf("z%d", n)
			j.Sinks = append(j.Sinks, s)
		}
		return j
	}
	m := open(t)
	if _, _, err := m.submit(t.Context(), submission{job: job(2)}); err != nil {
		t.Fatalf("two sinks: %v", err)
	}
	large := job(90)
	large.Name = "large"
	_, _, err := m.submit(t.Context(), submission{job: large})
	var invalid *invalidJobError
	if !errors.As(err, &invalid) || !strings.Contains(fmt.Sprint(invalid.faults), "at most 1047552 can be sent") {
		t.Errorf("9000 sink subtasks: %v", err)
	}
}
