package wire

import (
	"cmp"
	"slices"
)

// Isolation says which records of transactions are read.
type Isolation int8

// Kafka's isolation levels.
const (
	ReadUncommitted Isolation = 0
	ReadCommitted   Isolation = 1
)

// AbortedTxn is an aborted transaction as a Fetch answer lists it.
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset int64
}

// AbortedFilter decides, batch by batch in order of offsets, what a read_committed reader delivers.
// One Fetch answer is one run: its list covers every batch in it, also of transactions that began
// before it.
type AbortedFilter struct {
	pending []AbortedTxn // not reached yet, by first offset
	open    []int64      // producers whose records are aborted at this place
	markers []Marker
	off     bool
}

// Reset starts a run. The list may be in any order (Redpanda's is), and is ignored for
// ReadUncommitted, where some brokers send one too.
func (f *AbortedFilter) Reset(list []AbortedTxn, isolation Isolation) {
	f.off = isolation != ReadCommitted
	f.pending, f.open = f.pending[:0], f.open[:0]
	if f.off {
		return
	}
	f.pending = append(f.pending, list...)
	slices.SortFunc(f.pending, func(a, b AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
}

// Deliver says whether the batch's records are to be delivered. Control batches never are. A marker
// of a transaction that is not listed is passed over: the fetch began in its middle, or it committed. What is left out
// has its checksum checked, as nobody else does it.
func (f *AbortedFilter) Deliver(r *RawBatch) (bool, error) {
	deliver, err := f.decide(r)
	if !deliver && err == nil {
		err = r.Verify()
	}
	return deliver, err
}

func (f *AbortedFilter) decide(r *RawBatch) (bool, error) {
	if f.off {
		return !r.Control(), nil
	}
	n := 0
	for n < len(f.pending) && f.pending[n].FirstOffset <= r.LastOffset() {
		if id := f.pending[n].ProducerID; !slices.Contains(f.open, id) { // one that is listed twice ends by one marker
			f.open = append(f.open, id)
		}
		n++
	}
	f.pending = slices.Delete(f.pending, 0, n)
	if !r.Control() {
		return !r.Transactional() || !slices.Contains(f.open, r.ProducerID), nil
	}
	if !r.Transactional() || len(f.open) == 0 {
		return false, nil
	}
	var err error
	if f.markers, err = r.Markers(f.markers[:0]); err != nil {
		return false, err
	}
	for _, m := range f.markers {
		// any marker ends the producer's transaction
		if m != MarkerAbort && m != MarkerCommit {
			continue
		}
		if i := slices.Index(f.open, r.ProducerID); i >= 0 {
			f.open = slices.Delete(f.open, i, i+1)
		}
	}
	return false, nil
}
