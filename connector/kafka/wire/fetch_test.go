package wire

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func one(at int64) []byte { return kmsgBatch(at, nil, kmsg.Record{Value: []byte("value")}) }

// TestNext walks record sets as brokers send them, and as they should not.
func TestNext(t *testing.T) {
	damaged := one(2)
	damaged[len(damaged)-1] ^= 1
	old := one(1)
	old[atMagic] = 1
	for name, c := range map[string]struct {
		from int64
		set  []byte
		want []int64 // base offsets
		next int64   // what NextOffset says beforehand
		err  string
	}{
		"empty":                       {5, nil, nil, 5, ""},
		"two":                         {0, slices.Concat(one(0), one(1)), []int64{0, 1}, 2, ""},
		"gap":                         {0, slices.Concat(one(0), one(9)), []int64{0, 9}, 10, ""},
		"cut at the end":              {0, slices.Concat(one(0), one(1)[:70]), []int64{0}, 1, ""},
		"cut in the header":           {0, slices.Concat(one(0), one(1)[:7]), []int64{0}, 1, ""},
		"older batches first":         {2, slices.Concat(one(0), one(1), one(2)), []int64{2}, 3, ""},
		"nothing but older":           {9, one(0), nil, 9, ""},
		"first one cut":               {3, one(3)[:70], nil, 3, "orders/7: batch at offset 3: the first batch is cut after 70 bytes"},
		"damaged first":               {2, damaged, nil, 3, "orders/7: batch at offset 2: checksum"},
		"damaged later":               {0, slices.Concat(one(0), damaged), []int64{0}, 3, "orders/7: batch at offset 2: checksum"},
		"offsets fall":                {0, slices.Concat(one(5), one(4)), []int64{5}, 6, "orders/7: batch at offset 4: the batch before it ends at 6"},
		"the same twice":              {0, slices.Concat(one(5), one(5)), []int64{5}, 6, "offsets must rise"},
		"not a message of v1":         {0, old, nil, 2, "orders/7: batch at offset 1: checksum is b5ec6423, the message says ffffffff"},
		"garbage":                     {0, bytes.Repeat([]byte{0xff}, 100), nil, 0, "orders/7: batch at offset -1: length -1 is impossible"},
		"a batch that reaches beyond": {11, kmsgBatch(10, nil, kmsg.Record{}, kmsg.Record{OffsetDelta: 1}), []int64{10}, 12, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(c.set)
			p := f.again()
			p.Topic, p.Partition, p.Offset = "orders", 7, c.from
			if got := p.NextOffset(); got != c.next {
				t.Errorf("NextOffset %d, want %d", got, c.next)
			}
			var got []int64
			for {
				b, err := p.Next()
				if err != nil {
					if c.err == "" || !strings.Contains(err.Error(), c.err) {
						t.Fatalf("%v, want %q", err, c.err)
					}
					break
				}
				if b == nil {
					if c.err != "" {
						t.Fatalf("no error, want %q", c.err)
					}
					break
				}
				got = append(got, b.BaseOffset)
				b.Release()
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if b, err := p.Next(); b != nil || err != nil {
				t.Errorf("after the end: %v, %v", b, err)
			}
			if buf := p.buf; buf.refs.Load() != 1 {
				t.Errorf("%d references", buf.refs.Load())
			}
			p.Release()
		})
	}
}

// TestMiddleOfABatch starts at every offset of a compressed batch.
func TestMiddleOfABatch(t *testing.T) {
	for _, codec := range []Codec{None, Zstd} {
		c, err := NewCompressor(codec, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := newFeed(encoded(t, 10, 30, c))
		for from := range int64(11) {
			p := f.again()
			p.Offset = from
			got := 0
			for {
				b, err := p.Next()
				if err != nil {
					t.Fatal(err)
				}
				if b == nil {
					break
				}
				if err := b.Limit(from, -1); err != nil {
					t.Fatal(err)
				}
				got += b.Batch().Len()
				b.Release()
			}
			if got != int(10-from) {
				t.Errorf("%v from %d: %d records", codec, from, got)
			}
			p.Release()
		}
	}
}
