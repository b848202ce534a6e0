package expression

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
)

// maxJSONDepth bounds how deep maps and lists are nested, read and written.
const maxJSONDepth = 500

// parseJSON reads one JSON value (RFC 8259) as CEL sees it: map[string]any, []any, string, bool, int64
// for integers that fit, float64 for all other numbers, and null. Of equal names in an object the last
// one counts. Strings are copies.
func parseJSON(p []byte) (any, error) {
	if !validText(p) {
		return nil, errors.New("not UTF-8")
	}
	d := jsonReader{p: p}
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	if d.space(); d.i < len(p) {
		return nil, d.unexpected("the end")
	}
	if v == nil {
		return types.NullValue, nil
	}
	return v, nil
}

type jsonReader struct {
	p []byte
	i int
}

func (d *jsonReader) unexpected(want string) error {
	if d.i >= len(d.p) {
		return fmt.Errorf("it ends at byte %d, want %s", d.i, want)
	}
	r, _ := utf8.DecodeRune(d.p[d.i:])
	return fmt.Errorf("%q at byte %d, want %s", r, d.i, want)
}

func (d *jsonReader) space() {
	for d.i < len(d.p) {
		switch d.p[d.i] {
		case ' ', '\t', '\n', '\r':
			d.i++
		default:
			return
		}
	}
}

// next skips space and takes c, if it comes.
func (d *jsonReader) next(c byte) bool {
	d.space()
	if d.i < len(d.p) && d.p[d.i] == c {
		d.i++
		return true
	}
	return false
}

func (d *jsonReader) value(depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, errDeep
	}
	d.space()
	if d.i >= len(d.p) {
		return nil, d.unexpected("a value")
	}
	switch c := d.p[d.i]; {
	case c == '{':
		d.i++
		return d.object(depth + 1)
	case c == '[':
		d.i++
		return d.array(depth + 1)
	case c == '"':
		return d.text()
	case c == 't':
		return true, d.word("true")
	case c == 'f':
		return false, d.word("false")
	case c == 'n':
		return nil, d.word("null")
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	}
	return nil, d.unexpected("a value")
}

func (d *jsonReader) word(w string) error {
	if len(d.p)-d.i < len(w) || string(d.p[d.i:d.i+len(w)]) != w {
		return d.unexpected(w)
	}
	d.i += len(w)
	return nil
}

func (d *jsonReader) object(depth int) (any, error) {
	m := map[string]any{}
	if d.next('}') {
		return m, nil
	}
	for {
		if d.space(); d.i >= len(d.p) || d.p[d.i] != '"' {
			return nil, d.unexpected("a name in quotes")
		}
		name, err := d.text()
		if err != nil {
			return nil, err
		}
		if !d.next(':') {
			return nil, d.unexpected("a colon")
		}
		if m[name], err = d.value(depth); err != nil {
			return nil, err
		}
		if d.next('}') {
			return m, nil
		}
		if !d.next(',') {
			return nil, d.unexpected("a comma or }")
		}
	}
}

func (d *jsonReader) array(depth int) (any, error) {
	list := []any{}
	if d.next(']') {
		return list, nil
	}
	for {
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if d.next(']') {
			return list, nil
		}
		if !d.next(',') {
			return nil, d.unexpected("a comma or ]")
		}
	}
}

func (d *jsonReader) number() (any, error) {
	begin, integer := d.i, true
	if d.p[d.i] == '-' {
		d.i++
	}
	if d.i < len(d.p) && d.p[d.i] == '0' {
		d.i++
	} else if !d.digits() {
		return nil, d.unexpected("a digit")
	}
	if d.i < len(d.p) && d.p[d.i] == '.' {
		d.i++
		integer = false
		if !d.digits() {
			return nil, d.unexpected("a digit")
		}
	}
	if d.i < len(d.p) && (d.p[d.i] == 'e' || d.p[d.i] == 'E') {
		d.i++
		integer = false
		if d.i < len(d.p) && (d.p[d.i] == '+' || d.p[d.i] == '-') {
			d.i++
		}
		if !d.digits() {
			return nil, d.unexpected("a digit")
		}
	}
	text := string(d.p[begin:d.i])
	if integer && text != "-0" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, fmt.Errorf("the number %.40s at byte %d is out of range", text, begin)
	}
	return f, nil
}

func (d *jsonReader) digits() bool {
	begin := d.i
	for d.i < len(d.p) && d.p[d.i] >= '0' && d.p[d.i] <= '9' {
		d.i++
	}
	return d.i > begin
}

// text reads a string; the reader stands on its first quote.
func (d *jsonReader) text() (string, error) {
	d.i++
	begin := d.i
	for d.i < len(d.p) {
		switch c := d.p[d.i]; {
		case c == '"':
			s := string(d.p[begin:d.i])
			d.i++
			return s, nil
		case c == '\\':
			return d.escapedText(begin)
		case c < ' ':
			return "", d.unexpected("no control character in a string")
		default:
			d.i++
		}
	}
	return "", d.unexpected("a quote")
}

func (d *jsonReader) escapedText(begin int) (string, error) {
	out := append([]byte(nil), d.p[begin:d.i]...)
	for d.i < len(d.p) {
		switch c := d.p[d.i]; {
		case c == '"':
			d.i++
			return string(out), nil
		case c == '\\':
			d.i++
			var err error
			if out, err = d.escape(out); err != nil {
				return "", err
			}
		case c < ' ':
			return "", d.unexpected("no control character in a string")
		default:
			out = append(out, c)
			d.i++
		}
	}
	return "", d.unexpected("a quote")
}

// escape reads what follows a backslash. Half of a surrogate pair becomes U+FFFD, as elsewhere in Go.
func (d *jsonReader) escape(out []byte) ([]byte, error) {
	if d.i >= len(d.p) {
		return nil, d.unexpected("an escape")
	}
	const escapes, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	c := d.p[d.i]
	for i := range len(escapes) {
		if c == escapes[i] {
			d.i++
			return append(out, meanings[i]), nil
		}
	}
	if c != 'u' {
		return nil, d.unexpected("an escape")
	}
	d.i++
	r, ok := d.hex()
	if !ok {
		return nil, d.unexpected("four hexadecimal digits")
	}
	if utf16.IsSurrogate(r) {
		first := r
		r = utf8.RuneError
		if mark := d.i; d.i+6 <= len(d.p) && d.p[d.i] == '\\' && d.p[d.i+1] == 'u' {
			d.i += 2
			second, ok := d.hex()
			if r = utf16.DecodeRune(first, second); !ok || r == utf8.RuneError {
				d.i = mark // it stands for itself
			}
		}
	}
	return utf8.AppendRune(out, r), nil
}

func (d *jsonReader) hex() (rune, bool) {
	if d.i+4 > len(d.p) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(d.p[d.i:d.i+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	d.i += 4
	return rune(n), true
}
