package sim

import (
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/transaction"
)

var out0 = transaction.Partition{Topic: "out", Partition: 0}

// broker is a cluster for tests of the model itself.
type broker struct {
	*kafka
	t *testing.T
}

func newBroker(t *testing.T) *broker {
	w := newWorld(1, bugNone, nil)
	w.queue = nil
	return &broker{newKafka(w), t}
}

func (b *broker) settle() { b.w.run(b.w.now+time.Second, func() bool { return false }) }

func (b *broker) want(what string, got, want code) {
	b.t.Helper()
	if got != want {
		b.t.Fatalf("%s: %s, want %s", what, got, want)
	}
}

// begin opens a transaction with one batch of ten records.
func (b *broker) begin(id string) manifest.TransactionKey {
	b.t.Helper()
	c, producer, epoch := b.initProducerID(id, time.Minute)
	b.want("init", c, ok)
	key := manifest.TransactionKey{TransactionalID: id, ProducerID: producer, ProducerEpoch: epoch}
	b.want("add", b.addPartitions(key, []transaction.Partition{out0}), ok)
	c, _ = b.produce(key, out0, 0, entry{to: 10})
	b.want("produce", c, ok)
	return key
}

func (b *broker) initTwice(id string) manifest.TransactionKey {
	c, _, _ := b.initProducerID(id, time.Minute)
	b.want("init on an open transaction", c, concurrent)
	b.settle()
	c, producer, epoch := b.initProducerID(id, time.Minute)
	b.want("init again", c, ok)
	return manifest.TransactionKey{TransactionalID: id, ProducerID: producer, ProducerEpoch: epoch}
}

// The model is held to what was measured of real brokers.

// TestBrokerRepeatedCommit: a repeated commit answers CONCURRENT_TRANSACTIONS until the markers are written, then OK.
func TestBrokerRepeatedCommit(t *testing.T) {
	b := newBroker(t)
	key := b.begin("a")
	b.want("commit", b.endTxn(key), ok)
	b.want("at once again", b.endTxn(key), concurrent)
	b.want("add meanwhile", b.addPartitions(key, []transaction.Partition{out0}), concurrent)
	c, _, _ := b.initProducerID("a", time.Minute)
	b.want("init meanwhile", c, concurrent)
	b.settle()
	b.want("later", b.endTxn(key), ok)
	if p := b.partition(out0); !p.stable() || p.entries[0].state != entryCommitted {
		t.Errorf("%+v is not visible", p.entries)
	}
}

// TestBrokerInitAborts: InitProducerId aborts what is open, and raises the epoch by two.
func TestBrokerInitAborts(t *testing.T) {
	b := newBroker(t)
	key := b.begin("a")
	next := b.initTwice("a")
	if next.ProducerEpoch != key.ProducerEpoch+2 || next.ProducerID != key.ProducerID {
		t.Errorf("after %s comes %s", key, next)
	}
	b.want("commit", b.endTxn(key), fenced)
	b.want("add", b.addPartitions(key, []transaction.Partition{out0}), fenced)
	c, _ := b.produce(key, out0, 10, entry{to: 10})
	b.want("produce", c, invalidEpoch)
	if b.partition(out0).entries[0].state != entryAborted {
		t.Error("the batch is not aborted")
	}
}

// TestBrokerRefusals: each wrong request is refused by its own code.
func TestBrokerRefusals(t *testing.T) {
	b := newBroker(t)
	key := b.begin("a")
	other := key
	other.ProducerID = 99
	b.want("wrong producer", b.endTxn(other), invalidMapping)
	b.want("unknown id", b.endTxn(manifest.TransactionKey{TransactionalID: "x"}), invalidMapping)
	other = key
	other.ProducerEpoch++
	b.want("future epoch", b.endTxn(other), fenced)
	_, producer, epoch := b.initProducerID("b", time.Minute)
	empty := manifest.TransactionKey{TransactionalID: "b", ProducerID: producer, ProducerEpoch: epoch}
	b.want("nothing added", b.endTxn(empty), invalidState)
	c, _ := b.produce(empty, out0, 0, entry{to: 1})
	b.want("produce without add", c, invalidState)
}

// TestBrokerExpiry: what has timed out cannot be committed.
func TestBrokerExpiry(t *testing.T) {
	b := newBroker(t)
	key := b.begin("a")
	b.w.now += time.Minute + time.Second
	b.expire()
	b.want("commit", b.endTxn(key), fenced)
	b.settle()
	b.want("commit later", b.endTxn(key), fenced)
	if got := b.outcomes[key]; !got.aborted || got.cause != byExpiry {
		t.Errorf("outcome %+v", got)
	}
}

// TestBrokerSequenceNumbers: repeats are answered OK and written once.
func TestBrokerSequenceNumbers(t *testing.T) {
	b := newBroker(t)
	key := b.begin("a")
	c, _ := b.produce(key, out0, 0, entry{to: 10})
	b.want("repeat", c, ok)
	c, _ = b.produce(key, out0, 20, entry{from: 20, to: 30})
	b.want("gap", c, outOfOrder)
	if n := len(b.partition(out0).entries); n != 1 {
		t.Errorf("%d batches are in the log", n)
	}
}

// TestBrokerRotation: the producer id rotates before the epochs end.
func TestBrokerRotation(t *testing.T) {
	b := newBroker(t)
	b.firstEpoch = maxShort - 2
	_, first, _ := b.initProducerID("a", time.Minute)
	_, second, epoch := b.initProducerID("a", time.Minute)
	if second != first || epoch != maxShort-1 {
		t.Errorf("producer %d epoch %d", second, epoch)
	}
	_, third, epoch := b.initProducerID("a", time.Minute)
	if third == first || epoch != 0 {
		t.Errorf("producer %d epoch %d", third, epoch)
	}
}
