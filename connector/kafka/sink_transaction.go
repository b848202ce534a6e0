package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/transaction"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/operator"
)

// coordinators is how many calls to transaction coordinators may be on their way at once: two that get
// producer ids ahead of need, and one for the transaction that was sealed last and for the current one.
const coordinators = 4

var _ operator.Transactional = (*Sink)(nil)

// transactions is what a sink with the guarantee exactly-once has more than others.
type transactions struct {
	context *operator.TransactionContext
	wake    chan struct{} // there may be a call to make
	changed chan struct{} // the level may have changed
	// under Sink.mu
	pool   *transaction.Pool
	latest *transaction.Transaction // the one that Sink.producer is of
	moved  chan struct{}            // closed at the next change; nil while no writer waits
}

func newTransactions(cfg *SinkConfig, resolved *Config) *transactions {
	c := cfg.Transactions
	return &transactions{
		context: c, wake: make(chan struct{}, coordinators), changed: make(chan struct{}, 1),
		pool: transaction.NewPool(transaction.Config{
			Sink: cfg.Name, Subtask: cfg.Subtask, Cluster: resolved.Servers(), Prefix: c.Prefix, Owned: c.Owned, Cap: c.Cap,
			Timeout: resolved.Produce.TransactionTimeout,
		}),
	}
}

// HandOut says that the sink owns the transactional ids below this number.
func (s *Sink) HandOut(below int) {
	if s.transactions == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transactions.pool.HandOut(below)
	s.transactions.stir()
}

// stir lets everybody look again who waits for a change of the pool. Under Sink.mu.
func (tx *transactions) stir() {
	signal(tx.wake)
	signal(tx.changed)
	if tx.moved != nil {
		close(tx.moved)
		tx.moved = nil
	}
}

// awaitTransaction waits until there is a transaction to write into. Producer ids are fetched ahead of need,
// so it seldom has to; and nothing that it waits for waits for the writer.
func (s *Sink) awaitTransaction(ctx context.Context) error {
	tx := s.transactions
	const what = "transaction"
	s.mu.Lock()
	defer s.mu.Unlock()
	if tx.pool.Current() != nil {
		return nil
	}
	defer s.trouble.set(what, "")
	for tx.pool.Current() == nil {
		s.trouble.set(what, "waiting for "+tx.pool.Waiting())
		if tx.moved == nil {
			tx.moved = make(chan struct{})
		}
		if err := s.pause(ctx, tx.moved); err != nil {
			return err
		}
	}
	return nil
}

// enter puts a batch into the current transaction. Under mu; a transaction was awaited before.
func (s *Sink) enter(t *target, b *outBatch) {
	tx := s.transactions
	b.share = tx.pool.Enter(transaction.Partition{Topic: t.topic.name, Partition: t.id})
	if of := b.share.Transaction(); of != tx.latest {
		tx.latest = of
		s.producer = &wire.Producer{ID: of.ProducerID, Epoch: of.Epoch, Transactional: true}
	}
	b.producer = s.producer
	if !tx.pool.MayProduce(b.share) {
		signal(tx.wake)
	}
}

// overtake breaks the order across the seal on purpose: the newest batch goes before those of other
// transactions that are not on their way.
func (t *target) overtake() {
	last := len(t.queue) - 1
	first := 0
	if t.inFlight {
		first = 1
	}
	for i := last; i > first && t.queue[i-1].share.Transaction() != t.queue[i].share.Transaction(); i-- {
		t.queue[i-1], t.queue[i] = t.queue[i], t.queue[i-1]
	}
}

// tellLevel reports the level whenever it has changed. How many more than one are ready would change twice a checkpoint, and
// nobody asks.
func (s *Sink) tellLevel(ctx context.Context) error {
	last := operator.TransactionLevel{Ready: -1}
	for {
		s.mu.Lock()
		level := s.transactions.pool.Level()
		level.Ready = min(level.Ready, 1)
		s.mu.Unlock()
		if level != last {
			s.transactions.context.Level(level)
			last = level
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.transactions.changed:
		}
	}
}

// coordinate makes the calls that the pool asks for, one at a time.
func (s *Sink) coordinate(ctx context.Context) error {
	tx := s.transactions
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.mu.Lock()
		call, at := tx.pool.Next(time.Now())
		s.mu.Unlock()
		var err error
		switch c := call.(type) {
		case transaction.Init:
			signal(tx.wake) // somebody else looks for more
			err = s.initialise(ctx, c)
		case transaction.Add:
			signal(tx.wake)
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
		timer.Stop()
		if !at.IsZero() {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tx.wake:
		case <-timer.C:
		}
	}
}

// initialise gets a producer id and epoch for a transactional id, and tells the pool how it went.
func (s *Sink) initialise(ctx context.Context, c transaction.Init) error {
	const what = "transactional ids"
	if err := s.lease(c.ID); err != nil {
		return err
	}
	p, outcome, err := s.askProducer(ctx, c.ID)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil && !survivable(err):
		return s.refusedTransaction(c.ID, nil, err)
	case err != nil:
		s.trouble.set(what, shortReason(err))
	default:
		s.trouble.set(what, "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.transactions.pool.Initialised(c.Number, p.ID, p.Epoch)
	} else {
		s.transactions.pool.InitFailed(time.Now(), c.Number, outcome)
	}
	s.transactions.stir()
	return nil
}

func (s *Sink) askProducer(ctx context.Context, id string) (wire.Producer, transaction.Outcome, error) {
	if err := failpoint.Hit(failpoint.BeforeInit); err != nil {
		return wire.NoProducer, transaction.Unsent, err
	}
	p, err := s.cluster.InitProducerID(ctx, id, s.cfg.Produce.TransactionTimeout)
	if err != nil {
		return p, outcomeOf("InitProducerId", err), err
	}
	return p, transaction.Unknown, failpoint.Hit(failpoint.AfterInit)
}

// addPartitions makes partitions part of their transaction, and tells the pool how it went.
func (s *Sink) addPartitions(ctx context.Context, c transaction.Add) error {
	t := c.Transaction
	if err := s.lease(t.ID()); err != nil {
		return err
	}
	parts := make([]wire.TopicPartition, len(c.Partitions))
	for i, p := range c.Partitions {
		parts[i] = wire.TopicPartition{Topic: p.Topic, Partition: p.Partition}
	}
	err := s.cluster.AddPartitionsToTxn(ctx, t.ID(), wire.Producer{ID: t.ProducerID, Epoch: t.Epoch}, parts)
	now := time.Now()
	switch final := finalAnswer(err); {
	case ctx.Err() != nil:
		return nil
	case final != nil:
		return s.refusedTransaction(t.ID(), t, final)
	case err != nil && now.Sub(c.Since) > s.cfg.Produce.DeliveryTimeout:
		return &Error{Where: t.ID(), Err: fmt.Errorf("partitions could not be added to the transaction for %s (%s): %w", s.cfg.Produce.DeliveryTimeout, propDeliveryTimeout, err),
			Hint: "the job restarts from its latest checkpoint; check the brokers"}
	}
	s.trouble.set(t.ID(), reasonOf(err))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.transactions.pool.AddFailed(now, c, outcomeOf("AddPartitionsToTxn", err))
	} else {
		s.transactions.pool.Added(c)
		for _, l := range s.leaders {
			signal(l.wake)
		}
	}
	s.transactions.stir()
	return nil
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return shortReason(err)
}

// lease asks whether the ids may still be used.
func (s *Sink) lease(id string) error {
	if err := s.transactions.context.Lease(); err != nil {
		return &Error{Where: id, Err: fmt.Errorf("the transactional id may not be used any more: %w", err)}
	}
	return nil
}

// outcomeOf says what is known of a call that failed and can be made again. A broker's answer, also one to
// the search for the coordinator, says that nothing was done; without one, the call may have been carried
// out unless not a byte of it was written.
func outcomeOf(api string, err error) transaction.Outcome {
	var answer *wire.Error
	var call *wire.CallError
	var peer *wire.PeerError
	var setup *wire.SetupError
	switch {
	case wire.HasCode(err, wire.CodeConcurrentTransactions):
		return transaction.Busy
	case errors.As(err, &answer):
		return transaction.Retriable
	case errors.As(err, &call) && (call.API != api || !call.Sent), errors.As(err, &peer), errors.As(err, &setup):
		return transaction.Unsent // what is no broker, or lets nobody in, was not asked
	default:
		return transaction.Unknown
	}
}

// finalAnswer is the part of an error after which it makes no sense to try again; nil if there is none.
func finalAnswer(err error) error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil || survivable(err) {
			return nil
		}
		return err
	}
	for _, part := range many.Unwrap() {
		if final := finalAnswer(part); final != nil {
			return final
		}
	}
	return nil
}

// classFenced is the class of a failure whose cause is another user of our transactional ids; the job
// manager stops a job that has several in a row.
const classFenced = "fenced"

// refusedTransaction makes the failure of an answer that ends a transaction, or keeps one from beginning.
func (s *Sink) refusedTransaction(where string, t *transaction.Transaction, cause error) error {
	e := &Error{Where: where, Err: cause, Hint: "the job restarts from its latest checkpoint"}
	switch {
	case wire.HasCode(cause, wire.CodeInvalidTransactionTimeout):
		e.Hint, e.class = "lower "+propTransactionTimeout+" or raise the brokers' transaction.max.timeout.ms", "user"
	case !wire.HasCode(cause, wire.CodeProducerFenced, wire.CodeInvalidProducerEpoch, wire.CodeInvalidProducerIDMapping, wire.CodeInvalidTxnState):
	case t != nil && t.Expired(time.Now()):
		timeout := s.cfg.Produce.TransactionTimeout
		e.Err = fmt.Errorf("transaction expired (%s %d): it was open for %s without being committed: %w", propTransactionTimeout, timeout.Milliseconds(), time.Since(t.StartedAt).Round(time.Second), cause)
		e.Hint = "see why checkpoints did not complete in time, or raise " + propTransactionTimeout
	default:
		e.Err = fmt.Errorf("fenced by another producer: %w", cause)
		e.Hint, e.class = "nobody else may use transactional ids that begin with "+s.transactions.context.Prefix, classFenced
	}
	return e
}

// checkTransactions says why a sink cannot be made with this guarantee.
func (cfg *SinkConfig) checkTransactions() error {
	if cfg.Kafka.Guarantee != graph.ExactlyOnce {
		return nil
	}
	c := cfg.Transactions
	if c == nil || c.Level == nil || c.Lease == nil || c.Prefix == "" {
		return errors.New("guarantee exactly-once: no transactional ids were handed out")
	}
	return nil
}
