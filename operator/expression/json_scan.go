package expression

import (
	"encoding/binary"
	"math/bits"
	"strconv"
)

// What follows passes over JSON without reading it. A function stands at p[i:] and returns where what it passes over ends;
// -1 if it is not valid, or has to be left to parseJSON.

func skipSpace(p []byte, i int) int {
	for i < len(p) && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r') {
		i++
	}
	return i
}

// passValue stands behind space.
func passValue(p []byte, i, depth int) int {
	if i >= len(p) {
		return -1
	}
	switch c := p[i]; c {
	case '"':
		end, _ := passText(p, i)
		return end
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return passNumber(p, i)
	case '{':
		return passObject(p, i, depth, nil)
	case '[':
		return passArray(p, i, depth)
	case 't':
		return passWord(p, i, "true")
	case 'f':
		return passWord(p, i, "false")
	case 'n':
		return passWord(p, i, "null")
	}
	return -1
}

func passWord(p []byte, i int, word string) int {
	if len(p)-i < len(word) || string(p[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// passObject stands on the brace. It appends to fields, unless that is nil: names are without their quotes.
func passObject(p []byte, i, depth int, fields *[]jsonField) int {
	if depth >= maxJSONDepth {
		return -1
	}
	if i = skipSpace(p, i+1); i < len(p) && p[i] == '}' {
		return i + 1
	}
	for {
		f, next := passField(p, i, depth)
		if next < 0 {
			return -1
		}
		if fields != nil {
			*fields = append(*fields, f)
		}
		if p[next] == '}' {
			return next + 1
		}
		i = skipSpace(p, next+1)
	}
}

// passField ends on the comma or brace behind a field. Escapes in names are left to parseJSON.
func passField(p []byte, i, depth int) (f jsonField, end int) {
	if i >= len(p) || p[i] != '"' {
		return f, -1
	}
	colon, escaped := passText(p, i)
	if colon < 0 || escaped {
		return f, -1
	}
	f.nameAt, f.nameEnd = uint32(i+1), uint32(colon-1)
	if colon = skipSpace(p, colon); colon >= len(p) || p[colon] != ':' {
		return f, -1
	}
	i = skipSpace(p, colon+1)
	if end = passValue(p, i, depth+1); end < 0 {
		return f, -1
	}
	f.valueAt, f.valueEnd = uint32(i), uint32(end)
	if end = skipSpace(p, end); end >= len(p) || p[end] != ',' && p[end] != '}' {
		return f, -1
	}
	return f, end
}

func passArray(p []byte, i, depth int) int {
	if depth >= maxJSONDepth {
		return -1
	}
	if i = skipSpace(p, i+1); i < len(p) && p[i] == ']' {
		return i + 1
	}
	for {
		if i = passValue(p, i, depth+1); i < 0 {
			return -1
		}
		if i = skipSpace(p, i); i >= len(p) {
			return -1
		}
		switch p[i] {
		case ']':
			return i + 1
		case ',':
			i = skipSpace(p, i+1)
		default:
			return -1
		}
	}
}

// maxPlainDigits of a number without an exponent are certain to be in range.
const maxPlainDigits = 300

func passNumber(p []byte, i int) int {
	begin := i
	if p[i] == '-' {
		i++
	}
	whole := i
	if i < len(p) && p[i] == '0' {
		i++
	} else {
		i = passDigits(p, i)
	}
	if i == whole {
		return -1
	}
	if i < len(p) && p[i] == '.' {
		fraction := i + 1
		if i = passDigits(p, fraction); i == fraction {
			return -1
		}
	}
	if i < len(p) && (p[i] == 'e' || p[i] == 'E') {
		if i++; i < len(p) && (p[i] == '+' || p[i] == '-') {
			i++
		}
		exponent := i
		if i = passDigits(p, exponent); i == exponent {
			return -1
		}
		if _, err := strconv.ParseFloat(viewString(p[begin:i]), 64); err != nil {
			return -1
		}
		return i
	}
	if i-begin > maxPlainDigits {
		return -1
	}
	return i
}

func passDigits(p []byte, i int) int {
	for i < len(p) && p[i]-'0' <= 9 {
		i++
	}
	return i
}

// passText stands on the first quote. It looks at eight bytes at a time.
func passText(p []byte, i int) (end int, escaped bool) {
	i++
	for {
		for i+8 <= len(p) {
			found := special(binary.LittleEndian.Uint64(p[i:]))
			if found != 0 {
				i += bits.TrailingZeros64(found) / 8
				break
			}
			i += 8
		}
		for i < len(p) && p[i] >= ' ' && p[i] != '"' && p[i] != '\\' {
			i++
		}
		if i >= len(p) || p[i] < ' ' {
			return -1, escaped
		}
		if p[i] == '"' {
			return i + 1, escaped
		}
		escaped = true
		if i = escapeEnd(p, i+1); i < 0 {
			return -1, escaped
		}
	}
}

// special marks, by the highest bit of a byte, a quote, a backslash or a control character among eight bytes. The
// lowest mark is right; those above it may be wrong.
func special(x uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote, backslash := x^(ones*'"'), x^(ones*'\\')
	return ((quote-ones)&^quote | (backslash-ones)&^backslash | (x-ones*' ')&^x) & highs
}

// escapeEnd is where an escape ends whose backslash is before i; negative: it is none.
func escapeEnd(p []byte, i int) int {
	if i >= len(p) {
		return -1
	}
	switch p[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if i+5 > len(p) {
			return -1
		}
		for _, c := range p[i+1 : i+5] {
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return -1
			}
		}
		return i + 5
	}
	return -1
}
