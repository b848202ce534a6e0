package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/bench/figures"
)

// markerProbe measures what the broker alone takes to make a transaction visible: a bare producer of
// franz-go commits a record at a time, two transactional ids in turn, and a read_committed reader waits.
type markerProbe struct {
	producers [2]*kgo.Client
	consumer  *kgo.Client
	interval  time.Duration
	done      sync.WaitGroup
	stop      context.CancelFunc

	mu     sync.Mutex
	err    error
	endsAt map[int]time.Time // guarded by mu: when the commit of a record was asked for
	took   []float64         // guarded by mu: from then until it was read, milliseconds
}

// startMarkerProbe makes the topic and begins.
func startMarkerProbe(ctx context.Context, b *broker, topic string, interval time.Duration) (p *markerProbe, err error) {
	if err := b.createTopic(ctx, topic); err != nil {
		return nil, err
	}
	p = &markerProbe{interval: interval, endsAt: map[int]time.Time{}}
	starts := map[int32]kgo.Offset{}
	for i := range int32(partitions) {
		starts[i] = kgo.NewOffset().At(0)
	}
	p.consumer, err = kgo.NewClient(b.options(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	for i := range p.producers {
		if err == nil {
			p.producers[i], err = kgo.NewClient(b.options(kgo.DefaultProduceTopic(topic), kgo.TransactionalID(fmt.Sprintf("%s-%d", topic, i)), kgo.ProducerLinger(0))...)
		}
	}
	if err != nil {
		p.closeClients()
		return nil, fmt.Errorf("making a client: %w", err)
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.done.Go(func() { p.note(ctx, p.commit(ctx)) })
	p.done.Go(func() { p.note(ctx, p.read(ctx)) })
	return p, nil
}

func (p *markerProbe) closeClients() {
	for _, client := range []*kgo.Client{p.producers[0], p.producers[1], p.consumer} {
		if client != nil {
			client.Close()
		}
	}
}

// close ends the probe and returns the errors it met.
func (p *markerProbe) close() error {
	p.stop()
	p.done.Wait()
	p.closeClients()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *markerProbe) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // it is over
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = errors.Join(p.err, fmt.Errorf("timing the markers: %w", err))
}

// commit writes and commits a record each interval.
func (p *markerProbe) commit(ctx context.Context) error {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		producer := p.producers[i%len(p.producers)]
		if err := producer.BeginTransaction(); err != nil {
			return err
		}
		record := &kgo.Record{Value: []byte(strconv.Itoa(i)), Partition: int32(i % partitions)}
		if err := producer.ProduceSync(ctx, record).FirstErr(); err != nil {
			return err
		}
		p.mu.Lock()
		p.endsAt[i] = time.Now()
		p.mu.Unlock()
		if err := producer.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return err
		}
	}
}

func (p *markerProbe) read(ctx context.Context) error {
	for {
		fetches := p.consumer.PollFetches(ctx)
		now := time.Now()
		if err := fetches.Err(); err != nil {
			return err
		}
		var err error
		fetches.EachRecord(func(r *kgo.Record) { err = errors.Join(err, p.see(r, now)) })
		if err != nil {
			return err
		}
	}
}

func (p *markerProbe) see(r *kgo.Record, now time.Time) error {
	i, err := strconv.Atoi(string(r.Value))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.endsAt[i]
	if !ok {
		return fmt.Errorf("record %d was read twice or before its commit", i)
	}
	delete(p.endsAt, i)
	p.took = append(p.took, figures.Ms(now.Sub(at)))
	return nil
}

// times sums up what was measured since it was last asked.
func (p *markerProbe) times() figures.Sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := figures.NewSample(p.took)
	p.took = nil
	return out
}
