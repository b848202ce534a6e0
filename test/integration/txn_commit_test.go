package integration

import (
	"context"
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
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

func TestCommitAndFence(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"repeated commits", repeatedCommits},
		{"verdicts", commitVerdicts},
		{"a fence lets readers go on", fenceLetsReadersGoOn},
		{"transaction timeout", transactionTimeout},
	})
}

func newAdmin(t *testing.T) *kafka.Admin {
	t.Helper()
	a := kafka.NewAdmin(nil)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// sealed writes the numbers from first on in a transaction and gives what a manifest says of it.
func (s *txnSink) sealed(id int, first, n int) *manifest.Transaction {
	s.t.Helper()
	if err := s.write(first, n, 1); err != nil {
		s.t.Fatal(err)
	}
	s.seal(ident.CheckpointID(id))
	transactions := s.ack(ident.CheckpointID(id))
	return &transactions[len(transactions)-1]
}

// until repeats a call that may be tried again, and counts the answers by their code.
func until(t *testing.T, call func() error) map[string]int {
	t.Helper()
	answers := map[string]int{}
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := call()
		if err == nil {
			return answers
		}
		if !wire.HasCode(err, wire.CodeConcurrentTransactions, wire.CodeCoordinatorLoadInProgress, wire.CodeCoordinatorNotAvailable, wire.CodeNotCoordinator) || time.Now().After(deadline) {
			t.Fatalf("after %v: %v", answers, err)
		}
		answers[err.Error()]++
	}
}

// repeatedCommits: a commit whose answer was lost is sent again, at once and much later, and is never taken
// for a loss.
func repeatedCommits(t *testing.T, r *rig) {
	const n, rounds = 100, 20
	r.create(t, 1, "out")
	s, a := r.txnSink(t, r.topic("out")), newAdmin(t)
	commit := func(tx *manifest.Transaction) func() error {
		return func() error {
			refused, err := a.Commit(t.Context(), &graph.Job{}, tx)
			if refused {
				t.Fatalf("refused: %v", err)
			}
			return err
		}
	}
	var all []*manifest.Transaction
	unanswered, again := 0, 0
	for i := range rounds {
		tx := s.sealed(i+1, i*n, n)
		lost, cut := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
		if _, err := a.Commit(lost, &graph.Job{}, tx); err != nil {
			unanswered++
		}
		cut()
		for range 3 {
			for _, times := range until(t, commit(tx)) {
				again += times
			}
		}
		s.Completed(ident.CheckpointID(i + 1))
		all = append(all, tx)
	}
	t.Logf("%d commits, %d of them first without an answer, repeated %d times because the broker was not done", rounds, unanswered, again)
	r.checkNumbers(t, r.topic("out"), 1, rounds*n)
	until(t, commit(all[rounds-1]))
}

func commitVerdicts(t *testing.T, r *rig) {
	r.create(t, 1, "out")
	s, a := r.txnSink(t, r.topic("out")), newAdmin(t)
	refused := func(why string, tx manifest.Transaction, codes ...int16) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; {
			verdict, err := a.Commit(t.Context(), &graph.Job{}, &tx)
			if verdict && wire.HasCode(err, codes...) {
				t.Logf("%s: %v", why, err)
				return
			}
			if err == nil || !wire.Classify(err).Retriable() || time.Now().After(deadline) {
				t.Errorf("%s: refused %t, error %v", why, verdict, err)
				return
			}
		}
	}
	tx := s.sealed(1, 0, 10)
	future := *tx
	future.ProducerEpoch += 100
	refused("an epoch that never was", future, wire.CodeProducerFenced, wire.CodeInvalidProducerEpoch)
	foreign := *tx
	foreign.ProducerID += 1_000_000
	refused("a foreign producer id", foreign, wire.CodeInvalidProducerIDMapping)
	if r.kafka.Kind() != kafkaenv.Fake { // kfake looks at the producer id only, and would commit
		unknown := *tx
		unknown.TransactionalID += "-nobody"
		refused("an unknown id", unknown, wire.CodeInvalidProducerIDMapping)
	}
	until(t, func() error { return a.Fence(t.Context(), &graph.Job{}, "out", tx.Cluster, tx.TransactionalID) })
	refused("a fenced id", *tx, wire.CodeProducerFenced, wire.CodeInvalidProducerEpoch)
}

// fenceLetsReadersGoOn: what comes behind an open transaction is read once it is fenced.
func fenceLetsReadersGoOn(t *testing.T, r *rig) {
	r.create(t, 1, "out")
	topic := r.topic("out")
	s, a := r.txnSink(t, topic), newAdmin(t)
	tx := s.sealed(1, 0, 10)
	r.kafka.Produce(t, []*kgo.Record{{Topic: topic, Value: []byte("behind")}})
	if got := r.kafka.Read(t, topic); len(got) != 0 {
		t.Fatalf("%d records can be read", len(got))
	}
	for range 3 { // every round of fencing asks again
		until(t, func() error { return a.Fence(t.Context(), &graph.Job{}, "out", tx.Cluster, tx.TransactionalID) })
	}
	var got []*kgo.Record
	for deadline := time.Now().Add(5 * time.Second); len(got) == 0 && time.Now().Before(deadline); {
		got = r.kafka.Read(t, topic)
	}
	if len(got) != 1 || string(got[0].Value) != "behind" {
		t.Errorf("%d records after the fence", len(got))
	}
}

func transactionTimeout(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	job := func(timeoutMs int) *graph.Job {
		servers := map[string]string{"bootstrap.servers": r.kafka.Addr()}
		j := &graph.Job{
			Name:       "j",
			Checkpoint: graph.Checkpointing{Interval: time.Second},
			Sources:    []graph.Source{{Name: "in", Kafka: &graph.KafkaSource{Topics: []string{r.topic("in")}, Startup: graph.Startup{Mode: graph.StartEarliest}, Properties: servers}}},
			Sinks: []graph.Sink{{Name: "out", From: []string{"in"}, Kafka: &graph.KafkaSink{Topic: r.topic("out"), Guarantee: graph.ExactlyOnce,
				Properties: map[string]string{"bootstrap.servers": r.kafka.Addr(), "transaction.timeout.ms": fmt.Sprint(timeoutMs)}}}},
		}
		j.SetDefaults()
		return j
	}
	a := newAdmin(t)
	if err := a.Check(t.Context(), job(900_000)); err != nil {
		t.Error(err)
	}
	err := a.Check(t.Context(), job(900_001))
	want := "sink out: transaction.timeout.ms: 900001 is above the broker's transaction.max.timeout.ms (900000)"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}
