package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// trafficValueBytes is the size of the values that the traffic is made of.
	trafficValueBytes = 100
	stampDigits       = 20
	// Records are made in small groups that fit into one request, so that the broker, which shares the
	// machine, has time for the job.
	trafficTick   = 5 * time.Millisecond
	trafficLinger = time.Millisecond
	ackEvery      = 16
)

// traffic writes records to a topic at a steady rate, each with the time when it was due, whenever it could
// be written (an open loop), and watches what a read_committed reader sees of the topic that a job copies
// them to.
type traffic struct {
	source, target string
	producer       *kgo.Client
	consumer       *kgo.Client
	rate           int           // records per second, over all partitions
	tick           time.Duration // records are written in groups of what became due in it
	done           sync.WaitGroup
	stop           context.CancelFunc

	mu      sync.Mutex
	err     error
	armedAt time.Time             // guarded by mu: records due from here on are watched for
	timedAt time.Time             // guarded by mu: records due from here on are timed; zero: none
	delays  []float64             // guarded by mu: from due to read, milliseconds
	arrived [partitions]time.Time // guarded by mu: the first such record
	news    chan struct{}         // a token when arrived has changed
	acks    []float64             // guarded by mu: how long writes to the source took, milliseconds
	written produceError
}

// startTraffic creates both topics and begins.
func startTraffic(ctx context.Context, b *broker, name string, rate int, tick time.Duration) (*traffic, error) {
	t := &traffic{source: name + "-in", target: name + "-out", rate: rate, tick: tick, news: make(chan struct{}, 1), armedAt: time.Unix(0, math.MaxInt64)}
	for _, topic := range []string{t.source, t.target} {
		if err := b.createTopic(ctx, topic); err != nil {
			return nil, err
		}
	}
	var err error
	if t.producer, err = kgo.NewClient(b.options(kgo.DefaultProduceTopic(t.source), kgo.ProducerLinger(trafficLinger))...); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	starts := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		starts[p] = kgo.NewOffset().At(0)
	}
	t.consumer, err = kgo.NewClient(b.options(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.target: starts}), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		t.producer.Close()
		return nil, fmt.Errorf("making a client: %w", err)
	}
	ctx, t.stop = context.WithCancel(ctx)
	t.done.Go(func() { t.produce(ctx) })
	t.done.Go(func() { t.consume(ctx) })
	return t, nil
}

// close ends the traffic and returns the first error it met.
func (t *traffic) close() error {
	t.stop()
	t.done.Wait()
	t.producer.Close()
	t.consumer.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.written.get(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrClientClosed) {
		return errors.Join(t.err, fmt.Errorf("writing %s: %w", t.source, err))
	}
	return t.err
}

// produce catches up with the schedule at each tick, so that the mean rate holds on a busy machine.
func (t *traffic) produce(ctx context.Context) {
	tick := time.NewTicker(t.tick)
	defer tick.Stop()
	start := time.Now()
	for i := 0; ; {
		due := int(time.Since(start).Seconds() * float64(t.rate))
		for ; i < due; i++ {
			at := start.Add(time.Duration(i) * time.Second / time.Duration(t.rate))
			t.producer.Produce(ctx, &kgo.Record{Value: stamp(at, i), Partition: int32(i % partitions), Timestamp: time.Now()}, t.acked)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// acked notes how long one record in ackEvery took; its timestamp is when it was written.
func (t *traffic) acked(r *kgo.Record, err error) {
	t.written.note(r, err)
	if err != nil || r.Offset%ackEvery != 0 {
		return
	}
	took := ms(time.Since(r.Timestamp))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.acks = append(t.acks, took)
}

// ackTimes sums up how long writes took since it was last asked: what the broker costs anyone on this
// machine at this time.
func (t *traffic) ackTimes() Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := newSample(t.acks)
	t.acks = nil
	return out
}

func stamp(at time.Time, i int) []byte {
	value := make([]byte, trafficValueBytes)
	for k := range value {
		value[k] = '.'
	}
	copy(value, fmt.Sprintf("%0*d", stampDigits, at.UnixNano()))
	putSeq(value, i)
	return value
}

func stampOf(value []byte) (time.Time, error) {
	if len(value) != trafficValueBytes {
		return time.Time{}, fmt.Errorf("value of %d bytes, want %d", len(value), trafficValueBytes)
	}
	nanos, err := strconv.ParseInt(string(value[:stampDigits]), 10, 64)
	return time.Unix(0, nanos), err
}

func (t *traffic) consume(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := t.consumer.PollFetches(ctx)
		now := time.Now()
		if err := fetches.Err(); err != nil {
			if ctx.Err() == nil {
				t.fail(fmt.Errorf("reading %s: %w", t.target, err))
			}
			return
		}
		fetches.EachRecord(func(r *kgo.Record) { t.see(r, now) })
	}
}

func (t *traffic) fail(err error) {
	t.mu.Lock()
	t.err = errors.Join(t.err, err)
	t.mu.Unlock()
	t.tell()
}

func (t *traffic) tell() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

func (t *traffic) see(r *kgo.Record, now time.Time) {
	due, err := stampOf(r.Value)
	if err != nil {
		t.fail(fmt.Errorf("partition %d of %s, offset %d: %w", r.Partition, t.target, r.Offset, err))
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !due.Before(t.armedAt) && t.arrived[r.Partition].IsZero() {
		t.arrived[r.Partition] = now
		t.tell()
	}
	if !t.timedAt.IsZero() && !due.Before(t.timedAt) {
		t.delays = append(t.delays, ms(now.Sub(due)))
	}
}

// times begins to time the records that are due from now on.
func (t *traffic) times() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timedAt, t.delays = time.Now(), nil
}

// timed ends that and sums up the times from due to read of those that have been read.
func (t *traffic) timed() (Sample, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := newSample(t.delays)
	t.timedAt, t.delays = time.Time{}, nil
	return out, t.err
}

// watch forgets what has arrived and watches for records that are due from now on.
func (t *traffic) watch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armedAt, t.arrived = time.Now(), [partitions]time.Time{}
}

// all waits until a record that was due after watch has arrived in each partition, and says when.
func (t *traffic) all(ctx context.Context) ([partitions]time.Time, error) {
	for {
		t.mu.Lock()
		arrived, err := t.arrived, t.err
		t.mu.Unlock()
		missing := 0
		for _, at := range arrived {
			if at.IsZero() {
				missing++
			}
		}
		if err != nil || missing == 0 {
			return arrived, err
		}
		select {
		case <-t.news:
		case <-ctx.Done():
			return arrived, fmt.Errorf("waiting for new records in %d of %d partitions of %s: %w", missing, partitions, t.target, context.Cause(ctx))
		}
	}
}
