package bubble

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// brokerError is an answer other than OK, as Kafka numbers them.
type brokerError struct {
	code int16
	api  API
}

// The answers that the coordinator and the leaders give.
const (
	codeNotCoordinator      int16 = 16
	codeOutOfOrder          int16 = 45
	codeInvalidEpoch        int16 = 47
	codeInvalidTxnState     int16 = 48
	codeInvalidMapping      int16 = 49
	codeConcurrent          int16 = 51
	codeProducerFenced      int16 = 90
	maxProducerEpoch              = math.MaxInt16 - 1
	timeoutScan                   = 10 * time.Second
	defaultTransactionLimit       = 15 * time.Minute
)

// Error names the call and the code.
func (e brokerError) Error() string {
	return fmt.Sprintf("%s: the broker answered [%d]", e.api, e.code)
}

// phase is how far a transaction is.
type phase uint8

const (
	empty phase = iota
	ongoing
	committing
	aborting
	committed
	aborted
)

// transactionalID is what the coordinator knows of one.
type transactionalID struct {
	name       string
	producer   producer
	timeout    time.Duration
	phase      phase
	partitions []topicPartition
	// began is when the transaction was opened, ends when its markers are written.
	began, ends time.Time
}

type topicPartition struct {
	topic     string
	partition int32
}

// advance carries out what is due: markers of transactions that end, and the abort of expired ones. Under mu.
func (l *Log) advance() {
	now := time.Now()
	for _, t := range l.ids {
		if t.phase == ongoing && !now.Before(expiry(t)) {
			t.producer.epoch++ // whoever opened it is fenced
			t.phase, t.ends = aborting, expiry(t)
		}
		if (t.phase == committing || t.phase == aborting) && !now.Before(t.ends) {
			l.finish(t)
		}
	}
}

// expiry is the scan of the broker that finds the transaction expired.
func expiry(t *transactionalID) time.Time {
	return t.began.Add(t.timeout).Truncate(timeoutScan).Add(timeoutScan)
}

// finish writes the markers.
func (l *Log) finish(t *transactionalID) {
	commit := t.phase == committing
	for _, at := range t.partitions {
		l.topics[at.topic][at.partition].end(t.producer.id, commit)
	}
	t.partitions = nil
	if t.phase = aborted; commit {
		t.phase = committed
	}
	l.signal()
}

// initProducerID aborts what is open under an id, and gives it a new epoch.
func (l *Log) initProducerID(name string, timeout time.Duration) (producer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	t := l.ids[name]
	if t == nil {
		t = &transactionalID{name: name}
		l.ids[name] = t
		l.newProducer(t)
	} else {
		switch t.phase {
		case committing, aborting:
			return producer{}, brokerError{codeConcurrent, InitProducerID}
		case ongoing:
			t.producer.epoch++
			t.phase, t.ends = aborting, time.Now().Add(l.MarkerDelay)
			return producer{}, brokerError{codeConcurrent, InitProducerID}
		}
		if t.producer.epoch+1 >= maxProducerEpoch {
			l.newProducer(t)
		} else {
			t.producer.epoch++
		}
	}
	t.timeout, t.phase = timeout, empty
	return t.producer, nil
}

func (l *Log) newProducer(t *transactionalID) {
	l.lastProducer++
	t.producer = producer{id: l.lastProducer}
	l.owners[l.lastProducer] = t
}

// addPartitions opens the transaction if it is not open, and makes partitions part of it.
func (l *Log) addPartitions(name string, by producer, parts []topicPartition) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	t, err := l.owned(name, by, AddPartitions)
	if err != nil {
		return err
	}
	if t.phase != ongoing {
		t.phase, t.began, t.partitions = ongoing, time.Now(), nil
	}
	for _, p := range parts {
		if !slices.Contains(t.partitions, p) {
			t.partitions = append(t.partitions, p)
		}
	}
	return nil
}

// owned finds an id that belongs to the producer and is not busy.
func (l *Log) owned(name string, by producer, api API) (*transactionalID, error) {
	t := l.ids[name]
	switch {
	case t == nil || t.producer.id != by.id:
		return nil, brokerError{codeInvalidMapping, api}
	case t.producer.epoch != by.epoch:
		return nil, brokerError{codeProducerFenced, api}
	case t.phase == committing || t.phase == aborting:
		return nil, brokerError{codeConcurrent, api}
	}
	return t, nil
}

// commit ends the transaction; repeated, it answers OK as soon as the markers are written.
func (l *Log) commit(name string, by producer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	t, err := l.owned(name, by, EndTxn)
	if err != nil {
		return err
	}
	switch t.phase {
	case ongoing:
		t.phase, t.ends = committing, time.Now().Add(l.MarkerDelay)
		return nil
	case committed:
		return nil
	default:
		return brokerError{codeInvalidTxnState, EndTxn}
	}
}

// produce writes a batch of a transaction.
func (l *Log) produce(at topicPartition, by producer, sequence int32, messages []Message) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	t := l.owners[by.id]
	switch {
	case t == nil:
		return 0, brokerError{codeInvalidMapping, Produce}
	case t.producer != by:
		return 0, brokerError{codeInvalidEpoch, Produce}
	case t.phase != ongoing || !slices.Contains(t.partitions, at):
		return 0, brokerError{codeInvalidTxnState, Produce}
	}
	return l.topics[at.topic][at.partition].produce(by, sequence, messages)
}

// Open names the transactional ids that have a transaction which is not over.
func (l *Log) Open() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	var out []string
	for name, t := range l.ids {
		if t.phase == ongoing || t.phase == committing || t.phase == aborting {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// TransactionalIDs names all that were ever initialised.
func (l *Log) TransactionalIDs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for name := range l.ids {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Seize fences the user of a transactional id, as another producer with this id does, and aborts what it has open.
func (l *Log) Seize(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	t := l.ids[name]
	t.producer.epoch++
	if t.phase == ongoing {
		t.phase, t.ends = aborting, time.Now()
		l.advance()
	}
}
