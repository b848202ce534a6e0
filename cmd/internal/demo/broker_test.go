package demo

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// transaction is one of a bare producer.
type transaction struct {
	id       string
	producer wire.Producer
}

// begin opens a transaction with one record in partition 0 of the output.
func begin(t *testing.T, ctx context.Context, b *broker, cl *wire.Cluster, id string) transaction {
	t.Helper()
	p, err := cl.InitProducerID(ctx, id, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.AddPartitionsToTxn(ctx, id, p, []wire.TopicPartition{{Topic: b.output, Partition: 0}}); err != nil {
		t.Fatal(err)
	}
	var records wire.Builder
	records.Reset()
	records.AppendRecord(1, []byte("key"), []byte(id), nil)
	batch, err := records.Finish(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	leader, err := cl.Leader(ctx, b.output, 0)
	if err != nil {
		t.Fatal(err)
	}
	res, err := cl.Produce(ctx, leader.Broker, &wire.ProduceRequest{TransactionalID: id, Acks: -1, Batches: []wire.ProduceBatch{{Topic: b.output, Data: batch}}})
	if err != nil || res[0].Err != nil {
		t.Fatalf("produce: %v, %+v", err, res)
	}
	return transaction{id: id, producer: p}
}

func openWire(t *testing.T, b *broker) *wire.Cluster {
	t.Helper()
	cl, err := wire.Open(wire.Config{Bootstrap: b.servers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cl.Close(); err != nil {
			t.Error(err)
		}
	})
	return cl
}

// What the demo stands on, and what it says of the embedded broker: an open transaction holds the last
// stable offset back and hides its records; another connection ends it; that is done at once and may be
// repeated without CONCURRENT_TRANSACTIONS; an id that is taken over aborts and fences at once.
func TestEmbeddedBrokerIsAsIntroduced(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b, err := openBroker(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if says := b.introduction(); !strings.Contains(says, "kfake") || !strings.Contains(says, "ends transactions at once") {
		t.Errorf("the introduction does not say what this test holds it to: %s", says)
	}
	cl, err := b.client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	stableAt := func(what string, want, open int64) {
		t.Helper()
		ends, behind, err := stableNow(ctx, kadm.NewClient(cl), b.output)
		if err != nil || ends[0] != want || behind != open {
			t.Errorf("%s: last stable offset %d, %d behind, %v; want %d and %d", what, ends[0], behind, err, want, open)
		}
	}
	task, manager := openWire(t, b), openWire(t, b)
	first := begin(t, ctx, b, task, "first")
	stableAt("an open transaction", 0, 1)
	for range 2 {
		if err := manager.EndTxn(ctx, first.id, first.producer, true); err != nil {
			t.Errorf("commit by another connection, and its repeat: %v", err)
		}
	}
	stableAt("committed", 2, 0)
	second := begin(t, ctx, b, task, "second")
	stableAt("a second one", 2, 1)
	if p, err := manager.InitProducerID(ctx, second.id, time.Minute); err != nil || p.Epoch <= second.producer.Epoch {
		t.Errorf("taking over an open transaction: epoch %d, %v", p.Epoch, err)
	}
	stableAt("aborted", 4, 0)
	if err := task.EndTxn(ctx, second.id, second.producer, true); !wire.HasCode(err, wire.CodeProducerFenced) {
		t.Errorf("commit by the fenced owner: %v, want PRODUCER_FENCED", err)
	}
	r := newReader()
	readCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.run(readCtx, b) }()
	if n := r.await(ctx, 1); n != 1 {
		t.Errorf("a read_committed reader sees %d records, want the committed one", n)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// feed writes to the partitions and in the order that the rest of the demo goes by, and ends with the demo.
func TestFeed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b, err := openBroker(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	w := newWorkload(MinRecords)
	released := make(chan struct{})
	stopped, stop := context.WithCancel(ctx)
	stop()
	if err := w.feed(stopped, b, released); err != nil {
		t.Errorf("a demo that is over: %v", err)
	}
	close(released)
	if err := w.feed(ctx, b, released); err != nil || w.produced.Load() != int64(w.total) {
		t.Fatalf("%d of %d records produced, %v", w.produced.Load(), w.total, err)
	}
	cl, err := b.client(kgo.ConsumeTopics(b.input), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for n := 0; n < w.total; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			want := inputRecord(int(r.Offset)*partitions + int(r.Partition))
			if string(r.Key) != string(want.Key) || string(r.Value) != string(want.Value) {
				t.Fatalf("partition %d offset %d is %s=%s, want %s=%s", r.Partition, r.Offset, r.Key, r.Value, want.Key, want.Value)
			}
		})
	}
}
