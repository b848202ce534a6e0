package sim

import (
	"slices"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/transaction"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/operator"
)

// mistakes is what a sink has to know to do something wrong on purpose.
type mistakes struct {
	lastAck operator.SealedEpoch
	before  []manifest.TransactionKey // listed in acks
	inits   map[int]producerAndEpoch
	addedTo map[manifest.TransactionKey][]transaction.Partition
}

type producerAndEpoch struct {
	producer int64
	epoch    int16
}

// listed is what an ack lists; by mistake too little, too much, or too young.
func (s *sinkTask) listed(list []manifest.Transaction) []manifest.Transaction {
	switch s.w.bug {
	case bugAckOwnOnly:
		return s.onlyNew(list)
	case bugListEmpty:
		if t := s.pool.Current(); t != nil && t.StartedAt.IsZero() {
			k := keyOf(t)
			list = append(slices.Clone(list), manifest.Transaction{
				Sink: sinkName, Subtask: s.in.subtask.Index, Cluster: cluster, TransactionalID: k.TransactionalID, ProducerID: k.ProducerID,
				ProducerEpoch: k.ProducerEpoch, StartedAt: s.w.time(), TimeoutMs: s.w.transactionTimeout.Milliseconds(),
			})
		}
	case bugNoAge:
		list = slices.Clone(list)
		for i := range list {
			list[i].StartedAt = s.w.time()
		}
	}
	return list
}

// onlyNew is what an ack lists first: not what a checkpoint that failed left behind.
func (s *sinkTask) onlyNew(list []manifest.Transaction) []manifest.Transaction {
	list = slices.DeleteFunc(slices.Clone(list), func(t manifest.Transaction) bool { return slices.Contains(s.before, t.Key()) })
	for i := range list {
		s.before = append(s.before, list[i].Key())
	}
	return list
}

// abortSealed aborts the transactions of a checkpoint that was given up.
func (s *sinkTask) abortSealed(id ident.CheckpointID) {
	if s.lastAck.Checkpoint != id {
		return
	}
	for _, t := range s.lastAck.Transactions {
		s.w.send(call{from: &s.w.taskManagersOut, answer: func(code) {}, carryOut: func() code {
			answer, _, _ := s.w.kafka.initProducerID(t.TransactionalID, s.w.transactionTimeout)
			return answer
		}})
	}
}

// reuseEpoch takes the producer id and epoch of the transaction before for the next one of the same id.
func (s *sinkTask) reuseEpoch(c transaction.Init) bool {
	old, again := s.inits[c.Number]
	if s.w.bug != bugReuseEpoch || !again {
		return false
	}
	s.pool.Initialised(c.Number, old.producer, old.epoch)
	return true
}

func (s *sinkTask) remember(c transaction.Init, producer int64, epoch int16) {
	if s.w.bug == bugReuseEpoch && epoch < lastEpoch { // a higher one is not used for a transaction
		if s.inits == nil {
			s.inits = map[int]producerAndEpoch{}
		}
		s.inits[c.Number] = producerAndEpoch{producer, epoch}
	}
}

func (s *sinkTask) added(key manifest.TransactionKey, parts []transaction.Partition) {
	if s.ignoresOrder() {
		if s.addedTo == nil {
			s.addedTo = map[manifest.TransactionKey][]transaction.Partition{}
		}
		s.addedTo[key] = append(s.addedTo[key], parts...)
	}
}

func (s *sinkTask) ignoresOrder() bool {
	return s.w.bug == bugIgnoreOrder || failpoint.Bug(failpoint.IgnoreOrderAcrossSeal)
}

// next is the batch to produce, nil while none may go. By mistake it is the first one of any transaction.
func (s *sinkTask) next(l *lane) *batch {
	if head := l.queue[0]; s.pool.MayProduce(head.share) && (!s.ignoresOrder() || s.w.rng.IntN(2) == 0) {
		return head
	}
	if !s.ignoresOrder() {
		return nil
	}
	for i, b := range l.queue {
		t := b.share.Transaction()
		at := s.partition(slices.IndexFunc(s.lanes, func(o lane) bool { return len(o.queue) > 0 && o.queue[0] == l.queue[0] }))
		if i > 0 && l.queue[i-1].share != b.share && slices.Contains(s.addedTo[keyOf(t)], at) {
			return b
		}
	}
	return nil
}

// sent notes that a batch is on its way; by mistake it counts as answered.
func (s *sinkTask) sent(b *batch) {
	if s.w.bug == bugAckEarly && !b.answered {
		b.answered = true
		s.pool.Produced(b.share, -1, int(b.entry.to-b.entry.from))
	}
}
