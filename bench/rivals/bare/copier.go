package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
)

const (
	// readAhead bounds the answers of a partition that wait to be written.
	readAhead = 2
	// fetchBytes is Kafka's default of max.partition.fetch.bytes.
	fetchBytes  = 1 << 20
	fetchWait   = 200 * time.Millisecond
	callTimeout = 30 * time.Second
	// batchBytes is where a recoded batch ends, before compression; brokers take 1 MiB by default.
	batchBytes = 900 << 10
	allISR     = -1
	anyEpoch   = -1
	noSession  = -1
)

// copier copies one partition.
type copier struct {
	settings
	transport *kafka.Transport
	to        net.Addr
	n         *counters
	partition int32
	end       int64

	out builder
	lz4 lz4Codec
}

// read fetches up to the end. The next fetch goes out while the batches of the last are written.
func (c *copier) read(ctx context.Context, sets chan<- *recordSet) error {
	defer close(sets)
	for next := int64(0); next < c.end; {
		set, err := c.fetch(ctx, next)
		if err != nil {
			return err
		}
		if next, err = set.next(next); err != nil {
			return fmt.Errorf("%s, partition %d: %w", c.source, c.partition, err)
		}
		select {
		case sets <- set:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (c *copier) fetch(ctx context.Context, from int64) (*recordSet, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := c.transport.RoundTrip(ctx, c.to, &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(fetchWait.Milliseconds()), MinBytes: 1, MaxBytes: fetchBytes, IsolationLevel: 1, SessionEpoch: noSession,
		Topics: []fetch.RequestTopic{{Topic: c.source, Partitions: []fetch.RequestPartition{
			{Partition: c.partition, CurrentLeaderEpoch: anyEpoch, FetchOffset: from, LogStartOffset: -1, PartitionMaxBytes: fetchBytes},
		}}},
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s, partition %d: %w", c.source, c.partition, err)
	}
	topics := answer.(*fetchResponse).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("reading %s, partition %d: the answer is about %d topics", c.source, c.partition, len(topics))
	}
	p := &topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return nil, fmt.Errorf("reading %s, partition %d: %w", c.source, c.partition, kafka.Error(p.ErrorCode))
	}
	return &p.RecordSet, nil
}

// write writes every batch of every set. Aborted transactions are not looked for: the benchmark has none.
func (c *copier) write(ctx context.Context, sets <-chan *recordSet) error {
	c.out.reset()
	for set := range sets {
		for rest := set.bytes; ; {
			b, err := firstBatch(rest)
			if err != nil {
				return fmt.Errorf("%s, partition %d: %w", c.source, c.partition, err)
			}
			if b == nil {
				break
			}
			rest = rest[len(b):]
			if b.control() {
				continue
			}
			c.n.in.Add(uint64(b.count()))
			if err := c.pass(ctx, b); err != nil {
				return err
			}
		}
		set.release()
	}
	return c.flush(ctx)
}

func (c *copier) pass(ctx context.Context, b batch) error {
	if !c.recode {
		b.rewrite()
		return c.produce(ctx, b)
	}
	records := b.records()
	if b.codec() == codecLZ4 {
		var err error
		if records, err = c.lz4.unpack(records); err != nil {
			return fmt.Errorf("%s, partition %d, offset %d: %w", c.source, c.partition, b.base(), err)
		}
	}
	first := b.firstTimestamp()
	for range b.count() {
		var r record
		var err error
		if r, records, err = nextRecord(records); err != nil {
			return fmt.Errorf("%s, partition %d, batch at offset %d: %w", c.source, c.partition, b.base(), err)
		}
		if !bytes.HasPrefix(r.value, []byte(c.prefix)) {
			continue
		}
		c.out.add(first+r.timestampDelta, &r)
		if len(c.out.bytes) >= batchBytes {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes what has been recoded.
func (c *copier) flush(ctx context.Context) error {
	if c.out.count == 0 {
		return nil
	}
	var b batch
	if c.compression == "lz4" {
		packed, err := c.lz4.pack(c.out.bytes)
		if err != nil {
			return err
		}
		b = c.out.finish(packed, codecLZ4)
	} else {
		b = c.out.finish(c.out.bytes, codecNone)
	}
	defer c.out.reset()
	return c.produce(ctx, b)
}

func (c *copier) produce(ctx context.Context, b batch) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(b)))
	answer, err := c.transport.RoundTrip(ctx, c.to, &rawproduce.Request{
		Acks: allISR, Timeout: int32(callTimeout.Milliseconds()),
		Topics: []rawproduce.RequestTopic{{Topic: c.target, Partitions: []rawproduce.RequestPartition{
			{Partition: c.partition, RecordSet: protocol.RawRecordSet{Reader: &sized{size: size[:], bytes: b}}},
		}}},
	})
	if err != nil {
		return fmt.Errorf("writing %s, partition %d: %w", c.target, c.partition, err)
	}
	if code := answer.(*produce.Response).Topics[0].Partitions[0].ErrorCode; code != 0 {
		return fmt.Errorf("writing %s, partition %d: %w", c.target, c.partition, kafka.Error(code))
	}
	c.n.out.Add(uint64(b.count()))
	return nil
}

// sized reads a length and the bytes behind it, and writes both without a buffer between.
type sized struct{ size, bytes []byte }

func (s *sized) Read(p []byte) (int, error) {
	n := copy(p, s.size)
	s.size = s.size[n:]
	m := copy(p[n:], s.bytes)
	s.bytes = s.bytes[m:]
	if n+m == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n + m, nil
}

// WriteTo is what kafka-go calls.
func (s *sized) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s.size)
	if err != nil {
		return int64(n), err
	}
	m, err := w.Write(s.bytes)
	return int64(n + m), err
}
