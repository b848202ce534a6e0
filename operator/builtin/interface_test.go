package builtin

import (
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

var (
	_ operator.Operator = (*filter)(nil)
	_ operator.Operator = (*mapper)(nil)
	_ operator.Operator = (*flatMap)(nil)
	_ operator.Stateful = (*count)(nil)
	_ operator.Sink     = (*printSink)(nil)
	_ graph.Expressions = expression.Checker{}
)
