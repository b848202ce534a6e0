package kafka

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/connector/kafka/transaction"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// TestFenced: somebody else who takes an id ends the attempt, and is named as the cause.
func TestFenced(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Properties: forSink(f, "delivery.timeout.ms", "2000")}) // kfake denies the transaction
	x.write(sequel(0, 1, 0))
	x.seal(1)
	x.transactions(1)
	x.write(sequel(1, 1, 0))
	for _, n := range []string{"0", "1", "2", "3"} {
		for {
			_, err := x.committer.InitProducerID(testContext(t), idPrefix+n, time.Minute)
			if err == nil {
				break
			}
			if !wire.Classify(err).Retriable() {
				t.Fatal(err)
			}
		}
	}
	// the sealed one was flushed: only what is written on is refused
	for i := range 3 {
		if x.sink.Write(testContext(t), sequel(2+i, 1, 0)) != nil {
			break
		}
	}
	err := x.failure()
	var e *Error
	if !errors.As(err, &e) || e.FailureClass() != "fenced" || !strings.Contains(err.Error(), "fenced by another producer: ") || !strings.Contains(err.Error(), "nobody else may use transactional ids that begin with "+idPrefix) {
		t.Errorf("error %v of class %s", err, e.FailureClass())
	}
}

// TestRefusals: answers that end the attempt, by call.
func TestRefusals(t *testing.T) {
	t.Parallel()
	initAnswer := func(req kmsg.Request, code int16) kmsg.Response {
		res := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		res.ErrorCode = code
		return res
	}
	produceAnswer := func(req kmsg.Request, code int16) kmsg.Response {
		return produceError(req.(*kmsg.ProduceRequest), code)
	}
	tests := []struct {
		name    string
		key     kmsg.Key
		respond func(kmsg.Request, int16) kmsg.Response
		code    int16
		class   string
		want    string
	}{
		{"timeout above the limit", kmsg.InitProducerID, initAnswer, kerr.InvalidTransactionTimeout.Code, "user", "lower transaction.timeout.ms or raise the brokers' transaction.max.timeout.ms"},
		{"no permission for the id", kmsg.InitProducerID, initAnswer, kerr.TransactionalIDAuthorizationFailed.Code, "external", "grant WRITE and DESCRIBE on it or its prefix"},
		{"no permission for the topic", kmsg.AddPartitionsToTxn, addAnswer, kerr.TopicAuthorizationFailed.Code, "external", "no permission for the topic"},
		{"add fenced", kmsg.AddPartitionsToTxn, addAnswer, kerr.ProducerFenced.Code, "fenced", "fenced by another producer: "},
		{"add of an unknown id", kmsg.AddPartitionsToTxn, addAnswer, kerr.InvalidProducerIDMapping.Code, "fenced", "fenced by another producer: "},
		{"produce fenced", kmsg.Produce, produceAnswer, kerr.InvalidProducerEpoch.Code, "fenced", "fenced by another producer: "},
		{"produce without a transaction", kmsg.Produce, produceAnswer, kerr.InvalidTxnState.Code, "fenced", "fenced by another producer: "},
		{"a batch is missing", kmsg.Produce, produceAnswer, kerr.OutOfOrderSequenceNumber.Code, "external", "the job restarts from its latest checkpoint"},
		{"the producer is forgotten", kmsg.Produce, produceAnswer, kerr.UnknownProducerID.Code, "external", "the job restarts from its latest checkpoint"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, kfake.SeedTopics(1, "out"))
			f.ControlKey(int16(test.key), func(req kmsg.Request) (kmsg.Response, error, bool) {
				f.KeepControl()
				return test.respond(req, test.code), nil, true
			})
			x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Properties: forSink(f, "delivery.timeout.ms", "2000")})
			_ = x.sink.Write(testContext(t), sequel(0, 1, 0)) // fails where no id can be had
			err := x.failure()
			var e *Error
			if !errors.As(err, &e) || e.FailureClass() != test.class || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestDeniedFromMemory: a broker that has stood still denies a transaction of which its successor knows. The sink goes on there.
func TestDeniedFromMemory(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Properties: forSink(f)})
	x.write(sequel(0, 1, 0))
	x.checkpoint(1)
	produceErrors(f, kerr.InvalidTxnState.Code, 3)
	x.write(sequel(1, 2, 0))
	x.checkpoint(2)
	if got := values(t, f, "out", 3)[0]; len(got) != 3 {
		t.Errorf("output %q, want 3 records", got)
	}
}

// TestExpired: a transaction that was older than its timeout was not fenced by anybody.
func TestExpired(t *testing.T) {
	t.Parallel()
	s := &Sink{transactions: &transactions{context: &operator.TransactionContext{Prefix: idPrefix}}}
	s.cfg.Produce.TransactionTimeout = time.Minute
	pool := transaction.NewPool(transaction.Config{Owned: 1, Cap: 1, Timeout: time.Minute})
	pool.Next(time.Now())
	pool.Initialised(0, 1, 1)
	cause := &wire.Error{Code: wire.CodeInvalidProducerEpoch, API: "Produce", Partition: -1}
	for age, want := range map[time.Duration]string{0: "fenced by another producer", 59 * time.Second: "fenced by another producer", 61 * time.Second: "transaction expired (transaction.timeout.ms 60000): it was open for 1m1s"} {
		pool.Current().StartedAt = time.Now().Add(-age)
		err := s.refusedTransaction("out/0", pool.Current(), cause)
		var e *Error
		if class := map[bool]string{true: "external", false: "fenced"}[age > time.Minute]; !errors.As(err, &e) || e.FailureClass() != class || !strings.Contains(err.Error(), want) {
			t.Errorf("at %s: %v", age, err)
		}
	}
}

// TestLease: without a lease no id is used any more.
func TestLease(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Properties: forSink(f)})
	x.write(sequel(0, 1, 0))
	x.checkpoint(1)
	f.ControlKey(int16(kmsg.AddPartitionsToTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		t.Error("an id is used without a lease")
		return nil, nil, false
	})
	over := errors.New("no answer to a heartbeat for 6 s")
	x.lease.Store(&over)
	_ = x.sink.Write(testContext(t), sequel(1, 1, 0)) // the sink may have ended already
	if err := x.failure(); !errors.Is(err, over) {
		t.Errorf("error %v", err)
	}
}

// TestNoIDWithoutALease: not even a producer id is asked for.
func TestNoIDWithoutALease(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	f.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
		t.Error("a producer id is asked for without a lease")
		return nil, nil, false
	})
	over := errors.New("no answer to a heartbeat for 6 s")
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Properties: forSink(f)}, func(c *SinkConfig) {
		c.Transactions.Lease = func() error { return over }
	})
	if err := x.failure(); !errors.Is(err, over) {
		t.Errorf("error %v", err)
	}
}

// TestWaitsForCommits: with every id in a transaction that is not committed the writer waits, says so, and
// goes on when one is.
func TestWaitsForCommits(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Properties: forSink(f)}, func(c *SinkConfig) { c.Transactions.Cap = 5 })
	for i := range 5 {
		x.write(sequel(i, 1, 0))
		x.seal(ident.CheckpointID(i + 1))
	}
	written := make(chan error, 1)
	go func() { written <- x.sink.Write(testContext(t), sequel(5, 1, 0)) }()
	for i := range 4 {
		x.transactions(ident.CheckpointID(i + 1))
	}
	all := x.transactions(5)
	const want = "transaction: waiting for the commit of a checkpoint: all 5 transactional ids hold transactions that are not committed"
	deadline := time.Now().Add(20 * time.Second)
	for heard := false; !heard; heard, _ = x.reasons.heard(want) {
		if time.Now().After(deadline) {
			t.Fatalf("reasons %q", x.reasons.said)
		}
	}
	select {
	case err := <-written:
		t.Fatalf("written without an id: %v", err)
	default:
	}
	x.commit(5, all)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	x.checkpoint(6)
	diff(t, map[int32][]string{0: numbers(6)}, values(t, f, "out", 6))
	if _, well := x.reasons.heard(""); !well {
		t.Errorf("reasons %q", x.reasons.said)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, l := range x.levels {
		if l.Wanted > 5 {
			t.Errorf("level %+v", l)
		}
	}
}

// TestTransactionalSource: batches that were transactional at the source are passed on unopened with our
// transaction, or none.
func TestTransactionalSource(t *testing.T) {
	t.Parallel()
	const n = 600
	f := startFake(t, kfake.SeedTopics(1, "in", "exact", "once"))
	cl := franz(t, f, kgo.TransactionalID("theirs"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, numbered("in", 0, n)...)
	if err := cl.EndTransaction(testContext(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "exact", Partitioner: graph.Preserve, Properties: forSink(f)})
	w := startSink(t, &graph.KafkaSink{Topic: "once", Partitioner: graph.Preserve, Properties: forSink(f)})
	r := startSource(t, properties(f), position("in", 0, 0, n))
	for r.next[position("in", 0, 0, 0).Split] < n {
		b := <-r.source.Batches()
		if b.Batch != nil {
			for _, s := range []*Sink{x.sink, w.sink} {
				if err := s.Write(testContext(t), b.Batch); err != nil {
					t.Fatal(err)
				}
			}
			if b.Batch.Packed == nil {
				t.Error("the batch was opened")
			}
		}
		r.next[b.Split] = b.Next
		b.Release()
	}
	x.checkpoint(1)
	w.seal(1)
	w.sealed(1)
	raw := franz(t, f, kgo.ConsumeTopics("exact", "once"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for got := 0; got < 2*n; {
		raw.PollFetches(testContext(t)).EachRecord(func(rec *kgo.Record) {
			got++
			if rec.Attrs.IsTransactional() != (rec.Topic == "exact") || rec.Topic == "exact" && rec.ProducerID < 0 {
				t.Fatalf("%s offset %d: transactional %v, producer %d", rec.Topic, rec.Offset, rec.Attrs.IsTransactional(), rec.ProducerID)
			}
		})
	}
}

func TestTransactionsRefused(t *testing.T) {
	t.Parallel()
	_, err := NewSink(SinkConfig{Kafka: &graph.KafkaSink{Topic: "out", Guarantee: graph.ExactlyOnce, Properties: map[string]string{propBootstrap: "a:1"}}, Connections: NewConnections(nil)})
	if err == nil || !strings.Contains(err.Error(), "no transactional ids were handed out") {
		t.Errorf("error %v", err)
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	const api = "InitProducerId"
	for _, test := range []struct {
		err  error
		want transaction.Outcome
	}{
		{&wire.Error{Code: wire.CodeConcurrentTransactions, API: api}, transaction.Busy},
		{&wire.Error{Code: wire.CodeNotCoordinator, API: api}, transaction.Retriable},
		{&wire.Error{Code: wire.CodeUnknownServerError, API: api}, transaction.Retriable},
		{&wire.CallError{API: api, Sent: true, Err: context.DeadlineExceeded}, transaction.Unknown},
		{&wire.CallError{API: api, Err: context.DeadlineExceeded}, transaction.Unsent},
		{&wire.CallError{API: "FindCoordinator", Sent: true, Err: context.DeadlineExceeded}, transaction.Unsent},
		{errors.New("anything"), transaction.Unknown},
		{&wire.PeerError{}, transaction.Unsent}, // known before the call itself is sent, as is the next
		{&wire.SetupError{}, transaction.Unsent},
	} {
		if got := outcomeOf(api, test.err); got != test.want {
			t.Errorf("%v: %d, want %d", test.err, got, test.want)
		}
	}
}

// TestDenialsAreInARow: an answer of another kind ends a run of denials, as the next may be another broker's.
func TestDenialsAreInARow(t *testing.T) {
	t.Parallel()
	s := &Sink{kafka: &graph.KafkaSink{}, trouble: newTrouble(func(string) {}), log: slog.New(slog.DiscardHandler)}
	s.cfg.Produce.DeliveryTimeout = time.Minute
	b := &outBatch{opened: time.Now()}
	to := &target{name: "out/0", topic: &topic{name: "out"}, queue: []*outBatch{b}, deniedSince: time.Now().Add(-time.Minute)}
	result := wire.ProduceResult{Err: &wire.Error{Code: 19, API: "Produce", Topic: "out"}} // NOT_ENOUGH_REPLICAS
	if forgotten, err := s.answered(to, b, &result); forgotten || err != nil || !to.deniedSince.IsZero() {
		t.Errorf("forgotten %t, %v, denied since %s", forgotten, err, to.deniedSince)
	}
}

// TestRouteEndsWithItsContext: a batch of expressions that take long is given up between two records.
func TestRouteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	calls := 0
	s := &Sink{kafka: &graph.KafkaSink{}, topicOf: func(*operator.Batch, int) (string, error) { calls++; return "out", nil }}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.route(ctx, sequel(0, 3, 0)); !errors.Is(err, context.Canceled) || calls > 0 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
