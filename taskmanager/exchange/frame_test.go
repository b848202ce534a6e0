package exchange

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/operator"
)

// flat is a record with its bytes, to compare batches whatever their arenas.
type flat struct {
	key, value, headers, streamKey string
	null                           [4]bool
	timestamp, offset              int64
	origin                         operator.Origin
}

func flatten(b *operator.Batch) []flat {
	out := make([]flat, 0, len(b.Records))
	for i := range b.Records {
		r := &b.Records[i]
		f := flat{timestamp: r.Timestamp, offset: r.Offset, origin: b.Origins[r.Origin]}
		for j, s := range []operator.Span{r.Key, r.Value, r.Headers, r.StreamKey} {
			f.null[j] = s.IsNull()
			*[]*string{&f.key, &f.value, &f.headers, &f.streamKey}[j] = string(b.Bytes(s))
		}
		out = append(out, f)
	}
	return out
}

func drawBatch(t *rapid.T) *operator.Batch {
	b := &operator.Batch{}
	part := rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 40))
	for range rapid.IntRange(0, 30).Draw(t, "records") {
		r := operator.Record{
			Timestamp: rapid.Int64().Draw(t, "timestamp"), Offset: rapid.Int64Range(0, 1<<62).Draw(t, "offset"),
			Key: b.Put(part.Draw(t, "key")), Value: b.Put(part.Draw(t, "value")), Headers: b.Put(part.Draw(t, "headers")),
		}
		switch rapid.IntRange(0, 3).Draw(t, "stream key") {
		case 0:
			r.StreamKey = r.Key
		case 1:
			r.StreamKey = r.Value
		case 2:
			r.StreamKey = b.Put(part.Draw(t, "own key"))
		default:
			r.StreamKey = operator.Null
		}
		r.Origin = b.AddOrigin(operator.Origin{
			Topic: rapid.SampledFrom([]string{"", "a", "orders"}).Draw(t, "topic"), Partition: rapid.Int32Range(0, 40).Draw(t, "partition"),
		})
		b.Records = append(b.Records, r)
	}
	return b
}

func encode(b *operator.Batch) []byte {
	var w frameWriter
	w.reset(make([]byte, 0, 1<<20), 0)
	for i := range b.Records {
		w.appendRecord(b, &b.Records[i], b.Bytes(b.Records[i].StreamKey))
	}
	return w.finish()
}

// What goes in comes out, null and empty kept apart, for every batch.
func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawBatch(t)
		var out operator.Batch
		var r frameReader
		if err := r.decode(encode(in), &out); err != nil {
			t.Fatal(err)
		}
		want, got := flatten(in), flatten(&out)
		if len(want) != len(got) {
			t.Fatalf("%d records became %d", len(want), len(got))
		}
		for i := range want {
			if want[i] != got[i] {
				t.Fatalf("record %d: %+v became %+v", i, want[i], got[i])
			}
		}
	})
}

// A record never takes more than recordBytes says, because append relies on it not to grow the buffer.
func TestRecordBytesIsABound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBatch(t)
		var w frameWriter
		w.reset(make([]byte, 0, 1<<20), 0)
		for i := range b.Records {
			r := &b.Records[i]
			key, before := b.Bytes(r.StreamKey), len(w.buf)
			w.appendRecord(b, r, key)
			if n, bound := len(w.buf)-before, recordBytes(b.Origins[r.Origin].Topic, r, key); n > bound {
				t.Fatalf("record %d takes %d bytes, more than %d", i, n, bound)
			}
		}
	})
}

// No bytes make the decoder panic, reserve more than they justify or give spans outside of the arena.
func FuzzDecodeFrame(f *testing.F) {
	b := &operator.Batch{}
	b.Origins = []operator.Origin{{Topic: "t", Partition: 3}}
	b.Records = []operator.Record{
		{Key: b.Put([]byte("k")), Value: b.Put([]byte("value")), Headers: operator.Null, StreamKey: operator.Null, Timestamp: 5, Offset: 7},
		{Key: operator.Null, Value: b.Put(nil), Headers: b.Put([]byte{0}), StreamKey: b.Put([]byte("x")), Timestamp: -1, Offset: 8},
	}
	f.Add(encode(b))
	f.Add([]byte{1, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		var out operator.Batch
		var r frameReader
		if err := r.decode(data, &out); err != nil {
			if !errors.Is(err, errFrame) {
				t.Fatalf("unexpected kind of error: %v", err)
			}
			return
		}
		if cap(out.Records) > len(data) {
			t.Fatalf("%d records reserved for %d bytes", cap(out.Records), len(data))
		}
		again := encode(&out)
		var second operator.Batch
		if err := r.decode(again, &second); err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
	})
}

// A frame is read by hand and by the generated code alike.
func FuzzParseMessage(f *testing.F) {
	frame := make([]byte, frameHeaderBytes+10)
	putFrameHeader(frame, Channel{1, 2, 300})
	f.Add(frame)
	f.Add([]byte{tagBatch, 2, tagEdge, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var m inMessage
		if _, err := m.parse(data); err != nil && !errors.Is(err, errFrame) {
			t.Fatalf("unexpected kind of error: %v", err)
		}
	})
}

func TestFrameHeaderIsProtobuf(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 70000)
	frame := append(make([]byte, frameHeaderBytes), data...)
	name := Channel{Edge: 3, Sender: 127, Receiver: 128}
	putFrameHeader(frame, name)
	var m inMessage
	if keep, err := m.parse(frame); err != nil || !keep {
		t.Fatalf("parse: %v, %v", keep, err)
	}
	if m.channel != name || !bytes.Equal(m.data, data) {
		t.Fatalf("read back %v with %d bytes", m.channel, len(m.data))
	}
	checkWithGeneratedCode(t, frame, name, data)
}
