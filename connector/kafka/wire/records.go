package wire

import (
	"encoding/binary"
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

// decodeRecords appends the records of a body (uncompressed) to out. Spans count from the start of
// the body plus arenaOff. Offsets must rise.
func decodeRecords(h *Header, body []byte, arenaOff uint32, out []operator.Record) ([]operator.Record, error) {
	if int64(h.Count)*minRecordSize > int64(len(body)) {
		return out, batchFault(h.BaseOffset, "%d records do not fit into %d bytes", h.Count, len(body))
	}
	out = slices.Grow(out, int(h.Count))
	last, at := int64(-1), 0
	for n := range h.Count {
		length, start := varint(body, at)
		if start < 0 || length < minRecordSize-1 || length > int64(len(body)-start) {
			return out, batchFault(h.BaseOffset, "record %d of %d has an impossible length", n, h.Count)
		}
		if length > MaxRecordBytes {
			return out, batchFault(h.BaseOffset, "record %d of %d has %d bytes; the limit is %d", n, h.Count, length, MaxRecordBytes)
		}
		at = start + int(length)
		out = out[:len(out)+1]
		r := &out[len(out)-1]
		delta, fine := decodeRecord(body[:at], start+1, r)
		if !fine {
			return out[:len(out)-1], batchFault(h.BaseOffset, "record %d of %d is broken", n, h.Count)
		}
		if delta <= last || delta > int64(h.LastOffsetDelta) {
			return out[:len(out)-1], batchFault(h.BaseOffset, "record %d of %d has offset delta %d after %d, the last is to be %d", n, h.Count, delta, last, h.LastOffsetDelta)
		}
		last = delta
		r.Offset = h.BaseOffset + delta
		if h.LogAppendTime() {
			r.Timestamp = h.MaxTimestamp
		} else {
			r.Timestamp += h.BaseTimestamp
		}
		if arenaOff > 0 {
			shift(r, arenaOff)
		}
	}
	if at != len(body) {
		return out, batchFault(h.BaseOffset, "%d bytes behind the last record", len(body)-at)
	}
	return out, nil
}

// decodeRecord reads one record behind its attributes. Timestamp is left as the delta.
func decodeRecord(p []byte, i int, r *operator.Record) (offsetDelta int64, fine bool) {
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
