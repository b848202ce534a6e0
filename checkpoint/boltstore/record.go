package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/sluice-stream/sluice/ident"
)

// All records stand in one bucket, so that the checksum of each covers its whole name. A value is
// CRC32C (u32 little-endian, over the length of the key, the key and the content) | content.
const (
	bucketName = "sluice1"
	headerKey  = "!header"
	sumBytes   = crc32.Size
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(key, content []byte) uint32 {
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(key)))
	sum := crc32.Update(0, castagnoli, n[:])
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, content)
}

func seal(key, content []byte) []byte {
	value := make([]byte, sumBytes, sumBytes+len(content))
	binary.LittleEndian.PutUint32(value, checksum(key, content))
	return append(value, content...)
}

// unseal gives the content, which aliases value.
func unseal(key, value []byte) ([]byte, error) {
	if len(value) < sumBytes {
		return nil, fmt.Errorf("record %q has %d bytes, no checksum: %w", key, len(value), ErrDamaged)
	}
	stored, content := binary.LittleEndian.Uint32(value), value[sumBytes:]
	if got := checksum(key, content); got != stored {
		return nil, fmt.Errorf("record %q: checksum is %08x, stored is %08x: %w", key, got, stored, ErrDamaged)
	}
	return content, nil
}

// weight is what a record adds to the digest of the header. The digest is a sum, so that it can be
// kept up to date record by record; a record that is lost, or that came back, changes it.
func weight(value []byte) uint64 {
	x := uint64(binary.LittleEndian.Uint32(value))<<32 | uint64(uint32(len(value)))
	// The finalizer of splitmix64: every bit of x matters to every bit of the result.
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// header is the record that every write transaction rewrites.
type header struct {
	cluster  clusterID
	sequence uint64
	epoch    ident.LeaderEpoch
	// digest is the sum of the weights of all other records.
	digest uint64
}

const headerBytes = 8 * 4

func (h header) encode() []byte {
	b := append(make([]byte, 0, headerBytes), h.cluster[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.sequence)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.epoch))
	return binary.LittleEndian.AppendUint64(b, h.digest)
}

func decodeHeader(value []byte) (header, error) {
	b, err := unseal([]byte(headerKey), value)
	if err != nil {
		return header{}, err
	}
	if len(b) != headerBytes {
		return header{}, fmt.Errorf("the header has %d bytes, want %d: %w", len(b), headerBytes, ErrDamaged)
	}
	return header{
		cluster:  clusterID(b[:8]),
		sequence: binary.LittleEndian.Uint64(b[8:]),
		epoch:    ident.LeaderEpoch(binary.LittleEndian.Uint64(b[16:])),
		digest:   binary.LittleEndian.Uint64(b[24:]),
	}, nil
}

func isHeader(key []byte) bool { return bytes.Equal(key, []byte(headerKey)) }
