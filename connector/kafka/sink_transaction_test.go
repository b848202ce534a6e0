package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

const idPrefix = "c/j/out/0/1/"

// transacting is a transactional sink under test, with the job manager's part.
type transacting struct {
	*writing
	committer *wire.Cluster
	made      chan struct{} // closed when writing is set
	lease     atomic.Pointer[error]

	mu     sync.Mutex
	levels []operator.TransactionLevel
}

func startTransactional(t testing.TB, f *kfake.Cluster, k *graph.KafkaSink, change ...func(*SinkConfig)) *transacting {
	t.Helper()
	x := &transacting{made: make(chan struct{})}
	k.Guarantee = graph.ExactlyOnce
	x.writing = startSink(t, k, append([]func(*SinkConfig){func(c *SinkConfig) {
		c.Name = "out"
		c.Transactions = &operator.TransactionContext{Prefix: idPrefix, Owned: 4, Cap: 8, Level: x.level, Lease: func() error {
			if err := x.lease.Load(); err != nil {
				return *err
			}
			return nil
		}}
	}}, change...)...)
	close(x.made)
	var err error
	if x.committer, err = wire.Open(wire.Config{Bootstrap: f.ListenAddrs(), ClientID: "committer"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.committer.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// level hands out what the sink wants, as the job manager does.
func (x *transacting) level(l operator.TransactionLevel) {
	if l.Ready > 1 {
		x.t.Errorf("level %+v: how many more than one are ready is nobody's concern", l)
	}
	x.mu.Lock()
	x.levels = append(x.levels, l)
	x.mu.Unlock()
	<-x.made
	x.sink.HandOut(l.Wanted)
}

// transactions waits for the report of a checkpoint.
func (x *transacting) transactions(id ident.CheckpointID) []manifest.Transaction {
	x.t.Helper()
	select {
	case e := <-x.sink.Sealed():
		if e.Checkpoint != id {
			x.t.Fatalf("sealed %d, want %d", e.Checkpoint, id)
		}
		return e.Transactions
	case err := <-x.done:
		x.done <- err
		x.t.Fatalf("the sink ended: %v", err)
	case <-time.After(20 * time.Second):
		x.t.Fatalf("checkpoint %d is not sealed; reasons %q", id, x.reasons.said)
	}
	return nil
}

// commit ends transactions as the job manager does, and announces the checkpoint.
func (x *transacting) commit(id ident.CheckpointID, transactions []manifest.Transaction) {
	x.t.Helper()
	ctx := testContext(x.t)
	for i := range transactions {
		tx := &transactions[i]
		for {
			err := x.committer.EndTxn(ctx, tx.TransactionalID, wire.Producer{ID: tx.ProducerID, Epoch: tx.ProducerEpoch}, true)
			if err == nil {
				break
			}
			if !wire.Classify(err).Retriable() {
				x.t.Fatal(err)
			}
		}
	}
	x.sink.Completed(id)
}

// checkpoint seals and commits.
func (x *transacting) checkpoint(id ident.CheckpointID) []manifest.Transaction {
	x.t.Helper()
	x.seal(id)
	transactions := x.transactions(id)
	x.commit(id, transactions)
	return transactions
}

// values are those of a topic by partition.
func values(t testing.TB, f *kfake.Cluster, topic string, n int) map[int32][]string {
	t.Helper()
	have := map[int32][]string{}
	for _, g := range consume(t, f, topic, n) {
		have[g.Partition] = append(have[g.Partition], string(g.Value))
	}
	return have
}

// sequel makes n records for each of the partitions, numbered on from first.
func sequel(first, n int, partitions ...int32) *operator.Batch {
	var records []*kgo.Record
	for i := range n {
		for _, p := range partitions {
			records = append(records, &kgo.Record{Topic: "in", Partition: p, Value: fmt.Append(nil, first+i), Timestamp: time.UnixMilli(int64(i))})
		}
	}
	return batchOf(records...)
}

func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(i)
	}
	return out
}

func visible(t testing.TB, f *kfake.Cluster, topic string) int {
	t.Helper()
	cl := franz(t, f, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(testContext(t), 300*time.Millisecond)
	defer cancel()
	n := 0
	for ctx.Err() == nil {
		n += cl.PollFetches(ctx).NumRecords()
	}
	return n
}

// TestTransactions: nothing is seen before the commit, all after it, in order, under the offsets that the
// manifest names.
func TestTransactions(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "out"))
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f)})
	if got := x.checkpoint(1); len(got) > 0 {
		t.Errorf("nothing was written, and %+v is to be committed", got)
	}
	x.write(sequel(0, 10, 0, 1))
	x.seal(2)
	x.write(sequel(10, 10, 0, 1))
	first := x.transactions(2)
	if n := visible(t, f, "out"); n > 0 {
		t.Errorf("%d records can be seen before the commit", n)
	}
	tx := first[0]
	want := manifest.Transaction{Sink: "out", Cluster: f.ListenAddrs()[0], TransactionalID: tx.TransactionalID, ProducerID: tx.ProducerID, ProducerEpoch: tx.ProducerEpoch, StartedAt: tx.StartedAt, TimeoutMs: 900_000,
		Partitions: []manifest.TopicPartition{{Topic: "out", Partition: 0, FirstOffset: 0, LastOffset: 9}, {Topic: "out", Partition: 1, FirstOffset: 0, LastOffset: 9}}}
	diff(t, []manifest.Transaction{want}, first)
	if age := time.Since(tx.StartedAt); age < 0 || age > 20*time.Second {
		t.Errorf("it is %s old", age)
	}
	x.seal(3) // checkpoint 2 fails: its transaction travels with 3
	second := x.transactions(3)
	if len(second) != 2 || second[0].Key() != tx.Key() {
		t.Fatalf("checkpoint 3 lists %+v", second)
	}
	x.commit(3, second)
	diff(t, map[int32][]string{0: numbers(20), 1: numbers(20)}, values(t, f, "out", 40))
	seen := map[manifest.TransactionKey]bool{}
	for i := range 30 {
		x.write(sequel(20+i, 1, 0, 1))
		for _, tx := range x.checkpoint(ident.CheckpointID(4 + i)) {
			if seen[tx.Key()] {
				t.Fatalf("%s serves twice", tx.Key())
			}
			seen[tx.Key()] = true
		}
	}
	diff(t, map[int32][]string{0: numbers(50), 1: numbers(50)}, values(t, f, "out", 100))
	if _, well := x.reasons.heard(""); !well {
		t.Errorf("reasons %q", x.reasons.said)
	}
}

// TestTransactionsUnderFaults: whatever answers are lost, the content and the order are exact.
func TestTransactionsUnderFaults(t *testing.T) {
	t.Parallel()
	lose := func(key kmsg.Key, every int) func(*kfake.Cluster) {
		return func(f *kfake.Cluster) {
			n := 0
			f.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				f.KeepControl()
				if n++; n%every == 0 {
					return nil, errors.New("the connection is cut"), true
				}
				return nil, nil, false
			})
		}
	}
	answer := func(key kmsg.Key, every int, respond func(kmsg.Request) kmsg.Response) func(*kfake.Cluster) {
		return func(f *kfake.Cluster) {
			n := 0
			f.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
				f.KeepControl()
				if n++; n%every == 0 {
					return respond(req), nil, true
				}
				return nil, nil, false
			})
		}
	}
	faults := []struct {
		name string
		set  func(*kfake.Cluster)
	}{
		{"lost InitProducerId", lose(kmsg.InitProducerID, 4)},
		{"busy InitProducerId", answer(kmsg.InitProducerID, 2, func(req kmsg.Request) kmsg.Response {
			res := req.ResponseKind().(*kmsg.InitProducerIDResponse)
			res.ErrorCode = kerr.ConcurrentTransactions.Code
			return res
		})},
		{"lost AddPartitionsToTxn", lose(kmsg.AddPartitionsToTxn, 3)},
		{"busy AddPartitionsToTxn", answer(kmsg.AddPartitionsToTxn, 2, func(req kmsg.Request) kmsg.Response {
			return addAnswer(req, kerr.ConcurrentTransactions.Code)
		})},
		{"lost Produce", lose(kmsg.Produce, 3)},
		{"few replicas", answer(kmsg.Produce, 2, func(req kmsg.Request) kmsg.Response {
			return produceError(req.(*kmsg.ProduceRequest), kerr.NotEnoughReplicas.Code)
		})},
		{"late Produce", func(f *kfake.Cluster) { produceLate(f, 5) }},
		{"moved coordinator", answer(kmsg.AddPartitionsToTxn, 2, func(req kmsg.Request) kmsg.Response { return addAnswer(req, kerr.NotCoordinator.Code) })},
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, kfake.SeedTopics(3, "out"))
			x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f, propRetryBackoff, "1", propReconnectBackoff, "1", propBatchSize, "400")})
			fault.set(f)
			const rounds, size = 8, 100
			for i := range rounds {
				x.write(sequel(i*size, size/2, 0, 1, 2))
				x.write(sequel(i*size+size/2, size/2, 0, 1, 2))
				x.seal(ident.CheckpointID(i + 1))
				if i%2 == 1 { // two seals on their way at once
					x.transactions(ident.CheckpointID(i))
					x.commit(ident.CheckpointID(i+1), x.transactions(ident.CheckpointID(i+1)))
				}
			}
			diff(t, map[int32][]string{0: numbers(rounds * size), 1: numbers(rounds * size), 2: numbers(rounds * size)}, values(t, f, "out", 3*rounds*size))
		})
	}
}

func addAnswer(req kmsg.Request, code int16) kmsg.Response {
	res := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	for _, t := range req.(*kmsg.AddPartitionsToTxnRequest).Topics {
		topic := kmsg.NewAddPartitionsToTxnResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			part := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			part.Partition, part.ErrorCode = p, code
			topic.Partitions = append(topic.Partitions, part)
		}
		res.Topics = append(res.Topics, topic)
	}
	return res
}

// TestLostInitBurns: the id of a lost answer is never used again, and is replaced.
func TestLostInitBurns(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	asked := map[string]int{}
	var mu sync.Mutex
	f.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		id := *req.(*kmsg.InitProducerIDRequest).TransactionalID
		if asked[id]++; id == idPrefix+"0" || id == idPrefix+"2" {
			return nil, errors.New("the connection is cut"), true
		}
		return nil, nil, false
	})
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Properties: forSink(f)})
	for i := range 10 {
		x.write(sequel(i, 1, 0))
		x.checkpoint(ident.CheckpointID(i + 1))
	}
	diff(t, map[int32][]string{0: numbers(10)}, values(t, f, "out", 10))
	mu.Lock()
	defer mu.Unlock()
	if asked[idPrefix+"0"] != 1 || asked[idPrefix+"2"] != 1 || asked[idPrefix+"1"] < 2 || asked[idPrefix+"3"] < 2 {
		t.Errorf("asked %v", asked)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if last := x.levels[len(x.levels)-1]; last.Wanted != 6 {
		t.Errorf("levels %+v", x.levels)
	}
}

// TestEpochsRunOut: an id whose epoch is near the end is asked again until it has a new producer id.
func TestEpochsRunOut(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	epoch := int16(32_697)
	var ids []string
	f.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		ids = append(ids, *req.(*kmsg.InitProducerIDRequest).TransactionalID)
		if epoch++; epoch < 32_700 || epoch > 32_720 {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		res.ProducerID, res.ProducerEpoch = 77, epoch
		return res, nil, true
	})
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Properties: forSink(f)})
	for i := range 6 {
		x.write(sequel(i, 1, 0))
		for _, tx := range x.checkpoint(ident.CheckpointID(i + 1)) {
			if tx.ProducerID == 77 {
				t.Fatalf("a transaction under %s", tx.Key())
			}
		}
	}
	diff(t, map[int32][]string{0: numbers(6)}, values(t, f, "out", 6))
	x.stop()
	if len(ids) < 21+6 {
		t.Errorf("asked %d times", len(ids))
	}
}

// TestSlowAddPartitions: while one call is not answered, nothing of its partitions is produced; a sealed
// transaction and the current one do not wait for each other's.
func TestSlowAddPartitions(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "out"))
	release, calls, slow := make(chan struct{}), make(chan *kmsg.AddPartitionsToTxnRequest, 100), ""
	f.ControlKey(int16(kmsg.AddPartitionsToTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r := req.(*kmsg.AddPartitionsToTxnRequest)
		calls <- r
		if slow = cmp.Or(slow, r.TransactionalID); r.TransactionalID == slow {
			f.SleepControl(func() { <-release })
		}
		f.KeepControl()
		return nil, nil, false
	})
	produced := make(chan string, 100)
	f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		produced <- *req.(*kmsg.ProduceRequest).TransactionID
		return nil, nil, false
	})
	x := startTransactional(t, f, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f, propLinger, "0")})
	x.write(sequel(0, 3, 0))
	first := <-calls
	if len(first.Topics[0].Partitions) != 1 {
		t.Errorf("call %+v", first)
	}
	x.seal(1)
	x.write(sequel(0, 3, 1))
	if id := <-produced; id == first.TransactionalID {
		t.Error("produced before the partition was added")
	}
	x.write(sequel(3, 3, 0))
	select {
	case e := <-x.sink.Sealed():
		t.Errorf("sealed %+v", e)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	x.commit(1, x.transactions(1))
	x.checkpoint(2)
	diff(t, map[int32][]string{0: numbers(6), 1: numbers(3)}, values(t, f, "out", 9))
}
