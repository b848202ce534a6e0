package expression

import (
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

var errDeep = errors.New("maps and lists are nested deeper than " + strconv.Itoa(maxJSONDepth))

// appendJSON writes a value as JSON: the keys of maps sorted, so that equal values give equal bytes;
// bytes as base64; timestamps in RFC 3339 and durations in seconds, as in protobuf's JSON. It stops when
// dst grows beyond limit.
func appendJSON(dst []byte, v ref.Val, depth, limit int) ([]byte, error) {
	if depth > maxJSONDepth {
		return dst, errDeep
	}
	if len(dst) > limit {
		return dst, errTooLarge
	}
	switch v := v.(type) {
	case types.Null:
		return append(dst, "null"...), nil
	case types.String:
		return appendQuoted(dst, string(v)), nil
	case types.Bytes:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v)
		return append(dst, '"'), nil
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return dst, errors.New("JSON has no number " + string(appendDouble(nil, float64(v))))
		}
		return appendDouble(dst, float64(v)), nil
	case types.Timestamp:
		dst = v.AppendFormat(append(dst, '"'), time.RFC3339Nano)
		return append(dst, '"'), nil
	case types.Duration:
		return append(appendSeconds(append(dst, '"'), v.Duration), '"'), nil
	case traits.Mapper:
		return appendObject(dst, v, depth, limit)
	case traits.Lister:
		return appendArray(dst, v, depth, limit)
	default:
		return appendValue(dst, v, true)
	}
}

func appendArray(dst []byte, list traits.Lister, depth, limit int) ([]byte, error) {
	dst = append(dst, '[')
	var err error
	for it, first := list.Iterator(), true; it.HasNext() == types.True; first = false {
		if !first {
			dst = append(dst, ',')
		}
		if dst, err = appendJSON(dst, it.Next(), depth+1, limit); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

func appendObject(dst []byte, m traits.Mapper, depth, limit int) ([]byte, error) {
	type field struct {
		name string
		key  ref.Val
	}
	var fields []field
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, err := fieldName(key)
		if err != nil {
			return dst, err
		}
		fields = append(fields, field{name, key})
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	dst = append(dst, '{')
	var err error
	for i, f := range fields {
		if i > 0 {
			if f.name == fields[i-1].name {
				return dst, errors.New("two keys of a map become the same name " + strconv.Quote(f.name))
			}
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, f.name), ':')
		if dst, err = appendJSON(dst, m.Get(f.key), depth+1, limit); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func fieldName(key ref.Val) (string, error) {
	if s, ok := key.(types.String); ok {
		return string(s), nil
	}
	text, err := appendValue(nil, key, false)
	return string(text), err
}

// appendDouble prints the shortest text that reads back as the same number, like JavaScript and
// encoding/json: with an exponent only for very small and very large ones.
func appendDouble(dst []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	begin := len(dst)
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	if n := len(dst); format == 'e' && n-begin >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1] // e-09 to e-9
		dst = dst[:n-1]
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes valid UTF-8 as a JSON string; only what must be escaped is.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	begin := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[begin:i]...)
		begin = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[begin:]...)
	return append(dst, '"')
}
