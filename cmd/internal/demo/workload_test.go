package demo

import (
	"slices"
	"strconv"
	"strings"
	"testing"

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
			out = append(out, &kgo.Record{Topic: outTopic, Key: []byte(key), Value: []byte(strconv.Itoa(counts[key])), Offset: int64(len(out))})
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
		return &kgo.Record{Topic: outTopic, Key: []byte(key), Value: []byte(value), Offset: 7}
	}
	for _, c := range []struct {
		name    string
		records []*kgo.Record
		lost    int
		twice   int
		problem string
	}{
		{"everything once", good, 0, 0, ""},
		{"in another order", reversed(good), 0, 0, ""},
		{"nothing", nil, len(good), 0, "36000 records lost"},
		{"the last record lost", good[:len(good)-1], 1, 0, "1 records lost"},
		{"a record in the middle lost", slices.Delete(slices.Clone(good), 500, 501), 1, 0, "1 records lost"},
		{"one twice", append(slices.Clone(good), good[3]), 0, 1, ""},
		{"all twice", append(slices.Clone(good), good...), 0, len(good), ""},
		{"one lost behind one twice", append(slices.Clone(good[1:]), good[3]), 1, 1, "1 records lost"},
		{"a record counted twice", append(slices.Clone(good), record("user-1", strconv.Itoa(w.perKey["user-1"]+1))), 0, 0, "impossible output"},
		{"an unknown key", append(slices.Clone(good), record("user-1000", "1")), 0, 0, `impossible output: key "user-1000" count "1" at demo-out-0 offset 7`},
		{"count 0", append(slices.Clone(good), record("user-1", "0")), 0, 0, "impossible output"},
		{"no number", append(slices.Clone(good), record("user-1", "paid")), 0, 0, "impossible output"},
		{"a tombstone", append(slices.Clone(good), &kgo.Record{Key: []byte("user-1")}), 0, 0, "impossible output"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := w.newJudge()
			for _, r := range c.records {
				j.see(r)
			}
			v := j.verdict()
			if v.lost != c.lost || v.duplicates != c.twice {
				t.Errorf("lost %d, duplicates %d; want %d and %d", v.lost, v.duplicates, c.lost, c.twice)
			}
			if got := v.problem(); (got == "") != (c.problem == "") || !strings.HasPrefix(got, c.problem) {
				t.Errorf("problem %q, want %q", got, c.problem)
			}
		})
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
	job, err := spec.Parse([]byte(jobFile("127.0.0.1:9092", 250_000)), "demo.yaml", spec.Options{Checks: graph.Checks{Expressions: expression.Checker{}}})
	if err != nil {
		t.Fatal(err)
	}
	if job.Parallelism != parallelism {
		t.Errorf("parallelism %d, want %d", job.Parallelism, parallelism)
	}
}
