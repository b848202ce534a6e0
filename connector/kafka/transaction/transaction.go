package transaction

import (
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/operator"
)

// Partition is an output partition.
type Partition struct {
	Topic     string
	Partition int32
}

// Transaction is what is written under one producer id and epoch.
type Transaction struct {
	ProducerID int64
	Epoch      int16
	// StartedAt is when AddPartitionsToTxn was first sent, zero before; the coordinator's clock of the
	// transaction's timeout does not start earlier.
	StartedAt time.Time

	pool       *Pool
	id         string
	number     int
	readySince time.Time // since it is current or next; zero: just now
	shares     []*Share
	// missing are the shares whose partitions are to be added; adding: some are being added. tries counts
	// failures in a row, since is when the first of them was sent.
	missing   []*Share
	adding    bool
	unsure    bool // a call was not answered
	tries     int
	since     time.Time
	notBefore time.Time

	sealedAt ident.CheckpointID // 0: not sealed
	listedIn ident.CheckpointID // the first ack that lists it; 0: none
}

// ID is the transactional id.
func (t *Transaction) ID() string { return t.id }

// Expired says whether the transaction is as old as the coordinator lets one become.
func (t *Transaction) Expired(now time.Time) bool {
	return !t.StartedAt.IsZero() && now.Sub(t.StartedAt) >= t.pool.cfg.Timeout
}

// flushed says that every call and every batch of the transaction is answered.
func (t *Transaction) flushed() bool {
	if t.adding || len(t.missing) > 0 {
		return false
	}
	for _, s := range t.shares {
		if s.pending > 0 {
			return false
		}
	}
	return true
}

// named is the transaction as manifests name it.
func (t *Transaction) named() manifest.Transaction {
	c := &t.pool.cfg
	m := manifest.Transaction{
		Sink: c.Sink, Subtask: c.Subtask, Cluster: c.Cluster, TransactionalID: t.ID(), ProducerID: t.ProducerID, ProducerEpoch: t.Epoch,
		StartedAt: t.StartedAt, TimeoutMs: c.Timeout.Milliseconds(), Partitions: make([]manifest.TopicPartition, 0, len(t.shares)),
	}
	for _, s := range t.shares {
		if s.added {
			m.Partitions = append(m.Partitions, manifest.TopicPartition{Topic: s.at.Topic, Partition: s.at.Partition, FirstOffset: s.first, LastOffset: s.last})
		}
	}
	return m
}

// Share is what one partition has of one transaction.
type Share struct {
	transaction *Transaction
	at          Partition
	added       bool
	pending     int // batches that are not answered
	answered    bool
	sequence    int32
	first, last int64  // offsets; -1: unknown
	before      *Share // of the transaction before; nil once all of it is answered
}

// Transaction is the one that the share belongs to.
func (s *Share) Transaction() *Transaction { return s.transaction }

// Number gives the sequence number of the next so many records; a repeated batch keeps its own.
func (s *Share) Number(records int) int32 {
	first := s.sequence
	s.sequence = int32((int64(first) + int64(records)) & 0x7fffffff) // as brokers wrap it
	return first
}

// Current is the transaction that batches enter now, nil while there is none.
func (p *Pool) Current() *Transaction { return p.current }

// Enter counts a batch of the current transaction for a partition, whose first one asks for an Add. There
// must be a current transaction.
func (p *Pool) Enter(at Partition) *Share {
	s := p.newest[at]
	if s == nil || s.transaction != p.current {
		s = &Share{transaction: p.current, at: at, first: -1, last: -1, before: s}
		p.newest[at] = s
		p.current.shares = append(p.current.shares, s)
		p.current.missing = append(p.current.missing, s)
	}
	s.pending++
	return s
}

// Again counts one more batch of a share: one was split.
func (p *Pool) Again(s *Share) { s.pending++ }

// MayProduce says whether a batch of the share may be sent: its partition is in the transaction, and all
// batches of the transaction before are answered there (the order within a partition holds across seals).
func (p *Pool) MayProduce(s *Share) bool {
	if s.before != nil && s.before.pending == 0 {
		s.before = nil // also lets go of the transactions before
	}
	return s.added && (s.before == nil || failpoint.Bug(failpoint.IgnoreOrderAcrossSeal))
}

// Produced says that a batch was written with this first offset, -1 if unknown. It returns whether NextAck
// may have something.
func (p *Pool) Produced(s *Share, baseOffset int64, records int) bool {
	last := int64(-1)
	if baseOffset >= 0 {
		last = baseOffset + int64(records) - 1
	}
	if !s.answered {
		s.answered, s.first = true, baseOffset
	}
	s.last = last
	s.pending--
	return s.pending == 0 && len(p.seals) > 0
}

// Seal ends the current transaction for a checkpoint; the flow goes on at once in the next one. A
// transaction without a batch costs nothing and stays the current one.
func (p *Pool) Seal(id ident.CheckpointID) {
	p.seals = append(p.seals, id)
	if p.current == nil || len(p.current.shares) == 0 {
		return
	}
	p.current.sealedAt = id
	p.sealed = append(p.sealed, p.current)
	p.current = nil
	p.promote()
}

// NextAck gives the ack of the oldest sealed checkpoint, once each, when all calls and batches of the
// transactions sealed at barriers up to it are answered. It lists all of them that are not known to be
// committed: what a checkpoint that failed left behind travels with the next one.
func (p *Pool) NextAck() (operator.SealedEpoch, bool) {
	if len(p.seals) == 0 {
		return operator.SealedEpoch{}, false
	}
	ack := operator.SealedEpoch{Checkpoint: p.seals[0]}
	for _, t := range p.sealed {
		if t.sealedAt <= ack.Checkpoint && !t.flushed() && !failpoint.Bug(failpoint.AckBeforeFlush) {
			return operator.SealedEpoch{}, false
		}
	}
	p.seals = append(p.seals[:0], p.seals[1:]...)
	for _, t := range p.sealed {
		if t.sealedAt > ack.Checkpoint || t.sealedAt < ack.Checkpoint && failpoint.Bug(failpoint.AckOwnOnly) {
			continue
		}
		if t.listedIn == 0 {
			t.listedIn = ack.Checkpoint
		}
		ack.Transactions = append(ack.Transactions, t.named())
	}
	return ack, true
}

// Completed says that a checkpoint is durable and all that it names is committed: the ids of what was
// listed up to it can be used again.
func (p *Pool) Completed(id ident.CheckpointID) {
	var kept []*Transaction
	for _, t := range p.sealed {
		if t.listedIn != 0 && t.listedIn <= id {
			p.free(t)
			continue
		}
		kept = append(kept, t)
	}
	p.sealed = kept
	p.promote()
}
