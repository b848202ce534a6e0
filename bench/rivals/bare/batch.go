package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Where the fields of a batch of magic 2 are.
const (
	atLength      = 8
	atLeaderEpoch = 12
	atMagic       = 16
	atChecksum    = 17
	atAttributes  = 21
	atLastDelta   = 23
	atFirstTime   = 27
	atMaxTime     = 35
	atProducerID  = 43
	atEpoch       = 51
	atSequence    = 53
	atCount       = 57
	headerBytes   = 61
	lengthBytes   = 12 // what the length does not count
	magic         = 2
	controlBit    = 1 << 5
	codecMask     = 7
	codecNone     = 0
	codecLZ4      = 3
	nullLength    = -1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch is one whole batch with its header.
type batch []byte

// cut gives the first batch of p, unchecked but for its length; nil when it is not all there.
func cut(p []byte) (batch, error) {
	if len(p) < headerBytes {
		return nil, nil
	}
	n := lengthBytes + int(int32(binary.BigEndian.Uint32(p[atLength:])))
	if n < headerBytes {
		return nil, fmt.Errorf("offset %d: a batch of %d bytes", binary.BigEndian.Uint64(p), n)
	}
	if n > len(p) {
		return nil, nil
	}
	return p[:n:n], nil
}

// firstBatch is cut, with the magic and the checksum compared.
func firstBatch(p []byte) (batch, error) {
	b, err := cut(p)
	if b == nil || err != nil {
		return nil, err
	}
	if b[atMagic] != magic {
		return nil, fmt.Errorf("offset %d: a batch of magic %d, want %d", b.base(), b[atMagic], magic)
	}
	if crc32.Checksum(b[atAttributes:], castagnoli) != binary.BigEndian.Uint32(b[atChecksum:]) {
		return nil, fmt.Errorf("offset %d: wrong checksum", b.base())
	}
	return b, nil
}

func (b batch) base() int64           { return int64(binary.BigEndian.Uint64(b)) }
func (b batch) count() int            { return int(binary.BigEndian.Uint32(b[atCount:])) }
func (b batch) codec() int            { return int(b[atAttributes+1]) & codecMask }
func (b batch) control() bool         { return b[atAttributes+1]&controlBit != 0 }
func (b batch) firstTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[atFirstTime:])) }
func (b batch) records() []byte       { return b[headerBytes:] }

func (b batch) next() int64 {
	return b.base() + int64(int32(binary.BigEndian.Uint32(b[atLastDelta:]))) + 1
}

// rewrite makes the batch one of no producer, with offsets from 0. The records stay as they are.
func (b batch) rewrite() {
	clear(b[:atLength])
	attributes := binary.BigEndian.Uint16(b[atAttributes:]) & codecMask
	binary.BigEndian.PutUint16(b[atAttributes:], attributes)
	b.disown()
}

// disown writes what no producer and no leader has, and the checksum.
func (b batch) disown() {
	for i := atLeaderEpoch; i < atMagic; i++ {
		b[i] = 0xff
	}
	for i := atProducerID; i < atCount; i++ {
		b[i] = 0xff // of producer id, epoch and sequence
	}
	binary.BigEndian.PutUint32(b[atChecksum:], crc32.Checksum(b[atAttributes:], castagnoli))
}

// record is a view of one record. headers is the section with its count.
type record struct {
	timestampDelta      int64
	key, value, headers []byte
}

var errRecord = errors.New("a record that does not fit its length")

// nextRecord decodes the first record of p.
func nextRecord(p []byte) (r record, rest []byte, err error) {
	length, n := varint(p)
	if n <= 0 || length < 1 || length > int64(len(p)-n) {
		return r, nil, errRecord
	}
	rest = p[n+int(length):]
	p = p[n+1 : n+int(length)] // without the attributes
	if r.timestampDelta, n = varint(p); n <= 0 {
		return r, nil, errRecord
	}
	p = p[n:]
	if _, n = varint(p); n <= 0 { // offset delta
		return r, nil, errRecord
	}
	if r.key, p, err = field(p[n:]); err != nil {
		return r, nil, err
	}
	if r.value, p, err = field(p); err != nil {
		return r, nil, err
	}
	r.headers = p
	return r, rest, nil
}

func field(p []byte) (value, rest []byte, err error) {
	length, n := varint(p)
	switch {
	case n <= 0 || length > int64(len(p)-n):
		return nil, nil, errRecord
	case length < 0:
		return nil, p[n:], nil
	}
	end := n + int(length)
	return p[n:end:end], p[end:], nil
}

// varint is zig-zag, with a short way for one byte.
func varint(p []byte) (int64, int) {
	if len(p) > 0 && p[0] < 0x80 {
		u := int64(p[0])
		return u>>1 ^ -(u & 1), 1
	}
	return binary.Varint(p)
}

func appendVarint(p []byte, v int64) []byte {
	if u := uint64(v<<1) ^ uint64(v>>63); u < 0x80 {
		return append(p, byte(u))
	}
	return binary.AppendVarint(p, v)
}

func varintBytes(v int64) int {
	n := 1
	for u := uint64(v<<1) ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// builder encodes records into one batch.
type builder struct {
	bytes              []byte // header, to be filled in by finish, and records
	count              int
	firstTime, maxTime int64
}

func (w *builder) reset() {
	if w.bytes == nil {
		w.bytes = make([]byte, headerBytes, batchBytes+64<<10)
	}
	*w = builder{bytes: w.bytes[:headerBytes]}
}

func (w *builder) add(timestamp int64, r *record) {
	if w.count == 0 {
		w.firstTime, w.maxTime = timestamp, timestamp
	}
	w.maxTime = max(w.maxTime, timestamp)
	delta, offset := timestamp-w.firstTime, int64(w.count)
	size := 1 + varintBytes(delta) + varintBytes(offset) + fieldBytes(r.key) + fieldBytes(r.value) + len(r.headers)
	p := appendVarint(w.bytes, int64(size))
	p = append(p, 0) // attributes
	p = appendVarint(p, delta)
	p = appendVarint(p, offset)
	p = appendField(p, r.key)
	p = appendField(p, r.value)
	w.bytes = append(p, r.headers...)
	w.count++
}

func fieldBytes(value []byte) int {
	if value == nil {
		return varintBytes(nullLength)
	}
	return varintBytes(int64(len(value))) + len(value)
}

func appendField(p, value []byte) []byte {
	if value == nil {
		return appendVarint(p, nullLength)
	}
	return append(appendVarint(p, int64(len(value))), value...)
}

// finish fills in the header of b, which holds the records of w, perhaps compressed.
func (w *builder) finish(b batch, codec uint16) batch {
	clear(b[:atLength])
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-lengthBytes))
	b[atMagic] = magic
	binary.BigEndian.PutUint16(b[atAttributes:], codec)
	binary.BigEndian.PutUint32(b[atLastDelta:], uint32(w.count-1))
	binary.BigEndian.PutUint64(b[atFirstTime:], uint64(w.firstTime))
	binary.BigEndian.PutUint64(b[atMaxTime:], uint64(w.maxTime))
	binary.BigEndian.PutUint32(b[atCount:], uint32(w.count))
	b.disown()
	return b
}
