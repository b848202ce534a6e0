// Package lite is a stopgap.
package lite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/sluice-stream/sluice/operator"
)

const headerBytes = 61
const maxBatch = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type Raw struct {
	Origin         operator.Origin
	B              []byte
	Base           int64
	LastDelta      int32
	Attrs          int16
	FirstTs, MaxTs int64
	PID            int64
	N              int32
	From, Stop     int64
}

func (r *Raw) Count() int     { return int(r.N) }
func (r *Raw) SizeBytes() int { return len(r.B) }
func (r *Raw) Control() bool  { return r.Attrs&0x20 != 0 }
func (r *Raw) Txn() bool      { return r.Attrs&0x10 != 0 }
func (r *Raw) Next() int64    { return r.Base + int64(r.LastDelta) + 1 }

var errPartial = errors.New("partial")

func parse(p []byte, r *Raw) (rest []byte, err error) {
	if len(p) < headerBytes {
		return nil, errPartial
	}
	n := int(int32(binary.BigEndian.Uint32(p[8:])))
	if n < 49 {
		return nil, fmt.Errorf("batch length %d", n)
	}
	if 12+n > len(p) {
		return nil, errPartial
	}
	if p[16] != 2 {
		return nil, fmt.Errorf("magic %d", p[16])
	}
	q := p[:12+n]
	if crc32.Checksum(q[21:], castagnoli) != binary.BigEndian.Uint32(q[17:]) {
		return nil, errors.New("crc mismatch")
	}
	*r = Raw{B: q, Base: int64(binary.BigEndian.Uint64(q)), Attrs: int16(binary.BigEndian.Uint16(q[21:])), LastDelta: int32(binary.BigEndian.Uint32(q[23:])),
		FirstTs: int64(binary.BigEndian.Uint64(q[27:])), MaxTs: int64(binary.BigEndian.Uint64(q[35:])), PID: int64(binary.BigEndian.Uint64(q[43:])),
		N: int32(binary.BigEndian.Uint32(q[57:])), Stop: -1}
	return p[12+n:], nil
}

var zdec, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBatch))
var zenc, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))

func inflate(codec int, body []byte) ([]byte, error) {
	var rd io.Reader
	switch codec {
	case 0:
		return body, nil
	case 1:
		g, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		rd = g
	case 2:
		if len(body) > 16 && string(body[:8]) == "\x82SNAPPY\x00" {
			var out []byte
			for p := body[16:]; len(p) >= 4; {
				n := int(binary.BigEndian.Uint32(p))
				if n > len(p)-4 {
					return nil, errors.New("bad snappy frame")
				}
				d, err := s2.Decode(nil, p[4:4+n])
				if err != nil {
					return nil, err
				}
				out = append(out, d...)
				p = p[4+n:]
			}
			return out, nil
		}
		return s2.Decode(nil, body)
	case 3:
		rd = lz4.NewReader(bytes.NewReader(body))
	case 4:
		return zdec.DecodeAll(body, nil)
	default:
		return nil, fmt.Errorf("codec %d", codec)
	}
	out, err := io.ReadAll(io.LimitReader(rd, maxBatch+1))
	if len(out) > maxBatch {
		return nil, errors.New("batch too large")
	}
	return out, err
}

func deflate(codec int, body []byte) ([]byte, error) {
	switch codec {
	case 1:
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(body)
		w.Close()
		return b.Bytes(), nil
	case 2:
		return s2.EncodeSnappy(nil, body), nil
	case 3:
		var b bytes.Buffer
		w := lz4.NewWriter(&b)
		w.Write(body)
		w.Close()
		return b.Bytes(), nil
	case 4:
		return zenc.EncodeAll(body, nil), nil
	}
	return body, nil
}

func varint(p []byte) (int64, int) {
	u, n := binary.Uvarint(p)
	return int64(u>>1) ^ -int64(u&1), n
}

var errRecord = errors.New("bad record")

func (r *Raw) Unpack(b *operator.Batch) error {
	body, err := inflate(int(r.Attrs&7), r.B[headerBytes:])
	if err != nil {
		return err
	}
	b.Arena = body
	origin := b.AddOrigin(r.Origin)
	pos := 0
	for i := int32(0); i < r.N; i++ {
		l, n := varint(body[pos:])
		if n <= 0 || l < 1 || l > int64(len(body)-pos-n) {
			return errRecord
		}
		end := pos + n + int(l)
		q := pos + n + 1
		td, n := varint(body[q:end])
		if n <= 0 {
			return errRecord
		}
		q += n
		od, n := varint(body[q:end])
		if n <= 0 {
			return errRecord
		}
		q += n
		rec := operator.Record{Timestamp: r.FirstTs + td, Offset: r.Base + od, Origin: origin, StreamKey: operator.Null}
		if r.Attrs&8 != 0 {
			rec.Timestamp = r.MaxTs
		}
		for _, s := range []*operator.Span{&rec.Key, &rec.Value} {
			l, n := varint(body[q:end])
			if n <= 0 || l > int64(end-q-n) {
				return errRecord
			}
			q += n
			if l < 0 {
				*s = operator.Null
				continue
			}
			*s = operator.Span{Off: uint32(q), Len: int32(l)}
			q += int(l)
		}
		rec.Headers = operator.Span{Off: uint32(q), Len: int32(end - q)}
		if end-q == 1 {
			rec.Headers = operator.Null
		}
		if rec.Offset >= r.From && (r.Stop < 0 || rec.Offset < r.Stop) {
			b.Records = append(b.Records, rec)
		}
		pos = end
	}
	return nil
}

type builder struct {
	b       []byte
	n       int32
	firstTs int64
	maxTs   int64
}

func (w *builder) reset() {
	if cap(w.b) < headerBytes {
		w.b = make([]byte, headerBytes, 64<<10)
	}
	w.b, w.n = w.b[:headerBytes], 0
}

func zz(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }
func vlen(u uint64) int {
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

func (w *builder) add(ts int64, key, value, headers []byte) {
	if w.n == 0 {
		w.firstTs, w.maxTs = ts, ts
	}
	w.maxTs = max(w.maxTs, ts)
	if len(headers) == 0 {
		headers = []byte{0}
	}
	kl, vl := zz(-1), zz(-1)
	if key != nil {
		kl = zz(int64(len(key)))
	}
	if value != nil {
		vl = zz(int64(len(value)))
	}
	td, od := zz(ts-w.firstTs), zz(int64(w.n))
	n := 1 + vlen(td) + vlen(od) + vlen(kl) + len(key) + vlen(vl) + len(value) + len(headers)
	b := binary.AppendUvarint(w.b, zz(int64(n)))
	b = append(b, 0)
	b = binary.AppendUvarint(b, td)
	b = binary.AppendUvarint(b, od)
	b = binary.AppendUvarint(b, kl)
	b = append(b, key...)
	b = binary.AppendUvarint(b, vl)
	b = append(b, value...)
	w.b = append(b, headers...)
	w.n++
}

func (w *builder) finish(pid int64, epoch int16, seq int32, codec int) ([]byte, error) {
	b := w.b
	if codec != 0 {
		c, err := deflate(codec, b[headerBytes:])
		if err != nil {
			return nil, err
		}
		b = append(append([]byte(nil), b[:headerBytes]...), c...)
	} else {
		b = append([]byte(nil), b...)
	}
	clear(b[:8])
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], 0xffffffff)
	b[16] = 2
	binary.BigEndian.PutUint16(b[21:], uint16(codec))
	binary.BigEndian.PutUint32(b[23:], uint32(w.n-1))
	binary.BigEndian.PutUint64(b[27:], uint64(w.firstTs))
	binary.BigEndian.PutUint64(b[35:], uint64(w.maxTs))
	binary.BigEndian.PutUint64(b[43:], uint64(pid))
	binary.BigEndian.PutUint16(b[51:], uint16(epoch))
	binary.BigEndian.PutUint32(b[53:], uint32(seq))
	binary.BigEndian.PutUint32(b[57:], uint32(w.n))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return b, nil
}
