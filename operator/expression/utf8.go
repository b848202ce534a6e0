package expression

import (
	"encoding/binary"
	"unicode/utf8"
)

// notASCII are the bits that are set in no byte of ASCII text.
const notASCII = 0x8080808080808080

// validText says what utf8.Valid says. Most text is ASCII: of that it looks at 32 bytes at once, and at the rest of it
// together with bytes before, which are looked at twice.
func validText(p []byte) bool {
	rest := p
	if len(p) >= 32 {
		for len(rest) >= 32 {
			if !isASCII32(rest) {
				return utf8.Valid(rest) // what was left behind ends with a whole character
			}
			rest = rest[32:]
		}
		return isASCII32(p[len(p)-32:]) || utf8.Valid(rest)
	}
	for len(rest) >= 8 {
		if word(rest)&notASCII != 0 {
			return utf8.Valid(rest)
		}
		rest = rest[8:]
	}
	return len(p) >= 8 && word(p[len(p)-8:])&notASCII == 0 || utf8.Valid(rest)
}

// isASCII32 says whether 32 bytes are ASCII.
func isASCII32(p []byte) bool {
	return (word(p)|word(p[8:])|word(p[16:])|word(p[24:]))&notASCII == 0
}

func word(p []byte) uint64 { return binary.LittleEndian.Uint64(p) }
