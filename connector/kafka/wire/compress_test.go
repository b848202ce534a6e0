package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
)

func TestCompressionLevels(t *testing.T) {
	body := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog "), 5000)
	d := NewDecompressor()
	for codec, levels := range map[Codec][]int{Gzip: {0, 1, 9}, Snappy: {0}, LZ4: {0, 1, 5, 9}, Zstd: {0, 1, 3, 10, 22}} {
		for _, level := range levels {
			c, err := NewCompressor(codec, level)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time with pooled encoders
				packed, err := c.Append([]byte("head"), body)
				if err != nil || !bytes.HasPrefix(packed, []byte("head")) || len(packed) > len(body)/4 {
					t.Fatalf("%v level %d: %d bytes, %v", codec, level, len(packed), err)
				}
				out, err := d.Append([]byte("tail"), codec, packed[4:], len(body))
				if err != nil || !bytes.Equal(out[4:], body) || string(out[:4]) != "tail" {
					t.Fatalf("%v level %d: %v", codec, level, err)
				}
			}
		}
	}
	for codec, level := range map[Codec]int{None: 1, Gzip: 10, Snappy: 1, LZ4: 10, Zstd: 23} {
		if _, err := NewCompressor(codec, level); err == nil || !strings.Contains(err.Error(), codec.String()+" takes 0") {
			t.Errorf("%v level %d: %v", codec, level, err)
		}
	}
}

// TestZstdWindow opens a frame as Java writes it at level 22: five bytes, and a window of 128 MiB.
func TestZstdWindow(t *testing.T) {
	frame := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 5<<3 | 1, 0, 0}, "hello"...)
	out, err := NewDecompressor().Append(nil, Zstd, frame, 5)
	if err != nil || string(out) != "hello" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := NewDecompressor().Append(nil, Zstd, frame, 4); !errors.Is(err, errTooLarge) {
		t.Errorf("more than fits: %v", err)
	}
	frame[5] = 18 << 3
	if _, err := NewDecompressor().Append(nil, Zstd, frame, 5); err == nil || !strings.Contains(err.Error(), "window is larger than 128 MiB") {
		t.Errorf("twice the window: %v", err)
	}
}

// TestBombs keeps what a small body inflates to below the limit.
func TestBombs(t *testing.T) {
	d := NewDecompressor()
	body := make([]byte, MaxBatchBytes+1)
	for codec := Gzip; codec <= Zstd; codec++ {
		packed := compressed(t, codec, body)
		var err error
		spent := allocated(func() { _, err = d.Append(nil, codec, packed, 1<<30) })
		if !errors.Is(err, errTooLarge) {
			t.Errorf("%v: %v", codec, err)
		}
		if spent > 3*MaxBatchBytes {
			t.Errorf("%v: %d bytes were allocated to inflate %d", codec, spent, len(packed))
		}
	}
	if _, err := d.Append(nil, None, body, 10); !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
	if _, err := d.Append(nil, 5, body, 10); err == nil {
		t.Error("codec 5 worked")
	}
}

func TestXerialSnappy(t *testing.T) {
	framed := append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1)
	var want []byte
	for _, part := range []string{strings.Repeat("a", 32<<10), "bcd", ""} {
		block := snappy.Encode(nil, []byte(part))
		framed = binary.BigEndian.AppendUint32(framed, uint32(len(block)))
		framed = append(framed, block...)
		want = append(want, part...)
	}
	d := NewDecompressor()
	out, err := d.Append(nil, Snappy, framed, len(want))
	if err != nil || !bytes.Equal(out, want) {
		t.Fatalf("%d bytes, %v", len(out), err)
	}
	if _, err := d.Append(nil, Snappy, framed, len(want)-1); !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
	for cut := xerialHeader + 1; cut < xerialHeader+8; cut++ {
		if _, err := d.Append(nil, Snappy, framed[:cut], len(want)); err == nil {
			t.Errorf("cut at %d: no error", cut)
		}
	}
}

func TestCodecNames(t *testing.T) {
	for c := None; c <= Zstd; c++ {
		if got, err := ParseCodec(c.String()); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := ParseCodec("brotli"); err == nil || !strings.Contains(err.Error(), `"brotli"`) {
		t.Error(err)
	}
}
