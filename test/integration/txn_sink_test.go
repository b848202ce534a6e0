package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

func TestTransactionalSink(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"committed by another process", committedElsewhere},
		{"many short transactions", manyTransactions},
		{"fenced", fencedSink},
	})
}

// txnSink runs a sink by itself; the test commits in the job manager's place.
type txnSink struct {
	*kafka.Sink
	t         *testing.T
	done      chan error
	committer *wire.Cluster
	prefix    string
}

func (r *rig) txnSink(t *testing.T, topic string) *txnSink {
	t.Helper()
	s := &txnSink{t: t, done: make(chan error, 1), prefix: fmt.Sprintf("%sc/j/out/0/1/", r.prefix)}
	connections := kafka.NewConnections(nil)
	var err error
	s.Sink, err = kafka.NewSink(kafka.SinkConfig{
		Kafka: &graph.KafkaSink{Topic: topic, Guarantee: graph.ExactlyOnce, Partitioner: graph.Preserve, Properties: map[string]string{"bootstrap.servers": r.kafka.Addr()}},
		Name:  "out", Connections: connections,
		Transactions: &operator.TransactionContext{
			Prefix: s.prefix, Owned: 4, Cap: 8, Lease: func() error { return nil },
			Level: func(l operator.TransactionLevel) { s.HandOut(l.Wanted) },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.committer, err = wire.Open(wire.Config{Bootstrap: strings.Split(r.kafka.Addr(), ","), ClientID: "committer"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { s.done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-s.done, s.committer.Close(), connections.Close()); err != nil && !t.Failed() {
			t.Error(err)
		}
	})
	return s
}

// write writes the numbers from first on to every partition.
func (s *txnSink) write(first, n int, partitions int32) error {
	b, now := &operator.Batch{}, time.Now().UnixMilli()
	for p := range partitions {
		origin := b.AddOrigin(operator.Origin{Topic: "in", Partition: p})
		for i := range n {
			b.Records = append(b.Records, operator.Record{Key: operator.Null, Value: b.Put(fmt.Append(nil, first+i)), Headers: operator.Null, StreamKey: operator.Null, Timestamp: now, Origin: origin})
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	return s.Write(ctx, b)
}

func (s *txnSink) seal(id ident.CheckpointID) {
	s.t.Helper()
	if err := s.Seal(s.t.Context(), id); err != nil {
		s.t.Fatal(err)
	}
}

func (s *txnSink) ack(id ident.CheckpointID) []manifest.Transaction {
	s.t.Helper()
	select {
	case e := <-s.Sealed():
		if e.Checkpoint != id {
			s.t.Fatalf("ack %d, want %d", e.Checkpoint, id)
		}
		return e.Transactions
	case err := <-s.done:
		s.done <- nil
		s.t.Fatalf("the sink ended: %v", err)
	case <-time.After(30 * time.Second):
		s.t.Fatalf("no ack of checkpoint %d", id)
	}
	return nil
}

func (s *txnSink) commit(id ident.CheckpointID, transactions []manifest.Transaction) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for i := range transactions {
		tx := &transactions[i]
		for {
			err := s.committer.EndTxn(ctx, tx.TransactionalID, wire.Producer{ID: tx.ProducerID, Epoch: tx.ProducerEpoch}, true)
			if err == nil {
				break
			}
			if !wire.Classify(err).Retriable() {
				s.t.Fatal(err)
			}
		}
	}
	s.Completed(id)
}

// checkNumbers wants the numbers from 0 on, in order, in every partition.
func (r *rig) checkNumbers(t *testing.T, topic string, partitions int32, n int) {
	t.Helper()
	// the marker of a commit is written after its answer
	var records []*kgo.Record
	for deadline := time.Now().Add(10 * time.Second); len(records) < n*int(partitions) && time.Now().Before(deadline); {
		records = r.kafka.Read(t, topic)
	}
	next := map[int32]int{}
	for _, rec := range records {
		if got, want := string(rec.Value), fmt.Sprint(next[rec.Partition]); got != want {
			t.Fatalf("%s/%d offset %d is %s, want %s", topic, rec.Partition, rec.Offset, got, want)
		}
		next[rec.Partition]++
	}
	for p := range partitions {
		if next[p] != n {
			t.Errorf("%s/%d has %d records, want %d", topic, p, next[p], n)
		}
	}
}

// committedElsewhere: nothing is seen before the commit; what a failed checkpoint left travels on.
func committedElsewhere(t *testing.T, r *rig) {
	const partitions, n = 3, 1000
	r.create(t, partitions, "out")
	topic := r.topic("out")
	s := r.txnSink(t, topic)
	for i := range 2 {
		if err := s.write(i*n, n, partitions); err != nil {
			t.Fatal(err)
		}
		s.seal(ident.CheckpointID(i + 1))
	}
	s.ack(1)
	both := s.ack(2)
	if got := r.kafka.Read(t, topic); len(got) > 0 {
		t.Fatalf("%d records can be read before the commit", len(got))
	}
	if len(both) != 2 || len(both[0].Partitions) != partitions || both[0].Partitions[0].FirstOffset != 0 || both[0].Partitions[0].LastOffset != n-1 {
		t.Fatalf("the ack lists %+v", both)
	}
	s.commit(2, both)
	r.checkNumbers(t, topic, partitions, 2*n)
}

// manyTransactions: one after the other without a pause, each on its way while the next is written.
func manyTransactions(t *testing.T, r *rig) {
	const partitions, n, rounds = 4, 50, 100
	r.create(t, partitions, "out")
	topic := r.topic("out")
	s := r.txnSink(t, topic)
	seen := map[manifest.TransactionKey]bool{}
	begin, longest := time.Now(), time.Duration(0)
	for i := range rounds {
		before := time.Now()
		if err := s.write(i*n, n, partitions); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(before))
		s.seal(ident.CheckpointID(i + 1))
		transactions := s.ack(ident.CheckpointID(i + 1))
		for j := range transactions {
			if seen[transactions[j].Key()] {
				t.Fatalf("%s serves twice", transactions[j].Key())
			}
			seen[transactions[j].Key()] = true
		}
		s.commit(ident.CheckpointID(i+1), transactions)
	}
	t.Logf("%d transactions in %s; the longest wait of a writer was %s", rounds, time.Since(begin), longest)
	r.checkNumbers(t, topic, partitions, rounds*n)
}

// fencedSink: an id that somebody else takes ends the sink with the class that the job manager counts.
func fencedSink(t *testing.T, r *rig) {
	r.create(t, 1, "out")
	s := r.txnSink(t, r.topic("out"))
	if err := s.write(0, 1, 1); err != nil {
		t.Fatal(err)
	}
	s.seal(1)
	s.commit(1, s.ack(1))
	for n := range 4 {
		for err := error(&wire.CallError{}); err != nil; {
			_, err = s.committer.InitProducerID(t.Context(), fmt.Sprint(s.prefix, n), time.Minute)
			if err != nil && !wire.Classify(err).Retriable() {
				t.Fatal(err)
			}
		}
	}
	_ = s.write(1, 1, 1) // the sink may have ended already
	select {
	case err := <-s.done:
		s.done <- nil
		var classed interface{ FailureClass() string }
		if !errors.As(err, &classed) || classed.FailureClass() != "fenced" {
			t.Errorf("the sink ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the sink goes on")
	}
}
