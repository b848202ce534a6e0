package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/operator"
)

// kmsgBatch encodes records with franz-go's encoder; deltas are those given.
func kmsgBatch(base int64, change func(*kmsg.RecordBatch), records ...kmsg.Record) []byte {
	b := kmsg.RecordBatch{FirstOffset: base, PartitionLeaderEpoch: -1, Magic: 2, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(len(records))}
	for i := range records {
		r := &records[i]
		r.Length = 0
		r.Length = int32(len(r.AppendTo(nil)) - 1) // a length of 0 takes one byte
		b.Records = r.AppendTo(b.Records)
		b.LastOffsetDelta = max(b.LastOffsetDelta, r.OffsetDelta)
	}
	if change != nil {
		change(&b)
	}
	b.Length = int32(len(b.Records)) + HeaderSize - lengthOverhead
	out := b.AppendTo(nil)
	return reseal(out)
}

func reseal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return b
}

func TestBuilderMatchesFranz(t *testing.T) {
	records := []kmsg.Record{
		{OffsetDelta: 0, Key: nil, Value: []byte("v")},
		{OffsetDelta: 1, TimestampDelta64: -3_600_000, Key: []byte("key"), Value: nil},
		{OffsetDelta: 2, TimestampDelta64: 1 << 40, Key: []byte{}, Value: []byte{}},
		{OffsetDelta: 3, Value: make([]byte, 300), Headers: []kmsg.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "", Value: []byte{}}}},
	}
	const base = 1_700_000_000_000
	var w Builder
	for _, r := range records {
		var hs []RecordHeader
		for _, h := range r.Headers {
			hs = append(hs, RecordHeader{h.Key, h.Value})
		}
		w.AppendRecord(base+r.TimestampDelta64, r.Key, r.Value, AppendHeaders(nil, hs))
	}
	for name, p := range map[string]Producer{"none": NoProducer, "idempotent": {ID: 1 << 40, Epoch: 7, Sequence: 99}, "transactional": {ID: 5, Epoch: 1, Sequence: 0, Transactional: true}} {
		want := kmsgBatch(0, func(b *kmsg.RecordBatch) {
			b.FirstTimestamp, b.MaxTimestamp = base, base+1<<40
			b.ProducerID, b.ProducerEpoch, b.FirstSequence = p.ID, p.Epoch, p.Sequence
			if p.Transactional {
				b.Attributes = attrTransactional
			}
		}, records...)
		got, err := w.Finish(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestVarints writes and reads numbers of every length.
func TestVarints(t *testing.T) {
	p := make([]byte, binary.MaxVarintLen64)
	for bit := range 64 {
		for _, v := range []int64{1 << bit, 1<<bit - 1, -1 << bit, -1<<bit + 1} {
			n := putVarint(p, 0, zigzag(v))
			want := binary.PutVarint(make([]byte, binary.MaxVarintLen64), v)
			if n != want || varintLen(zigzag(v)) != want {
				t.Errorf("%d takes %d bytes, said to be %d, want %d", v, n, varintLen(zigzag(v)), want)
			}
			if got, end := varint(p[:n], 0); got != v || end != n {
				t.Errorf("%d reads as %d up to %d, want up to %d", v, got, end, n)
			}
			if _, end := varint(p[:n-1], 0); end >= 0 {
				t.Errorf("%d without its last byte has an end, %d", v, end)
			}
		}
	}
}

// TestAppendSome ends at what the batch may have, or behind what it may grow by, and takes one record into an empty batch.
func TestAppendSome(t *testing.T) {
	var b operator.Batch
	for range 10 {
		b.Records = append(b.Records, operator.Record{Key: operator.Null, Value: b.Put(make([]byte, 100)), Headers: operator.Null})
	}
	const most, exact = 100 + recordOverhead, 109 // of a record; the latter with two bytes each for its length and its value's
	for name, c := range map[string]struct{ before, limit, budget, want int }{
		"all":                    {0, 1 << 20, 1 << 20, 10},
		"the limit":              {0, HeaderSize + 2*exact + most, 1 << 20, 3},
		"one less than that":     {0, HeaderSize + 2*exact + most - 1, 1 << 20, 2},
		"too large for any":      {0, 10, 1 << 20, 1},
		"too large, and not new": {1, 10, 1 << 20, 0},
		"the budget":             {0, 1 << 20, 2 * exact, 3},
		"no budget":              {1, 1 << 20, -5, 1},
	} {
		var w Builder
		for range c.before {
			w.Append(&b, &b.Records[0])
		}
		if got := w.AppendSome(&b, b.Records, c.limit, c.budget); got != c.want || w.Count() != c.before+c.want {
			t.Errorf("%s: %d, and %d in the batch, want %d and %d", name, got, w.Count(), c.want, c.before+c.want)
		}
	}
}

func TestBuilderEmptyAndReset(t *testing.T) {
	var w Builder
	if b, err := w.Finish(NoProducer, nil); b != nil || err != nil {
		t.Fatalf("empty: %v, %v", b, err)
	}
	for range 2 {
		w.Reset()
		w.AppendRecord(5, []byte("k"), nil, nil)
		b, err := w.Finish(NoProducer, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, rest, err := ParseBatch(b, NewDecompressor())
		if err != nil || len(rest) != 0 || r.Count() != 1 || r.MaxTimestamp != 5 {
			t.Fatalf("%v, %d bytes left, %+v", err, len(rest), r)
		}
	}
}

// TestParseFaults changes single fields of a good batch; each fault has to be named.
func TestParseFaults(t *testing.T) {
	good := func() []byte {
		return kmsgBatch(100, nil, kmsg.Record{Value: []byte("a")}, kmsg.Record{OffsetDelta: 1, Value: []byte("b")})
	}
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return reseal(b) }
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"checksum":        {func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "checksum"},
		"magic 0":         {func(b []byte) []byte { b[atMagic] = 0; return b }, "message format v0 where a batch of v2 must be"},
		"magic 1":         {func(b []byte) []byte { b[atMagic] = 1; return b }, "message format v1 where a batch of v2 must be"},
		"magic 3":         {func(b []byte) []byte { b[atMagic] = 3; return b }, "message format v3 is unknown"},
		"negative length": {func(b []byte) []byte { binary.BigEndian.PutUint32(b[atLength:], 0xffffff00); return b }, "length -256 is impossible"},
		"short length":    {func(b []byte) []byte { binary.BigEndian.PutUint32(b[atLength:], 48); return b }, "less than a header"},
		"negative count":  {put32(atCount, 0xffffffff), "-1 records"},
		"huge count":      {put32(atCount, 1<<30), "records over 2 offsets"},
		"huge both": {func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[atLastDelta:], 1<<30)
			return put32(atCount, 1<<30)(b)
		}, "the limit is"},
		"count beyond bytes": {func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[atLastDelta:], 9)
			return put32(atCount, 10)(b)
		}, "do not fit"},
		"negative delta":  {put32(atLastDelta, 0xffffffff), "last offset delta -1 is negative"},
		"negative offset": {func(b []byte) []byte { b[0] = 0x80; return b }, "negative offset"},
		"offset runs over": {func(b []byte) []byte {
			binary.BigEndian.PutUint64(b, 1<<63-1)
			return b
		}, "run over"},
		"codec 5": {func(b []byte) []byte { b[atAttributes+1] = 5; return reseal(b) }, "codec 5 is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			var h Header
			_, err := ParseHeader(c.change(good()), &h)
			var fault *BatchError
			if !errors.As(err, &fault) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want a BatchError with %q", err, c.want)
			}
		})
	}
	var h Header
	for cut := range good() {
		if _, err := ParseHeader(good()[:cut], &h); !errors.Is(err, ErrPartial) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
}

func TestRecordFaults(t *testing.T) {
	v := []byte("v")
	for name, c := range map[string]struct {
		batch []byte
		want  string
	}{
		"not rising":       {kmsgBatch(0, nil, kmsg.Record{OffsetDelta: 1, Value: v}, kmsg.Record{OffsetDelta: 1, Value: v}), "offset delta 1 after 1"},
		"negative":         {kmsgBatch(0, nil, kmsg.Record{OffsetDelta: -1, Value: v}), "offset delta -1"},
		"past the last":    {kmsgBatch(0, func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 0 }, kmsg.Record{OffsetDelta: 5, Value: v}), "offset delta 5"},
		"too few":          {kmsgBatch(0, func(b *kmsg.RecordBatch) { b.NumRecords = 2; b.LastOffsetDelta = 1 }, kmsg.Record{Value: make([]byte, 50)}), "record 1 of 2"},
		"bytes behind":     {kmsgBatch(0, func(b *kmsg.RecordBatch) { b.Records = append(b.Records, 0) }, kmsg.Record{Value: v}), "1 bytes behind"},
		"length too large": {kmsgBatch(0, func(b *kmsg.RecordBatch) { b.Records[0] = 0x7e }, kmsg.Record{Value: v}), "impossible length"},
		"huge length":      {kmsgBatch(0, func(b *kmsg.RecordBatch) { copy(b.Records, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01") }, kmsg.Record{Value: make([]byte, 30)}), "impossible length"},
		"endless varint": {kmsgBatch(0, func(b *kmsg.RecordBatch) {
			copy(b.Records, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
		}, kmsg.Record{Value: make([]byte, 30)}), "impossible length"},
		"header count":    {kmsgBatch(0, func(b *kmsg.RecordBatch) { b.Records[len(b.Records)-1] = 0x7e }, kmsg.Record{Value: v}), "is broken"},
		"negative header": {kmsgBatch(0, func(b *kmsg.RecordBatch) { b.Records[len(b.Records)-1] = 1 }, kmsg.Record{Value: v}), "is broken"},
		"null header key": {kmsgBatch(0, func(b *kmsg.RecordBatch) { b.Records[len(b.Records)-2] = 1 }, kmsg.Record{Value: v, Headers: []kmsg.Header{{}}}), "is broken"},
		"key too long":    {kmsgBatch(0, func(b *kmsg.RecordBatch) { b.Records[4] = 0x7e }, kmsg.Record{Key: v, Value: v}), "is broken"},
		"value too long":  {kmsgBatch(0, func(b *kmsg.RecordBatch) { b.Records[6] = 0x7e }, kmsg.Record{Key: v, Value: v}), "is broken"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _, err := ParseBatch(c.batch, NewDecompressor())
			if err != nil {
				t.Fatal(err)
			}
			r.Topic, r.Partition = "orders", 3
			for _, b := range []*operator.Batch{r.Batch(), {Packed: r}} {
				err = b.Open()
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "orders/3: batch at offset 0: ") {
					t.Fatalf("%v, want %q", err, c.want)
				}
			}
		})
	}
}

func TestUnpackIntoKeepsWhatIsThere(t *testing.T) {
	r, _, err := ParseBatch(kmsgBatch(7, nil, kmsg.Record{Key: []byte("k"), Value: []byte("v"), Headers: []kmsg.Header{{Key: "h", Value: []byte("x")}}}), NewDecompressor())
	if err != nil {
		t.Fatal(err)
	}
	r.Topic = "t"
	b := &operator.Batch{}
	b.Records = append(b.Records, operator.Record{Key: b.Put([]byte("old")), Value: operator.Null, Origin: b.AddOrigin(operator.Origin{Topic: "other"})})
	for range 2 {
		if err := r.Unpack(b); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.Records) != 3 || string(b.Bytes(b.Records[0].Key)) != "old" || len(b.Origins) != 2 {
		t.Fatalf("%+v", b)
	}
	for _, rec := range b.Records[1:] {
		hs, err := Headers(b.Bytes(rec.Headers))
		if err != nil || len(hs) != 1 || hs[0].Key != "h" || string(hs[0].Value) != "x" {
			t.Fatal(hs, err)
		}
		if string(b.Bytes(rec.Key)) != "k" || string(b.Bytes(rec.Value)) != "v" || rec.Offset != 7 || b.Origins[rec.Origin].Topic != "t" {
			t.Fatalf("%+v", rec)
		}
	}
}

// TestSharedBatchOutlivesTheFetch: the bytes stay, with their header and their records, until the last owner
// releases them.
func TestSharedBatchOutlivesTheFetch(t *testing.T) {
	f := newFeed(encoded(t, 10, 100, nil))
	p := f.again()
	first, err := p.Next()
	if err != nil {
		t.Fatal(err)
	}
	producer := Producer{ID: 9, Epoch: 3, Sequence: 77, Transactional: true}
	want, err := first.Rewrite(nil, producer)
	if err != nil {
		t.Fatal(err)
	}
	shared, buf := first.Share(), p.buf
	first.Release()
	p.Release()
	if n := buf.refs.Load(); n != 1 {
		t.Fatalf("%d owners, want the one that is left", n)
	}
	header, err := shared.HeaderFor(producer)
	if err != nil {
		t.Fatal(err)
	}
	if got := append(header[:], shared.Body()...); !bytes.Equal(got, want) {
		t.Error("header and body differ from the batch rewritten")
	}
	b := &operator.Batch{}
	if err := shared.Unpack(b); err != nil || b.Len() != 10 {
		t.Errorf("%d records, %v", b.Len(), err)
	}
	shared.Release()
	if n := buf.refs.Load(); n != 0 {
		t.Errorf("%d owners after the last release", n)
	}
}

// TestOwnBatchDoesNotGrowIntoTheBuffer is the rule of ownership: an append to the opened batch must
// not write over the fetch buffer.
func TestOwnBatchDoesNotGrowIntoTheBuffer(t *testing.T) {
	one := kmsgBatch(0, nil, kmsg.Record{Value: []byte("a")})
	m := new(memory)
	m.init()
	p := FetchedPartition{Topic: "t", home: m, unpack: NewDecompressor(), buf: m.buffer(2 * len(one))}
	copy(p.buf.data, one)
	copy(p.buf.data[len(one):], kmsgBatch(1, nil, kmsg.Record{Value: []byte("b")}))
	p.rest = p.buf.data
	first, err := p.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Batch().Open(); err != nil {
		t.Fatal(err)
	}
	first.Batch().Put([]byte(strings.Repeat("x", 200)))
	second, err := p.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Batch().Open(); err != nil {
		t.Fatal(err)
	}
	if b := second.Batch(); string(b.Bytes(b.Records[0].Value)) != "b" {
		t.Fatal("the second batch was written over")
	}
	p.Release()
	first.Release()
	if n := second.buf.refs.Load(); n != 1 {
		t.Fatalf("%d references, want 1", n)
	}
	second.Release()
}

func TestTimestamps(t *testing.T) {
	batch := func(attributes int16) *RawBatch {
		r, _, err := ParseBatch(kmsgBatch(0, func(b *kmsg.RecordBatch) {
			b.Attributes, b.FirstTimestamp, b.MaxTimestamp = attributes, 1000, 5000
		}, kmsg.Record{TimestampDelta64: -1, Value: []byte("v")}, kmsg.Record{OffsetDelta: 1, TimestampDelta64: 7}), NewDecompressor())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Batch().Open(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if b := batch(0).Batch(); b.Records[0].Timestamp != 999 || b.Records[1].Timestamp != 1007 {
		t.Errorf("create time: %+v", b.Records)
	}
	r := batch(attrLogAppendTime)
	if b := r.Batch(); b.Records[0].Timestamp != 5000 || b.Records[1].Timestamp != 5000 {
		t.Errorf("log append time: %+v", b.Records)
	}
	if r.Whole() {
		t.Error("a batch with the broker's time must not be passed on unopened")
	}
}

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		from, stop int64
		want       []int64
		whole      bool
	}{
		{0, -1, []int64{10, 11, 12}, true},
		{10, 13, []int64{10, 11, 12}, true},
		{11, -1, []int64{11, 12}, false},
		{0, 12, []int64{10, 11}, false},
		{11, 12, []int64{11}, false},
		{13, -1, nil, false},
		{0, 10, nil, false},
		{12, 11, nil, false},
	} {
		v := []byte("v")
		r, _, err := ParseBatch(kmsgBatch(10, nil, kmsg.Record{Value: v}, kmsg.Record{OffsetDelta: 1, Value: v}, kmsg.Record{OffsetDelta: 2, Value: v}), NewDecompressor())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Limit(c.from, c.stop); err != nil {
			t.Fatal(err)
		}
		if r.Whole() != c.whole || r.Batch().Len() != len(c.want) {
			t.Errorf("[%d, %d): whole %v, %d records", c.from, c.stop, r.Whole(), r.Batch().Len())
		}
		if err := r.Batch().Open(); err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, rec := range r.Batch().Records {
			got = append(got, rec.Offset)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("[%d, %d): %s", c.from, c.stop, d)
		}
	}
}

func TestCompactedBatch(t *testing.T) {
	r, _, err := ParseBatch(kmsgBatch(100, func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 9 }, kmsg.Record{OffsetDelta: 3, Value: []byte("v")}), NewDecompressor())
	if err != nil {
		t.Fatal(err)
	}
	if r.Header.Next() != 110 || r.Whole() {
		t.Errorf("next %d, whole %v", r.Header.Next(), r.Whole())
	}
	if _, err := r.Rewrite(nil, NoProducer); err == nil {
		t.Error("a compacted batch was rewritten")
	}
	empty, _, err := ParseBatch(kmsgBatch(100, func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 9 }), NewDecompressor())
	if err != nil || empty.Batch().Len() != 0 || empty.Batch().Open() != nil || empty.Header.Next() != 110 {
		t.Errorf("a batch that compaction emptied: %v, %+v", err, empty)
	}
}
