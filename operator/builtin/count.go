package builtin

import (
	"slices"
	"strconv"

	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/state"
)

// count is the running count per stream key: for each record one with the stream key as its key and the
// count, this record included, as decimal text. Timestamp, headers, topic, partition and offset are
// those of the record that was counted. The null key is a key of its own.
type count struct {
	table *state.Table
	keys  [][]byte // of a batch
	sums  []int64
	out   operator.Batch
}

func newCount(owned state.Range) *count { return &count{table: state.NewTable(owned)} }

// Process is operator.Operator's.
func (c *count) Process(b *operator.Batch, out operator.Collector) error {
	if err := b.Open(); err != nil {
		return err
	}
	begin(&c.out, b)
	c.keys = c.keys[:0]
	for i := range b.Records {
		c.keys = append(c.keys, b.Bytes(b.Records[i].StreamKey))
	}
	c.sums = slices.Grow(c.sums[:0], len(c.keys))[:len(c.keys)]
	if err := c.table.AddEach(c.keys, 1, c.sums); err != nil {
		return err
	}
	for i := range b.Records {
		c.append(b, &b.Records[i], c.sums[i])
		if len(c.out.Arena) >= emitBytes {
			if err := flush(&c.out, out); err != nil {
				return err
			}
		}
	}
	return emit(&c.out, out)
}

func (c *count) append(b *operator.Batch, r *operator.Record, n int64) {
	o, arena := *r, c.out.Arena
	arena, o.Key = copySpan(arena, b, r.StreamKey)
	o.StreamKey = o.Key
	arena, o.Headers = copySpan(arena, b, r.Headers)
	from := len(arena)
	arena = strconv.AppendInt(arena, n, 10)
	o.Value = operator.Span{Off: uint32(from), Len: int32(len(arena) - from)}
	c.out.Records, c.out.Arena = append(c.out.Records, o), arena
}

// Restore is operator.Stateful's.
func (c *count) Restore(piece []byte) error { return c.table.Restore(piece) }

// Snapshot is operator.Stateful's.
func (c *count) Snapshot() ([]byte, error) { return c.table.Snapshot(), nil }
