package wire

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/operator"
)

// TestNextUnchecked: of a batch that is not passed on, the checksum is checked by whoever opens it or leaves it out. A bit
// that is wrong must not decide that a batch is a marker, aborted, empty, or read before.
func TestNextUnchecked(t *testing.T) {
	const wrong = "orders/7: batch at offset 4: checksum is"
	damaged := func(change func(*kmsg.RecordBatch)) []byte {
		b := kmsgBatch(4, change, kmsg.Record{Value: []byte("value")})
		b[len(b)-1] ^= 1
		return b
	}
	next := func(t *testing.T, from int64, set ...[]byte) (*RawBatch, error) {
		p := newFeed(slices.Concat(set...)).again()
		t.Cleanup(p.Release)
		p.Topic, p.Partition, p.Offset = "orders", 7, from
		r, err := p.NextUnchecked(&CodecSet{None: true})
		if r != nil {
			t.Cleanup(r.Release)
		}
		return r, err
	}
	var filter AbortedFilter
	for name, c := range map[string]struct {
		change func(*kmsg.RecordBatch)
		look   func(r *RawBatch) error
	}{
		"opened":       {nil, func(r *RawBatch) error { return r.Batch().Open() }},
		"copied":       {nil, func(r *RawBatch) error { return r.Unpack(&operator.Batch{}) }},
		"shared":       {nil, func(r *RawBatch) error { s := r.Share(); defer s.Release(); return s.Verify() }},
		"marker":       {func(b *kmsg.RecordBatch) { b.Attributes |= attrControl }, func(r *RawBatch) error { filter.Reset(nil, ReadUncommitted); _, err := filter.Deliver(r); return err }},
		"other marker": {func(b *kmsg.RecordBatch) { b.Attributes |= attrControl | attrTransactional }, func(r *RawBatch) error { _, err := r.Markers(nil); return err }},
		"aborted": {func(b *kmsg.RecordBatch) { b.Attributes |= attrTransactional; b.ProducerID = 3 }, func(r *RawBatch) error {
			filter.Reset([]AbortedTxn{{ProducerID: 3}}, ReadCommitted)
			_, err := filter.Deliver(r)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := next(t, 0, damaged(c.change))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.look(r); err == nil || !strings.Contains(err.Error(), wrong) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("before what is asked for", func(t *testing.T) {
		if _, err := next(t, 9, damaged(nil), one(9)); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("impossible header", func(t *testing.T) {
		if _, err := next(t, 0, damaged(func(b *kmsg.RecordBatch) { b.NumRecords = 9 })); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("passed on", func(t *testing.T) {
		r, err := next(t, 0, damaged(nil))
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.Rewrite(nil, Producer{ID: 9, Epoch: 3, Sequence: 77})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseHeader(out, new(Header)); err == nil || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("the damage is not seen behind the new header: %v", err)
		}
	})
}
