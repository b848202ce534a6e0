// Package expression compiles and runs the expressions of a job file. They are CEL
// (https://cel.dev) with its optional values and the extension libraries for strings, lists, math,
// base64, cel.bind and comprehensions over two variables.
//
// An expression sees one record:
//
//	key, value  by their formats: bytes, string, or json (dyn); null stays null in all of them
//	headers     a list of {key: string, value: bytes or null}, in order, duplicates kept
//	timestamp   a timestamp, null for a record without one
//	topic, partition, offset   where the record was read
//
// An integer of a json is an int, any other number a double; comparisons mix the two freely, arithmetic
// wants int() or double().
package expression

import (
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/sluice-stream/sluice/graph"
)

// Limits of expressions.
const (
	// MaxSourceBytes is the longest expression.
	MaxSourceBytes = 64 << 10
	// MaxResultBytes is the largest result: a record cannot be larger (DESIGN section 9).
	MaxResultBytes = 16 << 20
	// MaxListBytes is the limit of all elements of one flatMap list together.
	MaxListBytes = 64 << 20
	// MaxListElements is how many elements one flatMap list may have: empty ones have no bytes, and each becomes a record.
	MaxListElements = 1 << 20
	// MaxCost is how much one evaluation may do, in CEL's own units (roughly: a step, or ten bytes of a
	// string looked at), which is some seconds at worst. Unlike a deadline it gives the same verdict
	// whenever a record is read again.
	MaxCost = 20_000_000

	maxNodes          = 20_000
	maxNesting        = 200
	maxComprehensions = 4 // one inside the other
	maxBinds          = 16
	maxRegexProgram   = 1000
	maxRange          = 100_000 // of lists.range
)

// The variables of expressions.
const (
	varKey       = "key"
	varValue     = "value"
	varHeaders   = "headers"
	varTimestamp = "timestamp"
	varTopic     = "topic"
	varPartition = "partition"
	varOffset    = "offset"
)

// base is the environment without key and value. It is made once, when first needed: programs that run
// no expression start without it.
var base = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(append(bytesFunctions(),
		cel.OptionalTypes(), ext.Strings(), ext.Lists(ext.ListsMaxRangeSize(maxRange)), ext.Math(), ext.Encoders(), ext.Bindings(),
		ext.TwoVarComprehensions(),
		cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxSourceBytes), cel.ParserRecursionLimit(maxNesting), cel.ExpressionNestingDepthLimit(maxNesting),
		cel.ExpressionNodeLimit(maxNodes), cel.RegexProgramSizeLimit(maxRegexProgram),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(),
			cel.ValidateComprehensionNestingLimit(maxComprehensions), cel.ValidateBindNestingLimit(maxBinds)),
		cel.Variable(varHeaders, cel.ListType(cel.MapType(cel.StringType, cel.DynType))),
		cel.Variable(varTimestamp, cel.TimestampType),
		cel.Variable(varTopic, cel.StringType),
		cel.Variable(varPartition, cel.IntType),
		cel.Variable(varOffset, cel.IntType),
	)...)
})

func environment(key, value graph.Format) (*cel.Env, error) {
	b, err := base()
	if err != nil {
		return nil, fmt.Errorf("make the environment of expressions: %w", err)
	}
	k, err := variableType(key)
	if err != nil {
		return nil, fmt.Errorf("keyFormat %w", err)
	}
	v, err := variableType(value)
	if err != nil {
		return nil, fmt.Errorf("format %w", err)
	}
	env, err := b.Extend(cel.Variable(varKey, k), cel.Variable(varValue, v))
	if err != nil {
		return nil, fmt.Errorf("make the environment of expressions: %w", err)
	}
	return env, nil
}

// variableType: CEL's wrapper types are those that may be null, and pass as the plain type everywhere else.
func variableType(f graph.Format) (*cel.Type, error) {
	switch f {
	case graph.Bytes:
		return cel.NullableType(cel.BytesType), nil
	case graph.String:
		return cel.NullableType(cel.StringType), nil
	case graph.JSON:
		return cel.DynType, nil
	}
	return nil, fmt.Errorf("%q is unknown, want bytes | string | json", string(f))
}

// resultFormat is the format of results of a static type where use stands, and why such a result cannot
// stand there.
func resultFormat(use graph.Use, t *cel.Type) (f graph.Format, problem, hint string) {
	switch use {
	case graph.UseFilter, graph.UseUntil:
		return needs(t, "a bool", "compare with something, as in value == \"x\"", types.BoolKind)
	case graph.UseTimestamp:
		return needs(t, "a timestamp", "convert with timestamp(…), which takes seconds or RFC 3339 text", types.TimestampKind, types.NullTypeKind)
	case graph.UseTopic:
		return needs(t, "a string", "convert with string(…)", types.StringKind)
	case graph.UsePartition:
		return needs(t, "an int", "convert with int(…)", types.IntKind)
	case graph.UseHeaders:
		return headersFormat(t)
	case graph.UseFlatMap:
		if t.Kind() == types.DynKind {
			return graph.JSON, "", ""
		}
		if t.Kind() != types.ListKind {
			return needs(t, "a list", "write [a, b] or split a string: value.split(\" \")", types.ListKind)
		}
		return valueFormat(t.Parameters()[0])
	case graph.UseKeyBy:
		return needs(t, "a string, bytes, number or bool", "convert with string(…)",
			types.StringKind, types.BytesKind, types.IntKind, types.UintKind, types.DoubleKind, types.BoolKind)
	case graph.UseKey, graph.UseValue:
		return valueFormat(t)
	}
	return "", "expressions do not stand at: " + use.String(), ""
}

// needs accepts the kinds, and dyn, which shows its type only when it runs.
func needs(t *cel.Type, want, hint string, kinds ...types.Kind) (graph.Format, string, string) {
	for _, k := range append(kinds, types.DynKind) {
		if t.Kind() == k {
			f, _, _ := valueFormat(t)
			return f, "", ""
		}
	}
	return "", fmt.Sprintf("the result is %s, want %s", typeName(t), want), hint
}

func headersFormat(t *cel.Type) (graph.Format, string, string) {
	hint := `write [{"key": "name", "value": b"bytes"}], or headers.filter(h, h.key != "name")`
	if t.Kind() == types.ListKind {
		element := t.Parameters()[0]
		if element.Kind() == types.DynKind || element.Kind() == types.TypeParamKind ||
			element.Kind() == types.MapKind && element.Parameters()[0].Kind() == types.StringKind {
			return graph.JSON, "", ""
		}
	}
	return needs(t, "a list of {key, value}", hint)
}

func valueFormat(t *cel.Type) (f graph.Format, problem, hint string) {
	switch t.Kind() {
	case types.BytesKind:
		return graph.Bytes, "", ""
	case types.StringKind, types.BoolKind, types.IntKind, types.UintKind, types.DoubleKind,
		types.TimestampKind, types.DurationKind, types.NullTypeKind:
		return graph.String, "", ""
	case types.DynKind, types.ListKind, types.MapKind, types.TypeParamKind:
		return graph.JSON, "", ""
	case types.OpaqueKind:
		return "", "the result is " + typeName(t) + ", which a record cannot hold", "say what stands in for a missing one: .orValue(…)"
	}
	return "", "the result is " + typeName(t) + ", which a record cannot hold", "convert with string(…)"
}
