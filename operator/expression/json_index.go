package expression

import (
	"bytes"
	"strconv"
)

// document is a JSON text whose fields have been found but not read: what expressions without the interpreter
// see of a key or value. Anything unusual (escapes in names, numbers of hundreds of digits) is left to parseJSON,
// and so is everything that is not JSON.
type document struct {
	// current: the rest is about the record of now. valid: source is JSON.
	current, valid bool
	source         []byte
	text           []byte      // without space around it; only of a valid one
	fields         []jsonField // of an object
}

// jsonField is where a field of an object stands in its text.
type jsonField struct {
	nameAt, nameEnd, valueAt, valueEnd uint32
}

// read turns to another text; its memory is used again.
func (d *document) read(text []byte) {
	d.current, d.source, d.fields = true, text, d.fields[:0]
	begin, end := skipSpace(text, 0), -1
	switch {
	case begin == len(text) || !validText(text):
	case text[begin] == '{':
		end = passObject(text, begin, 0, &d.fields)
	default:
		end = passValue(text, begin, 0)
	}
	if d.valid = end >= 0 && skipSpace(text, end) == len(text); d.valid {
		d.text = text[begin:end]
	}
}

// field is the text of a field of the object. It is not ok if the text is
// no object.
func (d *document) field(name []byte) (value []byte, has, ok bool) {
	if !d.valid {
		return nil, false, false
	}
	value, has = lookUp(d.source, d.fields, name)
	return value, has, has || d.text[0] == '{'
}

// lookUp finds a field by its name; of equal names the last one counts.
func lookUp(text []byte, fields []jsonField, name []byte) (value []byte, has bool) {
	for i := len(fields) - 1; i >= 0; i-- {
		if f := &fields[i]; string(text[f.nameAt:f.nameEnd]) == string(name) {
			return text[f.valueAt:f.valueEnd], true
		}
	}
	return nil, false
}

// fieldOf is document.field for an object inside of a text that has been checked.
func (v *variables) fieldOf(text, name []byte) (value []byte, has, ok bool) {
	if text[0] != '{' {
		return nil, false, false
	}
	v.inner = v.inner[:0]
	ok = passObject(text, 0, 0, &v.inner) >= 0
	value, has = lookUp(text, v.inner, name)
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
		return scalar{kind: kindTree, text: viewString(text)}, true
	case '"':
		content := text[1 : len(text)-1]
		if hasEscape(content) {
			return scalar{}, false
		}
		return scalar{kind: kindString, text: viewString(content)}, true
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
