package expression

import (
	"bytes"
	"unicode/utf8"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// The most common expressions run without the interpreter, and without an allocation: predicates made
// of comparisons and prefixes of key, value and topic, and concatenations of those. Everything else, and
// every record on which such an expression would fail, is left to the interpreter, which alone knows
// CEL's rules about errors.

// predicate is a filter without the interpreter. It is not ok when the interpreter has to decide.
type predicate func(v *variables) (result, ok bool)

// part is one operand: a literal, or a variable whose content is text or bytes as it stands.
type part struct {
	name    string // empty: a literal
	format  graph.Format
	literal []byte
}

// bytes is the content of a part; nil for null. It is not ok for a string that is not UTF-8.
func (p *part) bytes(v *variables) (content []byte, ok bool) {
	switch p.name {
	case "":
		return p.literal, true
	case varTopic:
		return viewBytes(v.batch.Origins[v.record.Origin].Topic), true
	case varKey:
		content = v.batch.Bytes(v.record.Key)
	default:
		content = v.batch.Bytes(v.record.Value)
	}
	return content, p.format != graph.String || utf8.Valid(content)
}

// specializer knows what the variables are.
type specializer struct{ key, value graph.Format }

func (s specializer) operand(e celast.Expr) (part, bool) {
	switch e.Kind() {
	case celast.LiteralKind:
		switch l := e.AsLiteral().(type) {
		case types.String:
			return part{literal: []byte(l), format: graph.String}, true
		case types.Bytes:
			return part{literal: append([]byte{}, l...), format: graph.Bytes}, true
		}
	case celast.IdentKind:
		switch name := e.AsIdent(); name {
		case varTopic:
			return part{name: name, format: graph.String}, true
		case varKey:
			return part{name: name, format: s.key}, s.key != graph.JSON
		case varValue:
			return part{name: name, format: s.value}, s.value != graph.JSON
		}
	}
	return part{}, false
}

// predicate returns nil for what has to be interpreted.
func (s specializer) predicate(e celast.Expr) predicate {
	if e.Kind() != celast.CallKind {
		return nil
	}
	call := e.AsCall()
	switch name, args := call.FunctionName(), call.Args(); name {
	case operators.LogicalAnd:
		return s.all(args, false)
	case operators.LogicalOr:
		return s.all(args, true)
	case operators.LogicalNot:
		if inner := s.predicate(args[0]); inner != nil {
			return func(v *variables) (bool, bool) {
				result, ok := inner(v)
				return !result, ok
			}
		}
	case operators.Equals:
		return s.equals(args, true)
	case operators.NotEquals:
		return s.equals(args, false)
	case "startsWith":
		return s.test(call, bytes.HasPrefix)
	case "endsWith":
		return s.test(call, bytes.HasSuffix)
	case "contains":
		return s.test(call, bytes.Contains)
	}
	return nil
}

// all is "and" (decided by false) or "or" (decided by true).
func (s specializer) all(args []celast.Expr, decisive bool) predicate {
	terms := make([]predicate, len(args))
	for i, a := range args {
		if terms[i] = s.predicate(a); terms[i] == nil {
			return nil
		}
	}
	return func(v *variables) (bool, bool) {
		for _, term := range terms {
			if result, ok := term(v); !ok || result == decisive {
				return result, ok
			}
		}
		return !decisive, true
	}
}

// equals compares with null or with an operand of the same type; null equals nothing but null.
func (s specializer) equals(args []celast.Expr, want bool) predicate {
	left, right := args[0], args[1]
	if isNull(left) {
		left, right = right, left
	}
	a, ok := s.operand(left)
	if !ok {
		return nil
	}
	if isNull(right) {
		return func(v *variables) (bool, bool) {
			content, ok := a.bytes(v)
			return (content == nil) == want, ok
		}
	}
	b, ok := s.operand(right)
	if !ok || a.format != b.format {
		return nil
	}
	return func(v *variables) (bool, bool) {
		x, okX := a.bytes(v)
		y, okY := b.bytes(v)
		return (bytes.Equal(x, y) && (x == nil) == (y == nil)) == want, okX && okY
	}
}

func isNull(e celast.Expr) bool {
	return e.Kind() == celast.LiteralKind && e.AsLiteral() == types.NullValue
}

func (s specializer) test(call celast.CallExpr, test func(s, part []byte) bool) predicate {
	if !call.IsMemberFunction() || len(call.Args()) != 1 {
		return nil
	}
	a, okA := s.operand(call.Target())
	b, okB := s.operand(call.Args()[0])
	if !okA || !okB || a.format != graph.String || b.format != graph.String {
		return nil
	}
	return func(v *variables) (bool, bool) {
		x, okX := a.bytes(v)
		y, okY := b.bytes(v)
		if !okX || !okY || x == nil || y == nil {
			return false, false
		}
		return test(x, y), true
	}
}

// text returns the operands of a concatenation, or of one operand; nil for what has to be interpreted.
func (s specializer) text(e celast.Expr) []part {
	if p, ok := s.operand(e); ok {
		return []part{p}
	}
	if e.Kind() != celast.CallKind || e.AsCall().FunctionName() != operators.Add {
		return nil
	}
	a, b := s.text(e.AsCall().Args()[0]), s.text(e.AsCall().Args()[1])
	if a == nil || b == nil || a[0].format != b[0].format {
		return nil
	}
	return append(a, b...)
}

// appendParts is Append for a concatenation.
func appendParts(parts []part, v *variables, arena []byte) ([]byte, operator.Span, bool) {
	begin := len(arena)
	for i := range parts {
		content, ok := parts[i].bytes(v)
		if ok && content == nil && len(parts) == 1 {
			return arena, operator.Null, true
		}
		if !ok || content == nil || len(arena)-begin+len(content) > MaxResultBytes {
			return arena[:begin], operator.Null, false
		}
		arena = append(arena, content...)
	}
	return arena, operator.Span{Off: uint32(begin), Len: int32(len(arena) - begin)}, true
}
