package builtin

import (
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

// emitBytes is the size of the arena at which map, flatMap and count emit what they have, though there
// is more to come; emitRecords is how many records of flatMap are enough, however small.
const emitBytes, emitRecords = 256 << 10, 4096

// mapper replaces parts of each record. What no expression is given for stays: key, value, headers,
// timestamp; topic, partition and offset always do.
type mapper struct {
	evaluator
	key, value, headers, timestamp *expression.Program // nil: unchanged
	out                            operator.Batch
}

func newMap(e evaluator, m *graph.Map) (*mapper, error) {
	made := &mapper{evaluator: e}
	for _, part := range []struct {
		source  string
		use     graph.Use
		program **expression.Program
	}{
		{m.Key, graph.UseKey, &made.key}, {m.Value, graph.UseValue, &made.value},
		{m.Headers, graph.UseHeaders, &made.headers}, {m.Timestamp, graph.UseTimestamp, &made.timestamp},
	} {
		if part.source == "" {
			continue
		}
		var err error
		if *part.program, err = e.compile(part.source, part.use); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// Process is operator.Operator's.
func (m *mapper) Process(b *operator.Batch, out operator.Collector) error {
	if err := b.Open(); err != nil {
		return err
	}
	begin(&m.out, b)
	for i := range b.Records {
		m.record.Set(b, i)
		if err := m.one(b, i, out); err != nil {
			return err
		}
	}
	return emit(&m.out, out)
}

// one maps the record that m.record is set to.
func (m *mapper) one(b *operator.Batch, i int, out operator.Collector) error {
	mark := len(m.out.Arena)
	if use, err := m.apply(b, &b.Records[i]); err != nil {
		m.out.Arena = m.out.Arena[:mark]
		return m.failed(b, i, use, err)
	}
	if len(m.out.Arena) >= emitBytes {
		return flush(&m.out, out)
	}
	return nil
}

// begin empties an output batch for the next input. Memory that an unusually large record took is given
// back.
func begin(out, in *operator.Batch) {
	if cap(out.Arena) > 4*emitBytes {
		out.Arena = nil
	}
	out.Reset()
	out.Origins = append(out.Origins, in.Origins...)
}

// flush emits what is there and empties the batch except for its origins.
func flush(b *operator.Batch, out operator.Collector) error {
	err := emit(b, out)
	b.Records, b.Arena = b.Records[:0], b.Arena[:0]
	return err
}

// apply appends the new record; with an error it names the part that failed.
func (m *mapper) apply(b *operator.Batch, r *operator.Record) (use graph.Use, err error) {
	n, arena := *r, m.out.Arena
	defer func() { m.out.Arena = arena }()
	if m.key == nil {
		arena, n.Key = copySpan(arena, b, r.Key)
	} else if arena, n.Key, err = m.key.Append(m.record, arena); err != nil {
		return graph.UseKey, err
	}
	if m.value == nil {
		arena, n.Value = copySpan(arena, b, r.Value)
	} else if arena, n.Value, err = m.value.Append(m.record, arena); err != nil {
		return graph.UseValue, err
	}
	if m.headers == nil {
		arena, n.Headers = copySpan(arena, b, r.Headers)
	} else if arena, n.Headers, err = m.headers.AppendHeaders(m.record, arena); err != nil {
		return graph.UseHeaders, err
	}
	if m.timestamp != nil {
		if n.Timestamp, err = m.timestamp.Timestamp(m.record); err != nil {
			return graph.UseTimestamp, err
		}
	}
	arena, n.StreamKey = copySpan(arena, b, r.StreamKey)
	m.out.Records = append(m.out.Records, n)
	return 0, nil
}

// copySpan copies a part of a batch to the end of another arena.
func copySpan(arena []byte, b *operator.Batch, s operator.Span) ([]byte, operator.Span) {
	if s.IsNull() {
		return arena, operator.Null
	}
	off := uint32(len(arena))
	return append(arena, b.Bytes(s)...), operator.Span{Off: off, Len: s.Len}
}
