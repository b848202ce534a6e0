package expression

import (
	"cel.dev/cel-go/cel"

	"github.com/sluice-stream/sluice/graph"
)

// predicate is a filter without the interpreter; ok is false when it cannot decide and the interpreter
// is to be asked, which also finds the words for what is wrong with the record.
type predicate func(v *variables) (result, ok bool)

func specialize(*cel.Ast, graph.Format, graph.Format) predicate { return nil }
