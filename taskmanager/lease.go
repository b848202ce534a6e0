package taskmanager

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is CLOCK_BOOTTIME: monotonic, and unlike the monotonic clock of Go's time package it goes on
// while the machine sleeps. A task manager that was suspended must not believe in its old lease.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("read CLOCK_BOOTTIME: " + err.Error()) // exists since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

// clock is what leases are measured with.
func (tm *TaskManager) clock() func() time.Duration {
	if tm.cfg.Clock != nil {
		return tm.cfg.Clock
	}
	return bootTime
}

// lease says until when this task manager may believe that the job manager counts it as alive. It counts
// from the sending of the newest heartbeat that was answered (DESIGN rule 13).
type lease struct {
	mu      sync.Mutex
	now     func() time.Duration
	timeout time.Duration
	sentAt  map[uint64]time.Duration // unanswered heartbeats, by sequence number
	seq     uint64
	until   time.Duration
}

func newLease(now func() time.Duration) *lease {
	return &lease{now: now, sentAt: map[uint64]time.Duration{}}
}

// begin starts the lease anew: a Welcome is the answer to a Register that was sent at sent.
func (l *lease) begin(sent, timeout time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.sentAt)
	l.timeout = timeout
	l.until = sent + timeout
}

// send numbers a heartbeat that is about to be sent.
func (l *lease) send() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	l.sentAt[l.seq] = l.now()
	return l.seq
}

// answered extends the lease, unless it is over: it never revives. Answers come in order, so older
// unanswered heartbeats are forgotten.
func (l *lease) answered(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sent, ok := l.sentAt[seq]
	if !ok || l.until <= l.now() {
		return
	}
	l.until = max(l.until, sent+l.timeout)
	for s := range l.sentAt {
		if s <= seq {
			delete(l.sentAt, s)
		}
	}
}

// left is how long the lease still runs; zero or less: it is over.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until - l.now()
}
