package wire

import (
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Compressor deflates record batches with pooled encoders of one codec and level. It may be used from
// many goroutines; nil compresses nothing.
type Compressor struct {
	codec Codec
	level int
	pool  sync.Pool
}

// NewCompressor makes a compressor; nil for None. Level 0 is the codec's default; otherwise gzip
// takes 1 to 9, lz4 1 to 9, zstd 1 to 22; snappy has no levels.
func NewCompressor(codec Codec, level int) (*Compressor, error) {
	highest := map[Codec]int{None: 0, Gzip: 9, Snappy: 0, LZ4: 9, Zstd: 22}
	top, ok := highest[codec]
	switch {
	case !ok:
		return nil, fmt.Errorf("compression codec %d is unknown", codec)
	case level < 0 || level > top:
		return nil, fmt.Errorf("compression level %d: %s takes 0 (its default) to %d", level, codec, top)
	case codec == None:
		return nil, nil
	}
	return &Compressor{codec: codec, level: level}, nil
}

// Codec is what the compressor makes; None for nil.
func (c *Compressor) Codec() Codec {
	if c == nil {
		return None
	}
	return c.codec
}

// Append deflates src behind dst and returns the longer slice.
func (c *Compressor) Append(dst, src []byte) ([]byte, error) {
	switch c.Codec() {
	case Gzip:
		return c.gzip(dst, src)
	case Snappy:
		return appendSnappy(dst, src), nil
	case LZ4:
		return c.lz4(dst, src)
	case Zstd:
		return c.zstd(dst, src)
	}
	return append(dst, src...), nil
}

// appender is an io.Writer behind a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

type gzipEncoder struct {
	out appender
	z   *gzip.Writer
}

func (c *Compressor) gzip(dst, src []byte) ([]byte, error) {
	g, _ := c.pool.Get().(*gzipEncoder)
	if g == nil {
		g = new(gzipEncoder)
		level := c.level
		if level == 0 {
			level = gzip.DefaultCompression
		}
		var err error
		if g.z, err = gzip.NewWriterLevel(&g.out, level); err != nil {
			return dst, err
		}
	}
	g.out.b = dst
	g.z.Reset(&g.out)
	if _, err := g.z.Write(src); err != nil {
		return dst, err
	}
	if err := g.z.Close(); err != nil {
		return dst, err
	}
	out := g.out.b
	g.out.b = nil
	c.pool.Put(g)
	return out, nil
}

// appendSnappy writes one plain block, without the Java client's framing: every client reads it.
func appendSnappy(dst, src []byte) []byte {
	start := len(dst)
	dst = slices.Grow(dst, snappy.MaxEncodedLen(len(src)))
	out := snappy.Encode(dst[start:start+snappy.MaxEncodedLen(len(src))], src)
	return dst[:start+len(out)]
}

type lz4Encoder struct {
	out appender
	z   *lz4.Writer
}

func (c *Compressor) lz4(dst, src []byte) ([]byte, error) {
	l, _ := c.pool.Get().(*lz4Encoder)
	if l == nil {
		l = new(lz4Encoder)
		l.z = lz4.NewWriter(&l.out)
		// independent blocks and no content checksum: what Kafka's Java reader understands
		level := lz4.Fast
		if c.level > 0 {
			level = lz4.CompressionLevel(1 << (8 + c.level)) // lz4.Level1 is 1<<9, lz4.Level9 1<<17
		}
		if err := l.z.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.ConcurrencyOption(1), lz4.CompressionLevelOption(level)); err != nil {
			return dst, err
		}
	}
	l.out.b = dst
	l.z.Reset(&l.out)
	if _, err := l.z.Write(src); err != nil {
		return dst, err
	}
	if err := l.z.Close(); err != nil {
		return dst, err
	}
	out := l.out.b
	l.out.b = nil
	c.pool.Put(l)
	return out, nil
}

func (c *Compressor) zstd(dst, src []byte) ([]byte, error) {
	z, _ := c.pool.Get().(*zstd.Encoder)
	if z == nil {
		level := zstd.SpeedDefault
		if c.level > 0 {
			level = zstd.EncoderLevelFromZstd(c.level)
		}
		var err error
		// a small window is enough for batches and keeps readers' memory small
		z, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return dst, err
		}
	}
	out := z.EncodeAll(src, dst)
	c.pool.Put(z)
	return out, nil
}
