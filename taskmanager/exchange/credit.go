package exchange

import (
	"context"
	"sync"
)

// credit is what a channel's sender may still send, in bytes. One goroutine takes, any may grant.
type credit struct {
	mu   sync.Mutex
	left int64
	wake chan struct{}
}

func newCredit(bytes int) *credit {
	return &credit{left: int64(bytes), wake: make(chan struct{}, 1)}
}

// take waits until the credit is above zero and takes n, perhaps below zero: so a batch that is larger
// than the whole credit passes too.
func (c *credit) take(ctx context.Context, n int) error {
	for !c.tryTake(n) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.wake:
		}
	}
	return nil
}

// tryTake takes n if the credit is above zero.
func (c *credit) tryTake(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left <= 0 {
		return false
	}
	c.left -= int64(n)
	return true
}

func (c *credit) grant(n int) {
	c.mu.Lock()
	c.left += int64(n)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
