package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
)

// drainTimeout is how long the last timed records may take until they are read.
const drainTimeout = 15 * time.Second

// timing is about the records of a traffic from one number to another: how long after they were due they were
// read. All of them are waited for, so that the slowest are not left out.
type timing struct {
	from, to int // to is not included; math.MaxInt until it is known
	delays   histogram
}

// see takes note of a record, and says whether it was the last one.
func (w *timing) see(i int, delay time.Duration) (complete bool) {
	if i < w.from || i >= w.to {
		return false
	}
	w.delays.add(delay)
	return w.complete()
}

func (w *timing) complete() bool { return w.delays.n >= int64(w.to-w.from) }

// beginTiming times the records that are due from now on.
func (t *traffic) beginTiming() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timing, t.late = &timing{from: t.dueBy(time.Now()), to: math.MaxInt}, histogram{}
}

// endTiming waits until every record that was due since then has been read. late is how long after its time the
// generator began to write a group: a part of the delays that is its own.
func (t *traffic) endTiming(ctx context.Context) (delays Distribution, late figures.Sample, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, drainTimeout, fmt.Errorf("no end after %s", drainTimeout))
	defer cancel()
	t.mu.Lock()
	w := t.timing
	w.to = t.dueBy(time.Now())
	late = t.late.distribution().Sample
	t.mu.Unlock()
	for {
		t.mu.Lock()
		read, complete, failure := w.delays.n, w.complete(), t.err
		if complete || failure != nil {
			delays, t.timing = w.delays.distribution(), nil
		}
		t.mu.Unlock()
		switch {
		case failure != nil:
			return delays, late, failure
		case read > int64(w.to-w.from):
			return delays, late, fmt.Errorf("%s has %d records where %d were written: some twice", t.target, read, w.to-w.from)
		case complete:
			return delays, late, nil
		}
		select {
		case <-t.news:
		case <-ctx.Done():
			return delays, late, fmt.Errorf("%d of %d records of %s were read: %w", read, w.to-w.from, t.target, context.Cause(ctx))
		}
	}
}

// readRate is how many records are read per second over a while, of a traffic of any rate.
func (t *traffic) readRate(ctx context.Context, d time.Duration) (perSec float64, err error) {
	t.mu.Lock()
	w := &timing{to: math.MaxInt}
	t.timing = w
	t.mu.Unlock()
	began := time.Now()
	if err := pause(ctx, d); err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timing = nil
	return float64(w.delays.n) / time.Since(began).Seconds(), t.err
}
