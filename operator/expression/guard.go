package expression

import (
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// programOptions: an expression whose work is bounded by its own size times the record's runs without
// an account of its cost, which would cost more than most expressions.
func programOptions(env *cel.Env, ast *cel.Ast, maxCost uint64) []cel.ProgramOption {
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if !bounded(ast.NativeRep().Expr()) {
		options = append(options, cel.CostTracking(textCosts{}), cel.CostLimit(maxCost), cel.CustomDecoratorV2(guardGrowth(env)))
	}
	return options
}

// maxUnaccounted is how many concatenations an expression may have without an account.
const maxUnaccounted = 16

// cheap are the functions whose work and result are bounded by the size of their arguments.
var cheap = map[string]bool{
	operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true, operators.Conditional: true,
	operators.Equals: true, operators.NotEquals: true, operators.Less: true, operators.LessEquals: true, operators.Greater: true,
	operators.GreaterEquals: true, operators.In: true, operators.Index: true, operators.OptIndex: true, operators.OptSelect: true,
	operators.Subtract: true, operators.Multiply: true, operators.Divide: true, operators.Modulo: true, operators.Negate: true,
	"startsWith": true, "endsWith": true, "contains": true, "size": true, "matches": true, "string": true, "int": true, "uint": true,
	"double": true, "bool": true, "bytes": true, "timestamp": true, "duration": true, "dyn": true, "type": true, "trim": true,
	"substring": true, "charAt": true, "indexOf": true, "lastIndexOf": true, "lowerAscii": true, "upperAscii": true, "orValue": true,
	"split": true, "or": true, "hasValue": true, "value": true,
}

// bounded says whether all of an expression is cheap: no comprehension or cel.bind (they repeat), few
// concatenations (each copies what is there).
func bounded(root celast.Expr) bool {
	concatenations, ok := 0, true
	celast.PostOrderVisit(root, celast.NewExprVisitor(func(e celast.Expr) {
		switch e.Kind() {
		case celast.ComprehensionKind:
			ok = false
		case celast.CallKind:
			if name := e.AsCall().FunctionName(); name == operators.Add {
				concatenations++
			} else if !cheap[name] {
				ok = false
			}
		}
	}))
	return ok && concatenations <= maxUnaccounted
}

// guardGrowth puts a check in front of the functions whose result can be far larger than their
// arguments. The account of the cost comes only after a call, when the memory is taken.
func guardGrowth(env *cel.Env) interpreter.InterpretableDecoratorV2 {
	return func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		call, ok := i.(interpreter.InterpretableCall)
		if !ok {
			return i, nil
		}
		size, ok := grows[call.Function()]
		if !ok {
			return i, nil
		}
		run, err := binding(env, call)
		if err != nil || run == nil {
			return i, err
		}
		guarded := func(args ...ref.Val) ref.Val {
			if size(args) > MaxResultBytes {
				return types.NewErr("the result of %s has more than %d bytes", call.Function(), MaxResultBytes)
			}
			return run(args...)
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), guarded), nil
	}
}

// binding finds what a call would run.
func binding(env *cel.Env, call interpreter.InterpretableCall) (functions.FunctionOp, error) {
	declared, ok := env.Functions()[call.Function()]
	if !ok {
		return nil, nil
	}
	overloads, err := declared.Bindings()
	if err != nil {
		return nil, err
	}
	var found *functions.Overload
	for _, o := range overloads {
		if o.Operator == call.OverloadID() {
			found = o
			break
		}
		if o.Operator == call.Function() {
			found = o
		}
	}
	switch {
	case found == nil:
		return nil, nil
	case found.Unary != nil && len(call.Args()) == 1:
		return func(args ...ref.Val) ref.Val { return found.Unary(args[0]) }, nil
	case found.Binary != nil && len(call.Args()) == 2:
		return func(args ...ref.Val) ref.Val { return found.Binary(args[0], args[1]) }, nil
	}
	return found.Function, nil
}

// grows has an upper bound of the result's size per function that multiplies.
var grows = map[string]func(args []ref.Val) int{
	"replace": replaceSize,
	"join":    joinSize,
	"format":  formatSize,
}

func replaceSize(args []ref.Val) int {
	var text [3]string
	for i := range text {
		if i < len(args) {
			s, _ := args[i].(types.String)
			text[i] = string(s)
		}
	}
	return len(text[0]) + strings.Count(text[0], text[1])*len(text[2])
}

func joinSize(args []ref.Val) int {
	size := textSize(args[0], 0)
	if list, ok := args[0].(traits.Sizer); ok && len(args) > 1 {
		n, _ := list.Size().(types.Int)
		size += int(n) * textSize(args[1], 0)
	}
	return size
}

func formatSize(args []ref.Val) int {
	size := 0
	for _, a := range args {
		size += textSize(a, 0)
	}
	return size
}

// textSize is how large a value is as text, roughly; it stops counting beyond MaxResultBytes.
func textSize(v ref.Val, depth int) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v) * 2 // the most that format makes of a byte
	case traits.Iterable:
		if depth > maxJSONDepth {
			return MaxResultBytes + 1
		}
		size := 0
		m, isMap := v.(traits.Mapper)
		for it := v.Iterator(); it.HasNext() == types.True && size <= MaxResultBytes; {
			e := it.Next()
			size += textSize(e, depth+1)
			if isMap {
				size += textSize(m.Get(e), depth+1)
			}
		}
		return size
	}
	return 32
}
