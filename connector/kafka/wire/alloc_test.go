package wire

import (
	"fmt"
	"testing"

	"github.com/sluice-stream/sluice/operator"
)

// encoded builds a batch of count records with values of size bytes that compress about as text does.
func encoded(tb testing.TB, count, size int, c *Compressor) []byte {
	tb.Helper()
	var w Builder
	value := make([]byte, size)
	for i := range count {
		for j := range value {
			value[j] = "abcdefghijklmnopqrstuvwxyz0123456789"[(i*7+j*j)%36]
		}
		w.AppendRecord(int64(i), fmt.Appendf(nil, "key-%d", i%100), value, nil)
	}
	b, err := w.Finish(NoProducer, c)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// feed gives the record set as a fetched partition, as often as it is asked.
type feed struct {
	p   FetchedPartition
	mem *memory
	set []byte
}

func newFeed(set []byte) *feed {
	m := new(memory)
	m.init()
	return &feed{p: FetchedPartition{Topic: "t", home: m, unpack: NewDecompressor()}, mem: m, set: set}
}

func (f *feed) again() *FetchedPartition {
	f.p.buf = f.mem.buffer(len(f.set))
	copy(f.p.buf.data, f.set)
	f.p.rest, f.p.any, f.p.next = f.p.buf.data, false, 0
	return &f.p
}

// copyAll decodes every batch of the partition and encodes its records again.
func copyAll(tb testing.TB, p *FetchedPartition, w *Builder, c *Compressor) (records int) {
	for {
		b, err := p.Next()
		if err != nil {
			tb.Fatal(err)
		}
		if b == nil {
			p.Release()
			return records
		}
		batch := b.Batch()
		if err := batch.Open(); err != nil {
			tb.Fatal(err)
		}
		w.Reset()
		for i := range batch.Records {
			w.Append(batch, &batch.Records[i])
		}
		if _, err := w.Finish(NoProducer, c); err != nil {
			tb.Fatal(err)
		}
		records += len(batch.Records)
		b.Releaser()()
	}
}

// TestNoAllocationPerRecord allows a few objects per batch (of the codecs' libraries), none per
// record.
func TestNoAllocationPerRecord(t *testing.T) {
	for codec, perBatch := range map[Codec]float64{None: 0, Snappy: 0, Gzip: 2, LZ4: 8, Zstd: 2} {
		c, err := NewCompressor(codec, 0)
		if err != nil {
			t.Fatal(err)
		}
		const count = 2000
		f := newFeed(encoded(t, count, 100, c))
		var w Builder
		for range 3 { // fill the pools
			copyAll(t, f.again(), &w, c)
		}
		got := testing.AllocsPerRun(50, func() {
			if n := copyAll(t, f.again(), &w, c); n != count {
				t.Fatalf("%d records", n)
			}
		})
		t.Logf("%v: %.1f allocations for a batch of %d records", codec, got, count)
		// a collection in between empties the pools: some slack, far below one per record
		if got > perBatch+2 && !raceEnabled {
			t.Errorf("%v: %.1f allocations for a batch of %d records, want at most %.0f", codec, got, count, perBatch)
		}
	}
}

// TestPassThroughAllocatesNothing: header check, share, new header, release.
func TestPassThroughAllocatesNothing(t *testing.T) {
	f := newFeed(encoded(t, 2000, 100, nil))
	run := func() {
		p := f.again()
		b, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		shared := b.Share()
		b.Releaser()()
		p.Release()
		if _, err = shared.HeaderFor(Producer{ID: 1}); err != nil {
			t.Fatal(err)
		}
		shared.Release()
	}
	run()
	if got := testing.AllocsPerRun(50, run); got > 1 && !raceEnabled {
		t.Errorf("%.1f allocations per batch", got)
	}
}

func benchCodec(b *testing.B, size int, codec Codec) {
	c, err := NewCompressor(codec, 0)
	if err != nil {
		b.Fatal(err)
	}
	count := 900_000 / (size + 20)
	set := encoded(b, count, size, c)
	f := newFeed(set)
	records := func(b *testing.B) {
		b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	}
	benchEncode(b, set, c, records)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(set)))
		for b.Loop() {
			p := f.again()
			r, err := p.Next()
			if err != nil {
				b.Fatal(err)
			}
			if err := r.Batch().Open(); err != nil {
				b.Fatal(err)
			}
			r.Release()
			p.Release()
		}
		records(b)
	})
	b.Run("copy", func(b *testing.B) {
		b.ReportAllocs()
		var w Builder
		for b.Loop() {
			copyAll(b, f.again(), &w, c)
		}
		records(b)
	})
	b.Run("pass", func(b *testing.B) {
		b.ReportAllocs()
		var out []byte
		for b.Loop() {
			p := f.again()
			r, err := p.Next()
			if err != nil {
				b.Fatal(err)
			}
			if out, err = r.Rewrite(out[:0], NoProducer); err != nil {
				b.Fatal(err)
			}
			r.Release()
			p.Release()
		}
		records(b)
	})
}

func benchEncode(b *testing.B, set []byte, c *Compressor, records func(*testing.B)) {
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		r, _, err := ParseBatch(set, NewDecompressor())
		if err != nil {
			b.Fatal(err)
		}
		batch := new(operator.Batch)
		if err := r.Unpack(batch); err != nil {
			b.Fatal(err)
		}
		var w Builder
		for b.Loop() {
			w.Reset()
			for i := range batch.Records {
				w.Append(batch, &batch.Records[i])
			}
			if _, err := w.Finish(NoProducer, c); err != nil {
				b.Fatal(err)
			}
		}
		records(b)
	})
}

func BenchmarkBatch(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for codec := None; codec <= Zstd; codec++ {
			b.Run(fmt.Sprintf("%dB/%v", size, codec), func(b *testing.B) { benchCodec(b, size, codec) })
		}
	}
}
