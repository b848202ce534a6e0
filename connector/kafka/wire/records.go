package wire

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/operator"
)

// varint reads a zig-zag varint at p[i:]; the returned index is negative when there is none.
func varint(p []byte, i int) (int64, int) {
	if i < len(p) && p[i] < 0x80 {
		u := int64(p[i])
		return u>>1 ^ -(u & 1), i + 1
	}
	return longVarint(p, i)
}

func longVarint(p []byte, i int) (int64, int) {
	if i+1 < len(p) && p[i+1] < 0x80 {
		u := int64(p[i]&0x7f) | int64(p[i+1])<<7
		return u>>1 ^ -(u & 1), i + 2
	}
	if i+2 < len(p) && p[i+2] < 0x80 { // as offsets have from the 8192nd record of a batch on
		u := int64(p[i]&0x7f) | int64(p[i+1]&0x7f)<<7 | int64(p[i+2])<<14
		return u>>1 ^ -(u & 1), i + 3
	}
	if i > len(p) {
		return 0, -1
	}
	u, n := binary.Uvarint(p[i:])
	if n <= 0 {
		return 0, -1
	}
	return int64(u>>1) ^ -int64(u&1), i + n
}

// span reads a length and gives the place of the bytes behind it; a negative length is null.
func span(p []byte, i int) (operator.Span, int) {
	n, i := varint(p, i)
	if i < 0 || n > int64(len(p)-i) {
		return operator.Null, -1
	}
	if n < 0 {
		return operator.Null, i
	}
	return operator.Span{Off: uint32(i), Len: int32(n)}, i + int(n)
}

// headersEnd checks a header section at p[i:] and returns where it ends; negative if it is broken.
func headersEnd(p []byte, i int) (count int64, end int) {
	count, i = varint(p, i)
	if i < 0 || count < 0 || count > int64(len(p)-i)/2 {
		return 0, -1
	}
	for range count {
		var key operator.Span
		if key, i = span(p, i); i < 0 || key.IsNull() {
			return 0, -1
		}
		if _, i = span(p, i); i < 0 {
			return 0, -1
		}
	}
	return count, i
}

// bodyDecoder reads the records of a body (uncompressed), some at a time. Spans count from the start of the body plus arenaOff.
// Offsets must rise.
type bodyDecoder struct {
	h        *Header
	body     []byte
	arenaOff uint32
	at       int   // in body
	count    int32 // of records read
	last     int64 // offset delta
}

func newBodyDecoder(h *Header, body []byte, arenaOff uint32) (bodyDecoder, error) {
	if int64(h.Count)*minRecordSize > int64(len(body)) {
		return bodyDecoder{}, batchFault(h.BaseOffset, "%d records do not fit into %d bytes", h.Count, len(body))
	}
	return bodyDecoder{h: h, body: body, arenaOff: arenaOff, last: -1}, nil
}

// some appends the next records to out, so many at most; none when all have been read.
func (d *bodyDecoder) some(most int, out []operator.Record) ([]operator.Record, error) {
	h := d.h
	left := min(most, int(h.Count-d.count))
	out = slices.Grow(out, left)
	for range left {
		out = out[:len(out)+1]
		r := &out[len(out)-1]
		delta, end := decodeShort(d.body, d.at, r)
		if end == 0 {
			var fault string
			if delta, end, fault = decodeRecord(d.body, d.at, r); fault != "" {
				return out[:len(out)-1], batchFault(h.BaseOffset, "record %d of %d %s", d.count, h.Count, fault)
			}
		}
		if delta <= d.last || delta > int64(h.LastOffsetDelta) {
			return out[:len(out)-1], batchFault(h.BaseOffset, "record %d of %d has offset delta %d after %d, the last is to be %d", d.count, h.Count, delta, d.last, h.LastOffsetDelta)
		}
		d.at, d.last = end, delta
		d.count++
		r.Offset = h.BaseOffset + delta
		if h.LogAppendTime() {
			r.Timestamp = h.MaxTimestamp
		} else {
			r.Timestamp += h.BaseTimestamp
		}
		if d.arenaOff > 0 {
			shift(r, d.arenaOff)
		}
	}
	if d.count == h.Count && d.at != len(d.body) {
		return out, batchFault(h.BaseOffset, "%d bytes behind the last record", len(d.body)-d.at)
	}
	return out, nil
}

// decodeRecords appends all records of a body to out.
func decodeRecords(h *Header, body []byte, arenaOff uint32, out []operator.Record) ([]operator.Record, error) {
	d, err := newBodyDecoder(h, body, arenaOff)
	if err != nil {
		return out, err
	}
	return d.some(int(h.Count), out)
}

// decodeShort reads a record at body[at:] as most are, by two loads: numbers of up to three bytes, eight of them in front of
// the key, and no headers. The end is 0 if the record is none of them, or broken; decodeRecord tells.
func decodeShort(body []byte, at int, r *operator.Record) (offsetDelta int64, end int) {
	if at+18 > len(body) { // ten bytes at most in front of the length of the key
		return 0, 0
	}
	front := binary.LittleEndian.Uint64(body[at:])
	length, n := short(front)
	n++ // attributes
	timestamp, m := short(front >> (8 * n))
	offsetDelta, o := short(front >> (8 * (n + m)))
	i := at + n + m + o
	keyLength, k := short(binary.LittleEndian.Uint64(body[i:]))
	if n == 1 || m == 0 || o == 0 || k == 0 || n+m+o > 8 {
		return 0, 0
	}
	i += k
	r.Key = operator.Span{Off: uint32(i), Len: int32(keyLength)}
	if keyLength < 0 {
		r.Key, keyLength = operator.Null, 0
	}
	i += int(keyLength)
	if i+4 > len(body) {
		return 0, 0
	}
	valueLength, v := short(uint64(binary.LittleEndian.Uint32(body[i:])))
	i += v
	r.Value = operator.Span{Off: uint32(i), Len: int32(valueLength)}
	if valueLength < 0 {
		r.Value, valueLength = operator.Null, 0
	}
	i += int(valueLength)
	if end = at + n - 1 + int(length); v == 0 || i != end-1 || i >= len(body) || body[i] != 0 {
		return 0, 0
	}
	r.Timestamp, r.Headers, r.StreamKey, r.Origin = timestamp, operator.Null, operator.Null, 0
	return offsetDelta, end
}

// short reads a zig-zag varint of up to three bytes from the low bytes of p; n is 0 if it is longer.
func short(p uint64) (v int64, n int) {
	var u uint64
	switch {
	case p&0x80 == 0:
		u, n = p&0x7f, 1
	case p&0x8000 == 0:
		u, n = p&0x7f|p>>1&0x3f80, 2
	case p&0x800000 == 0:
		u, n = p&0x7f|p>>1&0x3f80|p>>2&0x1fc000, 3
	}
	return int64(u>>1) ^ -int64(u&1), n
}

// decodeRecord reads any record at body[at:]. Its timestamp is left as the delta. A fault says what is wrong with it.
func decodeRecord(body []byte, at int, r *operator.Record) (offsetDelta int64, end int, fault string) {
	length, i := varint(body, at)
	switch {
	case i < 0 || length < minRecordSize-1 || length > int64(len(body)-i):
		return 0, 0, "has an impossible length"
	case length > MaxRecordBytes:
		return 0, 0, fmt.Sprintf("has %d bytes; the limit is %d", length, MaxRecordBytes)
	}
	end = i + int(length)
	offsetDelta, fine := decodeFields(body[:end], i+1, r)
	if !fine {
		return 0, 0, "is broken"
	}
	return offsetDelta, end, ""
}

// decodeFields reads a record, which ends with p, behind its attributes.
func decodeFields(p []byte, i int, r *operator.Record) (offsetDelta int64, fine bool) {
	r.Timestamp, i = varint(p, i)
	if i < 0 {
		return 0, false
	}
	offsetDelta, i = varint(p, i)
	if i < 0 {
		return 0, false
	}
	if r.Key, i = span(p, i); i < 0 {
		return 0, false
	}
	if r.Value, i = span(p, i); i < 0 {
		return 0, false
	}
	r.StreamKey, r.Origin = operator.Null, 0
	if i == len(p)-1 && p[i] == 0 {
		r.Headers = operator.Null
		return offsetDelta, true
	}
	if _, end := headersEnd(p, i); end != len(p) {
		return 0, false
	}
	r.Headers = operator.Span{Off: uint32(i), Len: int32(len(p) - i)}
	return offsetDelta, true
}

func shift(r *operator.Record, by uint32) {
	for _, s := range [...]*operator.Span{&r.Key, &r.Value, &r.Headers} {
		if !s.IsNull() {
			s.Off += by
		}
	}
}
