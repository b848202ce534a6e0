package subtask

import (
	"sync/atomic"

	"github.com/sluice-stream/sluice/operator"
)

// Counters count what a subtask takes in and gives out, since it began. In: what its source or its
// inputs delivered. Out: what was handed to sinks and to other subtasks. Any goroutine may read them.
type Counters struct {
	RecordsIn, RecordsOut atomic.Int64
	// BytesIn and BytesOut are those of key, value and headers; of a batch that nobody opens, its packed
	// size.
	BytesIn, BytesOut atomic.Int64
}

func (c *Counters) in(b *operator.Batch) {
	c.RecordsIn.Add(int64(b.Len()))
	c.BytesIn.Add(size(b))
}

func (c *Counters) out(b *operator.Batch) {
	c.RecordsOut.Add(int64(b.Len()))
	c.BytesOut.Add(size(b))
}

func size(b *operator.Batch) int64 {
	if b.Packed != nil {
		return int64(b.Packed.SizeBytes())
	}
	var n int64
	for i := range b.Records {
		n += int64(b.Records[i].SizeBytes())
	}
	return n
}
