package expression

import (
	"encoding/binary"
	"unicode/utf8"
)

// notASCII are the bits that are set in no byte of ASCII text.
const notASCII = 0x8080808080808080

// validText says what utf8.Valid says. Most text is ASCII: of that it looks at 32 bytes at once.
func validText(p []byte) bool {
	rest := p
	for len(rest) >= 32 {
		if (word(rest)|word(rest[8:])|word(rest[16:])|word(rest[24:]))&notASCII != 0 {
			return utf8.Valid(rest) // what was left behind ends with a whole character
		}
		rest = rest[32:]
	}
	for len(rest) >= 8 {
		if word(rest)&notASCII != 0 {
			return utf8.Valid(rest)
		}
		rest = rest[8:]
	}
	return utf8.Valid(rest)
}

func word(p []byte) uint64 { return binary.LittleEndian.Uint64(p) }
