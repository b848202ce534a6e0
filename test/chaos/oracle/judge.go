package oracle

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// judge looks at each committed record of the output once, a partition in the order of its offsets, and
// compares it with the expectation.
type judge struct {
	workload *workload.Workload
	expected *expectation
	out      int64
	// A record is judged under one head only: a second copy is a duplicate and says nothing of order or counts.
	duplicates, phantoms, disorder, wrongCounts tally
	last                                        map[streamKey]workload.Stamp
	counts                                      map[string]int64
	// writers are the producers of what is in the output, and where each begins.
	writers map[writer]string
}

// streamKey is a sequence of outputs that the job keeps in order.
type streamKey struct {
	source sourceKey
	out    int32
	key    string // only where the job keeps order per key
}

func newJudge(w *workload.Workload, e *expectation) *judge {
	return &judge{workload: w, expected: e, last: map[streamKey]workload.Stamp{}, counts: map[string]int64{}, writers: map[writer]string{}}
}

// see takes the next record.
func (j *judge) see(r *kgo.Record) {
	j.out++
	if by := (writer{r.ProducerID, r.ProducerEpoch}); j.writers[by] == "" {
		j.writers[by] = where(r)
	}
	stamp, err := j.stamp(r)
	if err != nil {
		j.phantoms.add("%s: %v", where(r), err)
		return
	}
	source := sourceKey{stamp.Topic, stamp.Partition}
	x := j.expected.sources[source][stamp.Offset]
	switch {
	case x == nil:
		j.phantoms.add("%s comes from %v, which is no committed record", where(r), stamp)
		return
	case stamp.Emit >= len(x.sums):
		j.phantoms.add("%s is %v, but that record makes %d", where(r), stamp, len(x.sums))
		return
	case x.sums[stamp.Emit] != j.expected.sum(r.Key, r.Value):
		j.phantoms.add("%s is %v and says something else than the model: key %.40q value %.40q", where(r), stamp, r.Key, r.Value)
		return
	case x.seen&(1<<stamp.Emit) != 0:
		j.duplicates.add("%s is %v again", where(r), stamp)
		return
	}
	x.seen |= 1 << stamp.Emit
	j.checkOrder(r, source, stamp)
	if j.workload.Counted() {
		j.checkCount(r)
	}
}

// stamp says where an output came from: its headers tell, or of a copy its value.
func (j *judge) stamp(r *kgo.Record) (workload.Stamp, error) {
	if j.workload.Stamped() {
		return workload.ParseStamp(header(r, workload.HeaderSource), header(r, workload.HeaderEmit))
	}
	return j.expected.origin(r.Value)
}

func (j *judge) checkOrder(r *kgo.Record, source sourceKey, stamp workload.Stamp) {
	stream := streamKey{source: source, out: r.Partition}
	if j.workload.OrderPerKey() {
		stream.key = string(r.Key)
	}
	if before, any := j.last[stream]; any && (stamp.Offset < before.Offset || stamp.Offset == before.Offset && stamp.Emit < before.Emit) {
		j.disorder.add("%s is %v, after %v", where(r), stamp, before)
		return
	}
	j.last[stream] = stamp
}

// checkCount: the counts of a key are 1, 2, 3, … A wrong one is told once, not at all those after it.
func (j *judge) checkCount(r *kgo.Record) {
	n, err := strconv.ParseInt(string(r.Value), 10, 64)
	want := j.counts[string(r.Key)] + 1
	if err != nil || n != want {
		j.wrongCounts.add("%s: key %s has count %.40q, want %d", where(r), r.Key, r.Value, want)
	}
	if err == nil {
		j.counts[string(r.Key)] = n
	}
}

// finish reports. What was not seen by now is lost.
func (j *judge) finish(r *Report) {
	var lost tally
	j.expected.lost(func(s workload.Stamp) { lost.add("%v", s) })
	r.RecordsOut = j.out
	for _, found := range []struct {
		what  string
		tally *tally
		field *int64
	}{
		{"lost", &lost, &r.Lost}, {"duplicate", &j.duplicates, &r.Duplicates}, {"out of order", &j.disorder, &r.OutOfOrder},
		{"phantom", &j.phantoms, &r.Phantoms}, {"wrong count", &j.wrongCounts, &r.WrongCounts},
	} {
		*found.field = found.tally.count
		r.Verdict = append(r.Verdict, found.tally.reasons(found.what)...)
	}
}

func header(r *kgo.Record, key string) []byte {
	for _, h := range r.Headers {
		if h.Key == key {
			return h.Value
		}
	}
	return nil
}

func where(r *kgo.Record) string {
	return r.Topic + "/" + strconv.Itoa(int(r.Partition)) + "/" + strconv.FormatInt(r.Offset, 10)
}
