package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// observeEvery is small beside the seconds that a run takes, and costs the broker next to nothing.
	observeEvery = 25 * time.Millisecond
	// The steady part of a run begins and ends when these shares of the output are written.
	steadyFrom, steadyTo = 0.1, 0.9
)

// observer looks at the ends of a topic while a contestant writes it. What it sees is the same for all of
// them, whatever they do before the first record and after the last.
type observer struct {
	b     *broker
	topic string
	stop  context.CancelFunc
	done  sync.WaitGroup
	err   error // guarded by done
	seen  []sight
}

// sight is how many records a topic held at a time, transaction markers and open transactions included.
type sight struct {
	at      time.Time
	records float64
}

func observe(ctx context.Context, b *broker, topic string) *observer {
	o := &observer{b: b, topic: topic}
	ctx, o.stop = context.WithCancel(ctx)
	o.done.Go(func() { o.err = o.look(ctx) })
	return o
}

func (o *observer) look(ctx context.Context) error {
	tick := time.NewTicker(observeEvery)
	defer tick.Stop()
	for {
		asked := time.Now()
		ends, err := o.b.ends(ctx, o.topic)
		if ctx.Err() != nil {
			return nil // the run is over
		}
		if err != nil {
			return err
		}
		var sum int64
		for _, end := range ends {
			sum += end
		}
		// The answer is of some moment between the question and now.
		o.seen = append(o.seen, sight{at: asked.Add(time.Since(asked) / 2), records: float64(sum)})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// end stops looking and gives the records per second of the steady part.
func (o *observer) end() (float64, error) {
	o.stop()
	o.done.Wait()
	if o.err != nil {
		return 0, fmt.Errorf("watching %s grow: %w", o.topic, o.err)
	}
	return steadyRate(o.seen), nil
}

// steadyRate is the rate between the two shares of the last sight; 0 when there was too little to see.
func steadyRate(seen []sight) float64 {
	if len(seen) == 0 {
		return 0
	}
	total := seen[len(seen)-1].records
	from, to := crossing(seen, steadyFrom*total), crossing(seen, steadyTo*total)
	if took := to.Sub(from).Seconds(); took > 0 {
		return (steadyTo - steadyFrom) * total / took
	}
	return 0
}

// crossing is when there were so many records, interpolated between two sights.
func crossing(seen []sight, records float64) time.Time {
	for i := 1; i < len(seen); i++ {
		if a, b := seen[i-1], seen[i]; b.records >= records && b.records > a.records {
			part := max(0, (records-a.records)/(b.records-a.records))
			return a.at.Add(time.Duration(part * float64(b.at.Sub(a.at))))
		}
	}
	return seen[0].at
}
