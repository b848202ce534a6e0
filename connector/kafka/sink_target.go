package kafka

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/transaction"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/operator"
)

// topic is a topic that the sink writes to. The number of partitions over which keys are spread stays as it was first
// seen: a key does not move to another partition while an attempt runs.
type topic struct {
	name    string
	targets []*target // by partition; more when records want more and the topic has grown
	keys    int32     // partitions over which keys are spread
	askedAt time.Time // when it was last asked for
	size    batchSize // of batches
	sticky  int32     // partition of records without a key
	turn    int32     // of round-robin
}

// target is a partition that the sink writes to; all under Sink.mu.
type target struct {
	topic    *topic
	id       int32
	name     string
	leader   *leader   // nil while the finder looks for it
	open     *outBatch // takes records
	queue    []*outBatch
	inFlight bool // a lane has queue[0]
	// ahead is the size of the batches in queue; moved is closed when it falls, nil while no writer waits for that.
	ahead int64
	moved chan struct{}
	// tries counts failures in a row; notBefore is when the next try is due.
	tries     int
	notBefore time.Time
	// deniedSince is since when brokers have denied the transaction that was begun; zero: they do not.
	deniedSince time.Time
	// producer numbers the batches of the partition from sequence on; nil: none yet. Not of transactions.
	producer *wire.Producer
	sequence int32
}

// outBatch is a batch on its way out.
type outBatch struct {
	builder wire.Builder
	codec   wire.Codec
	// raw is a batch that is passed on unopened, with a new header; the builder is not used then.
	raw    *wire.RawBatch
	header [wire.HeaderSize]byte
	of     *target
	count  int
	bytes  int64 // counted in the memory
	epoch  uint64
	share  *transaction.Share // instead of epoch, in a transaction
	opened time.Time
	// producer and sequence are set when it is closed, in a transaction the producer when it is opened;
	// sealedBy is what data was made with. The batch is data, and rest behind it.
	producer   *wire.Producer
	sequence   int32
	data, rest []byte
	sealedBy   *wire.Producer
}

// oldest is the batch that has waited longest, nil for none.
func (t *target) oldest() *outBatch {
	if len(t.queue) > 0 {
		return t.queue[0]
	}
	return t.open
}

// passed takes bytes off what is ahead. Under mu.
func (t *target) passed(bytes int64) {
	t.ahead -= bytes
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}

// number gives a closed batch its place in the partition's sequence.
func (t *target) number(b *outBatch) {
	b.producer, b.sequence = t.producer, t.sequence
	t.sequence = wire.NextSequence(t.sequence, b.count)
}

// renumber begins the partition's sequence anew with another producer id.
func (t *target) renumber(p *wire.Producer) {
	t.producer, t.sequence = p, 0
	for _, b := range t.queue {
		t.number(b)
	}
}

// encode makes the bytes of a batch; again only if its producer changed. The caller has the batch for
// itself.
func (b *outBatch) encode(c *wire.Compressor) error {
	if b.data != nil && b.sealedBy == b.producer {
		return nil
	}
	p := *b.producer
	if p.ID >= 0 {
		p.Sequence = b.sequence
	}
	var err error
	if b.raw != nil {
		b.header, err = b.raw.HeaderFor(p)
		b.data, b.rest = b.header[:], b.raw.Body()
	} else {
		b.data, err = b.builder.Finish(p, c)
	}
	if err != nil {
		return fmt.Errorf("encode a batch of %d records: %w", b.count, err)
	}
	b.sealedBy = b.producer
	return nil
}

// halves splits a batch that is too large for its topic into two, which take its place in the sequence.
func (b *outBatch) halves(d *wire.Decompressor) (first, second *outBatch, err error) {
	raw := b.raw
	if raw == nil {
		if raw, _, err = wire.ParseBatch(b.data, d); err != nil {
			return nil, nil, fmt.Errorf("read back a batch: %w", err)
		}
	}
	var all operator.Batch
	if err := raw.Unpack(&all); err != nil {
		return nil, nil, fmt.Errorf("read back a batch: %w", err)
	}
	cut := len(all.Records) / 2
	half := func(records []operator.Record, sequence int32) *outBatch {
		h := &outBatch{of: b.of, codec: b.codec, count: len(records), epoch: b.epoch, share: b.share, opened: b.opened, producer: b.producer, sequence: sequence}
		for i := range records {
			h.builder.Append(&all, &records[i])
		}
		h.bytes = int64(h.builder.SizeBytes())
		return h
	}
	return half(all.Records[:cut], b.sequence), half(all.Records[cut:], wire.NextSequence(b.sequence, cut)), nil
}

// sinkMemory counts the bytes that wait for brokers, and keeps batches for the next use.
type sinkMemory struct {
	limit int64
	used  int64
	// room is closed when something was freed; nil while no writer waits. A writer that waits makes open
	// batches go out before their time.
	room chan struct{}
	free []*outBatch
	kept int64 // capacity of free, in bytes
}

func (m *sinkMemory) batch() *outBatch {
	if n := len(m.free); n > 0 {
		b := m.free[n-1]
		m.free[n-1] = nil
		m.free = m.free[:n-1]
		m.kept -= int64(b.builder.CapBytes())
		return b
	}
	return &outBatch{}
}

// release takes back a batch that has left its queue.
func (m *sinkMemory) release(b *outBatch) {
	m.used -= b.bytes
	if m.room != nil {
		close(m.room)
		m.room = nil
	}
	b.of.passed(b.bytes)
	if b.raw != nil {
		b.raw.Release()
	}
	b.builder.Reset()
	*b = outBatch{builder: b.builder}
	if size := int64(b.builder.CapBytes()); m.kept+size <= m.limit/2 {
		m.kept += size
		m.free = append(m.free, b)
	}
}
