package expression

import (
	"bytes"
	"errors"
	"slices"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/sluice-stream/sluice/graph"
)

// bytesTests are startsWith, endsWith and contains of bytes, as CEL has them of strings only: value.startsWith(b"x") looks at
// as many bytes as there are in x, while a string has to be valid UTF-8 to its end.
var bytesTests = []struct {
	name, overload string
	holds          func(whole, part []byte) bool
	// costs is CEL's account of the same test of strings, by the lengths: ten bytes are a step, and a hundred pairs of them.
	costs func(whole, part uint64) uint64
}{
	{"startsWith", "starts_with_bytes", bytes.HasPrefix, func(_, part uint64) uint64 { return steps(part) }},
	{"endsWith", "ends_with_bytes", bytes.HasSuffix, func(_, part uint64) uint64 { return steps(part) }},
	{"contains", "contains_bytes", bytes.Contains, func(whole, part uint64) uint64 { return (whole*part + 99) / 100 }},
}

func steps(sizeBytes uint64) uint64 { return (sizeBytes + 9) / 10 }

func bytesFunctions() (all []cel.EnvOption) {
	for _, test := range bytesTests {
		all = append(all, cel.Function(test.name, cel.MemberOverload(test.overload, []*cel.Type{cel.BytesType, cel.BytesType}, cel.BoolType,
			cel.BinaryBinding(func(whole, part ref.Val) ref.Val {
				w, okW := whole.(types.Bytes)
				p, okP := part.(types.Bytes)
				if !okW || !okP {
					return types.MaybeNoSuchOverloadErr(whole)
				}
				return types.Bool(test.holds(w, p))
			}))))
	}
	return all
}

// bytesOfJSON refuses a test of a field of JSON for bytes, which would fail on every record: JSON has none.
func bytesOfJSON(ast *cel.Ast, key, value graph.Format) error {
	native := ast.NativeRep()
	var refused error
	celast.PostOrderVisit(native.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() != celast.CallKind || !e.AsCall().IsMemberFunction() || !ofJSON(e.AsCall().Target(), key, value) {
			return
		}
		for _, test := range bytesTests {
			if slices.Equal(native.GetOverloadIDs(e.ID()), []string{test.overload}) {
				at := native.SourceInfo().GetStartLocation(e.ID())
				refused = errors.Join(refused, fault(at.Line(), at.Column()+1, "write it as a string, or convert it with string(…)",
					"%s looks for bytes in a field of json, which has none", test.name))
			}
		}
	}))
	return refused
}

// ofJSON says whether e is key or value of format json, or a part of it.
func ofJSON(e celast.Expr, key, value graph.Format) bool {
	switch {
	case e.Kind() == celast.SelectKind:
		return ofJSON(e.AsSelect().Operand(), key, value)
	case e.Kind() == celast.CallKind && e.AsCall().FunctionName() == operators.Index:
		return ofJSON(e.AsCall().Args()[0], key, value)
	case e.Kind() != celast.IdentKind:
		return false
	}
	return e.AsIdent() == varKey && key == graph.JSON || e.AsIdent() == varValue && value == graph.JSON
}

// textCosts accounts for the tests of bytes, and for those of two values whose types show only when they run, as in a JSON
// record: CEL takes a call that it cannot place for a step.
type textCosts struct{}

// CallCost implements cost.ActualCostEstimator; nil leaves the call to CEL.
func (textCosts) CallCost(function, overload string, args []ref.Val, _ ref.Val) *uint64 {
	for _, test := range bytesTests {
		if function != test.name || overload != test.overload && overload != "" {
			continue
		}
		cost := test.costs(sizeOfText(args[0]), sizeOfText(args[1]))
		return &cost
	}
	return nil
}

// sizeOfText is the length of a string or of bytes; what is neither costs nothing, as no test looks at it.
func sizeOfText(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v))
	case types.Bytes:
		return uint64(len(v))
	}
	return 0
}
