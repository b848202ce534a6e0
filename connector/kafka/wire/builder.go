package wire

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"

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
	// sum is the checksum of the records in buf[HeaderSize:summed]; early: it follows them soon.
	sum    uint32
	summed int
	early  bool
}

// Reset starts a new batch and keeps the memory.
func (w *Builder) Reset() {
	*w = Builder{buf: w.buf[:0], packed: w.packed[:0]}
}

// Count is the number of records so far.
func (w *Builder) Count() int { return int(w.count) }

// SizeBytes is the size of the batch before compression, header included.
func (w *Builder) SizeBytes() int { return max(len(w.buf), HeaderSize) }

// CapBytes is the memory held, for those who pool builders.
func (w *Builder) CapBytes() int { return cap(w.buf) + cap(w.packed) }

// Append adds a record of b. Its offset and origin are not kept.
func (w *Builder) Append(b *operator.Batch, r *operator.Record) { w.add(b.Arena, r, mostBytes(r)) }

// AppendSome adds records of b, one after the other, and says how many: it ends before the one with which the batch might
// have more than limitBytes, and behind the one with which it has grown by more than budgetBytes. It adds at least one
// to an empty batch.
func (w *Builder) AppendSome(b *operator.Batch, records []operator.Record, limitBytes, budgetBytes int) int {
	before := w.SizeBytes()
	added := len(records)
	for i := range records {
		most := mostBytes(&records[i])
		if w.count > 0 && len(w.buf)+most > limitBytes || i > 0 && len(w.buf)-before > budgetBytes {
			added = i
			break
		}
		w.add(b.Arena, &records[i], most)
	}
	if w.early && len(w.buf)-w.summed >= earlyBytes {
		w.addSum()
	}
	return added
}

// earlyBytes is how much waits for its checksum: many times what a call costs, and little enough for the nearest cache.
const earlyBytes = 8 << 10

// SumEarly says that the batch will not be compressed: AppendSome takes records into the checksum soon after it has written
// them, as they are in the caches next to the processor then. Until Reset.
func (w *Builder) SumEarly() { w.early = true }

// addSum takes what was added since the last time into the checksum.
func (w *Builder) addSum() {
	w.sum = crc32.Update(w.sum, castagnoli, w.buf[max(w.summed, HeaderSize):])
	w.summed = len(w.buf)
}

// AppendRecord adds a record; nil is null. Headers is a section as in operator.Record.
func (w *Builder) AppendRecord(timestampMs int64, key, value, headers []byte) {
	var b operator.Batch
	r := operator.Record{Timestamp: timestampMs, Key: b.Put(key), Value: b.Put(value), Headers: b.Put(headers)}
	w.Append(&b, &r)
}

// mostBytes is what a record takes at most.
func mostBytes(r *operator.Record) int { return recordOverhead + r.SizeBytes() }

// add encodes a record of at most so many bytes. It is the hot path of every job that opens batches: room is made once,
// and all is written by index.
func (w *Builder) add(arena []byte, r *operator.Record, most int) {
	if w.count == 0 {
		w.buf = append(w.buf[:0], make([]byte, HeaderSize)...)
		w.baseTs, w.maxTs = r.Timestamp, r.Timestamp
	}
	w.maxTs = max(w.maxTs, r.Timestamp)
	ts, off := zigzag(r.Timestamp-w.baseTs), zigzag(int64(w.count))
	kl, vl := zigzag(int64(max(r.Key.Len, -1))), zigzag(int64(max(r.Value.Len, -1))) // a negative length is null, on the wire too
	n := len(w.buf)
	w.buf = slices.Grow(w.buf, most)
	p := w.buf[n : n+most]
	size := 1 + varintLen(ts) + varintLen(off) + varintLen(kl) + varintLen(vl) + max(int(r.Key.Len), 0) + max(int(r.Value.Len), 0) + max(int(r.Headers.Len), 1)
	at := putFront(p, zigzag(int64(size)), ts, off)
	at = putVarint(p, at, kl)
	if r.Key.Len > 0 {
		at += copy(p[at:], arena[r.Key.Off:r.Key.Off+uint32(r.Key.Len)])
	}
	at = putVarint(p, at, vl)
	if r.Value.Len > 0 {
		at += copy(p[at:], arena[r.Value.Off:r.Value.Off+uint32(r.Value.Len)])
	}
	if r.Headers.Len > 0 {
		at += copy(p[at:], arena[r.Headers.Off:r.Headers.Off+uint32(r.Headers.Len)])
	} else {
		p[at] = 0
		at++
	}
	w.buf = w.buf[:n+at]
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
	sum := crc32.Checksum(out[atAttributes:HeaderSize], castagnoli)
	if c.Codec() == None {
		w.addSum()
		sum = joinChecksums(sum, w.sum, len(out)-HeaderSize)
	} else {
		sum = crc32.Update(sum, castagnoli, out[HeaderSize:])
	}
	binary.BigEndian.PutUint32(out[atCRC:], sum)
	return out, nil
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// varintLen is how many bytes a varint takes: one for each seven bits.
func varintLen(u uint64) int { return (9*bits.Len64(u) + 64) / 64 }

// putFront writes what is in front of the key of a record, 30 bytes at most, and returns where it ends: length, attributes, of
// which none are defined, and two deltas. Short ones, as most are, go there at once.
func putFront(p []byte, size, timestamp, offset uint64) int {
	if (size | timestamp | offset) < 1<<14 {
		x, n := pack(size)
		y, m := pack(timestamp)
		z, o := pack(offset)
		n++
		binary.LittleEndian.PutUint64(p, x|y<<(8*n)|z<<(8*(n+m)))
		return n + m + o
	}
	at := putVarint(p, 0, size)
	p[at] = 0
	return putVarint(p, putVarint(p, at+1, timestamp), offset)
}

// pack is a varint of one or two bytes.
func pack(u uint64) (p uint64, sizeBytes int) {
	if u < 0x80 {
		return u, 1
	}
	return u&0x7f | 0x80 | u>>7<<8, 2
}

// putVarint writes a varint at p[at:] and returns where it ends.
func putVarint(p []byte, at int, u uint64) int {
	switch {
	case u < 0x80:
		p[at] = byte(u)
		return at + 1
	case u < 1<<14:
		p[at], p[at+1] = byte(u)|0x80, byte(u>>7)
		return at + 2
	}
	return at + binary.PutUvarint(p[at:], u)
}

// AppendHeaders encodes headers as a section for operator.Record.Headers; a nil value is null.
func AppendHeaders(dst []byte, headers []RecordHeader) []byte {
	if len(headers) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, zigzag(int64(len(headers))))
	for _, h := range headers {
		dst = binary.AppendUvarint(dst, zigzag(int64(len(h.Key))))
		dst = append(dst, h.Key...)
		if h.Value == nil {
			dst = binary.AppendUvarint(dst, zigzag(-1))
			continue
		}
		dst = binary.AppendUvarint(dst, zigzag(int64(len(h.Value))))
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
