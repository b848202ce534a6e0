package oracle

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

func newWorkload(t *testing.T, kind workload.Kind) *workload.Workload {
	t.Helper()
	w, err := workload.New(kind, workload.Params{Name: "run", Brokers: "localhost:9092"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// input is a record of partition 0 with two outputs in workload C.
func input(topic string, offset int64, key string) workload.Record {
	v := workload.Value{Seq: offset, Fan: 2, Payload: fmt.Append(nil, "payload ", offset)}
	if strings.HasSuffix(topic, "-compacted") {
		v.Seq += 1 << 40
	}
	return workload.Record{Topic: topic, Offset: offset, Key: []byte(key), Value: v.Append(nil)}
}

// scan is the right output of ten records, of two keys in turn, with gaps in the offsets; all in partition 3 of
// the output. The last one is of the compacted topic and gone from it.
func scan(t *testing.T, w *workload.Workload) (*expectation, []*kgo.Record) {
	t.Helper()
	e := newExpectation(w)
	counts := map[string]int{}
	var out []*kgo.Record
	for i := range 11 {
		r, present := input(w.In(), int64(i*3), []string{"k1", "k2"}[i%2]), required
		if i == 10 {
			r, present = input(w.Compacted(), 5, "ck1"), optional
		}
		if err := e.add(r, present); err != nil {
			t.Fatal(err)
		}
		outputs, err := w.Expected(r)
		if err != nil {
			t.Fatal(err)
		}
		for emit, o := range outputs {
			if w.Counted() {
				counts[string(r.Key)]++
				o.Value = fmt.Append(nil, counts[string(r.Key)])
			}
			out = append(out, &kgo.Record{Topic: w.Out(), Partition: 3, Offset: int64(len(out)), Key: o.Key, Value: o.Value, Headers: stampOf(r, emit)})
		}
	}
	return e, out
}

func stampOf(r workload.Record, emit int) []kgo.RecordHeader {
	return []kgo.RecordHeader{
		{Key: workload.HeaderSource, Value: fmt.Appendf(nil, "%s/%d/%d", r.Topic, r.Partition, r.Offset)},
		{Key: workload.HeaderEmit, Value: fmt.Append(nil, emit)},
	}
}

func judged(t *testing.T, w *workload.Workload, doctor func([]*kgo.Record) []*kgo.Record) Report {
	t.Helper()
	e, out := scan(t, w)
	j := newJudge(w, e)
	for _, r := range doctor(out) {
		j.see(r)
	}
	r := Report{RecordsIn: e.requiredOf(w.In())}
	j.finish(&r)
	return r
}

func counts(r Report) string {
	return fmt.Sprintf("lost %d dup %d order %d phantom %d count %d", r.Lost, r.Duplicates, r.OutOfOrder, r.Phantoms, r.WrongCounts)
}

func clone(r *kgo.Record, change func(*kgo.Record)) *kgo.Record {
	c := *r
	c.Headers = slices.Clone(r.Headers)
	change(&c)
	return &c
}

type doctoring struct {
	name   string
	doctor func([]*kgo.Record) []*kgo.Record
	want   map[workload.Kind]string
}

const clean = "lost 0 dup 0 order 0 phantom 0 count 0"

// doctorings: the two keys alternate, so records 1 and 3 have one key and record 2 has the other. Workload C makes
// two of each.
var doctorings = []doctoring{
	{"nothing wrong", func(s []*kgo.Record) []*kgo.Record { return s },
		map[workload.Kind]string{workload.A: clean, workload.B: clean, workload.C: clean, workload.D: clean}},
	{"one dropped", func(s []*kgo.Record) []*kgo.Record { return slices.Delete(s, 2, 3) },
		map[workload.Kind]string{workload.A: "lost 1 dup 0 order 0 phantom 0 count 0", workload.B: "lost 1 dup 0 order 0 phantom 0 count 1", workload.C: "lost 1 dup 0 order 0 phantom 0 count 0", workload.D: "lost 1 dup 0 order 0 phantom 0 count 0"}},
	{"a compacted one dropped", func(s []*kgo.Record) []*kgo.Record {
		return slices.DeleteFunc(s, func(r *kgo.Record) bool { return string(r.Key) == "ck1" })
	}, map[workload.Kind]string{workload.A: clean, workload.B: clean, workload.C: clean, workload.D: clean}},
	{"one twice, later", func(s []*kgo.Record) []*kgo.Record { return append(s, s[4]) },
		map[workload.Kind]string{workload.A: "lost 0 dup 1 order 0 phantom 0 count 0", workload.B: "lost 0 dup 1 order 0 phantom 0 count 0", workload.C: "lost 0 dup 1 order 0 phantom 0 count 0", workload.D: "lost 0 dup 1 order 0 phantom 0 count 0"}},
	{"two of one key swapped", func(s []*kgo.Record) []*kgo.Record { s[0], s[len(s)-3] = s[len(s)-3], s[0]; return s },
		map[workload.Kind]string{workload.B: "lost 0 dup 0 order 4 phantom 0 count 3"}},
	{"two of different keys swapped", func(s []*kgo.Record) []*kgo.Record { s[2], s[3] = s[3], s[2]; return s },
		map[workload.Kind]string{workload.A: "lost 0 dup 0 order 1 phantom 0 count 0", workload.B: clean, workload.C: "lost 0 dup 0 order 1 phantom 0 count 0", workload.D: "lost 0 dup 0 order 1 phantom 0 count 0"}},
	{"emit numbers swapped", func(s []*kgo.Record) []*kgo.Record { s[0], s[1] = s[1], s[0]; return s },
		map[workload.Kind]string{workload.C: "lost 0 dup 0 order 1 phantom 0 count 0"}},
	{"from an offset that was aborted", func(s []*kgo.Record) []*kgo.Record {
		return append(s, clone(s[0], func(r *kgo.Record) { r.Headers[0].Value = []byte("run-in/0/1") }))
	}, map[workload.Kind]string{workload.A: "lost 0 dup 0 order 0 phantom 1 count 0", workload.B: "lost 0 dup 0 order 0 phantom 1 count 0"}},
	{"without a stamp", func(s []*kgo.Record) []*kgo.Record {
		return append(s, clone(s[0], func(r *kgo.Record) { r.Headers = nil }))
	}, map[workload.Kind]string{workload.A: "lost 0 dup 0 order 0 phantom 1 count 0"}},
	{"one more of a record than it makes", func(s []*kgo.Record) []*kgo.Record {
		return append(s, clone(s[0], func(r *kgo.Record) { r.Headers[1].Value = []byte("2") }))
	}, map[workload.Kind]string{workload.A: "lost 0 dup 0 order 0 phantom 1 count 0", workload.C: "lost 0 dup 0 order 0 phantom 1 count 0"}},
	{"another value", func(s []*kgo.Record) []*kgo.Record {
		s[0] = clone(s[0], func(r *kgo.Record) { r.Value = []byte("7") })
		return s
	}, map[workload.Kind]string{workload.A: "lost 1 dup 0 order 0 phantom 1 count 0", workload.B: "lost 0 dup 0 order 0 phantom 0 count 2", workload.D: "lost 1 dup 0 order 0 phantom 1 count 0"}},
	{"another key", func(s []*kgo.Record) []*kgo.Record {
		s[0] = clone(s[0], func(r *kgo.Record) { r.Key = []byte("k9") })
		return s
	}, map[workload.Kind]string{workload.A: "lost 1 dup 0 order 0 phantom 1 count 0", workload.B: "lost 1 dup 0 order 0 phantom 1 count 1", workload.D: "lost 1 dup 0 order 0 phantom 1 count 0"}},
	{"nothing comes out", func([]*kgo.Record) []*kgo.Record { return nil },
		map[workload.Kind]string{workload.A: "lost 10 dup 0 order 0 phantom 0 count 0", workload.C: "lost 20 dup 0 order 0 phantom 0 count 0", workload.D: "lost 10 dup 0 order 0 phantom 0 count 0"}},
	{"a number that was aborted", func(s []*kgo.Record) []*kgo.Record {
		return append(s, clone(s[0], func(r *kgo.Record) {
			r.Value = workload.Value{Seq: 1, Fan: 2, Payload: []byte("payload 1")}.Append(nil)
		}))
	}, map[workload.Kind]string{workload.D: "lost 0 dup 0 order 0 phantom 1 count 0"}},
	{"counts begin anew", func(s []*kgo.Record) []*kgo.Record {
		s[6] = clone(s[6], func(r *kgo.Record) { r.Value = []byte("1") })
		return s
	}, map[workload.Kind]string{workload.B: "lost 0 dup 0 order 0 phantom 0 count 2"}},
}

func TestJudge(t *testing.T) {
	for _, d := range doctorings {
		for kind, want := range d.want {
			r := judged(t, newWorkload(t, kind), d.doctor)
			if got := counts(r); got != want || r.OK() != (want == clean) {
				t.Errorf("%s, workload %s: %s, want %s; verdict %q", d.name, kind, got, want, r.Verdict)
			}
			if r.RecordsIn != 10 {
				t.Errorf("%s, workload %s: %d records in, want 10", d.name, kind, r.RecordsIn)
			}
		}
	}
}

// TestCovered: of a job that ended in the middle, what its newest checkpoint covers must be there, and nothing else need.
func TestCovered(t *testing.T) {
	w := newWorkload(t, workload.A)
	for _, c := range []struct {
		covered int64 // of offsets 0, 3, … 27
		want    string
	}{{28, "lost 5 dup 0 order 0 phantom 0 count 0"}, {16, "lost 1 dup 0 order 0 phantom 0 count 0"}, {15, clean}, {0, clean}} {
		e, out := scan(t, w)
		e.limit(map[string]map[int32]int64{w.In(): {0: c.covered}})
		j := newJudge(w, e)
		for _, r := range out[:5] {
			j.see(r)
		}
		var r Report
		if j.finish(&r); counts(r) != c.want {
			t.Errorf("covered up to %d, five of ten there: %s, want %s", c.covered, counts(r), c.want)
		}
	}
}

// TestWrittenTwice: a value that a producer wrote twice must come out of a copy twice, and not more often.
func TestWrittenTwice(t *testing.T) {
	w := newWorkload(t, workload.D)
	first := input(w.In(), 0, "k1")
	second := first
	second.Offset = 4
	for copies, want := range map[int]string{1: "lost 1 dup 0 order 0 phantom 0 count 0", 2: clean, 3: "lost 0 dup 1 order 0 phantom 0 count 0"} {
		e := newExpectation(w)
		for _, r := range []workload.Record{first, second} {
			if err := e.add(r, required); err != nil {
				t.Fatal(err)
			}
		}
		j := newJudge(w, e)
		for i := range copies {
			j.see(&kgo.Record{Topic: w.Out(), Offset: int64(i), Key: first.Key, Value: first.Value})
		}
		var r Report
		if j.finish(&r); counts(r) != want {
			t.Errorf("%d copies: %s, want %s", copies, counts(r), want)
		}
	}
}

// TestPartitionsAreApart: order is kept within an output partition only.
func TestPartitionsAreApart(t *testing.T) {
	r := judged(t, newWorkload(t, workload.A), func(s []*kgo.Record) []*kgo.Record {
		for i, record := range s {
			record.Partition = int32(i % 2)
		}
		slices.SortStableFunc(s, func(a, b *kgo.Record) int { return int(b.Partition - a.Partition) })
		return s
	})
	if got := counts(r); got != clean {
		t.Errorf("two output partitions, one after the other: %s", got)
	}
}

func TestSightings(t *testing.T) {
	final := []sighting{{0, 10}, {1, 11}, {3, 13}, {4, 14}, {7, 17}}
	for _, c := range []struct {
		name string
		live []sighting
		want []string
	}{
		{"the same", final, nil},
		{"skips two", []sighting{{0, 10}, {4, 14}, {7, 17}}, []string{"offset 1: skipped", "offset 3: skipped"}},
		{"stops early", final[:3], []string{"offset 4: not seen", "offset 7: not seen"}},
		{"nothing", nil, []string{"offset 0: not seen", "offset 1", "offset 3", "offset 4", "offset 7"}},
		{"twice", []sighting{{0, 10}, {1, 11}, {1, 11}, {3, 13}, {4, 14}, {7, 17}}, []string{"offset 1: seen again"}},
		{"backwards", []sighting{{0, 10}, {3, 13}, {1, 11}, {4, 14}, {7, 17}}, []string{"offset 1: skipped", "offset 1: seen again or late"}},
		{"other bytes", []sighting{{0, 10}, {1, 11}, {3, 99}, {4, 14}, {7, 17}}, []string{"offset 3: had other bytes"}},
		{"more than there is", []sighting{{0, 10}, {1, 11}, {2, 12}, {3, 13}, {4, 14}, {7, 17}, {9, 19}}, []string{"offset 2: seen, and not there", "offset 9: seen, and not there"}},
	} {
		a, b := newSightings(), newSightings()
		a.partitions[2], b.partitions[2] = final, c.live
		var found tally
		compareSightings("reader", &a, &b, &found)
		checkReasons(t, c.name, found.examples, c.want)
		if int(found.count) != len(c.want) {
			t.Errorf("%s: %d found, want %d", c.name, found.count, len(c.want))
		}
	}
}
