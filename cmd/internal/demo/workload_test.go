package demo

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator/expression"
	"github.com/sluice-stream/sluice/spec"
)

// right is the output of a job without a fault.
func right(w *workload) []*kgo.Record {
	var out []*kgo.Record
	counts := map[string]int{}
	for i := range w.total {
		if paid(i) {
			key := keyOf(i)
			counts[key]++
			out = append(out, &kgo.Record{Topic: "out", Key: []byte(key), Value: []byte(strconv.Itoa(counts[key])), Offset: int64(len(out))})
		}
	}
	return out
}

func reversed(records []*kgo.Record) []*kgo.Record {
	out := slices.Clone(records)
	slices.Reverse(out)
	return out
}

func TestJudge(t *testing.T) {
	w := newWorkload(MinRecords)
	good := right(w)
	record := func(key, value string) *kgo.Record {
		return &kgo.Record{Topic: "out", Key: []byte(key), Value: []byte(value), Offset: 7}
	}
	for _, c := range []struct {
		name    string
		records []*kgo.Record
		lost    int
		twice   int
		late    int
		problem string
	}{
		{"everything once", good, 0, 0, 0, ""},
		{"in another order", reversed(good), 0, 0, len(good) - keys, "35000 records out of order"},
		{"nothing", nil, len(good), 0, 0, "36000 records lost"},
		{"the last record lost", good[:len(good)-1], 1, 0, 0, "1 records lost"},
		{"a record in the middle lost", slices.Delete(slices.Clone(good), 500, 501), 1, 0, 0, "1 records lost"},
		{"one twice", append(slices.Clone(good), good[3]), 0, 1, 0, "1 duplicates"},
		{"all twice", append(slices.Clone(good), good...), 0, len(good), 0, "36000 duplicates"},
		{"one lost behind one twice", append(slices.Clone(good[1:]), good[3]), 1, 1, 0, "1 records lost"},
		{"a record counted twice", append(slices.Clone(good), record("user-1", strconv.Itoa(w.perKey["user-1"]+1))), 0, 0, 0, "impossible output"},
		{"an unknown key", append(slices.Clone(good), record("user-1000", "1")), 0, 0, 0, `impossible output: key "user-1000" count "1" at out-0 offset 7`},
		{"count 0", append(slices.Clone(good), record("user-1", "0")), 0, 0, 0, "impossible output"},
		{"no number", append(slices.Clone(good), record("user-1", "paid")), 0, 0, 0, "impossible output"},
		{"a tombstone", append(slices.Clone(good), &kgo.Record{Key: []byte("user-1")}), 0, 0, 0, "impossible output"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := w.newJudge()
			for _, r := range c.records {
				j.see(r)
			}
			v := j.verdict()
			v.live = int64(len(c.records))
			if v.lost != c.lost || v.duplicates != c.twice || v.outOfOrder != c.late {
				t.Errorf("lost %d, duplicates %d, out of order %d; want %d, %d and %d", v.lost, v.duplicates, v.outOfOrder, c.lost, c.twice, c.late)
			}
			if got := v.problem(); (got == "") != (c.problem == "") || !strings.HasPrefix(got, c.problem) {
				t.Errorf("problem %q, want %q", got, c.problem)
			}
		})
	}
}

// Readers that disagree and transactions that stay open are found even when every record is right.
func TestVerdictBeyondTheRecords(t *testing.T) {
	for problem, v := range map[string]verdict{
		"": {records: 3, live: 3}, "saw 2 records": {records: 3, live: 2}, "saw 4 records": {records: 3, live: 4}, "7 behind": {records: 3, live: 3, open: 7},
	} {
		if got := v.problem(); (got == "") != (problem == "") || !strings.Contains(got, problem) {
			t.Errorf("%+v: problem %q, want %q", v, got, problem)
		}
	}
}

// The judge does not look at the input, so the input must be what it was told.
func TestWorkloadIsEven(t *testing.T) {
	w := newWorkload(2 * MinRecords)
	if w.expected != w.total/10*9 || len(w.perKey) != keys {
		t.Errorf("%d of %d records come out, of %d keys; want 9 of 10 and %d", w.expected, w.total, len(w.perKey), keys)
	}
	for k, n := range w.perKey {
		if n != w.expected/keys {
			t.Fatalf("key %s comes out %d times, want %d", k, n, w.expected/keys)
		}
	}
}

func TestJobFileIsValid(t *testing.T) {
	job, err := spec.Parse([]byte(jobFile(&broker{servers: []string{"127.0.0.1:9092"}, input: "in", output: "out"}, 250_000)), "demo.yaml", spec.Options{Checks: graph.Checks{Expressions: expression.Checker{}}})
	if err != nil {
		t.Fatal(err)
	}
	if job.Parallelism != parallelism {
		t.Errorf("parallelism %d, want %d", job.Parallelism, parallelism)
	}
}

func TestParseKill(t *testing.T) {
	for _, name := range Kills() {
		if k, err := ParseKill(name); err != nil || string(k) != name {
			t.Errorf("%s: %q, %v", name, k, err)
		}
	}
	for _, name := range []string{"", "Both", "task manager"} {
		if _, err := ParseKill(name); err == nil || !strings.Contains(err.Error(), "taskmanager, jobmanager, both, none") {
			t.Errorf("%q: %v, want an error that lists what there is", name, err)
		}
	}
}

// covered must agree with the order in which feed writes.
func TestCovered(t *testing.T) {
	w := newWorkload(MinRecords)
	offsets, want := map[string]int64{"0": 3000, "1": 0, "2": 1, "3": 9999}, int64(0)
	var written [partitions]int64
	for i := range w.total {
		p := i % partitions
		if written[p] < offsets[strconv.Itoa(p)] && paid(i) {
			want++
		}
		written[p]++
	}
	if got := w.covered(offsets); got != want {
		t.Errorf("covered %d, want %d", got, want)
	}
	if got := w.covered(nil); got != 0 {
		t.Errorf("no offsets cover %d", got)
	}
}

func TestInputHoldsBackUntilTheRelease(t *testing.T) {
	w := newWorkload(MinRecords)
	for after, want := range map[time.Duration]int{0: 0, fullPace / 10: w.total / 10, time.Hour: w.total * 6 / 10} {
		if got := w.due(after); got != want {
			t.Errorf("due after %s: %d, want %d", after, got, want)
		}
	}
}

func TestReaderKnowsWhenItPassed(t *testing.T) {
	r, start := newReader(), time.Unix(1000, 0)
	for i, n := range []int64{5, 0, 3} {
		r.add(start.Add(time.Duration(i)*time.Second), n)
	}
	for n, want := range map[int64]time.Time{0: start, 4: start, 5: start.Add(2 * time.Second), 7: start.Add(2 * time.Second), 8: {}} {
		if got := r.passed(n); !got.Equal(want) {
			t.Errorf("passed %d at %s, want %s", n, got, want)
		}
	}
	if r.count() != 8 {
		t.Errorf("count %d, want 8", r.count())
	}
}
