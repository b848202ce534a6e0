package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// reader reads the committed output while the job runs and notes when it grew.
type reader struct {
	mu      sync.Mutex
	records int64
	growth  []growth // guarded by mu: one for each answer with records
}

// growth is how many records there were at a time.
type growth struct {
	at      time.Time
	records int64
}

func newReader() *reader { return &reader{} }

// run reads until ctx ends.
func (r *reader) run(ctx context.Context, b *broker) error {
	cl, err := b.client(kgo.ConsumeTopics(b.output), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil // the demo is over
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read the output: %w", err)
		}
		r.add(time.Now(), int64(fetches.NumRecords()))
	}
}

func (r *reader) add(now time.Time, records int64) {
	if records == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records += records
	r.growth = append(r.growth, growth{at: now, records: r.records})
}

func (r *reader) count() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records
}

// passed is when there were more than n records; zero: there are not.
func (r *reader) passed(n int64) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.growth {
		if g.records > n {
			return g.at
		}
	}
	return time.Time{}
}

// await waits until n records have been read, not for ever, and gives their number.
func (r *reader) await(ctx context.Context, n int64) int64 {
	ctx, cancel := context.WithTimeout(ctx, stableTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for r.count() < n {
		select {
		case <-ctx.Done():
			return r.count()
		case <-tick.C:
		}
	}
	return r.count()
}
