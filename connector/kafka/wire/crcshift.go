package wire

import (
	"encoding/binary"
	"hash/crc32"
)

// A checksum is linear: when only the first bytes of a message change, the new checksum is the old
// one xor the checksum of the difference, moved over the rest. So a batch that is passed on keeps the
// checksum that its first producer made over the records, and a bit that flips in our memory is still
// found by the broker.

// rechecksum gives the checksum (CRC32C) of a message whose beginning changed from old to new, of
// equal length, with rest unchanged bytes behind.
func rechecksum(sum uint32, old, changed []byte, rest int) uint32 {
	difference := crc32.Checksum(old, castagnoli) ^ crc32.Checksum(changed, castagnoli)
	return sum ^ multiply(power(uint64(rest)*8), difference)
}

// joinChecksums gives the checksum of a message of two parts, the second of so many bytes.
func joinChecksums(first, second uint32, secondBytes int) uint32 {
	return multiply(power(uint64(secondBytes)*8), first) ^ second
}

// polynomial is CRC32C's, its bits reversed as in the checksum: bit 31 is x^0.
const polynomial = crc32.Castagnoli

// multiply multiplies two polynomials modulo CRC32C's.
func multiply(a, b uint32) uint32 {
	var product uint32
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		b = b>>1 ^ polynomial&-(b&1)
	}
	return product
}

// squares holds x^(2^n) modulo the polynomial.
var squares = func() (out [64]uint32) {
	out[0] = 1 << 30 // x
	for n := 1; n < len(out); n++ {
		out[n] = multiply(out[n-1], out[n-1])
	}
	return out
}()

// power is x^n modulo the polynomial.
func power(n uint64) uint32 {
	p := uint32(1) << 31 // x^0
	for i := 0; n != 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			p = multiply(squares[i], p)
		}
	}
	return p
}

// checksumOf is the checksum that a batch header claims.
func checksumOf(h []byte) uint32 { return binary.BigEndian.Uint32(h[atCRC:]) }
