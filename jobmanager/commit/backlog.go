package commit

import (
	"container/heap"
	"time"
)

// backoffMin and backoffMax bound the pause before the same thing is tried again; it doubles.
const (
	backoffMin = 20 * time.Millisecond
	backoffMax = 5 * time.Second
)

// backoff is the pause after so many failures in a row, from 1.
func backoff(failures int) time.Duration {
	d := backoffMin
	for i := 1; i < failures && d < backoffMax; i++ {
		d *= 2
	}
	return min(d, backoffMax)
}

// backlog holds what waits for its time and then for its turn: first come, first served.
type backlog[T any] struct {
	items waiters[T]
	count uint64 // of all that ever came
}

type waiter[T any] struct {
	due  time.Time
	turn uint64
	item T
}

// push adds an item that is not taken before due.
func (b *backlog[T]) push(item T, due time.Time) {
	b.count++
	heap.Push(&b.items, waiter[T]{due, b.count, item})
}

// next is when the first item may be taken; zero and false if there is none.
func (b *backlog[T]) next() (time.Time, bool) {
	if len(b.items) == 0 {
		return time.Time{}, false
	}
	return b.items[0].due, true
}

// take removes the first item, if it is due.
func (b *backlog[T]) take(now time.Time) (item T, ok bool) {
	if due, some := b.next(); !some || due.After(now) {
		return item, false
	}
	w, ok := heap.Pop(&b.items).(waiter[T])
	return w.item, ok
}

// waiters is a heap by due time and turn.
type waiters[T any] []waiter[T]

// Len is for package heap.
func (w waiters[T]) Len() int { return len(w) }

// Less is for package heap.
func (w waiters[T]) Less(i, j int) bool {
	return w[i].due.Before(w[j].due) || w[i].due.Equal(w[j].due) && w[i].turn < w[j].turn
}

// Swap is for package heap.
func (w waiters[T]) Swap(i, j int) { w[i], w[j] = w[j], w[i] }

// Push is for package heap.
func (w *waiters[T]) Push(x any) {
	if item, ok := x.(waiter[T]); ok {
		*w = append(*w, item)
	}
}

// Pop is for package heap.
func (w *waiters[T]) Pop() any {
	last := len(*w) - 1
	item := (*w)[last]
	(*w)[last] = waiter[T]{}
	*w = (*w)[:last]
	return item
}

// batch gathers what is to be written durably: one write is on its way at a time, and the next one takes
// all that came meanwhile.
type batch[T any] struct {
	waiting, writing []T
	since            time.Time // when the first of waiting came
	due              time.Time
	failures         int
}

// add takes one more.
func (b *batch[T]) add(item T, now time.Time) {
	if len(b.waiting) == 0 {
		b.since = now
	}
	b.waiting = append(b.waiting, item)
}

// take begins the next write, at by or later; nothing if there is none to begin now.
func (b *batch[T]) take(now, by time.Time) []T {
	if due, some := b.next(by); !some || due.After(now) {
		return nil
	}
	b.writing, b.waiting = b.waiting, nil
	return b.writing
}

// again puts what was not written back.
func (b *batch[T]) again(now time.Time) {
	b.waiting, b.writing = append(b.writing, b.waiting...), nil
	b.due = now.Add(backoff(b.failures))
}

// next is when take has something, at by or later; false if that does not depend on time.
func (b *batch[T]) next(by time.Time) (time.Time, bool) {
	if b.due.After(by) {
		by = b.due
	}
	return by, len(b.writing) == 0 && len(b.waiting) > 0
}
