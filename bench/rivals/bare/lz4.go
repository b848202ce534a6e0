package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/pierrec/lz4/v4"
)

// lz4Codec reads and writes frames as Kafka has them, each call into memory of its own that the next one
// takes again.
type lz4Codec struct {
	reader   *lz4.Reader
	writer   *lz4.Writer
	unpacked []byte
	packed   bytes.Buffer
}

// firstUnpacked is room for the batches of the benchmark.
const firstUnpacked = 2 << 20

func (c *lz4Codec) unpack(frame []byte) ([]byte, error) {
	if c.reader == nil {
		c.reader, c.unpacked = lz4.NewReader(nil), make([]byte, firstUnpacked)
	}
	c.reader.Reset(bytes.NewReader(frame))
	for n := 0; ; {
		if n == len(c.unpacked) {
			if n >= maxSetBytes {
				return nil, fmt.Errorf("a batch of more than %d bytes", maxSetBytes)
			}
			c.unpacked = append(c.unpacked, make([]byte, n)...)
		}
		m, err := c.reader.Read(c.unpacked[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return c.unpacked[:n], nil
		}
		if err != nil {
			return nil, fmt.Errorf("decompressing: %w", err)
		}
	}
}

// pack compresses what is behind the header of b, in blocks of 64 KiB, as Kafka's own producer does.
func (c *lz4Codec) pack(b []byte) (batch, error) {
	c.packed.Reset()
	c.packed.Write(b[:headerBytes])
	if c.writer == nil {
		c.writer = lz4.NewWriter(nil)
		if err := c.writer.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.ConcurrencyOption(1)); err != nil {
			return nil, fmt.Errorf("setting the compression up: %w", err)
		}
	}
	c.writer.Reset(&c.packed)
	_, err := c.writer.Write(b[headerBytes:])
	if err = errors.Join(err, c.writer.Close()); err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	return c.packed.Bytes(), nil
}
