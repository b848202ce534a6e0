package expression

import (
	"bytes"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// bytesTests are startsWith, endsWith and contains of bytes, as CEL has them of strings only: value.startsWith(b"x") looks at
// as many bytes as there are in x, while a string has to be valid UTF-8 to its end.
var bytesTests = []struct {
	name, overload string
	holds          func(whole, part []byte) bool
	// costs is CEL's account of the same test of strings, by the lengths: ten bytes are a step.
	costs func(whole, part uint64) uint64
}{
	{"startsWith", "starts_with_bytes", bytes.HasPrefix, func(_, part uint64) uint64 { return steps(part) }},
	{"endsWith", "ends_with_bytes", bytes.HasSuffix, func(_, part uint64) uint64 { return steps(part) }},
	{"contains", "contains_bytes", bytes.Contains, func(whole, part uint64) uint64 { return steps(whole) * steps(part) }},
}

func steps(sizeBytes uint64) uint64 { return (sizeBytes + 9) / 10 }

func bytesFunctions() cel.EnvOption {
	var all []cel.EnvOption
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
	return func(env *cel.Env) (*cel.Env, error) {
		var err error
		for _, option := range all {
			if env, err = option(env); err != nil {
				return nil, err
			}
		}
		return env, nil
	}
}

// bytesCosts has the tests accounted for: CEL takes a function that it does not know for a step.
func bytesCosts() cel.ProgramOption {
	var all []cost.TrackerOption
	for _, test := range bytesTests {
		all = append(all, cost.OverloadTracker(test.overload, func(args []ref.Val, _ ref.Val) *uint64 {
			whole, okW := args[0].(types.Bytes)
			part, okP := args[1].(types.Bytes)
			if !okW || !okP {
				return nil
			}
			cost := test.costs(uint64(len(whole)), uint64(len(part)))
			return &cost
		}))
	}
	return cel.CostTrackerOptions(all...)
}
