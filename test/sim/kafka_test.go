package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/transaction"
)

// code is what a broker answers.
type code uint8

// The answers, with Kafka's numbers in comments.
const (
	ok                 code = iota
	concurrent              // 51 CONCURRENT_TRANSACTIONS
	fenced                  // 90 PRODUCER_FENCED
	invalidEpoch            // 47 INVALID_PRODUCER_EPOCH
	invalidMapping          // 49 INVALID_PRODUCER_ID_MAPPING
	invalidState            // 48 INVALID_TXN_STATE
	outOfOrder              // 45 OUT_OF_ORDER_SEQUENCE_NUMBER
	unsent                  // not a byte was written
	unknown                 // sent and not answered
	coordinatorLoading      // 14 COORDINATOR_LOAD_IN_PROGRESS
)

// String is the name of the answer.
func (c code) String() string {
	return [...]string{"OK", "CONCURRENT_TRANSACTIONS", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "INVALID_PRODUCER_ID_MAPPING",
		"INVALID_TXN_STATE", "OUT_OF_ORDER_SEQUENCE_NUMBER", "not sent", "no answer", "COORDINATOR_LOAD_IN_PROGRESS"}[c]
}

// maxShort is the highest epoch; the coordinator rotates the producer id of an idle id one before it.
const maxShort = 32767

// expiryScan is how often the broker looks for transactions that have timed out.
const expiryScan = 10 * time.Second

// transactionState is that of a transactional id at its coordinator.
type transactionState uint8

const (
	stateEmpty transactionState = iota
	stateOngoing
	statePrepareCommit
	statePrepareAbort
	stateCompleteCommit
	stateCompleteAbort
)

// abortCause is why a transaction was aborted.
type abortCause string

const (
	byInit   abortCause = "InitProducerId"
	byExpiry abortCause = "its timeout"
	byAdmin  abortCause = "an administrator"
)

// kafka is a cluster: a transaction coordinator and partitions. It follows what was measured of real brokers
// with transactions V1.
type kafka struct {
	w            *world
	ids          map[string]*transactionalID
	order        []*transactionalID // in the order of their first InitProducerId
	nextProducer int64
	partitions   map[transaction.Partition]*partitionLog
	parts        []*partitionLog // in the order of their first use
	// firstEpoch is where the epochs of new ids begin: near the end in some schedules.
	firstEpoch int
	// outcomes are those of the transactions that were ever open.
	outcomes map[manifest.TransactionKey]outcomeOf
	// onCommit and onAbort are told of decisions; onAbort also why. onReopened is told of the abort of an empty
	// transaction that a late AddPartitions opened where a committed one was.
	onCommit   func(manifest.TransactionKey)
	onAbort    func(manifest.TransactionKey, abortCause)
	onReopened func(manifest.TransactionKey)
}

type outcomeOf struct {
	committed, aborted bool
	cause              abortCause
}

// transactionalID is what the coordinator keeps of one id.
type transactionalID struct {
	name       string
	producer   int64
	epoch      int
	state      transactionState
	timeout    time.Duration
	since      time.Duration // when the transaction was opened
	partitions []transaction.Partition
	// unmarked are the partitions that miss the marker of a prepared end.
	unmarked int
}

// partitionLog is an output partition with the state of its producers.
type partitionLog struct {
	at        transaction.Partition
	entries   []entry
	open      int // entries whose transaction has not ended
	producers map[int64]*producerState
}

// entry is one batch: the offsets [from, to) of a source.
type entry struct {
	key      manifest.TransactionKey
	source   int
	from, to int64
	state    entryState
}

type entryState uint8

const (
	entryOpen entryState = iota
	entryCommitted
	entryAborted
)

type producerState struct {
	epoch int
	next  int32 // sequence number
	open  []int // entries of the open transaction
	// begun: the transaction was seen here.
	begun bool
}

func newKafka(w *world) *kafka {
	return &kafka{
		w: w, ids: map[string]*transactionalID{}, partitions: map[transaction.Partition]*partitionLog{},
		outcomes: map[manifest.TransactionKey]outcomeOf{},
		onCommit: func(manifest.TransactionKey) {}, onAbort: func(manifest.TransactionKey, abortCause) {},
		onReopened: func(manifest.TransactionKey) {},
	}
}

func (t *transactionalID) key() manifest.TransactionKey {
	return manifest.TransactionKey{TransactionalID: t.name, ProducerID: t.producer, ProducerEpoch: int16(t.epoch)}
}

func (t *transactionalID) prepared() bool {
	return t.state == statePrepareCommit || t.state == statePrepareAbort
}

// initProducerID gives an id a new epoch. It aborts what is open under it, and answers CONCURRENT_TRANSACTIONS
// until the markers are written.
func (k *kafka) initProducerID(name string, timeout time.Duration) (code, int64, int16) {
	t := k.ids[name]
	if t == nil {
		k.nextProducer++
		t = &transactionalID{name: name, producer: k.nextProducer, epoch: k.firstEpoch, timeout: timeout}
		k.ids[name] = t
		k.order = append(k.order, t)
		return ok, t.producer, int16(t.epoch)
	}
	switch {
	case t.prepared():
		return concurrent, 0, 0
	case t.state == stateOngoing:
		k.abort(t, byInit)
		return concurrent, 0, 0
	case t.epoch >= maxShort-1:
		k.nextProducer++
		t.producer, t.epoch = k.nextProducer, 0
	default:
		t.epoch++
	}
	t.state, t.timeout = stateEmpty, timeout
	return ok, t.producer, int16(t.epoch)
}

// find checks producer id and epoch of a request.
func (k *kafka) find(key manifest.TransactionKey) (*transactionalID, code) {
	t := k.ids[key.TransactionalID]
	switch {
	case t == nil || t.producer != key.ProducerID:
		return nil, invalidMapping
	case t.epoch != int(key.ProducerEpoch):
		return nil, fenced
	}
	return t, ok
}

// addPartitions adds partitions to a transaction, and opens it with the first.
func (k *kafka) addPartitions(key manifest.TransactionKey, parts []transaction.Partition) code {
	t, c := k.find(key)
	switch {
	case c != ok:
		return c
	case t.prepared():
		return concurrent
	case t.state != stateOngoing:
		t.state, t.since, t.partitions = stateOngoing, k.w.now, nil
	}
	for _, p := range parts {
		if !slices.Contains(t.partitions, p) {
			t.partitions = append(t.partitions, p)
		}
	}
	return ok
}

// endTxn is EndTxn(commit); nothing here ever asks for an abort.
func (k *kafka) endTxn(key manifest.TransactionKey) code {
	t, c := k.find(key)
	if c != ok {
		return c
	}
	switch t.state {
	case stateOngoing:
		k.onCommit(key)
		k.outcomes[key] = outcomeOf{committed: true}
		t.state = statePrepareCommit
		k.writeMarkers(t)
		return ok
	case statePrepareCommit:
		return concurrent
	case stateCompleteCommit:
		return ok
	default:
		return invalidState
	}
}

// abort fences the producer of an open transaction and ends it.
func (k *kafka) abort(t *transactionalID, cause abortCause) {
	key := t.key()
	if k.outcomes[key].committed { // a late AddPartitions has opened an epoch again whose transaction is committed
		k.onReopened(key)
	} else {
		k.outcomes[key] = outcomeOf{aborted: true, cause: cause}
		k.onAbort(key, cause)
	}
	t.epoch++
	t.state = statePrepareAbort
	k.writeMarkers(t)
}

// writeMarkers lets the markers come one by one; the transaction is complete with the last.
func (k *kafka) writeMarkers(t *transactionalID) {
	producer, epoch, commit := t.producer, t.epoch, t.state == statePrepareCommit
	t.unmarked = len(t.partitions)
	for _, p := range t.partitions {
		k.w.after(k.w.between(time.Millisecond, 60*time.Millisecond), func() {
			k.partition(p).mark(producer, epoch, commit)
			if t.unmarked--; t.unmarked == 0 {
				t.complete()
			}
		})
	}
	if len(t.partitions) == 0 {
		t.complete()
	}
}

func (t *transactionalID) complete() {
	if t.state == statePrepareCommit {
		t.state = stateCompleteCommit
	} else {
		t.state = stateCompleteAbort
	}
}

// expire aborts what has timed out.
func (k *kafka) expire() {
	for _, t := range k.order {
		if t.state == stateOngoing && k.w.now-t.since > t.timeout {
			k.w.logf("kafka: %s has timed out", t.key())
			k.abort(t, byExpiry)
		}
	}
}

func (k *kafka) partition(at transaction.Partition) *partitionLog {
	p := k.partitions[at]
	if p == nil {
		p = &partitionLog{at: at, producers: map[int64]*producerState{}}
		k.partitions[at] = p
		k.parts = append(k.parts, p)
	}
	return p
}

// produce appends a batch of records that a transaction has for a partition.
func (k *kafka) produce(key manifest.TransactionKey, at transaction.Partition, sequence int32, e entry) (code, int64) {
	p := k.partition(at)
	s := p.producers[key.ProducerID]
	if s == nil {
		s = &producerState{epoch: -1}
		p.producers[key.ProducerID] = s
	}
	epoch, count := int(key.ProducerEpoch), int32(e.to-e.from)
	if epoch < s.epoch {
		return invalidEpoch, -1
	}
	if epoch == s.epoch && sequence < s.next {
		return ok, -1 // DUPLICATE_SEQUENCE_NUMBER: it is there
	}
	if !s.begun || epoch != s.epoch {
		if c := k.verify(key, at); c != ok {
			return c, -1
		}
	}
	if epoch > s.epoch {
		s.epoch, s.next = epoch, 0
	}
	if sequence != s.next {
		return outOfOrder, -1
	}
	s.next, s.begun = sequence+count, true
	e.key = key
	s.open = append(s.open, len(p.entries))
	p.entries = append(p.entries, e)
	p.open++
	return ok, int64(len(p.entries) - 1)
}

// verify asks the coordinator whether a partition is in the transaction, as brokers do before its first batch.
func (k *kafka) verify(key manifest.TransactionKey, at transaction.Partition) code {
	t := k.ids[key.TransactionalID]
	switch {
	case t == nil || t.producer != key.ProducerID:
		return invalidMapping
	case t.epoch != int(key.ProducerEpoch):
		return invalidEpoch
	case t.prepared():
		return concurrent
	case t.state != stateOngoing || !slices.Contains(t.partitions, at):
		return invalidState
	}
	return ok
}

// mark writes the marker of a transaction.
func (p *partitionLog) mark(producer int64, epoch int, commit bool) {
	s := p.producers[producer]
	if s == nil {
		s = &producerState{epoch: -1}
		p.producers[producer] = s
	}
	state := entryAborted
	if commit {
		state = entryCommitted
	}
	for _, i := range s.open {
		p.entries[i].state = state
		p.open--
	}
	s.open, s.begun = nil, false
	if epoch > s.epoch {
		s.epoch, s.next = epoch, 0
	}
}

// stable says that a read_committed reader comes to the end: LSO = high watermark.
func (p *partitionLog) stable() bool { return p.open == 0 }

// String prints an entry as source[from, to).
func (e entry) String() string {
	return fmt.Sprintf("src/%d [%d, %d) by %s", e.source, e.from, e.to, e.key)
}
