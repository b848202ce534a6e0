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

	"github.com/sluice-stream/sluice/bench/figures"
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
	// unlimited is the rate of a traffic that is as fast as its records are taken.
	unlimited = math.MaxInt
	// minBuffered is franz-go's own limit of records on their way; a faster traffic may have a second of them.
	minBuffered = 10_000
	maxBuffered = 1_000_000
)

// traffic writes records to a topic at a steady rate, each with the time when it was due, whenever it could
// be written (an open loop), and watches what a read_committed reader sees of the topic that a job copies
// them to.
type traffic struct {
	source, target string
	producer       *kgo.Client
	consumer       *kgo.Client
	start          time.Time
	rate           int           // records per second, over all partitions
	tick           time.Duration // records are written in groups of what became due in it
	done           sync.WaitGroup
	stop           context.CancelFunc

	mu      sync.Mutex
	err     error
	armedAt time.Time             // guarded by mu: records due from here on are watched for
	timing  *timing               // guarded by mu; nil: no records are timed
	arrived [partitions]time.Time // guarded by mu: the first such record
	news    chan struct{}         // a token when arrived has changed
	acks    []float64             // guarded by mu: how long writes to the source took, milliseconds
	late    histogram             // guarded by mu: how long after their time groups of records were begun
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
	if t.producer, err = kgo.NewClient(b.options(kgo.DefaultProduceTopic(t.source), kgo.ProducerLinger(trafficLinger), kgo.MaxBufferedRecords(min(max(rate, minBuffered), maxBuffered)))...); err != nil {
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
	t.start = time.Now()
	ctx, t.stop = context.WithCancel(ctx)
	t.done.Go(func() {
		if rate == unlimited {
			t.flood(ctx)
		} else {
			t.produce(ctx)
		}
	})
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
	for i := 0; ; {
		if due := t.dueBy(time.Now()); i < due {
			t.began(t.due(i))
			for ; i < due; i++ {
				t.write(ctx, t.due(i), i)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// flood writes as fast as records are taken; each is due when it is written.
func (t *traffic) flood(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		t.write(ctx, time.Now(), i)
	}
}

// began notes how late a group of records is begun that was due from then on.
func (t *traffic) began(due time.Time) {
	late := time.Since(due)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late.add(late)
}

// dueBy is how many records are due before a time.
func (t *traffic) dueBy(at time.Time) int {
	since := at.Sub(t.start)
	if t.rate == 0 || since <= 0 {
		return 0
	}
	whole, part := int(since/time.Second), since%time.Second
	return whole*t.rate + int((part*time.Duration(t.rate)+time.Second-1)/time.Second)
}

// due is when record i is due.
func (t *traffic) due(i int) time.Time {
	return t.start.Add(time.Duration(i/t.rate)*time.Second + time.Duration(i%t.rate)*time.Second/time.Duration(t.rate))
}

// write begins to write a record; it waits while too many are on their way.
func (t *traffic) write(ctx context.Context, due time.Time, i int) {
	t.producer.Produce(ctx, &kgo.Record{Value: stamp(due, i), Partition: int32(i % partitions), Timestamp: time.Now()}, t.acked)
}

// acked notes how long one record in ackEvery took; its timestamp is when it was written.
func (t *traffic) acked(r *kgo.Record, err error) {
	t.written.note(r, err)
	if err != nil || r.Offset%ackEvery != 0 {
		return
	}
	took := figures.Ms(time.Since(r.Timestamp))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.acks = append(t.acks, took)
}

// ackTimes sums up how long writes took since it was last asked: what the broker costs anyone on this
// machine at this time.
func (t *traffic) ackTimes() figures.Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := figures.NewSample(t.acks)
	t.acks = nil
	return out
}

func stamp(at time.Time, i int) []byte {
	value := make([]byte, trafficValueBytes)
	for k := range value {
		value[k] = '.'
	}
	putDigits(value[:stampDigits], int(at.UnixNano()))
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
		t.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) { t.see(r, now) })
		t.mu.Unlock()
	}
}

func (t *traffic) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed(err)
}

// failed is fail under mu.
func (t *traffic) failed(err error) {
	t.err = errors.Join(t.err, err)
	t.tell()
}

func (t *traffic) tell() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// see takes note of a record of the target. Under mu.
func (t *traffic) see(r *kgo.Record, now time.Time) {
	due, err := stampOf(r.Value)
	if err != nil {
		t.failed(fmt.Errorf("partition %d of %s, offset %d: %w", r.Partition, t.target, r.Offset, err))
		return
	}
	if !due.Before(t.armedAt) && t.arrived[r.Partition].IsZero() {
		t.arrived[r.Partition] = now
		t.tell()
	}
	if t.timing == nil {
		return
	}
	i, err := seqOf(r.Value)
	if err != nil {
		t.failed(fmt.Errorf("partition %d of %s, offset %d: %w", r.Partition, t.target, r.Offset, err))
		return
	}
	if t.timing.see(i, now.Sub(due)) {
		t.tell()
	}
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
