package oracle

import (
	"fmt"
	"hash/maphash"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// expectation is the model's output for all of the input, as checksums: some 40 bytes a record.
type expectation struct {
	workload *workload.Workload
	sources  map[sourceKey]map[int64]*expected // by offset
	known    int64                             // records
	byTopic  map[string]int64                  // of these, the required ones
	offsets  map[sourceKey]map[int64][]int64   // by the Seq of the value; only where outputs have no stamp
}

// sourceKey is a partition of the input.
type sourceKey struct {
	topic     string
	partition int32
}

// expected is what one record of the input must give.
type expected struct {
	required bool
	seen     uint8 // a bit for each emit number
	sums     []uint64
}

// presence tells whether the output of a record must be there.
type presence bool

const (
	optional presence = false // compaction may have dropped the record before the job read it
	required presence = true
)

// maxEmits is the width of expected.seen.
const maxEmits = 8

func newExpectation(w *workload.Workload) *expectation {
	return &expectation{workload: w, sources: map[sourceKey]map[int64]*expected{}, byTopic: map[string]int64{}, offsets: map[sourceKey]map[int64][]int64{}}
}

// add takes a record of the input. One that is there already becomes required if it was not.
func (e *expectation) add(r workload.Record, p presence) error {
	key := sourceKey{r.Topic, r.Partition}
	if e.sources[key] == nil {
		e.sources[key] = map[int64]*expected{}
	}
	x := e.sources[key][r.Offset]
	if x == nil {
		outputs, err := e.workload.Expected(r)
		if err != nil || len(outputs) > maxEmits {
			return fmt.Errorf("input %s/%d/%d: %d outputs (at most %d): %w", r.Topic, r.Partition, r.Offset, len(outputs), maxEmits, err)
		}
		x = &expected{}
		for _, o := range outputs {
			x.sums = append(x.sums, e.sum(o.Key, o.Value))
		}
		e.sources[key][r.Offset] = x
		e.known++
		if err := e.place(key, r); err != nil {
			return err
		}
	}
	if p == required && !x.required {
		x.required = true
		e.byTopic[r.Topic]++
	}
	return nil
}

// place remembers at which offset a value stands, where outputs have no stamp.
func (e *expectation) place(key sourceKey, r workload.Record) error {
	if e.workload.Stamped() {
		return nil
	}
	v, err := workload.ParseValue(r.Value)
	if err != nil {
		return fmt.Errorf("input %s/%d/%d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	if e.offsets[key] == nil {
		e.offsets[key] = map[int64][]int64{}
	}
	e.offsets[key][v.Seq] = append(e.offsets[key][v.Seq], r.Offset) // a producer that lost track may write one twice
	return nil
}

// origin is the stamp of an output that has none, by its value.
func (e *expectation) origin(value []byte) (workload.Stamp, error) {
	v, err := workload.ParseValue(value)
	if err != nil {
		return workload.Stamp{}, err
	}
	key := sourceKey{e.workload.Origin(v), v.Partition}
	places := e.offsets[key][v.Seq]
	if len(places) == 0 {
		return workload.Stamp{}, fmt.Errorf("number %d of %s/%d is no committed record", v.Seq, key.topic, key.partition)
	}
	offset := places[0]
	if e.sources[key][offset].seen != 0 && len(places) > 1 {
		offset, e.offsets[key][v.Seq] = places[1], places[1:]
	}
	return workload.Stamp{Topic: key.topic, Partition: key.partition, Offset: offset}, nil
}

// limit makes optional what a job that ended in the middle need not have read: all records from these offsets on, by
// topic and partition; of partitions that are not named, all.
func (e *expectation) limit(covered map[string]map[int32]int64) {
	for key, records := range e.sources {
		for offset, x := range records {
			x.required = x.required && offset < covered[key.topic][key.partition]
		}
	}
}

func (e *expectation) requiredOf(topic string) int64 { return e.byTopic[topic] }

// sum is the checksum of an output; of one that counts, of its key.
func (e *expectation) sum(key, value []byte) uint64 {
	if e.workload.Counted() {
		return sumOf(key)
	}
	return sumOf(key, value)
}

// lost calls back for each output that is required and was not seen.
func (e *expectation) lost(tell func(workload.Stamp)) {
	for key, records := range e.sources {
		for offset, x := range records {
			for i := range x.sums {
				if x.required && x.seen&(1<<i) == 0 {
					tell(workload.Stamp{Topic: key.topic, Partition: key.partition, Offset: offset, Emit: i})
				}
			}
		}
	}
}

var sumSeed = maphash.MakeSeed()

// sumOf is a checksum within this process; null is not empty.
func sumOf(fields ...[]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	for _, f := range fields {
		n := len(f)
		if f == nil {
			n = -1
		}
		maphash.WriteComparable(&h, n)
		h.Write(f)
	}
	return h.Sum64()
}

// sumOfRecord is the checksum of all that a reader sees of a record.
func sumOfRecord(r *kgo.Record) uint64 {
	fields := [][]byte{r.Key, r.Value, []byte(r.Timestamp.UTC().String())}
	for _, h := range r.Headers {
		fields = append(fields, []byte(h.Key), h.Value)
	}
	return sumOf(fields...)
}
