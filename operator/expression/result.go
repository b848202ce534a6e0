package expression

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// Append appends the result of a key, value or keyBy expression to arena, which is not the arena of the
// record's own batch, and returns its span: strings and bytes as they are, numbers and bools as text,
// timestamps and durations as text too, maps and lists as JSON; null gives operator.Null and, as a
// keyBy, no error either: null is a key of its own.
func (p *Program) Append(r *Record, arena []byte) ([]byte, operator.Span, error) {
	if !p.result.interpreted() {
		if arena, span, ok := p.result.append(&r.vars, arena); ok {
			return arena, span, nil
		}
	}
	out, err := p.eval(r)
	if err != nil {
		return arena, operator.Null, err
	}
	return appendSpan(arena, out, p.use != graph.UseKeyBy)
}

// AppendList appends the elements of a flatMap expression's list to arena, each as Append does, and
// their spans to spans.
func (p *Program) AppendList(r *Record, arena []byte, spans []operator.Span) ([]byte, []operator.Span, error) {
	out, err := p.eval(r)
	if err != nil {
		return arena, spans, err
	}
	list, ok := out.(traits.Lister)
	if !ok {
		return arena, spans, unexpected(out, "a list")
	}
	begin := len(arena)
	if n, ok := list.Size().(types.Int); ok && n > MaxListElements {
		return arena, spans, fmt.Errorf("the list has %d elements, at most %d may be", n, MaxListElements)
	}
	if words, ok := list.Value().([]string); ok && textBytes(words) <= MaxResultBytes { // of split, without a box around each
		for _, w := range words {
			spans = append(spans, operator.Span{Off: uint32(len(arena)), Len: int32(len(w))})
			arena = append(arena, w...)
		}
		return arena, spans, nil
	}
	for it, i := list.Iterator(), 0; it.HasNext() == types.True; i++ {
		var span operator.Span
		if arena, span, err = appendSpan(arena, it.Next(), true); err != nil {
			return arena, spans, fmt.Errorf("element %d: %w", i, err)
		}
		if len(arena)-begin > MaxListBytes {
			return arena, spans, fmt.Errorf("the list has more than %d bytes", MaxListBytes)
		}
		spans = append(spans, span)
	}
	return arena, spans, nil
}

func textBytes(words []string) int {
	n := 0
	for _, w := range words {
		n += len(w)
	}
	return n
}

// AppendHeaders appends the result of a headers expression in the form of operator.Record.Headers. An
// empty list gives operator.Null: no headers.
func (p *Program) AppendHeaders(r *Record, arena []byte) ([]byte, operator.Span, error) {
	out, err := p.eval(r)
	if err != nil {
		return arena, operator.Null, err
	}
	list, ok := out.(traits.Lister)
	if !ok {
		return arena, operator.Null, unexpected(out, "a list of {key, value}")
	}
	size, _ := list.Size().(types.Int)
	if size == 0 {
		return arena, operator.Null, nil
	}
	begin := len(arena)
	arena = binary.AppendVarint(arena, int64(size))
	for it, i := list.Iterator(), 0; it.HasNext() == types.True; i++ {
		if arena, err = appendHeader(arena, it.Next()); err != nil {
			return arena, operator.Null, fmt.Errorf("header %d: %w", i, err)
		}
		if len(arena)-begin > MaxResultBytes {
			return arena, operator.Null, errTooLarge
		}
	}
	return arena, operator.Span{Off: uint32(begin), Len: int32(len(arena) - begin)}, nil
}

var (
	errTooLarge  = fmt.Errorf("the result has more than %d bytes, the limit of a record", MaxResultBytes)
	headerFields = [2]ref.Val{types.String("key"), types.String("value")}
)

func appendHeader(arena []byte, header ref.Val) ([]byte, error) {
	m, ok := header.(traits.Mapper)
	if !ok {
		return arena, unexpected(header, "{key, value}")
	}
	key, okKey := m.Find(headerFields[0])
	value, okValue := m.Find(headerFields[1])
	if !okKey || !okValue || m.Size() != types.Int(2) {
		return arena, errors.New("it has other fields than key and value, or not both")
	}
	text, ok := key.(types.String)
	if !ok {
		return arena, fmt.Errorf("key: %w", unexpected(key, "a string"))
	}
	arena = binary.AppendVarint(arena, int64(len(text)))
	arena = append(arena, text...)
	if value == types.NullValue {
		return binary.AppendVarint(arena, -1), nil
	}
	begin := len(arena)
	arena, err := appendValue(arena, value, true)
	if err != nil {
		return arena, fmt.Errorf("value: %w", err)
	}
	// The length stands in front of what is known only now.
	var length [binary.MaxVarintLen64]byte
	n := binary.PutVarint(length[:], int64(len(arena)-begin))
	arena = append(arena, length[:n]...)
	copy(arena[begin+n:], arena[begin:len(arena)-n])
	copy(arena[begin:], length[:n])
	return arena, nil
}

func appendSpan(arena []byte, v ref.Val, structures bool) ([]byte, operator.Span, error) {
	if v == types.NullValue {
		return arena, operator.Null, nil
	}
	begin := len(arena)
	arena, err := appendValue(arena, v, structures)
	if err != nil {
		return arena[:begin], operator.Null, err
	}
	if len(arena)-begin > MaxResultBytes {
		return arena[:begin], operator.Null, errTooLarge
	}
	return arena, operator.Span{Off: uint32(begin), Len: int32(len(arena) - begin)}, nil
}

// appendValue is the form of a value that is not null. Maps and lists are allowed with structures only.
func appendValue(dst []byte, v ref.Val, structures bool) ([]byte, error) {
	switch v := v.(type) {
	case types.String:
		return append(dst, v...), nil
	case types.Bytes:
		return append(dst, v...), nil
	case types.Int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case types.Uint:
		return strconv.AppendUint(dst, uint64(v), 10), nil
	case types.Bool:
		return strconv.AppendBool(dst, bool(v)), nil
	case types.Double:
		return appendDouble(dst, float64(v)), nil
	case types.Timestamp:
		return v.AppendFormat(dst, time.RFC3339Nano), nil
	case types.Duration:
		return appendSeconds(dst, v.Duration), nil
	case traits.Mapper, traits.Lister:
		if structures {
			return appendJSON(dst, v, 0, len(dst)+MaxResultBytes)
		}
	}
	if !structures {
		return dst, unexpected(v, "a string, bytes, number or bool")
	}
	return dst, unexpected(v, "what a record can hold")
}

// appendSeconds prints a duration as CEL's string() and JSON do: in seconds.
func appendSeconds(dst []byte, d time.Duration) []byte {
	return append(strconv.AppendFloat(dst, d.Seconds(), 'f', -1, 64), 's')
}

func unexpected(v ref.Val, want string) error {
	if v == types.NullValue {
		return errors.New("the result is null, want " + want)
	}
	name := v.Type().TypeName()
	if t, ok := v.Type().(*types.Type); ok {
		name, _, _ = strings.Cut(typeName(t), "(")
	}
	return errors.New("the result is of type " + name + ", want " + want)
}

func asBool(v ref.Val) (bool, error) {
	b, ok := v.(types.Bool)
	if !ok {
		return false, unexpected(v, "a bool")
	}
	return bool(b), nil
}

func asString(v ref.Val) (string, error) {
	s, ok := v.(types.String)
	if !ok {
		return "", unexpected(v, "a string")
	}
	return string(s), nil
}

func asInt(v ref.Val) (int64, error) {
	n, ok := v.(types.Int)
	if !ok {
		return 0, unexpected(v, "an int")
	}
	return int64(n), nil
}

func asMillis(v ref.Val) (int64, error) {
	if v == types.NullValue {
		return -1, nil
	}
	t, ok := v.(types.Timestamp)
	if !ok {
		return 0, unexpected(v, "a timestamp")
	}
	ms := t.UnixMilli()
	if ms < 0 {
		return 0, fmt.Errorf("the timestamp %s is before 1970, which Kafka does not take", t.Format(time.RFC3339))
	}
	return ms, nil
}
