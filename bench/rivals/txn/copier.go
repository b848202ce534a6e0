package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

const (
	// readAhead bounds the batches of a partition that wait to be written.
	readAhead = 4
	// fetchBytes is that of Sluice: max.partition.fetch.bytes.
	fetchBytes         = 1 << 20
	fetchWait          = 200 * time.Millisecond
	transactionTimeout = time.Minute
	// retryPause is between two tries while a transaction is being ended.
	retryPause = 3 * time.Millisecond
)

// copier copies one partition.
type copier struct {
	settings
	cluster   *wire.Cluster
	n         *counters
	partition int32
	end       int64
}

// read fetches up to the end. The next fetch goes out while the batches of the last are written.
func (c *copier) read(ctx context.Context, batches chan<- *wire.RawBatch) error {
	defer close(batches)
	for next := int64(0); next < c.end; {
		leader, err := c.cluster.Leader(ctx, c.source, c.partition)
		if err != nil {
			return err
		}
		answer, err := c.cluster.Fetch(ctx, leader.Broker, &wire.FetchRequest{
			Isolation: wire.ReadCommitted, MaxWait: fetchWait,
			Partitions: []wire.FetchPartition{{Topic: c.source, Partition: c.partition, Offset: next, LeaderEpoch: -1, MaxBytes: fetchBytes}},
		})
		if err != nil {
			return err
		}
		next, err = c.hand(ctx, &answer.Partitions[0], next, batches)
		answer.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// hand passes the batches of an answer on, and gives the offset to read next.
func (c *copier) hand(ctx context.Context, p *wire.FetchedPartition, next int64, batches chan<- *wire.RawBatch) (int64, error) {
	if p.Err != nil {
		return next, p.Err
	}
	for {
		batch, err := p.Next()
		if err != nil || batch == nil {
			return next, err
		}
		next = batch.Next()
		if batch.Control() {
			batch.Release()
			continue
		}
		select {
		case batches <- batch:
		case <-ctx.Done():
			batch.Release()
			return next, context.Cause(ctx)
		}
	}
}

// transactionalID is one of those that take turns, ready for a transaction: its partition is added ahead,
// so that the first batch does not wait for that.
type transactionalID struct {
	name     string
	producer wire.Producer
}

// write copies the batches in transactions. Ending one and making its id ready again go on beside.
func (c *copier) write(ctx context.Context, batches <-chan *wire.RawBatch) error {
	defer func() {
		for batch := range batches { // after an error
			batch.Release()
		}
	}()
	ready := make(chan *transactionalID, c.ids)
	g, ctx := errgroup.WithContext(ctx)
	for i := range c.ids {
		id := &transactionalID{name: fmt.Sprintf("%s-%d-%d", c.target, c.partition, i)}
		if err := c.begin(ctx, id); err != nil {
			return err
		}
		ready <- id
	}
	err := c.writeAll(ctx, batches, ready, func(id *transactionalID, last bool) {
		g.Go(func() error {
			if err := c.commit(ctx, id); err != nil || last {
				return err
			}
			err := c.begin(ctx, id)
			ready <- id
			return err
		})
	})
	if other := g.Wait(); other != nil {
		return other
	}
	return err
}

func (c *copier) writeAll(ctx context.Context, batches <-chan *wire.RawBatch, ready <-chan *transactionalID, end func(id *transactionalID, last bool)) error {
	var open *transactionalID
	var began time.Time
	var buf []byte
	for batch := range batches {
		if open == nil {
			asked := time.Now()
			select {
			case open = <-ready:
			case <-ctx.Done():
				batch.Release()
				return context.Cause(ctx)
			}
			began = time.Now()
			c.n.stalledMicros.Add(uint64(began.Sub(asked).Microseconds()))
		}
		var err error
		if buf, err = c.produce(ctx, open, batch, buf[:0]); err != nil {
			return err
		}
		if time.Since(began) >= c.interval {
			end(open, false)
			open = nil
		}
	}
	if open != nil {
		end(open, true)
	}
	return context.Cause(ctx)
}

// produce writes one batch under the transaction and releases it. The buffer is given back for the next.
func (c *copier) produce(ctx context.Context, id *transactionalID, batch *wire.RawBatch, buf []byte) ([]byte, error) {
	defer batch.Release()
	buf, err := batch.Rewrite(buf, id.producer)
	if err != nil {
		return buf, err
	}
	leader, err := c.cluster.Leader(ctx, c.target, c.partition)
	if err != nil {
		return buf, err
	}
	results, err := c.cluster.Produce(ctx, leader.Broker, &wire.ProduceRequest{
		TransactionalID: id.name, Acks: -1, Batches: []wire.ProduceBatch{{Topic: c.target, Partition: c.partition, Data: buf}},
	})
	if err == nil {
		err = results[0].Err
	}
	id.producer.Sequence = wire.NextSequence(id.producer.Sequence, batch.Count())
	c.n.records.Add(uint64(batch.Count()))
	return buf, err
}

// begin gets a producer id and epoch and adds the partition.
func (c *copier) begin(ctx context.Context, id *transactionalID) error {
	err := c.untilTaken(ctx, func() (err error) {
		id.producer, err = c.cluster.InitProducerID(ctx, id.name, transactionTimeout)
		return err
	})
	if err != nil {
		return err
	}
	return c.untilTaken(ctx, func() error {
		return c.cluster.AddPartitionsToTxn(ctx, id.name, id.producer, []wire.TopicPartition{{Topic: c.target, Partition: c.partition}})
	})
}

func (c *copier) commit(ctx context.Context, id *transactionalID) error {
	c.n.transactions.Add(1)
	return c.untilTaken(ctx, func() error { return c.cluster.EndTxn(ctx, id.name, id.producer, true) })
}

// untilTaken repeats a call while the coordinator is busy or on its way.
func (c *copier) untilTaken(ctx context.Context, call func() error) error {
	for {
		err := call()
		if !wire.HasCode(err, wire.CodeConcurrentTransactions, wire.CodeCoordinatorLoadInProgress, wire.CodeCoordinatorNotAvailable, wire.CodeNotCoordinator) {
			return err
		}
		c.n.refused.Add(1)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}
