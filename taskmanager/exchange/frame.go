package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sluice-stream/sluice/operator"
)

// The encoded form of a batch: a uint32 (little endian) count, then the records. A record is
//
//	flags      1 byte
//	origin     if flagOrigin: uvarint index; an index that is new is followed by its definition, uvarint
//	           topic length, topic, uvarint partition. Without the flag: as the record before.
//	lengths    uvarint length+1 of key, value, headers and, unless flagKeyIs…, stream key; 0 is null
//	times      varint timestamp and offset, each as the difference to the record before
//	bytes      key, value, headers, stream key
//
// The decoded batch's arena is the frame itself, so decoding copies nothing.
const (
	flagOrigin     = 1 << 0
	flagKeyIsKey   = 1 << 1 // the stream key is the key
	flagKeyIsValue = 1 << 2 // the stream key is the value

	frameCountBytes = 4
	minRecordBytes  = 6
	// maxRecordOverhead bounds what a record takes beside its bytes and its topic.
	maxRecordOverhead = 1 + 3*5 + 4*5 + 2*10
	maxTopicBytes     = 1 << 10
	// maxOpenOrigins bounds the search for an origin; more than these are defined again.
	maxOpenOrigins = 16
)

// MaxRecordBytes is the largest record (key, value, headers and stream key) that an exchange carries.
const MaxRecordBytes = 16 << 20

// maxFrameBytes bounds what a peer can make us hold for one frame.
const maxFrameBytes = MaxRecordBytes + 64<<10

// errFrame is wrapped by everything that a decoder finds.
var errFrame = errors.New("damaged exchange frame")

// frameWriter appends records to a frame. The zero value with a buffer is ready.
type frameWriter struct {
	buf       []byte // starts with room for the stream's header
	start     int    // where the count stands
	count     uint32
	origins   []operator.Origin
	origin    int
	timestamp int64
	offset    int64
}

func (w *frameWriter) reset(buf []byte, headerBytes int) {
	w.buf, w.start, w.count = buf[:headerBytes+frameCountBytes], headerBytes, 0
	w.origins, w.origin, w.timestamp, w.offset = w.origins[:0], -1, 0, 0
}

// recordBytes is an upper bound of the encoded size.
func recordBytes(topic string, r *operator.Record, key []byte) int {
	return maxRecordOverhead + len(topic) + r.SizeBytes() + len(key)
}

// room is how many bytes fit without growing.
func (w *frameWriter) room() int { return cap(w.buf) - len(w.buf) }

// bytes is the size of the frame without header.
func (w *frameWriter) bytes() int { return len(w.buf) - w.start }

// appendRecord encodes one record; key is its stream key, nil for none. The caller has checked room.
func (w *frameWriter) appendRecord(b *operator.Batch, r *operator.Record, key []byte) {
	k, v := b.Bytes(r.Key), b.Bytes(r.Value)
	flags, at := byte(0), len(w.buf)
	buf := append(w.buf, 0)
	if o := &b.Origins[r.Origin]; w.origin < 0 || w.origins[w.origin] != *o {
		flags |= flagOrigin
		buf = w.appendOrigin(buf, o)
	}
	buf = appendLen(buf, r.Key.Len)
	buf = appendLen(buf, r.Value.Len)
	buf = appendLen(buf, r.Headers.Len)
	switch {
	case key != nil && k != nil && string(key) == string(k):
		flags |= flagKeyIsKey
	case key != nil && v != nil && string(key) == string(v):
		flags |= flagKeyIsValue
	case key == nil:
		buf = append(buf, 0)
	default:
		buf = appendLen(buf, int32(len(key)))
	}
	buf = binary.AppendVarint(buf, r.Timestamp-w.timestamp)
	buf = binary.AppendVarint(buf, r.Offset-w.offset)
	buf = append(buf, k...)
	buf = append(buf, v...)
	buf = append(buf, b.Bytes(r.Headers)...)
	if flags&(flagKeyIsKey|flagKeyIsValue) == 0 {
		buf = append(buf, key...)
	}
	buf[at] = flags
	w.buf, w.timestamp, w.offset = buf, r.Timestamp, r.Offset
	w.count++
}

func appendLen(buf []byte, n int32) []byte {
	if n < 0 {
		return append(buf, 0)
	}
	return binary.AppendUvarint(buf, uint64(n)+1)
}

// appendOrigin refers to an origin, defining it where it is not one of the last few.
func (w *frameWriter) appendOrigin(buf []byte, o *operator.Origin) []byte {
	for i := len(w.origins) - 1; i >= max(0, len(w.origins)-maxOpenOrigins); i-- {
		if w.origins[i] == *o {
			w.origin = i
			return binary.AppendUvarint(buf, uint64(i))
		}
	}
	w.origin = len(w.origins)
	w.origins = append(w.origins, *o)
	buf = binary.AppendUvarint(buf, uint64(w.origin))
	buf = binary.AppendUvarint(buf, uint64(len(o.Topic)))
	buf = append(buf, o.Topic...)
	return binary.AppendUvarint(buf, uint64(uint32(o.Partition)))
}

// finish writes the count and returns the frame with the header's room in front.
func (w *frameWriter) finish() []byte {
	binary.LittleEndian.PutUint32(w.buf[w.start:], w.count)
	return w.buf
}

// frameReader decodes frames. It keeps the names of topics, so that a frame allocates none.
type frameReader struct {
	topics map[string]string
	data   []byte
	at     int
	bad    bool
}

// maxTopics bounds the memory for names; when it is reached they are forgotten.
const maxTopics = 4096

// decode fills the empty batch b with the records of data, which becomes its arena.
func (d *frameReader) decode(data []byte, b *operator.Batch) error {
	if len(data) < frameCountBytes || len(data) > maxFrameBytes {
		return fmt.Errorf("%w: %d bytes, want %d to %d", errFrame, len(data), frameCountBytes, maxFrameBytes)
	}
	count := int(binary.LittleEndian.Uint32(data))
	if count > (len(data)-frameCountBytes)/minRecordBytes {
		return fmt.Errorf("%w: %d records in %d bytes", errFrame, count, len(data))
	}
	d.data, d.at, d.bad = data, frameCountBytes, false
	b.Arena = data
	if cap(b.Records) < count {
		b.Records = make([]operator.Record, 0, count)
	}
	origin, timestamp, offset := -1, int64(0), int64(0)
	for i := range count {
		b.Records = append(b.Records, operator.Record{})
		r := &b.Records[i]
		origin = d.record(b, r, origin)
		timestamp += r.Timestamp
		offset += r.Offset
		r.Timestamp, r.Offset = timestamp, offset
		if d.bad || origin < 0 {
			return fmt.Errorf("%w: record %d of %d ends or points outside of %d bytes", errFrame, i, count, len(data))
		}
	}
	if d.at != len(data) {
		return fmt.Errorf("%w: %d bytes behind the last of %d records", errFrame, len(data)-d.at, count)
	}
	return nil
}

// record reads one record; timestamp and offset are differences still. It returns the origin's index,
// -1 when there is none.
func (d *frameReader) record(b *operator.Batch, r *operator.Record, origin int) int {
	flags := d.byte()
	if flags&flagOrigin != 0 {
		origin = d.origin(b)
	}
	r.Origin = uint32(max(origin, 0))
	key, value, headers, streamKey := d.uvarint(), d.uvarint(), d.uvarint(), uint64(0)
	if flags&(flagKeyIsKey|flagKeyIsValue) == 0 {
		streamKey = d.uvarint()
	}
	r.Timestamp, r.Offset = d.varint(), d.varint()
	r.Key, r.Value, r.Headers = d.span(key), d.span(value), d.span(headers)
	switch {
	case flags&flagKeyIsKey != 0:
		r.StreamKey = r.Key
	case flags&flagKeyIsValue != 0:
		r.StreamKey = r.Value
	default:
		r.StreamKey = d.span(streamKey)
	}
	return origin
}

func (d *frameReader) origin(b *operator.Batch) int {
	i := d.uvarint()
	if i < uint64(len(b.Origins)) {
		return int(i)
	}
	n := d.uvarint()
	if i != uint64(len(b.Origins)) || n > maxTopicBytes || n > uint64(len(d.data)-d.at) {
		d.bad = true
		return -1
	}
	topic := d.topic(d.data[d.at : d.at+int(n)])
	d.at += int(n)
	b.Origins = append(b.Origins, operator.Origin{Topic: topic, Partition: int32(uint32(d.uvarint()))})
	return int(i)
}

func (d *frameReader) topic(name []byte) string {
	if t, ok := d.topics[string(name)]; ok {
		return t
	}
	if d.topics == nil || len(d.topics) >= maxTopics {
		d.topics = map[string]string{}
	}
	t := string(name)
	d.topics[t] = t
	return t
}

func (d *frameReader) byte() byte {
	if d.at >= len(d.data) {
		d.bad = true
		return 0
	}
	d.at++
	return d.data[d.at-1]
}

func (d *frameReader) uvarint() uint64 {
	if d.at < len(d.data) && d.data[d.at] < 0x80 { // most are short
		d.at++
		return uint64(d.data[d.at-1])
	}
	v, n := binary.Uvarint(d.data[d.at:])
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.at += n
	return v
}

func (d *frameReader) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// span takes the next n-1 bytes; 0 is null.
func (d *frameReader) span(n uint64) operator.Span {
	if n == 0 {
		return operator.Null
	}
	n--
	if n > uint64(len(d.data)-d.at) {
		d.bad = true
		return operator.Null
	}
	s := operator.Span{Off: uint32(d.at), Len: int32(n)}
	d.at += int(n)
	return s
}
