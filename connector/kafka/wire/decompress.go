package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is a compression of Kafka record batches, by its number in the batch attributes.
type Codec int8

// Kafka's codecs.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// CodecSet holds codecs.
type CodecSet [Zstd + 1]bool

// Has says whether a codec is one of them.
func (s *CodecSet) Has(c Codec) bool { return c >= 0 && int(c) < len(s) && s[c] }

// String is Kafka's name of the codec, as in compression.type.
func (c Codec) String() string {
	names := [...]string{"none", "gzip", "snappy", "lz4", "zstd"}
	if c >= 0 && int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("codec %d", int8(c))
}

// ParseCodec reads a compression.type.
func ParseCodec(name string) (Codec, error) {
	for c := None; c <= Zstd; c++ {
		if c.String() == name {
			return c, nil
		}
	}
	return None, fmt.Errorf("compression.type %q is not known: use none, gzip, snappy, lz4 or zstd", name)
}

var errTooLarge = errors.New("decompressed size is above the limit")

// Decompressor inflates record batches with pooled decoders. It may be used from many goroutines.
type Decompressor struct {
	gzips, lz4s, zstds sync.Pool
}

// NewDecompressor returns an empty pool.
func NewDecompressor() *Decompressor { return new(Decompressor) }

// Append inflates src behind dst and returns the longer slice. More than limit bytes, at most
// MaxBatchBytes, are an error; no more than about twice the limit is ever reserved.
func (d *Decompressor) Append(dst []byte, codec Codec, src []byte, limit int) ([]byte, error) {
	limit = min(limit, MaxBatchBytes)
	switch codec {
	case None:
		if len(src) > limit {
			return dst, errTooLarge
		}
		return append(dst, src...), nil
	case Gzip:
		return d.gzip(dst, src, limit)
	case Snappy:
		return unsnappy(dst, src, limit)
	case LZ4:
		return d.lz4(dst, src, limit)
	case Zstd:
		return d.zstd(dst, src, limit)
	}
	return dst, fmt.Errorf("compression codec %d is unknown", codec)
}

type gzipDecoder struct {
	in bytes.Reader
	z  gzip.Reader
}

func (d *Decompressor) gzip(dst, src []byte, limit int) ([]byte, error) {
	g, _ := d.gzips.Get().(*gzipDecoder)
	if g == nil {
		g = new(gzipDecoder)
	}
	defer d.gzips.Put(g)
	defer g.in.Reset(nil)
	g.in.Reset(src)
	if err := g.z.Reset(&g.in); err != nil {
		return dst, err
	}
	return readAll(dst, &g.z, len(src), limit)
}

type lz4Decoder struct {
	in bytes.Reader
	z  *lz4.Reader
}

func (d *Decompressor) lz4(dst, src []byte, limit int) ([]byte, error) {
	l, _ := d.lz4s.Get().(*lz4Decoder)
	if l == nil {
		l = new(lz4Decoder)
		l.z = lz4.NewReader(&l.in)
	}
	defer d.lz4s.Put(l)
	defer l.in.Reset(nil)
	l.in.Reset(src)
	l.z.Reset(&l.in)
	return readAll(dst, l.z, len(src), limit)
}

// readAll reads to the end, into the room behind dst while there is some.
func readAll(dst []byte, r io.Reader, packed, limit int) ([]byte, error) {
	start := len(dst)
	dst = slices.Grow(dst, min(4*packed+512, limit+1))
	for {
		if have := len(dst) - start; len(dst) == cap(dst) {
			more := max(have, 1)
			if have > limit/4 { // one step to the end: the sum of all steps stays small
				more = limit + 1 - have
			}
			dst = slices.Grow(dst, more)
		}
		room := min(cap(dst), start+limit+1)
		n, err := r.Read(dst[len(dst):room])
		dst = dst[:len(dst)+n]
		if len(dst)-start > limit {
			return dst[:start], errTooLarge
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst[:start], err
		}
	}
}

// maxZstdWindow is the window of the highest level, 22, which a frame of a few bytes may name as well. It bounds what a frame is
// inflated to before the limit is looked at, too.
const maxZstdWindow = 128 << 20

func (d *Decompressor) zstd(dst, src []byte, limit int) ([]byte, error) {
	z, _ := d.zstds.Get().(*zstd.Decoder)
	if z == nil {
		var err error
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxZstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return dst, err
		}
	}
	defer d.zstds.Put(z)
	out, err := z.DecodeAll(src, dst)
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return dst, fmt.Errorf("its zstd window is larger than %d MiB: have it compressed with a smaller one (windowLog or --long of at most %d)", maxZstdWindow>>20, bits.Len(maxZstdWindow)-1)
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), err == nil && len(out)-len(dst) > limit:
		return dst, errTooLarge
	case err != nil:
		return dst, err
	}
	return out, nil
}

// xerial is the framing of the Java client: magic, two versions, then blocks with a length each.
var xerial = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeader = 16

func unsnappy(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < xerialHeader || !bytes.HasPrefix(src, xerial) {
		return unsnappyBlock(dst, src, limit)
	}
	start := len(dst)
	for src = src[xerialHeader:]; len(src) > 0; {
		if len(src) < 4 {
			return dst[:start], io.ErrUnexpectedEOF
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return dst[:start], io.ErrUnexpectedEOF
		}
		var err error
		if dst, err = unsnappyBlock(dst, src[:n], limit-(len(dst)-start)); err != nil {
			return dst[:start], err
		}
		src = src[n:]
	}
	return dst, nil
}

func unsnappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := snappy.DecodedLen(src)
	if err != nil {
		return dst, err
	}
	if n > limit {
		return dst, errTooLarge
	}
	// a snappy block grows at most about 64-fold (a copy of 64 bytes takes 3), so a larger claim is a
	// lie that would reserve memory for nothing
	if n > 64*(len(src)+1) {
		return dst, snappy.ErrCorrupt
	}
	start := len(dst)
	dst = slices.Grow(dst, n)
	out, err := snappy.Decode(dst[start:start+n], src)
	if err != nil {
		return dst[:start], err
	}
	return dst[:start+len(out)], nil
}
