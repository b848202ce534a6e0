package bubble

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/connector/kafka/transaction"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

const (
	// coordinators is how many calls to the coordinator a sink has on their way at once, as the real one does.
	coordinators = 4
	// maxQueued is how many batches wait in a sink before Write waits; maxBatch is how many records a batch takes.
	maxQueued, maxBatch = 64, 200
	// propTransactionTimeout is the sink's property in milliseconds.
	propTransactionTimeout = "transaction.timeout.ms"
)

// transactional is an exactly-once sink of a Log. What it does with its transactional ids is decided by the
// real core; the rest is as simple as it can be.
type transactional struct {
	c       hostConnectors
	topic   string
	tx      *operator.TransactionContext
	waiting func(string)
	timeout time.Duration
	sealed  chan operator.SealedEpoch
	over    chan struct{} // closed when Run has ended

	mu      sync.Mutex
	pool    *transaction.Pool
	lanes   []*lane
	queued  int
	failure error
	changed chan struct{} // closed and replaced at each change
}

var _ operator.Transactional = (*transactional)(nil)

// lane holds the batches of one partition, in order; the first one may be on its way.
type lane struct {
	at    transaction.Partition
	queue []*outgoing
}

// outgoing is a batch; sequence is -1 until it is sent for the first time.
type outgoing struct {
	share    *transaction.Share
	sequence int32
	messages []Message
}

func newTransactional(c hostConnectors, node *graph.Node, sc operator.SinkContext) *transactional {
	k := node.Sink.Kafka
	timeout := defaultTransactionLimit
	if ms, err := strconv.Atoi(k.Properties[propTransactionTimeout]); err == nil {
		timeout = time.Duration(ms) * time.Millisecond
	}
	s := &transactional{
		c: c, topic: k.Topic, tx: sc.Transactions, waiting: sc.Waiting, timeout: timeout, sealed: make(chan operator.SealedEpoch, 16), over: make(chan struct{}),
		pool: transaction.NewPool(transaction.Config{
			Sink: node.Name, Subtask: sc.Subtask, Cluster: k.Properties["bootstrap.servers"], Prefix: sc.Transactions.Prefix,
			Owned: sc.Transactions.Owned, Cap: sc.Transactions.Cap, Timeout: timeout,
		}),
		changed: make(chan struct{}),
	}
	for p := range c.Log.partitions(k.Topic) {
		s.lanes = append(s.lanes, &lane{at: transaction.Partition{Topic: k.Topic, Partition: int32(p)}})
	}
	return s
}

// stir lets everybody look again. Under mu.
func (s *transactional) stir() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Run is operator.Sink's.
func (s *transactional) Run(ctx context.Context) error {
	s.c.count(s.c.host, 1)
	defer s.c.count(s.c.host, -1)
	g, inner := errgroup.WithContext(ctx)
	for range coordinators {
		g.Go(func() error { return s.coordinate(inner) })
	}
	for _, l := range s.lanes {
		g.Go(func() error { return s.send(inner, l) })
	}
	g.Go(func() error { return s.report(inner) })
	g.Go(func() error { return s.tellLevel(inner) })
	err := g.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	s.failure = err
	close(s.over)
	return err
}

// await waits until isSo, which is asked under mu; the caller holds mu.
func (s *transactional) await(ctx context.Context, isSo func() bool) error {
	for !isSo() {
		changed, err := s.changed, error(nil)
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-s.over:
			if err = s.failure; err == nil {
				err = context.Canceled
			}
		}
		s.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Write is operator.Sink's.
func (s *transactional) Write(ctx context.Context, b *operator.Batch) error {
	if err := b.Open(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.waiting("")
	err := s.await(ctx, func() bool {
		if s.pool.Current() == nil {
			s.waiting("waiting for " + s.pool.Waiting())
			return false
		}
		return s.queued < maxQueued
	})
	if err != nil {
		return err
	}
	for i := range b.Records {
		m := Message{Key: string(b.Bytes(b.Records[i].Key)), Value: string(b.Bytes(b.Records[i].Value))}
		s.add(s.lanes[partitionOf(m.Key, len(s.lanes))], m)
	}
	s.stir()
	return nil
}

func (s *transactional) add(l *lane, m Message) {
	if n := len(l.queue); n > 0 {
		last := l.queue[n-1]
		if last.sequence < 0 && last.share.Transaction() == s.pool.Current() && len(last.messages) < maxBatch {
			last.messages = append(last.messages, m)
			return
		}
	}
	l.queue = append(l.queue, &outgoing{share: s.pool.Enter(l.at), sequence: -1, messages: []Message{m}})
	s.queued++
}

// Seal is operator.Sink's.
func (s *transactional) Seal(_ context.Context, id ident.CheckpointID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.Seal(id)
	s.stir()
	return nil
}

// Sealed is operator.Sink's.
func (s *transactional) Sealed() <-chan operator.SealedEpoch { return s.sealed }

// Completed is operator.Sink's.
func (s *transactional) Completed(id ident.CheckpointID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.Completed(id)
	s.stir()
}

// HandOut is operator.Transactional's.
func (s *transactional) HandOut(below int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.HandOut(below)
	s.stir()
}

func (s *transactional) report(ctx context.Context) error {
	for {
		var ack operator.SealedEpoch
		s.mu.Lock()
		err := s.await(ctx, func() (ok bool) {
			ack, ok = s.pool.NextAck()
			return ok
		})
		s.mu.Unlock()
		if err != nil {
			return nil // only the end of ctx
		}
		select {
		case s.sealed <- ack:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *transactional) tellLevel(ctx context.Context) error {
	last := operator.TransactionLevel{Ready: -1}
	for {
		s.mu.Lock()
		err := s.await(ctx, func() bool { return s.pool.Level() != last })
		last = s.pool.Level()
		s.mu.Unlock()
		if err != nil {
			return nil // only the end of ctx
		}
		s.tx.Level(last)
	}
}

// send writes the batches of a partition, one at a time, each until it is acknowledged.
func (s *transactional) send(ctx context.Context, l *lane) error {
	for {
		s.mu.Lock()
		err := s.await(ctx, func() bool { return len(l.queue) > 0 && s.pool.MayProduce(l.queue[0].share) })
		if err != nil {
			s.mu.Unlock()
			return nil // only the end of ctx
		}
		b := l.queue[0]
		if b.sequence < 0 {
			b.sequence = b.share.Number(len(b.messages))
		}
		s.mu.Unlock()
		base, err := s.produce(ctx, l.at, b)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.pool.Produced(b.share, base, len(b.messages))
		l.queue = l.queue[1:]
		s.queued--
		s.stir()
		s.mu.Unlock()
	}
}

// produce repeats a batch until it is acknowledged.
func (s *transactional) produce(ctx context.Context, at transaction.Partition, b *outgoing) (base int64, err error) {
	t := b.share.Transaction()
	for ctx.Err() == nil {
		if err := s.c.awaitAcks(ctx); err != nil {
			return 0, err
		}
		base, err = ask(ctx, s.c.Log, Call{API: Produce, Host: s.c.host, ID: t.ID()}, s.c.AckDelay/2, func() (int64, error) {
			return s.c.Log.produce(topicPartition{at.Topic, at.Partition}, producer{t.ProducerID, t.Epoch}, b.sequence, b.messages)
		})
		var answer brokerError
		if err == nil || errors.As(err, &answer) && answer.code != codeNotCoordinator {
			break
		}
		sleep(ctx, 20*time.Millisecond)
	}
	if err != nil {
		return 0, s.refused(t, err)
	}
	return base, nil
}

// coordinate makes the calls that the pool asks for, one at a time.
func (s *transactional) coordinate(ctx context.Context) error {
	for {
		s.mu.Lock()
		call, at := s.pool.Next(time.Now())
		changed := s.changed
		s.mu.Unlock()
		var err error
		switch c := call.(type) {
		case transaction.Init:
			err = s.initialise(ctx, c)
		case transaction.Add:
			err = s.addPartitions(ctx, c)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case call != nil:
			continue
		}
		wait := time.Hour
		if !at.IsZero() {
			wait = time.Until(at)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (s *transactional) initialise(ctx context.Context, c transaction.Init) error {
	if err := s.tx.Lease(); err != nil {
		return fmt.Errorf("%s: %w", c.ID, err)
	}
	got, err := ask(ctx, s.c.Log, Call{API: InitProducerID, Host: s.c.host, ID: c.ID}, callDelay, func() (producer, error) {
		return s.c.Log.initProducerID(c.ID, s.timeout)
	})
	outcome, final := outcomeOf(err)
	if final {
		return s.refused(nil, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.pool.Initialised(c.Number, got.id, got.epoch)
	} else {
		s.pool.InitFailed(time.Now(), c.Number, outcome)
	}
	s.stir()
	return nil
}

func (s *transactional) addPartitions(ctx context.Context, c transaction.Add) error {
	t := c.Transaction
	if err := s.tx.Lease(); err != nil {
		return fmt.Errorf("%s: %w", t.ID(), err)
	}
	var parts []topicPartition
	for _, p := range c.Partitions {
		parts = append(parts, topicPartition{p.Topic, p.Partition})
	}
	err := s.c.Log.call(ctx, Call{API: AddPartitions, Host: s.c.host, ID: t.ID()}, callDelay, func() error {
		return s.c.Log.addPartitions(t.ID(), producer{t.ProducerID, t.Epoch}, parts)
	})
	outcome, final := outcomeOf(err)
	if final {
		return s.refused(t, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.pool.Added(c)
	} else {
		s.pool.AddFailed(time.Now(), c, outcome)
	}
	s.stir()
	return nil
}

// outcomeOf says what is known of a call that failed; final: it makes no sense to repeat it.
func outcomeOf(err error) (o transaction.Outcome, final bool) {
	var answer brokerError
	switch {
	case err == nil:
		return o, false
	case errors.Is(err, errUnsent):
		return transaction.Unsent, false
	case !errors.As(err, &answer):
		return transaction.Unknown, false
	case answer.code == codeConcurrent:
		return transaction.Busy, false
	default:
		return transaction.Retriable, answer.code != codeNotCoordinator
	}
}

// sinkError is a failure of a sink with its class.
type sinkError struct {
	class string
	cause error
}

// Error is the cause.
func (e *sinkError) Error() string { return e.cause.Error() }

// Unwrap gives the cause.
func (e *sinkError) Unwrap() error { return e.cause }

// FailureClass is whose fault it is.
func (e *sinkError) FailureClass() string { return e.class }

// refused makes the failure of an answer that ends a transaction, as the real sink does.
func (s *transactional) refused(t *transaction.Transaction, cause error) error {
	if isVerdict(cause) && (t == nil || !t.Expired(time.Now())) {
		return &sinkError{"fenced", fmt.Errorf("fenced by another producer: %w", cause)}
	}
	return &sinkError{"external", fmt.Errorf("transaction refused: %w", cause)}
}

// isVerdict says that a transaction is not there any more.
func isVerdict(err error) bool {
	var answer brokerError
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.code {
	case codeInvalidEpoch, codeInvalidTxnState, codeInvalidMapping, codeProducerFenced:
		return true
	}
	return false
}
