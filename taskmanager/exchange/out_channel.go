package exchange

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// recordTableBytes is what a record takes in Batch.Records; local batches count it as size.
const recordTableBytes = 56

// outChannel is one channel as its sender sees it. Exactly one of local and remote is set: within a task
// manager the batch itself changes hands, to another one goes its encoded form.
type outChannel struct {
	name       Channel
	to         ident.Subtask
	credit     *credit
	batchBytes int
	waiting    *atomic.Pointer[wait] // of its Output

	local   *inChannel
	batches *batches
	open    *operator.Batch // nil: empty

	remote  *link
	buffers *buffers
	buf     *[]byte // what frame writes into; nil: empty
	frame   frameWriter
}

// wait says for whose credit an Output waits.
type wait struct {
	to    ident.Subtask
	since time.Time
}

// fits says whether a record can be appended to the open batch. An empty one takes every record within
// the limit.
func (c *outChannel) fits(b *operator.Batch, r *operator.Record, key []byte) bool {
	switch n := r.SizeBytes() + len(key); {
	case c.open == nil && c.buf == nil:
		return n <= MaxRecordBytes
	case c.local != nil:
		return len(c.open.Arena)+n <= c.batchBytes
	default:
		return recordBytes(b.Origins[r.Origin].Topic, r, key) <= c.frame.room()
	}
}

// append copies a record that fits; full says that the open batch has reached its size.
func (c *outChannel) append(b *operator.Batch, r *operator.Record, key []byte) (full bool) {
	if c.local != nil {
		if c.open == nil {
			c.open = c.batches.get()
		}
		copyRecord(c.open, b, r, key)
		return c.size() >= c.batchBytes
	}
	if c.buf == nil {
		n := frameHeaderBytes + frameCountBytes + recordBytes(b.Origins[r.Origin].Topic, r, key)
		c.buf = c.buffers.Get(max(n, frameHeaderBytes+c.batchBytes))
		c.frame.reset(*c.buf, frameHeaderBytes)
	}
	c.frame.appendRecord(b, r, key)
	return c.frame.bytes() >= c.batchBytes
}

// size is what the open batch costs in credit.
func (c *outChannel) size() int {
	if c.local != nil {
		return len(c.open.Arena) + len(c.open.Records)*recordTableBytes
	}
	return c.frame.bytes()
}

// flush hands the open batch on; it waits for credit. Nothing happens when it is empty.
func (c *outChannel) flush(ctx context.Context) error {
	if c.open == nil && c.buf == nil {
		return nil
	}
	n := c.size()
	if !c.credit.tryTake(n) {
		c.waiting.Store(&wait{c.to, time.Now()})
		err := c.credit.take(ctx, n)
		c.waiting.Store(nil)
		if err != nil {
			return err
		}
	}
	if c.local != nil {
		b := c.open
		c.open = nil
		return c.local.push(queued{kind: BatchElement, batch: b, bytes: n})
	}
	*c.buf = c.frame.finish()
	putFrameHeader(*c.buf, c.name)
	c.remote.send(outMessage{buf: c.buf})
	c.buf = nil
	return nil
}

func (c *outChannel) barrier(id ident.CheckpointID) error {
	if c.local != nil {
		return c.local.push(queued{kind: BarrierElement, id: id})
	}
	c.remote.send(barrierMessage(c.name, id))
	return nil
}

func (c *outChannel) end() error {
	if c.local != nil {
		return c.local.push(queued{kind: EndElement})
	}
	c.remote.send(endMessage(c.name))
	return nil
}

// copyRecord appends a record with its stream key; equal parts are stored once.
func copyRecord(dst, src *operator.Batch, r *operator.Record, key []byte) {
	k, v, h := src.Bytes(r.Key), src.Bytes(r.Value), src.Bytes(r.Headers)
	out := operator.Record{Timestamp: r.Timestamp, Offset: r.Offset, Headers: operator.Null}
	out.Key, out.Value = dst.Put(k), dst.Put(v)
	if len(h) > 0 {
		out.Headers = dst.Put(h)
	}
	switch {
	case key == nil:
		out.StreamKey = operator.Null
	case k != nil && string(key) == string(k):
		out.StreamKey = out.Key
	case v != nil && string(key) == string(v):
		out.StreamKey = out.Value
	default:
		out.StreamKey = dst.Put(key)
	}
	out.Origin = dst.AddOrigin(src.Origins[r.Origin])
	dst.Records = append(dst.Records, out)
}
