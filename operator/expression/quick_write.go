package expression

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/sluice-stream/sluice/operator"
)

// writer appends a value to dst without the interpreter, in the form of a record or as JSON. It is not ok when the
// interpreter has to make it; what has been appended then does not count.
type writer func(v *variables, dst []byte) (out []byte, ok bool)

// result makes a key or value: by one operand, which may be null and then leaves nothing, or by a writer. It has
// neither when it has to be interpreted.
type result struct {
	value operand
	write writer
}

func (r *result) interpreted() bool { return r.value == nil && r.write == nil }

func (s specializer) result(e celast.Expr) result {
	for _, write := range []writer{s.structure(e), s.concatenation(e), s.converted(e)} {
		if write != nil {
			return result{write: write}
		}
	}
	return result{value: s.operand(e)}
}

// append is Append without the interpreter.
func (r *result) append(v *variables, arena []byte) ([]byte, operator.Span, bool) {
	begin, ok := len(arena), false
	if r.value == nil {
		arena, ok = r.write(v, arena)
	} else {
		var x scalar
		if x, ok = r.value(v); ok && x.kind == kindNull {
			return arena, operator.Null, true
		}
		if ok {
			arena, ok = x.appendTo(arena)
		}
	}
	if !ok || len(arena)-begin > MaxResultBytes {
		return arena[:begin], operator.Null, false
	}
	return arena, operator.Span{Off: uint32(begin), Len: int32(len(arena) - begin)}, true
}

// converted is string() of what has the same form in a record.
func (s specializer) converted(e celast.Expr) writer {
	if e.Kind() != celast.CallKind || e.AsCall().FunctionName() != "string" || len(e.AsCall().Args()) != 1 {
		return nil
	}
	value := s.operand(e.AsCall().Args()[0])
	if value == nil {
		return nil
	}
	return func(v *variables, dst []byte) ([]byte, bool) {
		x, ok := value(v)
		if !ok || x.kind != kindString && x.kind != kindInt && x.kind != kindBool {
			return dst, false
		}
		return x.appendTo(dst)
	}
}

// appendTo is the form of a scalar in a record. Null has none, and a tree would have to be brought into order.
func (x *scalar) appendTo(dst []byte) ([]byte, bool) {
	switch x.kind {
	case kindString, kindBytes:
		return append(dst, x.text...), len(x.text) <= MaxResultBytes
	case kindBool:
		return strconv.AppendBool(dst, x.bits != 0), true
	case kindInt:
		return strconv.AppendInt(dst, int64(x.bits), 10), true
	case kindDouble:
		return appendDouble(dst, x.double()), true
	}
	return dst, false
}

// concatenation is of strings, or of bytes.
func (s specializer) concatenation(e celast.Expr) writer {
	parts := s.summands(e)
	if len(parts) < 2 {
		return nil
	}
	return func(v *variables, dst []byte) ([]byte, bool) {
		begin, of := len(dst), kindNull
		for i, part := range parts {
			x, ok := part(v)
			if i == 0 {
				of = x.kind
			}
			if !ok || x.kind != of || of != kindString && of != kindBytes || len(dst)-begin+len(x.text) > MaxResultBytes {
				return dst, false
			}
			dst = append(dst, x.text...)
		}
		return dst, true
	}
}

// summands are the operands of a sum, or one operand; nil if one of them has to be interpreted.
func (s specializer) summands(e celast.Expr) []operand {
	if e.Kind() == celast.CallKind && e.AsCall().FunctionName() == operators.Add {
		a, b := s.summands(e.AsCall().Args()[0]), s.summands(e.AsCall().Args()[1])
		if a == nil || b == nil {
			return nil
		}
		return append(a, b...)
	}
	if o := s.operand(e); o != nil {
		return []operand{o}
	}
	return nil
}

// structure writes a map or list that is written out, as JSON.
func (s specializer) structure(e celast.Expr) writer {
	switch e.Kind() {
	case celast.MapKind:
		return s.object(e.AsMap())
	case celast.ListKind:
		return s.array(e.AsList())
	}
	return nil
}

func (s specializer) json(e celast.Expr) writer {
	if w := s.structure(e); w != nil {
		return w
	}
	value := s.operand(e)
	if value == nil {
		return nil
	}
	return func(v *variables, dst []byte) ([]byte, bool) {
		x, ok := value(v)
		if !ok || len(x.text) > MaxResultBytes {
			return dst, false
		}
		switch x.kind {
		case kindNull:
			return append(dst, "null"...), true
		case kindString:
			return appendQuoted(dst, x.text), true
		case kindBytes:
			dst = base64.StdEncoding.AppendEncode(append(dst, '"'), viewBytes(x.text))
			return append(dst, '"'), true
		}
		return x.appendTo(dst)
	}
}

// entry is one of a map or list: what stands before the value, and the value.
type entry struct {
	name, before string
	value        writer
}

// writeEntries writes a map or list between its brackets.
func writeEntries(entries []entry, end byte) writer {
	return func(v *variables, dst []byte) ([]byte, bool) {
		begin, ok := len(dst), true
		for i := range entries {
			dst = append(dst, entries[i].before...)
			if dst, ok = entries[i].value(v, dst); !ok || len(dst)-begin > MaxResultBytes {
				return dst, false
			}
		}
		return append(dst, end), true
	}
}

// object has the keys of the map in order, as appendJSON has them.
func (s specializer) object(m celast.MapExpr) writer {
	var entries []entry
	for _, e := range m.Entries() {
		name, ok := literalScalar(literalOf(e.AsMapEntry().Key()))
		value := s.json(e.AsMapEntry().Value())
		if !ok || name.kind != kindString || value == nil || e.AsMapEntry().IsOptional() {
			return nil
		}
		entries = append(entries, entry{name: name.text, value: value})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	if len(entries) == 0 {
		return nil
	}
	mark := byte('{')
	for i := range entries {
		if i > 0 && entries[i].name == entries[i-1].name {
			return nil
		}
		entries[i].before = string(append(appendQuoted([]byte{mark}, entries[i].name), ':'))
		mark = ','
	}
	return writeEntries(entries, '}')
}

func (s specializer) array(l celast.ListExpr) writer {
	if len(l.OptionalIndices()) > 0 || l.Size() == 0 {
		return nil
	}
	var entries []entry
	mark := "["
	for _, e := range l.Elements() {
		value := s.json(e)
		if value == nil {
			return nil
		}
		entries = append(entries, entry{before: mark, value: value})
		mark = ","
	}
	return writeEntries(entries, ']')
}
