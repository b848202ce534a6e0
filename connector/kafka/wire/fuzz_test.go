package wire

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/operator"
)

// allocated is what f allocates, in bytes, with the noise of other goroutines.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzRecordSet takes any bytes for a fetched record set: no panic, memory in proportion to the
// bytes, offsets that rise, spans within the arena, and both ways of opening agree.
func FuzzRecordSet(f *testing.F) {
	v := []byte("value")
	whole := kmsgBatch(10, nil, kmsg.Record{Key: v, Value: v, Headers: []kmsg.Header{{Key: "h", Value: v}}}, kmsg.Record{OffsetDelta: 1})
	f.Add(whole)
	f.Add(append(bytes.Clone(whole), whole[:40]...))
	f.Add(kmsgBatch(0, func(b *kmsg.RecordBatch) { b.NumRecords, b.LastOffsetDelta = 1<<20, 1<<21 }, kmsg.Record{Value: make([]byte, 100)}))
	f.Add(kmsgBatch(0, func(b *kmsg.RecordBatch) { b.Attributes = attrControl | attrTransactional }, kmsg.Record{Key: []byte{0, 0, 0, 1}}))
	for codec := Gzip; codec <= Zstd; codec++ {
		c, err := NewCompressor(codec, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded(f, 20, 50, c))
	}
	f.Fuzz(func(t *testing.T, set []byte) {
		// the checksum would keep the fuzzer out
		for at := 0; len(set)-at >= HeaderSize; {
			n := int(int32(be32(set[at+atLength:]))) + lengthOverhead
			if n < HeaderSize || n > len(set)-at {
				break
			}
			reseal(set[at : at+n])
			at += n
		}
		feed := newFeed(set)
		spent := allocated(func() { readSet(t, feed.again()) })
		if limit := uint64(64<<20 + 2*MaxBatchBytes + 4000*len(set)); spent > limit {
			t.Fatalf("%d bytes were allocated for %d", spent, len(set))
		}
	})
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func readSet(t *testing.T, p *FetchedPartition) {
	var filter AbortedFilter
	filter.Reset([]AbortedTxn{{1, 0}}, ReadCommitted)
	last := int64(-1)
	for p.NextOffset() < 0 {
		t.Fatal("negative offset")
	}
	for {
		b, err := p.Next()
		if err != nil || b == nil {
			p.Release()
			return
		}
		if _, err := filter.Deliver(b); err == nil && !b.Control() {
			last = checkOpened(t, b, last)
		}
		b.Release()
	}
}

func checkOpened(t *testing.T, r *RawBatch, last int64) int64 {
	var other operator.Batch
	other.Put([]byte("before"))
	errOwn, errOther := r.Batch().Open(), r.Unpack(&other)
	if (errOwn == nil) != (errOther == nil) {
		t.Fatalf("%v as the own batch, %v as another", errOwn, errOther)
	}
	if errOwn != nil {
		return last
	}
	own := r.Batch()
	if len(own.Records) != r.Count() || len(other.Records) != r.Count() {
		t.Fatalf("%d and %d records, the header says %d", len(own.Records), len(other.Records), r.Count())
	}
	var w Builder
	for i := range own.Records {
		a, b := &own.Records[i], &other.Records[i]
		if a.Offset <= last || a.Offset > r.LastOffset() || a.Offset != b.Offset {
			t.Fatalf("offset %d after %d, last %d", a.Offset, last, r.LastOffset())
		}
		last = a.Offset
		if !bytes.Equal(own.Bytes(a.Key), other.Bytes(b.Key)) || !bytes.Equal(own.Bytes(a.Value), other.Bytes(b.Value)) || !bytes.Equal(own.Bytes(a.Headers), other.Bytes(b.Headers)) {
			t.Fatal("the two ways of opening differ")
		}
		if _, err := Headers(own.Bytes(a.Headers)); err != nil {
			t.Fatal(err)
		}
		w.Append(own, a)
	}
	checkAgain(t, own, &w)
	return last
}

// checkAgain encodes what was decoded and decodes it: nothing may change.
func checkAgain(t *testing.T, want *operator.Batch, w *Builder) {
	data, err := w.Finish(NoProducer, nil)
	if err != nil || data == nil {
		return
	}
	r, _, err := ParseBatch(data, NewDecompressor())
	if err != nil {
		t.Fatal(err)
	}
	got := r.Batch()
	if err := got.Open(); err != nil {
		t.Fatal(err)
	}
	for i := range want.Records {
		a, b := &want.Records[i], &got.Records[i]
		if a.Timestamp != b.Timestamp || a.Key.IsNull() != b.Key.IsNull() || a.Value.IsNull() != b.Value.IsNull() ||
			!bytes.Equal(want.Bytes(a.Key), got.Bytes(b.Key)) || !bytes.Equal(want.Bytes(a.Value), got.Bytes(b.Value)) || !bytes.Equal(want.Bytes(a.Headers), got.Bytes(b.Headers)) {
			t.Fatalf("record %d changed", i)
		}
	}
}

// FuzzAnswers takes any bytes for the answers to Fetch and Produce.
func FuzzAnswers(f *testing.F) {
	answer := func(body ...byte) []byte {
		return append([]byte{0, 0, 0, byte(len(body) + 4), 0, 0, 0, 1}, body...)
	}
	partition := append([]byte{0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...)
	f.Add(byte(4), answer(append([]byte{0, 0, 0, 0}, append(partition, 0, 0, 0, 0, 0, 0, 0, 2, 'x', 'y')...)...))
	f.Add(byte(8), answer(append(partition, make([]byte, 22)...)...))
	f.Add(byte(0), answer(append(partition[:17:17], append(make([]byte, 8), 0, 0, 0, 2, 'x', 'y')...)...))
	f.Add(byte(11), []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Add(byte(11), answer(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff))
	f.Add(byte(13), answer(append(append(append(make([]byte, 11), 2), make([]byte, 16)...), append(append([]byte{2}, make([]byte, 30)...),
		2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0xff, 0xff, 0xff, 0xff, 3, 'x', 'y', 0, 0, 0)...)...))
	c := &Cluster{decompress: NewDecompressor()}
	c.memory.init()
	f.Fuzz(func(t *testing.T, version byte, frame []byte) {
		h := callHeader{correlationID: 1, maxResponse: 1 << 20}
		order := []topicGroup{{"t", []int{0}}}
		spent := allocated(func() {
			if h.version = int16(version); version == 0 || version >= 4 && version <= 11 || version == fetchByIDVersion {
				fetch := &fetchTalk{c: c, req: &FetchRequest{Partitions: []FetchPartition{{Topic: "t"}}}, order: order}
				if fetch.receive(bytes.NewReader(frame), h) == nil {
					for i := range fetch.res.Partitions {
						readSet(t, &fetch.res.Partitions[i])
					}
				}
			}
			if version == 0 || version >= 3 && version <= 8 {
				produce := &produceTalk{c: c, req: &ProduceRequest{Batches: []ProduceBatch{{Topic: "t"}}}, order: order, res: make([]ProduceResult, 1)}
				_ = produce.receive(bytes.NewReader(frame), h)
			}
		})
		if spent > 16<<20 {
			t.Fatalf("%d bytes were allocated for %d", spent, len(frame))
		}
	})
}

// FuzzDecompress takes any bytes for a compressed body, with a small limit.
func FuzzDecompress(f *testing.F) {
	const limit = 1 << 20
	text := bytes.Repeat([]byte("sluice "), 1000)
	for codec := Gzip; codec <= Zstd; codec++ {
		for _, body := range [][]byte{text, make([]byte, 3<<20)} { // the second is a bomb
			f.Add(int8(codec), compressed(f, codec, body))
		}
	}
	f.Add(int8(Snappy), append(append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5), 0xff, 0xff, 0xff, 0xff, 0x0f))
	d := NewDecompressor()
	f.Fuzz(func(t *testing.T, codec int8, src []byte) {
		prefix := []byte("prefix")
		var out []byte
		var err error
		spent := allocated(func() { out, err = d.Append(prefix[:6:6], Codec(codec), src, limit) })
		if err == nil && (len(out)-6 > limit || !bytes.HasPrefix(out, prefix)) {
			t.Fatalf("%d bytes with a limit of %d", len(out)-6, limit)
		}
		if err != nil && !bytes.Equal(out, prefix) {
			t.Fatalf("%d bytes beside the error %v", len(out), err)
		}
		if spent > 160<<20 {
			t.Fatalf("%d bytes were allocated for %d", spent, len(src))
		}
	})
}

func compressed(tb testing.TB, codec Codec, body []byte) []byte {
	tb.Helper()
	c, err := NewCompressor(codec, 0)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := c.Append(nil, body)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}
