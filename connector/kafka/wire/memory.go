package wire

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/sluice-stream/sluice/operator"
)

// memory holds the pools of one cluster. What is pooled goes back by reference count (buffers) or by
// its one owner (batches, slabs).
type memory struct {
	buffers [maxClass + 1]sync.Pool // of *buffer, by power of two
	batches sync.Pool               // of *RawBatch
	slabs   sync.Pool               // of *slab
	scratch sync.Pool               // of *[]byte, for requests
}

const (
	minClass = 12 // 4 KiB
	maxClass = 27 // 128 MiB
	// keepSlabBytes is the largest arena that a pooled slab keeps.
	keepSlabBytes = 8 << 20
)

func (m *memory) init() {
	m.batches.New = func() any {
		b := new(RawBatch)
		b.releaser = b.Release // one closure for the life of the object
		return b
	}
	m.slabs.New = func() any { return new(slab) }
	m.scratch.New = func() any { b := make([]byte, 0, 4096); return &b }
}

// buffer is memory for one record set; the last release gives it back.
type buffer struct {
	data  []byte
	refs  atomic.Int32
	class int
	home  *memory
}

func (m *memory) buffer(size int) *buffer {
	class := max(bits.Len(uint(max(size, 1)-1)), minClass)
	if class > maxClass {
		b := &buffer{data: make([]byte, size), class: class, home: m}
		b.refs.Store(1)
		return b
	}
	b, _ := m.buffers[class].Get().(*buffer)
	if b == nil {
		b = &buffer{data: make([]byte, 1<<class), class: class, home: m}
	}
	b.data = b.data[:size]
	b.refs.Store(1)
	return b
}

func (b *buffer) retain() { b.refs.Add(1) }

func (b *buffer) release() {
	if b.refs.Add(-1) == 0 && b.class <= maxClass {
		b.home.buffers[b.class].Put(b)
	}
}

// slab is the memory that an opened batch needs beside its buffer.
type slab struct {
	records []operator.Record
	origins []operator.Origin
	arena   []byte // of a decompressed batch
}
