package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// Message sets are what Kafka stored before 0.11 (formats v0 and v1), and what it still gives of such logs. They are
// turned into v2 batches where they are read, so that nothing behind knows them.

// Offsets inside a message; those of offset, length and magic are as in a batch.
const (
	atMessageCRC        = 12
	atMessageAttributes = 17
	atMessageBody       = 18 // the checksum covers all from the magic on
	minMessageSize      = atMessageBody + 4 + 4
	timestampSize       = 8 // of v1, before the key
)

const (
	// runBytes is where a batch of plain messages ends.
	runBytes = 256 << 10
	// recordOverhead is what a v2 record has at most beside key and value, when it has no headers.
	recordOverhead = 32
)

// oldMessage is an entry of a message set: a record, or a whole set of them, compressed.
type oldMessage struct {
	offset     int64
	magic      byte
	attributes byte
	timestamp  int64 // ms; -1 in v0, which has none
	key, value []byte
}

func (m *oldMessage) codec() Codec { return Codec(m.attributes & attrCodec) }

// oldFormat says whether p begins with a message of format v0 or v1.
func oldFormat(p []byte) bool { return len(p) > atMagic && p[atMagic] < 2 }

// parseMessage reads the message that p begins with, checks it, and returns its size. Key and value point into p.
// ErrPartial: p ends before the message does.
func parseMessage(p []byte, m *oldMessage) (int, error) {
	if len(p) < atMagic+1 {
		return 0, ErrPartial
	}
	*m = oldMessage{offset: int64(binary.BigEndian.Uint64(p)), magic: p[atMagic], timestamp: -1}
	least := int64(minMessageSize)
	if m.magic == 1 {
		least += timestampSize
	}
	length := int64(int32(binary.BigEndian.Uint32(p[atLength:])))
	size := length + lengthOverhead
	switch {
	case m.magic > 1:
		return 0, batchFault(m.offset, "message format v%d within a message set", m.magic)
	case m.offset < 0 || m.offset == math.MaxInt64:
		return 0, batchFault(m.offset, "the offset is impossible")
	case size < least:
		return 0, batchFault(m.offset, "length %d is impossible", length)
	case size > int64(len(p)):
		return 0, ErrPartial
	}
	p = p[:size]
	if sum, said := crc32.ChecksumIEEE(p[atMagic:]), binary.BigEndian.Uint32(p[atMessageCRC:]); sum != said {
		return 0, batchFault(m.offset, "checksum is %08x, the message says %08x", sum, said)
	}
	m.attributes = p[atMessageAttributes]
	at := atMessageBody
	if m.magic == 1 {
		m.timestamp = int64(binary.BigEndian.Uint64(p[at:]))
		at += timestampSize
	}
	if m.key, at = part(p, at); at >= 0 {
		m.value, at = part(p, at)
	}
	if at != len(p) {
		return 0, batchFault(m.offset, "key and value do not fill the message of %d bytes", size)
	}
	return int(size), nil
}

// part reads a length and the bytes behind it; nil is null. The index is negative if they are not there.
func part(p []byte, at int) ([]byte, int) {
	if at+4 > len(p) {
		return nil, -1
	}
	n := int64(int32(binary.BigEndian.Uint32(p[at:])))
	at += 4
	switch {
	case n == -1:
		return nil, at
	case n < 0 || n > int64(len(p)-at):
		return nil, -1
	}
	return p[at : at+int(n) : at+int(n)], at + int(n)
}

// modern collects messages in a v2 batch. Its records are never longer than the messages were.
type modern struct {
	out                 []byte
	first, lastDelta    int64
	baseTime, maxTimeMs int64
	count               int32
}

// begin takes memory that has room for a header and for messages of so many bytes.
func (w *modern) begin(room []byte) { *w = modern{out: room[:HeaderSize]} }

// add appends a message as a record. Offsets must rise.
func (w *modern) add(m *oldMessage) error {
	if w.count == 0 {
		w.first, w.lastDelta, w.baseTime, w.maxTimeMs = m.offset, -1, m.timestamp, m.timestamp
	}
	delta := m.offset - w.first
	switch {
	case delta <= w.lastDelta:
		return batchFault(m.offset, "the message before it has offset %d: offsets must rise", w.first+w.lastDelta)
	case delta >= math.MaxInt32:
		return batchFault(m.offset, "it is too far from the first message of its set, which is %d", w.first)
	case len(m.key)+len(m.value) > MaxRecordBytes-recordOverhead:
		return batchFault(m.offset, "key and value have %d bytes; the limit is %d", len(m.key)+len(m.value), MaxRecordBytes-recordOverhead)
	case w.count == MaxBatchRecords:
		return batchFault(m.offset, "more than %d messages; that is the limit", MaxBatchRecords)
	}
	w.lastDelta, w.maxTimeMs = delta, max(w.maxTimeMs, m.timestamp)
	w.record(delta, m)
	w.count++
	return nil
}

func (w *modern) record(delta int64, m *oldMessage) {
	keyLen, valueLen := int64(len(m.key)), int64(len(m.value))
	if m.key == nil {
		keyLen = -1
	}
	if m.value == nil {
		valueLen = -1
	}
	ts, off, kl, vl := zigzag(m.timestamp-w.baseTime), zigzag(delta), zigzag(keyLen), zigzag(valueLen)
	size := 1 + varintLen(ts) + varintLen(off) + varintLen(kl) + len(m.key) + varintLen(vl) + len(m.value) + 1
	b := binary.AppendUvarint(w.out, zigzag(int64(size)))
	b = append(b, 0) // attributes
	b = binary.AppendUvarint(binary.AppendUvarint(b, ts), off)
	b = append(binary.AppendUvarint(b, kl), m.key...)
	b = append(binary.AppendUvarint(b, vl), m.value...)
	w.out = append(b, 0) // no headers
}

// finish writes the header of a batch whose last offset is last, and returns it parsed.
func (w *modern) finish(base, last int64) (Header, error) {
	var h Header
	delta := last - base
	if base < 0 || delta < w.lastDelta || delta > math.MaxInt32 {
		return h, batchFault(last, "a compressed message of offset %d holds messages from %d to %d", last, base, base+w.lastDelta)
	}
	out := w.out
	clear(out[:HeaderSize])
	writeProducer(out, NoProducer, None)
	binary.BigEndian.PutUint64(out, uint64(base))
	binary.BigEndian.PutUint32(out[atLastDelta:], uint32(delta))
	binary.BigEndian.PutUint64(out[atBaseTime:], uint64(w.baseTime))
	binary.BigEndian.PutUint64(out[atMaxTime:], uint64(w.maxTimeMs))
	binary.BigEndian.PutUint32(out[atCount:], uint32(w.count))
	binary.BigEndian.PutUint32(out[atCRC:], crc32.Checksum(out[atAttributes:], castagnoli))
	_, err := parseHeader(out, &h)
	return h, err
}

// nextOld makes a batch of a compressed message, or of plain ones up to the next that is none. It is nil if all of them
// are before the offset asked for, or if the rest is a cut message.
func (p *FetchedPartition) nextOld() (*RawBatch, error) {
	var m oldMessage
	size, err := parseMessage(p.rest, &m)
	if errors.Is(err, ErrPartial) {
		return nil, p.partial()
	}
	var r *RawBatch
	switch {
	case err != nil:
	case m.codec() == None:
		r, size, err = p.plainRun()
	default:
		r, err = p.unpackSet(&m)
	}
	if err == nil && p.any && r.BaseOffset < p.next {
		err = batchFault(r.BaseOffset, "the batch before it ends at %d: offsets must rise", p.next)
	}
	if err != nil {
		if r != nil {
			r.Release()
		}
		p.rest = nil
		return nil, inPartition(err, p.Topic, p.Partition)
	}
	p.rest, p.next, p.any = p.rest[size:], r.Header.Next(), true
	if r.LastOffset() < p.Offset {
		r.Release()
		return nil, nil
	}
	return r, nil
}

// plainRun makes a batch of the plain messages that the rest begins with, of which the first is known to be good. What
// is wrong behind it is left for the next call.
func (p *FetchedPartition) plainRun() (*RawBatch, int, error) {
	end := min(len(p.rest), runBytes)
	if first := int(binary.BigEndian.Uint32(p.rest[atLength:])) + lengthOverhead; first > end {
		end = first
	}
	buf := p.home.buffer(HeaderSize + end)
	var w modern
	w.begin(buf.data)
	var m oldMessage
	size, last := 0, int64(0)
	for oldFormat(p.rest[size:end]) {
		n, err := parseMessage(p.rest[size:end], &m)
		if err == nil && m.codec() == None {
			err = w.add(&m)
		}
		if err != nil || m.codec() != None {
			if w.count == 0 {
				buf.release()
				return nil, 0, err
			}
			break
		}
		size, last = size+n, m.offset
	}
	r, err := p.rewritten(buf, &w, w.first, last)
	return r, size, err
}

// unpackSet makes a batch of a compressed message.
func (p *FetchedPartition) unpackSet(outer *oldMessage) (*RawBatch, error) {
	codec := outer.codec()
	switch {
	case codec > LZ4:
		return nil, batchFault(outer.offset, "compression codec %d is unknown in message format v%d", codec, outer.magic)
	case outer.value == nil:
		return nil, batchFault(outer.offset, "a compressed message without a value")
	case codec == LZ4 && outer.magic == 0:
		fixFrameChecksum(outer.value) // in the fetch buffer: it was checked as it came, and nobody reads it again
	}
	s := p.home.slabs.Get().(*slab)
	defer func() {
		if cap(s.arena) > keepSlabBytes {
			s.arena = nil
		}
		p.home.slabs.Put(s)
	}()
	set, err := p.unpack.Append(s.arena[:0], codec, outer.value, MaxBatchBytes)
	if err != nil {
		return nil, &BatchError{Partition: -1, Offset: outer.offset, Reason: fmt.Sprintf("decompress %s", codec), Err: err}
	}
	s.arena = set
	buf := p.home.buffer(HeaderSize + len(set))
	var w modern
	w.begin(buf.data)
	if err := w.set(set, outer); err != nil {
		buf.release()
		return nil, err
	}
	base := w.first
	if outer.magic == 1 { // offsets within are relative, the outer one is that of the last
		base = outer.offset - w.lastDelta
	}
	return p.rewritten(buf, &w, base, outer.offset)
}

// set adds the messages within a compressed one.
func (w *modern) set(set []byte, outer *oldMessage) error {
	var m oldMessage
	for at := 0; at < len(set); {
		n, err := parseMessage(set[at:], &m)
		switch {
		case errors.Is(err, ErrPartial):
			return batchFault(outer.offset, "the compressed message set ends within a message")
		case err != nil:
			return &BatchError{Partition: -1, Offset: outer.offset, Reason: "within a compressed message set", Err: err}
		case m.magic != outer.magic:
			return batchFault(outer.offset, "a message of format v%d within a compressed one of v%d", m.magic, outer.magic)
		case m.codec() != None:
			return batchFault(outer.offset, "a compressed message within a compressed one")
		}
		if outer.attributes&attrLogAppendTime != 0 {
			m.timestamp = outer.timestamp
		}
		if err := w.add(&m); err != nil {
			return err
		}
		at += n
	}
	if w.count == 0 {
		return batchFault(outer.offset, "a compressed message set without messages")
	}
	return nil
}

// rewritten finishes a batch in buf, which it takes over.
func (p *FetchedPartition) rewritten(buf *buffer, w *modern, base, last int64) (*RawBatch, error) {
	h, err := w.finish(base, last)
	if err != nil {
		buf.release()
		return nil, err
	}
	buf.data = w.out
	r := p.home.batches.Get().(*RawBatch)
	r.Header, r.Topic, r.Partition = h, p.Topic, p.Partition
	r.raw, r.buf, r.home, r.unpacker, r.verified = w.out, buf, p.home, p.unpack, true
	r.batch.Packed = r
	return r, nil
}
