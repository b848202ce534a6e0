package exchange

import (
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/sluice-stream/sluice/operator"
)

const (
	smallFrameBytes = 4 << 10
	// pooledFrameBytes fits a full frame of the default size with its header.
	pooledFrameBytes = DefaultBatchBytes + 4<<10
	// Larger memory than this is not kept, so that one giant record does not stay for ever.
	maxPooledArenaBytes = 4 * DefaultBatchBytes
	maxPooledRecords    = 1 << 14
)

// buffers pools the bytes of frames on both sides of a stream. Unlike the pools of package mem it does
// not clear what it hands out: every byte is written before it is read.
type buffers struct {
	small, full sync.Pool
}

var _ mem.BufferPool = (*buffers)(nil)

// Get returns n bytes with any content.
func (p *buffers) Get(n int) *[]byte {
	pool, size := &p.small, smallFrameBytes
	if n > smallFrameBytes {
		pool, size = &p.full, pooledFrameBytes
	}
	if n > pooledFrameBytes {
		b := make([]byte, n)
		return &b
	}
	if b, ok := pool.Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, size)
	return &b
}

// Put takes back what Get returned.
func (p *buffers) Put(b *[]byte) {
	switch cap(*b) {
	case smallFrameBytes:
		p.small.Put(b)
	case pooledFrameBytes:
		p.full.Put(b)
	}
}

// batches pools the batches of local channels and the record tables of decoded frames.
type batches struct {
	pool sync.Pool
}

func (p *batches) get() *operator.Batch {
	if b, ok := p.pool.Get().(*operator.Batch); ok {
		return b
	}
	return &operator.Batch{}
}

func (p *batches) put(b *operator.Batch) {
	if cap(b.Arena) > maxPooledArenaBytes || cap(b.Records) > maxPooledRecords {
		return
	}
	b.Reset()
	p.pool.Put(b)
}
