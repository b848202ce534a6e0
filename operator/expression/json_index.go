package expression

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
)

// document is a JSON text whose fields have been found but not read: what expressions without the interpreter
// see of a key or value. Anything unusual (escapes in names, numbers of hundreds of digits) is left to parseJSON,
// and so is everything that is not JSON.
type document struct {
	// current: the rest is about the record of now. valid: text is JSON, without space around it.
	current, valid bool
	text           []byte
	fields         []jsonField // of an object
}

// jsonField is a field of an object: parts of its text.
type jsonField struct {
	name, value []byte
}

// read turns to another text; its memory is used again.
func (d *document) read(text []byte) {
	s := jsonScanner{p: text}
	s.space()
	begin := s.i
	d.current, d.valid, d.fields = true, validText(text), d.fields[:0]
	if s.at() == '{' {
		d.valid = d.valid && s.object(0, func(name, value []byte) { d.fields = append(d.fields, jsonField{name, value}) })
	} else {
		d.valid = d.valid && s.value(0)
	}
	d.text = text[begin:s.i]
	d.valid = d.valid && s.end()
}

// field is the text of a field of the object. It is not ok if the text is
// no object.
func (d *document) field(name []byte) (value []byte, has, ok bool) {
	if !d.valid {
		return nil, false, false
	}
	for i := len(d.fields) - 1; i >= 0; i-- { // of equal names the last one counts
		if f := &d.fields[i]; string(f.name) == string(name) {
			return f.value, true, true
		}
	}
	return nil, false, d.text[0] == '{'
}

// fieldOf is document.field for an object inside of a text that has been checked.
func fieldOf(text, name []byte) (value []byte, has, ok bool) {
	s := jsonScanner{p: text}
	if s.at() != '{' {
		return nil, false, false
	}
	ok = s.object(0, func(n, v []byte) {
		if string(n) == string(name) {
			value, has = v, true
		}
	})
	return value, has, ok
}

// readScalar reads a value that has been checked, without a copy. Maps and lists stay what they are as text.
func readScalar(text []byte) (scalar, bool) {
	switch c := text[0]; c {
	case 'n':
		return scalar{}, true
	case 't':
		return scalar{kind: kindBool, bits: 1}, true
	case 'f':
		return scalar{kind: kindBool}, true
	case '{', '[':
		return scalar{kind: kindTree, text: text}, true
	case '"':
		content := text[1 : len(text)-1]
		if hasEscape(content) {
			return scalar{}, false
		}
		return scalar{kind: kindString, text: content}, true
	}
	return readNumber(text)
}

func hasEscape(content []byte) bool { return bytes.IndexByte(content, '\\') >= 0 }

// readNumber makes an int of integers that fit, a double of all others, as parseJSON does.
func readNumber(text []byte) (scalar, bool) {
	if n, ok := shortInteger(text); ok {
		return scalar{kind: kindInt, bits: uint64(n)}, true
	}
	f, err := strconv.ParseFloat(viewString(text), 64)
	for _, c := range text {
		if c == '.' || c == 'e' || c == 'E' {
			return doubleScalar(f), err == nil
		}
	}
	if len(text) == 2 { // -0
		return doubleScalar(f), err == nil
	}
	return scalar{}, false // a long integer
}

// maxShortDigits of an integer are certain to fit.
const maxShortDigits = 18

func shortInteger(text []byte) (int64, bool) {
	digits, negative := text, text[0] == '-'
	if negative {
		digits = text[1:]
	}
	if len(digits) > maxShortDigits || negative && digits[0] == '0' {
		return 0, false
	}
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}

// jsonScanner passes over JSON without reading it. Every method but at says whether the text is valid that far,
// and nothing that has to be left to parseJSON.
type jsonScanner struct {
	p       []byte
	i       int
	escaped bool // the last text has an escape
}

// at is the next byte; 0 at the end.
func (s *jsonScanner) at() byte {
	if s.i < len(s.p) {
		return s.p[s.i]
	}
	return 0
}

func (s *jsonScanner) space() {
	for s.i < len(s.p) {
		switch s.p[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *jsonScanner) end() bool {
	s.space()
	return s.i == len(s.p)
}

// next skips space and takes c, if it comes.
func (s *jsonScanner) next(c byte) bool {
	s.space()
	if s.at() != c {
		return false
	}
	s.i++
	return true
}

func (s *jsonScanner) value(depth int) bool {
	s.space()
	switch c := s.at(); {
	case c == '"':
		return s.text()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == '{':
		return s.object(depth, func(_, _ []byte) {})
	case c == '[':
		return s.array(depth)
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	}
	return false
}

func (s *jsonScanner) word(w string) bool {
	if len(s.p)-s.i < len(w) || string(s.p[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

// object stands on the brace; it yields each field, the name without its quotes.
func (s *jsonScanner) object(depth int, yield func(name, value []byte)) bool {
	if s.i++; depth >= maxJSONDepth {
		return false
	}
	if s.next('}') {
		return true
	}
	for {
		if s.space(); s.at() != '"' {
			return false
		}
		begin := s.i + 1
		if !s.text() {
			return false
		}
		name := s.p[begin : s.i-1]
		if s.escaped || !s.next(':') {
			return false
		}
		s.space()
		begin = s.i
		if !s.value(depth + 1) {
			return false
		}
		yield(name, s.p[begin:s.i])
		if s.next('}') {
			return true
		}
		if !s.next(',') {
			return false
		}
	}
}

func (s *jsonScanner) array(depth int) bool {
	if s.i++; depth >= maxJSONDepth {
		return false
	}
	if s.next(']') {
		return true
	}
	for {
		if !s.value(depth + 1) {
			return false
		}
		if s.next(']') {
			return true
		}
		if !s.next(',') {
			return false
		}
	}
}

// maxPlainDigits of a number without an exponent are certain to be in range.
const maxPlainDigits = 300

func (s *jsonScanner) number() bool {
	begin := s.i
	if s.at() == '-' {
		s.i++
	}
	if s.at() == '0' {
		s.i++
	} else if !s.digits() {
		return false
	}
	if s.at() == '.' {
		if s.i++; !s.digits() {
			return false
		}
	}
	if c := s.at(); c == 'e' || c == 'E' {
		s.i++
		if c := s.at(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return false
		}
		_, err := strconv.ParseFloat(viewString(s.p[begin:s.i]), 64)
		return err == nil
	}
	return s.i-begin <= maxPlainDigits
}

func (s *jsonScanner) digits() bool {
	begin := s.i
	for s.i < len(s.p) && s.p[s.i] >= '0' && s.p[s.i] <= '9' {
		s.i++
	}
	return s.i > begin
}

// text stands on the first quote. It looks at eight bytes at a time.
func (s *jsonScanner) text() bool {
	p, i := s.p, s.i+1
	s.escaped = false
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
			return false
		}
		if p[i] == '"' {
			s.i = i + 1
			return true
		}
		s.escaped = true
		if i = escapeEnd(p, i+1); i < 0 {
			return false
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
