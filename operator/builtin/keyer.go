package builtin

import (
	"fmt"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

// SkippedKey is the key of a record that the error policy drops, the same as exchange.Skip.
var SkippedKey = operator.Span{Len: -2}

// Keyer computes the stream keys of an edge's records. It implements exchange.Keyer. One sender owns it.
type Keyer struct {
	evaluator
	program *expression.Program
}

// NewKeyer makes the keyer of a Hash edge; failures decides over records that it fails on.
func NewKeyer(edge *graph.Edge, failures *Failures) (*Keyer, error) {
	e := newEvaluator(edge.KeyFormat, edge.ValueFormat, failures, edge.To, edge.OnError)
	var err error
	k := &Keyer{evaluator: e}
	if k.program, err = e.compile(edge.KeyBy, graph.UseKeyBy); err != nil {
		return nil, fmt.Errorf("make keyBy of %s: %w", edge.To, err)
	}
	return k, nil
}

// Keys appends one span per record of the opened batch to spans and the bytes of the keys to arena. A
// null result gives operator.Null, which is a key of its own; a dropped record gives SkippedKey.
func (k *Keyer) Keys(b *operator.Batch, arena []byte, spans []operator.Span) ([]byte, []operator.Span, error) {
	if arena == nil {
		arena = []byte{} // an empty key is a part of it, and not nil, which means null
	}
	for i := range b.Records {
		k.record.Set(b, i)
		var (
			span operator.Span
			err  error
		)
		if arena, span, err = k.program.Append(k.record, arena); err != nil {
			if err := k.failed(b, i, graph.UseKeyBy, err); err != nil {
				return arena, spans, err
			}
			span = SkippedKey
		}
		spans = append(spans, span)
	}
	return arena, spans, nil
}
