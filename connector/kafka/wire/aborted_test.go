package wire

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// item is a batch in a test log: data of a producer (0: none), or markers.
type item struct {
	at       int64
	producer int64
	markers  []Marker
	deliver  bool
}

func (i item) batch(t *testing.T) *RawBatch {
	t.Helper()
	records := []kmsg.Record{{Value: []byte("v")}}
	attributes := int16(0)
	if i.producer > 0 {
		attributes |= attrTransactional
	}
	if i.markers != nil {
		attributes |= attrControl
		records = nil
		for n, m := range i.markers {
			key := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(m))
			records = append(records, kmsg.Record{OffsetDelta: int32(n), Key: key, Value: []byte{0, 0, 0, 0, 0, 0}})
		}
	}
	r, _, err := ParseBatch(kmsgBatch(i.at, func(b *kmsg.RecordBatch) { b.ProducerID, b.Attributes = i.producer, attributes }, records...), NewDecompressor())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAbortedFilter(t *testing.T) {
	abort, commit := []Marker{MarkerAbort}, []Marker{MarkerCommit}
	for name, c := range map[string]struct {
		aborted []AbortedTxn
		log     []item
	}{
		"one aborted, one not": {
			[]AbortedTxn{{1, 0}},
			[]item{{0, 1, nil, false}, {1, 2, nil, true}, {2, 0, nil, true}, {3, 1, abort, false}, {4, 1, nil, true}, {5, 1, commit, false}},
		},
		"unsorted list": {
			[]AbortedTxn{{2, 5}, {1, 0}},
			[]item{{0, 1, nil, false}, {1, 2, nil, true}, {2, 2, commit, false}, {3, 1, abort, false}, {5, 2, nil, false}, {6, 2, abort, false}},
		},
		"twice the same producer": {
			[]AbortedTxn{{1, 0}, {1, 3}},
			[]item{{0, 1, nil, false}, {1, 1, abort, false}, {2, 1, nil, true}, {3, 1, nil, false}, {4, 1, abort, false}, {5, 1, nil, true}},
		},
		"an entry twice": {
			[]AbortedTxn{{1, 0}, {1, 0}},
			[]item{{0, 1, nil, false}, {1, 1, abort, false}, {2, 1, nil, true}, {3, 1, commit, false}},
		},
		"began before the fetch": {
			[]AbortedTxn{{1, 0}},
			[]item{{50, 1, nil, false}, {51, 1, abort, false}, {52, 1, nil, true}},
		},
		"marker without an entry": {
			nil,
			[]item{{50, 1, abort, false}, {51, 1, nil, true}, {52, 1, commit, false}},
		},
		"marker before its entry's offset": {
			[]AbortedTxn{{1, 60}},
			[]item{{50, 1, abort, false}, {60, 1, nil, false}, {61, 1, abort, false}, {62, 1, nil, true}},
		},
		"several markers in a batch": {
			[]AbortedTxn{{1, 0}},
			[]item{{0, 1, nil, false}, {1, 1, []Marker{5, MarkerAbort}, false}, {3, 1, nil, true}},
		},
		"unknown marker": {
			[]AbortedTxn{{1, 0}},
			[]item{{0, 1, nil, false}, {1, 1, []Marker{2}, false}, {3, 1, nil, false}},
		},
		"control batch of a leader change": {
			[]AbortedTxn{{1, 0}},
			[]item{{0, 0, []Marker{2}, false}, {1, 1, nil, false}, {2, 1, abort, false}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var f AbortedFilter
			f.Reset([]AbortedTxn{{9, 0}}, ReadCommitted) // leftovers of an earlier answer must not matter
			f.Reset(c.aborted, ReadCommitted)
			for _, i := range c.log {
				got, err := f.Deliver(i.batch(t))
				if err != nil {
					t.Fatal(err)
				}
				if got != i.deliver {
					t.Errorf("batch at %d: deliver %v, want %v", i.at, got, i.deliver)
				}
			}
		})
	}
}

func TestUncommittedIgnoresTheList(t *testing.T) {
	var f AbortedFilter
	f.Reset([]AbortedTxn{{1, 0}}, ReadUncommitted)
	for _, i := range []item{{0, 1, nil, true}, {1, 1, []Marker{MarkerAbort}, false}} {
		if got, err := f.Deliver(i.batch(t)); err != nil || got != i.deliver {
			t.Errorf("batch at %d: deliver %v, %v", i.at, got, err)
		}
	}
}

func TestOddMarkerKey(t *testing.T) {
	r, _, err := ParseBatch(kmsgBatch(0, func(b *kmsg.RecordBatch) { b.ProducerID, b.Attributes = 1, attrControl|attrTransactional }, kmsg.Record{Key: []byte{0, 0, 0}}), NewDecompressor())
	if err != nil {
		t.Fatal(err)
	}
	var f AbortedFilter
	f.Reset([]AbortedTxn{{1, 0}}, ReadCommitted)
	if _, err := f.Deliver(r); err == nil || !strings.Contains(err.Error(), "key of 3 bytes") {
		t.Fatal(err)
	}
	if err := r.Batch().Open(); err == nil {
		t.Fatal("a control batch was opened")
	}
}
