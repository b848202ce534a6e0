package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/operator"
)

const (
	// passBytes and passRecords make a batch large enough to be worth a request of its own. Smaller ones
	// are passed on only while their partition has nothing else to send.
	passBytes   = 64 << 10
	passRecords = 500
	// aheadBytes is how much may wait for one partition, or two batches if they are larger: enough for its next request to
	// be ready, and little enough to be written soon after a seal, and for its bytes to be in the processor's caches still.
	aheadBytes = 2 << 20
)

// Write copies the records into the batches of their partitions. It waits while buffer.memory is used up or enough waits
// for a partition, and for the metadata of topics that are new to it.
func (s *Sink) Write(ctx context.Context, b *operator.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	if err := s.await(ctx); err != nil {
		return err
	}
	if s.transactions != nil {
		if err := s.awaitTransaction(ctx); err != nil {
			return err
		}
	}
	codec := s.cfg.Produce.Codec
	if raw, ok := b.Packed.(*wire.RawBatch); ok {
		if !s.cfg.Produce.CodecGiven {
			codec = raw.Codec()
		}
		if passed, err := s.pass(ctx, raw, codec); passed || err != nil {
			return err
		}
	}
	if err := b.Open(); err != nil {
		return &Error{Where: s.kafka.Topic, Err: err, Hint: damagedHint}
	}
	if err := s.route(ctx, b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	records := b.Records
	for _, r := range s.runs {
		if r.partition != leftOut {
			if err := s.append(ctx, r.route, b, records[:r.count], codec); err != nil {
				return err
			}
		}
		records = records[r.count:]
	}
	return nil
}

// append adds records of b that go the same way to the open batches of their partition. It waits for memory. Under mu, which
// it gives up while it waits.
func (s *Sink) append(ctx context.Context, to route, b *operator.Batch, records []operator.Record, codec wire.Codec) error {
	for len(records) > 0 {
		t := to.target()
		if t.open == nil {
			s.openBatch(t, codec)
		}
		builder := &t.open.builder
		before, limit := builder.SizeBytes(), t.topic.size.bytes
		n := builder.AppendSome(b, records, limit, int(s.memory.limit-s.memory.used))
		records = records[n:]
		grown := int64(builder.SizeBytes() - before)
		t.open.bytes += grown
		s.memory.used += grown
		if n == 0 || builder.SizeBytes() >= limit {
			s.closeOpen(t)
			nudge(t)
			if err := s.waitForPartition(ctx, t); err != nil {
				return err
			}
		}
		if err := s.waitForRoom(ctx); err != nil {
			return err
		}
	}
	return nil
}

func placeOf(b *operator.Batch, r *operator.Record) string {
	if int(r.Origin) >= len(b.Origins) {
		return "unknown"
	}
	o := b.Origins[r.Origin]
	return fmt.Sprintf("%s/%d offset %d", o.Topic, o.Partition, r.Offset)
}

// openBatch begins a batch of a partition. Under mu.
func (s *Sink) openBatch(t *target, codec wire.Codec) {
	b := s.memory.batch()
	b.of, b.codec, b.opened = t, codec, time.Now()
	if codec == wire.None {
		b.builder.SumEarly()
	}
	s.count(t, b)
	b.bytes = int64(b.builder.SizeBytes())
	s.memory.used += b.bytes
	t.open = b
	nudge(t) // the linger time begins
}

// nudge wakes a lane for a partition that has something to send. Under mu.
func nudge(t *target) {
	if t.leader != nil && !t.inFlight {
		signal(t.leader.wake)
	}
}

// closeOpen puts the open batch of a partition into the queue. Under mu.
func (s *Sink) closeOpen(t *target) {
	b := t.open
	if b == nil {
		return
	}
	t.open = nil
	b.count = b.builder.Count()
	t.ahead += b.bytes
	s.enqueue(t, b)
}

// count makes a batch part of the transaction, or of the epoch, in which it is opened. Under mu.
func (s *Sink) count(t *target, b *outBatch) {
	if s.transactions != nil {
		s.enter(t, b)
		return
	}
	b.epoch = s.epochs.enter()
}

func (s *Sink) enqueue(t *target, b *outBatch) {
	t.queue = append(t.queue, b)
	if s.transactions != nil {
		b.sequence = b.share.Number(b.count)
		if failpoint.Bug(failpoint.IgnoreOrderAcrossSeal) {
			t.overtake()
		}
		return
	}
	if t.producer == nil {
		t.producer = s.producer
	}
	t.number(b)
}

// mayBeTooLarge says that a batch may hold a record above max.request.size, if that is less than what any record has.
func (s *Sink) mayBeTooLarge(raw *wire.RawBatch) bool {
	limit := s.cfg.Produce.MaxRecordBytes
	return limit < wire.MaxRecordBytes && (raw.Codec() != wire.None || raw.SizeBytes() > limit)
}

// passedOn are the codecs of which all sinks pass on most batches unopened, where one that Kafka refuses is read again.
// See Sink.pass.
func passedOn(sinks []*graph.KafkaSink) wire.CodecSet {
	var out wire.CodecSet
	for codec := range out {
		out[codec] = len(sinks) > 0
	}
	for _, k := range sinks {
		if k.Partitioner != graph.Preserve || k.TopicExpression != "" || k.Guarantee == graph.NoGuarantee || k.Properties[propBrokerVersion] != "" {
			return wire.CodecSet{}
		}
		if name := k.Properties[propCompression]; name != "" { // batches of another codec are opened
			for codec := range out {
				out[codec] = out[codec] && wire.Codec(codec).String() == name
			}
		}
	}
	return out
}

// pass sends a batch on as it is: with a new header, its records unopened. It returns false if the batch
// has to be opened.
func (s *Sink) pass(ctx context.Context, raw *wire.RawBatch, codec wire.Codec) (bool, error) {
	if s.topicOf != nil || s.kafka.Partitioner != graph.Preserve || codec != raw.Codec() || !raw.Whole() || s.cfg.Legacy || s.mayBeTooLarge(raw) {
		return false, nil
	}
	to, err := s.topic(ctx, s.kafka.Topic)
	if err != nil {
		return false, err
	}
	if err := s.preserves(ctx, to, raw.Topic, raw.Partition); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := to.targets[raw.Partition]
	large := raw.SizeBytes() >= passBytes || raw.Count() >= passRecords
	if !large && (t.inFlight || t.open != nil || len(t.queue) > 0) {
		return false, nil
	}
	s.closeOpen(t)
	b := s.memory.batch()
	b.raw, b.of, b.codec, b.count, b.opened = raw.Share(), t, raw.Codec(), raw.Count(), time.Now()
	s.count(t, b)
	b.bytes = int64(raw.SizeBytes())
	s.memory.used += b.bytes
	t.ahead += b.bytes
	s.enqueue(t, b)
	nudge(t)
	if err := s.waitForPartition(ctx, t); err != nil {
		return true, err
	}
	return true, s.waitForRoom(ctx)
}

// waitForPartition waits until little enough is ahead of the next batch of a partition. Under mu, which it
// gives up while it waits.
func (s *Sink) waitForPartition(ctx context.Context, t *target) error {
	for t.ahead > max(aheadBytes, int64(2*t.topic.size.configured)) {
		if t.moved == nil {
			t.moved = make(chan struct{})
		}
		if err := s.pause(ctx, t.moved); err != nil {
			return err
		}
	}
	return nil
}

// pause waits for a channel to be closed. Under mu, which it gives up while it waits.
func (s *Sink) pause(ctx context.Context, until <-chan struct{}) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-until:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.over:
		return s.overError()
	}
}

// waitForRoom waits until memory is free again. Under mu, which it gives up while it waits.
func (s *Sink) waitForRoom(ctx context.Context) error {
	for s.memory.used > s.memory.limit {
		if s.memory.room == nil {
			s.memory.room = make(chan struct{})
		}
		for _, l := range s.leaders {
			signal(l.wake) // lanes send open batches at once while somebody waits
		}
		if err := s.pause(ctx, s.memory.room); err != nil {
			return err
		}
	}
	return nil
}
