package wire

import (
	"encoding/binary"
	"math/bits"
)

// Kafka before 0.10 computed the checksum in the header of an lz4 frame over the magic number too (KIP-57), in message
// format v0 only. Other readers of lz4 take that for damage.

const (
	lz4Magic           = 0x184D2204
	lz4FlagContentSize = 0x08
	lz4FlagDictionary  = 0x01
)

// frameHeader gives the place of the header's checksum, -1 if p is no lz4 frame of Kafka's.
func frameHeader(p []byte) int {
	if len(p) < 7 || binary.LittleEndian.Uint32(p) != lz4Magic {
		return -1
	}
	at := 6 // behind magic, flags and block size
	if p[4]&lz4FlagContentSize != 0 {
		at += 8
	}
	if at >= len(p) || p[4]&lz4FlagDictionary != 0 {
		return -1 // Kafka has no dictionaries
	}
	return at
}

// fixFrameChecksum gives an lz4 frame the checksum of the standard.
func fixFrameChecksum(p []byte) {
	if at := frameHeader(p); at > 0 {
		p[at] = byte(xxh32(p[4:at]) >> 8)
	}
}

// breakFrameChecksum gives an lz4 frame the checksum of message format v0.
func breakFrameChecksum(p []byte) {
	if at := frameHeader(p); at > 0 {
		p[at] = byte(xxh32(p[:at]) >> 8)
	}
}

// xxh32 is the 32-bit xxHash with seed 0 of less than 16 bytes: a frame header has 14 at most.
func xxh32(p []byte) uint32 {
	const p1, p2, p3, p4, p5 uint32 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	h := p5 + uint32(len(p))
	for ; len(p) >= 4; p = p[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(p)*p3, 17) * p4
	}
	for _, b := range p {
		h = bits.RotateLeft32(h+uint32(b)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
