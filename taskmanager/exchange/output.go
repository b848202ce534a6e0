package exchange

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// Output partitions what one subtask sends on one edge. It belongs to the subtask's goroutine.
//
// Emit and Flush wait while a channel is without credit, until ctx ends; then they return its cause.
type Output struct {
	edge     graph.Edge
	channels []*outChannel
	keyer    Keyer
	// owners is, for Hash, the index in channels per key group.
	owners []int32
	bare   bool // keys and values stay behind, as the receiver does not look at them
	next   int  // the channel of the running turn of Rebalance

	waiting  atomic.Pointer[wait]
	keyArena []byte
	keySpans []operator.Span
}

// Emit copies the borrowed batch's records into the open batches of their channels and sends those that
// are full. The rest waits for Flush, Barrier or End.
func (o *Output) Emit(ctx context.Context, b *operator.Batch) error {
	if err := b.Open(); err != nil {
		return err
	}
	switch {
	case o.edge.Partitioning == graph.Hash && o.keyer != nil:
		return o.emitKeyed(ctx, b)
	case o.edge.Partitioning == graph.Hash:
		return o.emitHash(ctx, b)
	default:
		return o.emitInTurn(ctx, b)
	}
}

func (o *Output) emitKeyed(ctx context.Context, b *operator.Batch) error {
	var err error
	o.keyArena, o.keySpans, err = o.keyer.Keys(b, o.keyArena[:0], o.keySpans[:0])
	if err != nil {
		return err
	}
	if len(o.keySpans) != len(b.Records) {
		return fmt.Errorf("edge %d: %d keys for %d records", o.edge.ID, len(o.keySpans), len(b.Records))
	}
	for i := range b.Records {
		var key []byte
		if s := o.keySpans[i]; s == Skip {
			continue
		} else if s.Len >= 0 {
			key = o.keyArena[s.Off : s.Off+uint32(s.Len)]
		}
		if err := o.send(ctx, o.owner(key), b, &b.Records[i], key); err != nil {
			return err
		}
	}
	return nil
}

func (o *Output) emitHash(ctx context.Context, b *operator.Batch) error {
	for i := range b.Records {
		key := b.Bytes(b.Records[i].StreamKey)
		if err := o.send(ctx, o.owner(key), b, &b.Records[i], key); err != nil {
			return err
		}
	}
	return nil
}

// emitInTurn is Forward and Rebalance: the turn passes to the next channel when a batch is sent.
func (o *Output) emitInTurn(ctx context.Context, b *operator.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		if err := o.send(ctx, o.next, b, r, b.Bytes(r.StreamKey)); err != nil {
			return err
		}
	}
	return nil
}

func (o *Output) owner(key []byte) int {
	return int(o.owners[graph.KeyGroup(key, len(o.owners))])
}

// send appends a record to a channel's open batch and sends the batch when it is full.
func (o *Output) send(ctx context.Context, to int, b *operator.Batch, r *operator.Record, key []byte) error {
	c := o.channels[to]
	if o.bare {
		bare := *r
		bare.Key, bare.Value = operator.Null, operator.Null
		r = &bare
	}
	if !c.fits(b, r, key) {
		if n := r.SizeBytes() + len(key); n > MaxRecordBytes {
			return o.tooLarge(b, r, n)
		}
		if err := o.flushOne(ctx, to); err != nil {
			return err
		}
		if o.edge.Partitioning == graph.Rebalance {
			to = o.next
			c = o.channels[to]
		}
	}
	if c.append(b, r, key) {
		return o.flushOne(ctx, to)
	}
	return nil
}

func (o *Output) flushOne(ctx context.Context, channel int) error {
	if err := o.channels[channel].flush(ctx); err != nil {
		return err
	}
	if o.edge.Partitioning == graph.Rebalance {
		o.next = (o.next + 1) % len(o.channels)
	}
	return nil
}

// Flush sends all open batches, so that records do not wait for company.
func (o *Output) Flush(ctx context.Context) error {
	for i := range o.channels {
		if err := o.channels[i].flush(ctx); err != nil {
			return err
		}
	}
	if o.edge.Partitioning == graph.Rebalance {
		o.next = (o.next + 1) % len(o.channels)
	}
	return nil
}

// Barrier sends the barrier on every channel, behind all that was emitted before.
func (o *Output) Barrier(ctx context.Context, id ident.CheckpointID) error {
	if err := o.Flush(ctx); err != nil {
		return err
	}
	for _, c := range o.channels {
		if err := c.barrier(id); err != nil {
			return err
		}
	}
	return nil
}

// End tells every receiver that no batch follows. Barriers may follow.
func (o *Output) End(ctx context.Context) error {
	if err := o.Flush(ctx); err != nil {
		return err
	}
	for _, c := range o.channels {
		if err := c.end(); err != nil {
			return err
		}
	}
	return nil
}

// longWait is from when on a wait for credit is worth telling.
const longWait = time.Second

// Waiting says for whom the output has been waiting for long; empty when it has not. Any goroutine may
// ask.
func (o *Output) Waiting() string {
	w := o.waiting.Load()
	if w == nil || time.Since(w.since) < longWait {
		return ""
	}
	return fmt.Sprintf("back-pressure: %s takes nothing since %s", w.to, time.Since(w.since).Round(time.Second))
}

// recordTooLarge is a user's error: the record cannot be carried.
type recordTooLarge struct {
	origin      operator.Origin
	offset      int64
	bytes, edge int
	to          string
}

func (o *Output) tooLarge(b *operator.Batch, r *operator.Record, n int) error {
	return &recordTooLarge{origin: b.Origins[r.Origin], offset: r.Offset, bytes: n, edge: o.edge.ID, to: o.edge.To}
}

func (e *recordTooLarge) Error() string {
	return fmt.Sprintf("record from %s/%d offset %d is %d bytes on its way to %s, more than the limit of %d: drop it with a filter or make it smaller",
		e.origin.Topic, e.origin.Partition, e.offset, e.bytes, e.to, MaxRecordBytes)
}

// FailureClass says that the records, not the cluster, are the cause.
func (e *recordTooLarge) FailureClass() string { return "user" }
