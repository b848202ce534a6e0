package kafka

import (
	"context"
	"sync"
)

// budget bounds bytes in flight. What turns out larger than it was reserved is counted all the same, so
// it may be overdrawn, and then holds everybody back until it is paid.
type budget struct {
	mu      sync.Mutex
	limit   int64
	used    int64
	changed chan struct{} // closed at the next change; nil while nobody waits
}

func newBudget(limit int64) *budget { return &budget{limit: limit} }

// allow changes the limit.
func (b *budget) allow(limit int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = limit
	b.wake()
}

// allowed is the limit.
func (b *budget) allowed() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit
}

// acquire waits until n bytes are free, or nothing at all is used.
func (b *budget) acquire(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		if b.used == 0 || b.used+n <= b.limit {
			b.used += n
			b.mu.Unlock()
			return nil
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// add counts n more bytes, without waiting; a negative n gives them back.
func (b *budget) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
	if n < 0 {
		b.wake()
	}
}

// wake lets those look again who wait. Under mu.
func (b *budget) wake() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}
