package expression

import (
	"cmp"
	"math"
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// kind is the type of a scalar.
type kind uint8

// The kinds. A tree is a map or list of a JSON value, as its text.
const (
	kindNull kind = iota
	kindBool
	kindInt
	kindDouble
	kindString
	kindBytes
	kindTree
)

// scalar is a value without a box.
type scalar struct {
	kind kind
	// bits are those of an int or double; 1 for true.
	bits uint64
	// text is a string, which is valid UTF-8, bytes, or a tree. It is a view of the batch, and no slice, so that a scalar
	// has four words: Go keeps no more in registers.
	text string
}

func boolScalar(b bool) scalar {
	if b {
		return scalar{kind: kindBool, bits: 1}
	}
	return scalar{kind: kindBool}
}

func doubleScalar(f float64) scalar { return scalar{kind: kindDouble, bits: math.Float64bits(f)} }

func (x *scalar) double() float64 { return math.Float64frombits(x.bits) }

// literalOf is nil for what is no literal.
func literalOf(e celast.Expr) ref.Val {
	if e.Kind() != celast.LiteralKind {
		return nil
	}
	return e.AsLiteral()
}

func literalScalar(v ref.Val) (scalar, bool) {
	switch l := v.(type) {
	case types.Null:
		return scalar{}, true
	case types.Bool:
		return boolScalar(bool(l)), true
	case types.Int:
		return scalar{kind: kindInt, bits: uint64(l)}, true
	case types.Double:
		return doubleScalar(float64(l)), !math.IsNaN(float64(l))
	case types.String:
		return scalar{kind: kindString, text: string(l)}, true
	case types.Bytes:
		return scalar{kind: kindBytes, text: string(l)}, true
	}
	return scalar{}, false
}

// equals is CEL's: values of different types differ, but numbers are compared as numbers. Whether two trees are equal
// is not known here.
func (x *scalar) equals(y *scalar) (result, ok bool) {
	switch {
	case x.isNumber() && y.isNumber():
		sign, ok := x.compare(y)
		return sign == 0, ok
	case x.kind != y.kind:
		return false, true
	case x.kind == kindString || x.kind == kindBytes:
		return x.text == y.text, true
	}
	return x.bits == y.bits, x.kind != kindTree
}

// isText says that text is all of it: a string or bytes.
func (x *scalar) isText() bool { return x.kind == kindString || x.kind == kindBytes }

func (x *scalar) isNumber() bool { return x.kind == kindInt || x.kind == kindDouble }

// exactInts are those that a double holds exactly.
const exactInts = 1 << 53

// asDouble is a number as a double, if nothing is lost.
func (x *scalar) asDouble() (float64, bool) {
	if x.kind == kindDouble {
		return x.double(), true
	}
	n := int64(x.bits)
	return float64(n), x.kind == kindInt && -exactInts <= n && n <= exactInts
}

// compare is the order of numbers, strings and bytes.
func (x *scalar) compare(y *scalar) (sign int, ok bool) {
	switch {
	case x.kind == kindInt && y.kind == kindInt:
		return cmp.Compare(int64(x.bits), int64(y.bits)), true
	case x.isNumber() && y.isNumber():
		f, okX := x.asDouble()
		g, okY := y.asDouble()
		return cmp.Compare(f, g), okX && okY
	case x.kind == y.kind && x.isText():
		return strings.Compare(x.text, y.text), true
	}
	return 0, false
}

// arithmetics are for two ints or two doubles; overflow is an error, which the interpreter words.
var arithmetics = map[string]func(x, y *scalar) (scalar, bool){
	operators.Add: arithmetic(func(a, b int64) (int64, bool) { return a + b, (a+b < a) == (b < 0) },
		func(a, b float64) float64 { return a + b }),
	operators.Subtract: arithmetic(func(a, b int64) (int64, bool) { return a - b, (a-b > a) == (b < 0) },
		func(a, b float64) float64 { return a - b }),
	operators.Multiply: arithmetic(func(a, b int64) (int64, bool) { return a * b, isSmall(a) && isSmall(b) },
		func(a, b float64) float64 { return a * b }),
}

// isSmall says that the product with another small one fits.
func isSmall(n int64) bool { return -1<<31 < n && n < 1<<31 }

func arithmetic(ints func(a, b int64) (int64, bool), doubles func(a, b float64) float64) func(x, y *scalar) (scalar, bool) {
	return func(x, y *scalar) (scalar, bool) {
		switch {
		case x.kind == kindInt && y.kind == kindInt:
			n, ok := ints(int64(x.bits), int64(y.bits))
			return scalar{kind: kindInt, bits: uint64(n)}, ok
		case x.kind == kindDouble && y.kind == kindDouble:
			f := doubles(x.double(), y.double())
			return doubleScalar(f), !math.IsNaN(f) && !math.IsInf(f, 0)
		}
		return scalar{}, false
	}
}
