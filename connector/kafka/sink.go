package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/operator"
)

// ErrSkip is returned by a TopicFunc or PartitionFunc for a record that is to be left out.
var ErrSkip = errors.New("the record is left out")

// TopicFunc names the topic of record i of an opened batch.
type TopicFunc func(b *operator.Batch, i int) (string, error)

// PartitionFunc names the partition of record i of an opened batch.
type PartitionFunc func(b *operator.Batch, i int) (int32, error)

// SinkConfig is one subtask of a Kafka sink.
type SinkConfig struct {
	// Kafka is the sink as the job has it.
	Kafka *graph.KafkaSink
	// Name is the sink's node of the graph.
	Name        string
	Subtask     int
	Connections *Connections
	// Topic is for a sink with a topic expression, Partition for one with the expression partitioner.
	Topic     TopicFunc
	Partition PartitionFunc
	// Failed decides over records that the sink cannot take: too large, or for a partition that the topic does
	// not have. Nil: they fail the sink.
	Failed operator.Failed
	// Lost counts the records that could not be written, with the guarantee none; nil: nobody asks.
	Lost *atomic.Int64
	// Status is told why the sink makes no progress, "" when it does again. It must not wait.
	Status func(reason string)
	// Transactions is for the guarantee exactly-once.
	Transactions *operator.TransactionContext
	Logger       *slog.Logger
}

// Sink writes to Kafka topics. It implements operator.Sink.
//
// Write encodes records into the open batch of their partition. A batch that is full, old enough or sealed
// is closed and waits in its partition's queue. Two lanes per leader send the heads of the queues, many
// partitions in one request and one batch per partition at a time, so that the order within a partition
// holds over retries; sequence numbers keep retries from writing twice.
//
// With the guarantee exactly-once the batches between two seals make up a transaction, which the sink begins
// and never ends: the job manager commits it when the checkpoint is durable.
type Sink struct {
	cfg         Config
	kafka       *graph.KafkaSink
	subtask     int
	topicOf     TopicFunc
	partitionOf PartitionFunc
	decide      operator.Failed
	lostRecords *atomic.Int64 // nil: nobody asks
	connections *Connections
	log         *slog.Logger
	trouble     *trouble
	idempotent  bool
	acks        int16
	// transactions is nil without the guarantee exactly-once.
	transactions *transactions
	compressors  [wire.Zstd + 1]*wire.Compressor
	sealed       chan operator.SealedEpoch

	cluster *wire.Cluster // once ready
	group   *errgroup.Group
	ready   chan struct{} // closed when records can be taken
	over    chan struct{} // closed when Run has ended
	failure error         // once over

	renewing sync.Mutex // one new producer id at a time

	// of the goroutine that calls Write and Seal
	topics map[string]*topic
	last   *topic // the one that was used last
	runs   []run  // of the batch at hand

	mu       sync.Mutex
	producer *wire.Producer
	leaders  map[int32]*leader
	homeless []*target
	lost     chan struct{} // something became homeless
	memory   sinkMemory
	epochs   epochs
	losses   losses
	seals    chan struct{} // an epoch is to be reported
}

var _ operator.Sink = (*Sink)(nil)

// NewSink checks the properties. It connects in Run.
func NewSink(cfg SinkConfig) (*Sink, error) {
	resolved, err := Resolve(graph.KindSink, cfg.Kafka.Properties)
	if err != nil {
		return nil, fmt.Errorf("read the properties: %w", err)
	}
	switch {
	case cfg.Connections == nil:
		return nil, errors.New("no connections")
	case cfg.Kafka.Topic == "" && cfg.Topic == nil:
		return nil, errors.New("the sink has neither a topic nor a topic expression")
	case cfg.Kafka.Partitioner == graph.ByExpression && cfg.Partition == nil:
		return nil, errors.New("the sink has no partition expression")
	}
	if err := cfg.checkTransactions(); err != nil {
		return nil, err
	}
	if err := checkLegacySink(cfg.Kafka); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sink{
		cfg: resolved, kafka: cfg.Kafka, subtask: cfg.Subtask, topicOf: cfg.Topic, partitionOf: cfg.Partition, decide: cfg.Failed, lostRecords: cfg.Lost,
		connections: cfg.Connections, log: cfg.Logger, trouble: newTrouble(cfg.Status), idempotent: true, acks: -1,
		sealed: make(chan operator.SealedEpoch, 16), ready: make(chan struct{}), over: make(chan struct{}),
		topics: map[string]*topic{}, leaders: map[int32]*leader{}, lost: make(chan struct{}, 1), seals: make(chan struct{}, 1),
		memory: sinkMemory{limit: resolved.Produce.BufferBytes}, epochs: newEpochs(),
	}
	if cfg.Kafka.Topic != "" {
		s.topicOf = nil
	}
	if resolved.Legacy {
		s.idempotent = false
	}
	switch cfg.Kafka.Guarantee {
	case graph.NoGuarantee:
		s.idempotent, s.acks = false, 1
	case graph.ExactlyOnce:
		s.transactions = newTransactions(&cfg, &resolved)
	}
	for codec := wire.None; codec <= wire.Zstd; codec++ {
		level := 0
		if codec == resolved.Produce.Codec {
			level = resolved.Produce.Level
		}
		if s.compressors[codec], err = wire.NewCompressor(codec, level); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Run sends what Write buffered until ctx ends.
func (s *Sink) Run(ctx context.Context) error {
	err := s.run(ctx)
	if ctx.Err() != nil {
		err = nil
	}
	s.failure = err
	close(s.over)
	return err
}

func (s *Sink) run(ctx context.Context) error {
	cluster, release, err := s.connections.acquire(&s.cfg)
	if err != nil {
		return err
	}
	defer release()
	g, inner := errgroup.WithContext(ctx)
	s.cluster, s.group = cluster, g
	g.Go(func() error { return s.begin(inner) })
	g.Go(func() error { return s.report(inner) })
	if s.transactions != nil {
		g.Go(func() error { return s.tellLevel(inner) })
		for range coordinators {
			g.Go(func() error { return s.coordinate(inner) })
		}
	}
	return g.Wait()
}

// begin lets writers in, and finds leaders. Transactions bring producer ids of their own.
func (s *Sink) begin(ctx context.Context) error {
	if s.transactions == nil {
		p, err := s.newProducer(ctx)
		if err != nil {
			return err
		}
		s.producer = &p
	}
	close(s.ready)
	return s.find(ctx)
}

// newProducer asks for a producer id until there is one.
func (s *Sink) newProducer(ctx context.Context) (wire.Producer, error) {
	if !s.idempotent {
		return wire.NoProducer, nil
	}
	const what = "producer id"
	for try := 1; ; try++ {
		p, err := s.cluster.InitProducerID(ctx, "", 0)
		switch {
		case err == nil:
			s.trouble.set(what, "")
			return p, nil
		case ctx.Err() != nil:
			return p, ctx.Err()
		case !survivable(err):
			return p, &Error{Where: what, Err: err}
		}
		s.trouble.set(what, shortReason(err))
		if err := sleep(ctx, s.cfg.pauseAfter(err, try)); err != nil {
			return p, err
		}
	}
}

// renew replaces a producer id that a broker does not accept any more. Who comes second uses what the
// first one got.
func (s *Sink) renew(ctx context.Context, old *wire.Producer) error {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	s.mu.Lock()
	current := s.producer
	s.mu.Unlock()
	if current != old {
		return nil
	}
	p, err := s.newProducer(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.producer = &p
	s.mu.Unlock()
	return nil
}

// await waits until records can be taken.
func (s *Sink) await(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	default:
	}
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.over:
		return s.overError()
	}
}

func (s *Sink) overError() error {
	if s.failure != nil {
		return s.failure
	}
	return context.Canceled
}

// Seal ends the epoch: what was written so far belongs to the checkpoint. The flow goes on at once, in
// new batches behind the sealed ones.
func (s *Sink) Seal(_ context.Context, id ident.CheckpointID) error {
	if err := failpoint.Hit(failpoint.Seal); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.topics {
		for _, p := range t.targets {
			if p.open != nil {
				s.closeOpen(p)
				nudge(p)
			}
		}
	}
	switch s.kafka.Guarantee {
	case graph.ExactlyOnce:
		s.transactions.pool.Seal(id)
		s.transactions.stir()
	case graph.NoGuarantee:
		s.epochs.seal(id)
		if s.troubled() {
			s.epochs.forgive()
		}
	default:
		s.epochs.seal(id)
	}
	signal(s.seals)
	return nil
}

// Sealed reports each sealed epoch when all of it, and of those before it, is acknowledged.
func (s *Sink) Sealed() <-chan operator.SealedEpoch { return s.sealed }

// Completed gives the transactional ids of what is committed back; without transactions, nothing waits for a
// checkpoint.
func (s *Sink) Completed(id ident.CheckpointID) {
	if s.transactions == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transactions.pool.Completed(id)
	s.transactions.stir()
}

// report tells of sealed epochs in order.
func (s *Sink) report(ctx context.Context) error {
	for {
		sealed, ok := s.nextSealed()
		if ok {
			if err := failpoint.Hit(failpoint.Flushed); err != nil {
				return err
			}
			select {
			case s.sealed <- sealed:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.seals:
		}
	}
}

// nextSealed takes the oldest seal off, if all that was written before it is acknowledged.
func (s *Sink) nextSealed() (operator.SealedEpoch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transactions != nil {
		return s.transactions.pool.NextAck()
	}
	id, ok := s.epochs.next()
	return operator.SealedEpoch{Checkpoint: id}, ok
}
