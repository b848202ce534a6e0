package expression

import (
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/sluice-stream/sluice/graph"
)

// The most common expressions run without the interpreter, and without an allocation: comparisons, tests and
// concatenations of key, value, topic, literals and the fields of JSON values, and maps and lists made of those.
// Everything else, and every record on which such an expression would fail or which is unusual, is left to the
// interpreter, which alone knows CEL's rules about errors. Tests hold the two against each other.

// predicate is a condition without the interpreter. It is not ok when the interpreter has to decide.
type predicate func(v *variables) (result, ok bool)

// operand is a value without the interpreter, likewise.
type operand func(v *variables) (scalar, bool)

// specializer knows what the variables are. Its methods return nil for what has to be interpreted.
type specializer struct{ key, value graph.Format }

// predicate is for what must be a bool.
func (s specializer) predicate(e celast.Expr) predicate {
	if p := s.test(e); p != nil {
		return p
	}
	value := s.plain(e)
	if value == nil {
		return nil
	}
	return func(v *variables) (bool, bool) {
		x, ok := value(v)
		return x.bits != 0, ok && x.kind == kindBool
	}
}

// test is for calls whose result is always a bool.
func (s specializer) test(e celast.Expr) predicate {
	if e.Kind() == celast.SelectKind && e.AsSelect().IsTestOnly() {
		return s.has(e.AsSelect())
	}
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
		return not(s.predicate(args[0]))
	case operators.Equals:
		return s.equals(args)
	case operators.NotEquals:
		return not(s.equals(args))
	case operators.In:
		return s.in(args)
	case operators.Less:
		return s.ordered(args, func(sign int) bool { return sign < 0 })
	case operators.LessEquals:
		return s.ordered(args, func(sign int) bool { return sign <= 0 })
	case operators.Greater:
		return s.ordered(args, func(sign int) bool { return sign > 0 })
	case operators.GreaterEquals:
		return s.ordered(args, func(sign int) bool { return sign >= 0 })
	case "startsWith":
		return s.textTest(call, startsWith)
	case "endsWith":
		return s.textTest(call, endsWith)
	case "contains":
		return s.textTest(call, contains)
	}
	return nil
}

func not(p predicate) predicate {
	if p == nil {
		return nil
	}
	return func(v *variables) (bool, bool) {
		result, ok := p(v)
		return !result, ok
	}
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

// both compiles two operands.
func (s specializer) both(args []celast.Expr) (a, b operand, ok bool) {
	a, b = s.operand(args[0]), s.operand(args[1])
	return a, b, a != nil && b != nil
}

func (s specializer) equals(args []celast.Expr) predicate {
	a, b, ok := s.both(args)
	if !ok {
		return nil
	}
	return func(v *variables) (bool, bool) {
		x, okX := a(v)
		y, okY := b(v)
		if !okX || !okY {
			return false, false
		}
		return x.equals(&y)
	}
}

// in looks for an operand in a list that is written out.
func (s specializer) in(args []celast.Expr) predicate {
	if args[1].Kind() != celast.ListKind || len(args[1].AsList().OptionalIndices()) > 0 {
		return nil
	}
	wanted := s.operand(args[0])
	var elements []operand
	for _, e := range args[1].AsList().Elements() {
		elements = append(elements, s.operand(e))
		if elements[len(elements)-1] == nil {
			return nil
		}
	}
	if wanted == nil {
		return nil
	}
	return func(v *variables) (bool, bool) {
		x, ok := wanted(v)
		found := false
		for _, e := range elements { // all of them: any may fail
			y, okY := e(v)
			if !ok || !okY {
				return false, false
			}
			equal, okEqual := x.equals(&y)
			if !okEqual {
				return false, false
			}
			found = found || equal
		}
		return found, ok
	}
}

func (s specializer) ordered(args []celast.Expr, holds func(sign int) bool) predicate {
	a, b, ok := s.both(args)
	if !ok {
		return nil
	}
	return func(v *variables) (bool, bool) {
		x, okX := a(v)
		y, okY := b(v)
		if !okX || !okY {
			return false, false
		}
		sign, ok := x.compare(&y)
		return holds(sign), ok
	}
}

// textTest is one of CEL's tests of a string, or of bytes, for a part of the same kind. A switch costs less than a call of a function value.
type textTest int

const (
	startsWith textTest = iota
	endsWith
	contains
)

func (t textTest) holds(text, part string) bool {
	switch t {
	case startsWith:
		return strings.HasPrefix(text, part)
	case endsWith:
		return strings.HasSuffix(text, part)
	default:
		return strings.Contains(text, part)
	}
}

func (s specializer) textTest(call celast.CallExpr, test textTest) predicate {
	if !call.IsMemberFunction() || len(call.Args()) != 1 {
		return nil
	}
	a, b, ok := s.both([]celast.Expr{call.Target(), call.Args()[0]})
	if !ok {
		return nil
	}
	if part, ok := literalScalar(literalOf(call.Args()[0])); ok && part.isText() {
		if direct := s.textOf(call.Target(), part, test); direct != nil {
			return direct
		}
		return func(v *variables) (bool, bool) {
			x, ok := a(v)
			return ok && x.kind == part.kind && test.holds(x.text, part.text), ok && x.kind == part.kind
		}
	}
	return func(v *variables) (bool, bool) {
		x, okX := a(v)
		y, okY := b(v)
		if !okX || !okY || !x.isText() || y.kind != x.kind {
			return false, false
		}
		return test.holds(x.text, y.text), true
	}
}

// textOf tests a whole key or value of format string or bytes, which most filters do, without an operand in between.
func (s specializer) textOf(of celast.Expr, part scalar, test textTest) predicate {
	if of.Kind() != celast.IdentKind {
		return nil
	}
	want := graph.String
	if part.kind == kindBytes {
		want = graph.Bytes
	}
	isKey := of.AsIdent() == varKey
	if !(isKey && s.key == want || of.AsIdent() == varValue && s.value == want) {
		return nil
	}
	return func(v *variables) (bool, bool) {
		span := v.record.Value
		if isKey {
			span = v.record.Key
		}
		text := v.batch.Bytes(span)
		if text == nil || want == graph.String && !validText(text) {
			return false, false
		}
		return test.holds(viewString(text), part.text), true
	}
}

// has is the macro: whether an object has a field.
func (s specializer) has(e celast.SelectExpr) predicate {
	find := s.field(e.Operand(), e.FieldName())
	if find == nil {
		return nil
	}
	return func(v *variables) (bool, bool) {
		_, has, ok := find(v)
		return has, ok
	}
}

// operand is any value.
func (s specializer) operand(e celast.Expr) operand {
	if p := s.test(e); p != nil {
		return func(v *variables) (scalar, bool) {
			result, ok := p(v)
			return boolScalar(result), ok
		}
	}
	return s.plain(e)
}

// plain is an operand that is no test.
func (s specializer) plain(e celast.Expr) operand {
	switch e.Kind() {
	case celast.LiteralKind:
		if literal, ok := literalScalar(e.AsLiteral()); ok {
			return func(*variables) (scalar, bool) { return literal, true }
		}
	case celast.IdentKind:
		return s.variable(e.AsIdent())
	case celast.SelectKind:
		if sel := e.AsSelect(); !sel.IsTestOnly() {
			return reading(s.field(sel.Operand(), sel.FieldName()))
		}
	case celast.CallKind:
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.Index:
			if name, ok := literalScalar(literalOf(call.Args()[1])); ok && name.kind == kindString {
				return reading(s.field(call.Args()[0], name.text))
			}
		case operators.Conditional:
			return s.conditional(call.Args())
		case operators.Add, operators.Subtract, operators.Multiply:
			return s.arithmetic(call)
		}
	}
	return nil
}

func (s specializer) variable(name string) operand {
	switch name {
	case varTopic:
		return func(v *variables) (scalar, bool) {
			return scalar{kind: kindString, text: v.batch.Origins[v.record.Origin].Topic}, true
		}
	case varKey:
		return content(s.key, func(v *variables) []byte { return v.batch.Bytes(v.record.Key) }, (*variables).keyDocument)
	case varValue:
		return content(s.value, func(v *variables) []byte { return v.batch.Bytes(v.record.Value) }, (*variables).valueDocument)
	}
	return nil
}

// content is a key or value as a whole.
func content(f graph.Format, bytesOf func(*variables) []byte, documentOf func(*variables) *document) operand {
	kind := kindBytes
	switch f {
	case graph.JSON:
		return func(v *variables) (scalar, bool) {
			if bytesOf(v) == nil {
				return scalar{}, true
			}
			d := documentOf(v)
			if !d.valid {
				return scalar{}, false
			}
			return readScalar(d.text)
		}
	case graph.String:
		kind = kindString
	}
	return func(v *variables) (scalar, bool) {
		p := bytesOf(v)
		if p == nil {
			return scalar{}, true
		}
		return scalar{kind: kind, text: viewString(p)}, kind != kindString || validText(p)
	}
}

// finder finds the text of a field. It is not ok if what should have it is no object.
type finder func(v *variables) (value []byte, has, ok bool)

func (s specializer) field(of celast.Expr, fieldName string) finder {
	name := []byte(fieldName)
	if of.Kind() == celast.IdentKind {
		switch variable := of.AsIdent(); {
		case variable == varValue && s.value == graph.JSON:
			return func(v *variables) ([]byte, bool, bool) { return v.valueDocument().field(name) }
		case variable == varKey && s.key == graph.JSON:
			return func(v *variables) ([]byte, bool, bool) { return v.keyDocument().field(name) }
		}
		return nil
	}
	outer := s.plain(of)
	if outer == nil {
		return nil
	}
	return func(v *variables) ([]byte, bool, bool) {
		tree, ok := outer(v)
		if !ok || tree.kind != kindTree {
			return nil, false, false
		}
		return v.fieldOf(viewBytes(tree.text), name)
	}
}

func reading(find finder) operand {
	if find == nil {
		return nil
	}
	return func(v *variables) (scalar, bool) {
		text, has, ok := find(v)
		if !ok || !has {
			return scalar{}, false
		}
		return readScalar(text)
	}
}

func (s specializer) conditional(args []celast.Expr) operand {
	condition := s.predicate(args[0])
	yes, no, ok := s.both(args[1:])
	if condition == nil || !ok {
		return nil
	}
	return func(v *variables) (scalar, bool) {
		switch holds, ok := condition(v); {
		case !ok:
			return scalar{}, false
		case holds:
			return yes(v)
		}
		return no(v)
	}
}

func (s specializer) arithmetic(call celast.CallExpr) operand {
	a, b, ok := s.both(call.Args())
	compute := arithmetics[call.FunctionName()]
	if !ok || compute == nil {
		return nil
	}
	return func(v *variables) (scalar, bool) {
		x, okX := a(v)
		y, okY := b(v)
		if !okX || !okY {
			return scalar{}, false
		}
		return compute(&x, &y)
	}
}
