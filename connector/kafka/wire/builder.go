package wire

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/sluice-stream/sluice/operator"
)

// Producer is what a batch says about who wrote it.
type Producer struct {
	ID            int64
	Epoch         int16
	Sequence      int32 // of the first record
	Transactional bool
}

// NoProducer is for batches without idempotence.
var NoProducer = Producer{ID: -1, Epoch: -1, Sequence: -1}

// NextSequence is the sequence after count more records; it wraps at 2^31 as Kafka's does.
func NextSequence(sequence int32, count int) int32 {
	return int32((int64(sequence) + int64(count)) & 0x7fffffff)
}

// Builder encodes records into one v2 batch in memory that it keeps. The zero value is ready.
type Builder struct {
	buf    []byte // header and records, uncompressed
	packed []byte // header and records, compressed
	count  int32
	baseTs int64
	maxTs  int64
}

// Reset starts a new batch and keeps the memory.
func (w *Builder) Reset() {
	*w = Builder{buf: w.buf[:0], packed: w.packed[:0]}
}

// Grow makes room for n bytes at once.
func (w *Builder) Grow(n int) {
	if cap(w.buf) < n {
		w.buf = append(make([]byte, 0, n), w.buf...)
	}
}

// Count is the number of records so far.
func (w *Builder) Count() int { return int(w.count) }

// SizeBytes is the size of the batch before compression, header included.
func (w *Builder) SizeBytes() int { return max(len(w.buf), HeaderSize) }

// CapBytes is the memory held, for those who pool builders.
func (w *Builder) CapBytes() int { return cap(w.buf) + cap(w.packed) }

// Append adds a record of b. Its offset and origin are not kept.
func (w *Builder) Append(b *operator.Batch, r *operator.Record) {
	var key, value, headers []byte
	if r.Key.Len > 0 {
		key = b.Arena[r.Key.Off : r.Key.Off+uint32(r.Key.Len)]
	}
	if r.Value.Len > 0 {
		value = b.Arena[r.Value.Off : r.Value.Off+uint32(r.Value.Len)]
	}
	if r.Headers.Len > 0 {
		headers = b.Arena[r.Headers.Off : r.Headers.Off+uint32(r.Headers.Len)]
	}
	// a negative length is null, on the wire too
	w.add(r.Timestamp, record{key, value, headers, max(r.Key.Len, -1), max(r.Value.Len, -1)})
}

// AppendRecord adds a record; nil is null. Headers is a section as in operator.Record.
func (w *Builder) AppendRecord(timestampMs int64, key, value, headers []byte) {
	r := record{key, value, headers, int32(len(key)), int32(len(value))}
	if key == nil {
		r.keyLen = -1
	}
	if value == nil {
		r.valueLen = -1
	}
	w.add(timestampMs, r)
}

type record struct {
	key, value, headers []byte
	keyLen, valueLen    int32 // -1: null
}

func (w *Builder) add(timestamp int64, r record) {
	if w.count == 0 {
		w.buf = append(w.buf[:0], make([]byte, HeaderSize)...)
		w.baseTs, w.maxTs = timestamp, timestamp
	}
	w.maxTs = max(w.maxTs, timestamp)
	ts, off := zigzag(timestamp-w.baseTs), zigzag(int64(w.count))
	kl, vl := zigzag(int64(r.keyLen)), zigzag(int64(r.valueLen))
	size := 1 + varintLen(ts) + varintLen(off) + varintLen(kl) + len(r.key) + varintLen(vl) + len(r.value) + max(len(r.headers), 1)
	b := putVarint(w.buf, zigzag(int64(size)))
	b = append(b, 0) // attributes: none are defined
	b = putVarint(b, ts)
	b = putVarint(b, off)
	b = putVarint(b, kl)
	b = append(b, r.key...)
	b = putVarint(b, vl)
	b = append(b, r.value...)
	if len(r.headers) == 0 {
		b = append(b, 0)
	} else {
		b = append(b, r.headers...)
	}
	w.buf = b
	w.count++
}

// Finish completes the batch and returns it; it stays valid until Reset. It may be called again, to
// give the same records another producer. A batch without records is nil.
func (w *Builder) Finish(p Producer, c *Compressor) ([]byte, error) {
	if w.count == 0 {
		return nil, nil
	}
	out := w.buf
	if c.Codec() != None {
		if len(w.packed) == 0 {
			var err error
			w.packed, err = c.Append(append(w.packed[:0], w.buf[:HeaderSize]...), w.buf[HeaderSize:])
			if err != nil {
				w.packed = w.packed[:0]
				return nil, err
			}
		}
		out = w.packed
	}
	clear(out[:atLength])
	binary.BigEndian.PutUint32(out[atLastDelta:], uint32(w.count-1))
	binary.BigEndian.PutUint64(out[atBaseTime:], uint64(w.baseTs))
	binary.BigEndian.PutUint64(out[atMaxTime:], uint64(w.maxTs))
	binary.BigEndian.PutUint32(out[atCount:], uint32(w.count))
	writeProducer(out, p, c.Codec())
	binary.BigEndian.PutUint32(out[atCRC:], crc32.Checksum(out[atAttributes:], castagnoli))
	return out, nil
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func varintLen(u uint64) int {
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

func putVarint(b []byte, u uint64) []byte {
	if u < 0x80 {
		return append(b, byte(u))
	}
	return binary.AppendUvarint(b, u)
}

// AppendHeaders encodes headers as a section for operator.Record.Headers; a nil value is null.
func AppendHeaders(dst []byte, headers []RecordHeader) []byte {
	if len(headers) == 0 {
		return dst
	}
	dst = putVarint(dst, zigzag(int64(len(headers))))
	for _, h := range headers {
		dst = putVarint(dst, zigzag(int64(len(h.Key))))
		dst = append(dst, h.Key...)
		if h.Value == nil {
			dst = putVarint(dst, zigzag(-1))
			continue
		}
		dst = putVarint(dst, zigzag(int64(len(h.Value))))
		dst = append(dst, h.Value...)
	}
	return dst
}

// RecordHeader is one header of a record.
type RecordHeader struct {
	Key   string
	Value []byte // nil: null
}

// Headers reads a section of operator.Record.Headers; the values point into it.
func Headers(section []byte) ([]RecordHeader, error) {
	if len(section) == 0 {
		return nil, nil
	}
	count, end := headersEnd(section, 0)
	if end != len(section) {
		return nil, batchFault(0, "a header section is broken")
	}
	_, i := varint(section, 0)
	out := make([]RecordHeader, 0, count)
	for range count {
		var k, v operator.Span
		k, i = span(section, i)
		v, i = span(section, i)
		h := RecordHeader{Key: string(section[k.Off : k.Off+uint32(k.Len)])}
		if !v.IsNull() {
			h.Value = section[v.Off : v.Off+uint32(v.Len) : v.Off+uint32(v.Len)]
		}
		out = append(out, h)
	}
	return out, nil
}
