package kafka

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

// sealedOn writes one record to out/0 in a transaction, as a task manager does, and returns what a manifest
// says of it.
func sealedOn(t *testing.T, f *kfake.Cluster, id, value string) *manifest.Transaction {
	t.Helper()
	ctx := testContext(t)
	cl, err := wire.Open(wire.Config{Bootstrap: f.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cl.Close(); err != nil {
			t.Error(err)
		}
	}()
	p, err := cl.InitProducerID(ctx, id, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.AddPartitionsToTxn(ctx, id, p, []wire.TopicPartition{{Topic: "out", Partition: 0}}); err != nil {
		t.Fatal(err)
	}
	var w wire.Builder
	w.AppendRecord(1, nil, []byte(value), nil)
	data, err := w.Finish(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	md, err := cl.Metadata(ctx, []string{"out"})
	if err != nil {
		t.Fatal(err)
	}
	topic, _ := md.Topic("out")
	res, err := cl.Produce(ctx, topic.Partitions[0].Leader, &wire.ProduceRequest{TransactionalID: id, Acks: -1, Batches: []wire.ProduceBatch{{Topic: "out", Data: data}}})
	if err != nil || res[0].Err != nil {
		t.Fatal(err, res)
	}
	return &manifest.Transaction{Sink: "z", Cluster: strings.Join(f.ListenAddrs(), ","), TransactionalID: id, ProducerID: p.ID, ProducerEpoch: p.Epoch}
}

func valuesOf(records []got) []string {
	var out []string
	for _, r := range records {
		out = append(out, string(r.Value))
	}
	return out
}

func TestCommit(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"))
	a, job := newAdmin(t), jobOf(f, func(*graph.KafkaSource) {})
	first, second := sealedOn(t, f, "c/j/z/0/1/0", "a"), sealedOn(t, f, "c/j/z/0/1/1", "b")
	for range 2 { // a repeat is fine
		if refused, err := a.Commit(testContext(t), job, first); refused || err != nil {
			t.Fatal(refused, err)
		}
	}
	if got := valuesOf(consume(t, f, "out", 1)); !cmp.Equal(got, []string{"a"}) {
		t.Errorf("visible: %q", got)
	}
	if err := a.Fence(testContext(t), job, "z", second.Cluster, second.TransactionalID); err != nil {
		t.Fatal(err)
	}
	refusedOn := func(tx *manifest.Transaction, code int16) {
		t.Helper()
		refused, err := a.Commit(testContext(t), job, tx)
		if !refused || !wire.HasCode(err, code) || !strings.Contains(err.Error(), tx.Key().String()) || !strings.Contains(err.Error(), "sink z on 127.0.0.1") {
			t.Errorf("%s: refused %t, error %v, want code %d", tx.Key(), refused, err, code)
		}
	}
	refusedOn(second, wire.CodeProducerFenced)
	refusedOn(&manifest.Transaction{Sink: "z", Cluster: first.Cluster, TransactionalID: "c/j/z/0/1/9", ProducerID: 999}, wire.CodeInvalidProducerIDMapping)
	sealedOn(t, f, "c/j/z/0/1/1", "c")
	second.ProducerEpoch += 2
	if refused, err := a.Commit(testContext(t), job, second); refused || err != nil {
		t.Fatal(refused, err)
	}
	if got := valuesOf(consume(t, f, "out", 2)); !cmp.Equal(got, []string{"a", "c"}) {
		t.Errorf("visible: %q", got)
	}
}

// TestCommitVerdicts: four answers mean that the transaction is lost, all others that nobody knows yet.
func TestCommitVerdicts(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"))
	a, job := newAdmin(t), jobOf(f, func(*graph.KafkaSource) {})
	tx := sealedOn(t, f, "c/j/z/0/1/0", "a")
	verdicts := map[*kerr.Error]bool{kerr.ProducerFenced: true, kerr.InvalidProducerEpoch: true, kerr.InvalidProducerIDMapping: true, kerr.InvalidTxnState: true}
	var told atomic.Int32
	f.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if told.Load() == 0 {
			f.DropControl()
			return nil, nil, false
		}
		f.KeepControl()
		res := req.ResponseKind().(*kmsg.EndTxnResponse)
		res.ErrorCode = int16(told.Load())
		return res, nil, true
	})
	for code := int16(-1); code <= 120; code++ {
		answer := kerr.TypedErrorForCode(code)
		if answer == nil || answer.Code != code || code == 0 {
			continue
		}
		told.Store(int32(code))
		refused, err := a.Commit(testContext(t), job, tx)
		if err == nil || refused != verdicts[answer] || !wire.HasCode(err, code) {
			t.Errorf("%s [%d]: refused %t, error %v", answer.Message, code, refused, err)
		}
	}
	told.Store(0)
	f.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
	if refused, err := a.Commit(testContext(t), job, tx); refused || err == nil {
		t.Errorf("no answer: refused %t, error %v", refused, err)
	}
	if refused, err := a.Commit(testContext(t), job, tx); refused || err != nil {
		t.Errorf("refused %t, error %v", refused, err)
	}
}

// TestCommitAsksTheOthers: a broker that is cut off from the others takes itself for the coordinator and knows of no such
// transaction. What it says is no verdict: its successor has the transaction.
func TestCommitAsksTheOthers(t *testing.T) {
	t.Parallel()
	const id = "c/j/z/0/1/0"
	f := startFake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "in", "out"))
	tx := sealedOn(t, f, id, "a")
	truth := coordinatorNode(t, f, id)
	stale := (truth + 1) % 3
	var silent atomic.Bool // the other two
	f.ControlKey(int16(kmsg.FindCoordinator), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		switch node := f.CurrentNode(); {
		case node != stale && silent.Load():
			return nil, errors.New("cut"), true
		case node != stale:
			return nil, nil, false
		}
		host, port, err := net.SplitHostPort(f.ListenAddrs()[stale])
		if err != nil {
			return nil, err, true
		}
		res := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
		res.NodeID, res.Host = stale, host
		n, err := strconv.ParseInt(port, 10, 32)
		res.Port = int32(n)
		return res, err, true
	})
	f.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		if f.CurrentNode() != stale {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.EndTxnResponse)
		res.ErrorCode = kerr.InvalidTxnState.Code
		return res, nil, true
	})
	a := newAdmin(t)
	job := jobOf(f, func(*graph.KafkaSource) {})
	job.Sinks[0].Kafka.Properties[propBootstrap] = f.ListenAddrs()[stale]
	tx.Cluster = f.ListenAddrs()[stale]
	silent.Store(true)
	if refused, err := a.Commit(testContext(t), job, tx); refused || !wire.HasCode(err, wire.CodeInvalidTxnState) || !strings.Contains(err.Error(), "only 1 of 3 brokers say who coordinates "+id) {
		t.Errorf("nobody else answers: refused %t, error %v", refused, err)
	}
	silent.Store(false)
	if refused, err := a.Commit(testContext(t), job, tx); refused || err != nil {
		t.Errorf("refused %t, error %v", refused, err)
	}
	if got := valuesOf(consume(t, f, "out", 1)); !cmp.Equal(got, []string{"a"}) {
		t.Errorf("visible: %q", got)
	}
	lost := *tx
	lost.ProducerEpoch += 7
	if refused, err := a.Commit(testContext(t), job, &lost); !refused || err == nil {
		t.Errorf("all refuse it: refused %t, error %v", refused, err)
	}
}

// coordinatorNode is the broker that has a transactional id.
func coordinatorNode(t *testing.T, f *kfake.Cluster, id string) int32 {
	t.Helper()
	cl, err := wire.Open(wire.Config{Bootstrap: f.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	node, err := cl.FindTransactionCoordinator(testContext(t), id)
	if err := errors.Join(err, cl.Close()); err != nil {
		t.Fatal(err)
	}
	return node
}

// TestCommitRemovedSink: what the manifest records is committed, whatever the job's graph is now.
func TestCommitRemovedSink(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"))
	tx := sealedOn(t, f, "c/j/z/0/1/0", "a")
	if refused, err := newAdmin(t).Commit(testContext(t), &graph.Job{}, tx); refused || err != nil {
		t.Fatal(refused, err)
	}
	if got := valuesOf(consume(t, f, "out", 1)); !cmp.Equal(got, []string{"a"}) {
		t.Errorf("visible: %q", got)
	}
}

func TestSinkConnection(t *testing.T) {
	t.Parallel()
	with := func(servers, client string) map[string]string {
		return map[string]string{propBootstrap: servers, propClientID: client}
	}
	source := func(servers, client string) graph.Source {
		p := with(servers, client)
		p[propFetchMaxWait] = "50"
		return graph.Source{Name: "s", Kafka: &graph.KafkaSource{Properties: p}}
	}
	sink := func(name, servers, client string) graph.Sink {
		return graph.Sink{Name: name, Kafka: &graph.KafkaSink{Properties: with(servers, client)}}
	}
	print := graph.Sink{Name: "z", Print: &graph.PrintSink{}}
	tests := []struct {
		name string
		job  graph.Job
		want map[string]string
	}{
		{"its own", graph.Job{Sources: []graph.Source{source("a:1,b:2", "source")}, Sinks: []graph.Sink{sink("z", " a:1, b:2", "own"), sink("y", "a:1,b:2", "other")}}, with(" a:1, b:2", "own")},
		{"another sink", graph.Job{Sources: []graph.Source{source("a:1,b:2", "source")}, Sinks: []graph.Sink{print, sink("y", "a:1,b:2", "other")}}, with("a:1,b:2", "other")},
		{"the sink went to another cluster", graph.Job{Sinks: []graph.Sink{sink("y", "a:1,b:2", "other"), sink("z", "c:3", "own")}}, with("a:1,b:2", "other")},
		{"a source", graph.Job{Sources: []graph.Source{source("a:1,b:2", "source"), {Name: "x"}}, Sinks: []graph.Sink{sink("z", "b:2,a:1", "own")}}, with("a:1,b:2", "source")},
		{"nothing", graph.Job{Sources: []graph.Source{source("c:3", "source")}}, map[string]string{propBootstrap: "a:1,b:2"}},
	}
	for _, test := range tests {
		cfg, err := sinkConnection(&test.job, "z", "a:1,b:2")
		if err != nil || !maps.Equal(cfg.connection, test.want) {
			t.Errorf("%s: error %v, connection %v, want %v", test.name, err, cfg.connection, test.want)
		}
	}
}

// TestFence: what is open under an id is aborted, so that readers go on; errors name the id.
func TestFence(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"))
	a, job := newAdmin(t), jobOf(f, func(*graph.KafkaSource) {})
	hung, after := sealedOn(t, f, "c/j/z/0/1/0", "a"), sealedOn(t, f, "c/j/z/0/1/1", "b")
	for _, answer := range []*kerr.Error{kerr.TransactionalIDAuthorizationFailed, kerr.ConcurrentTransactions} {
		f.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
			res := req.ResponseKind().(*kmsg.InitProducerIDResponse)
			res.ErrorCode = answer.Code
			return res, nil, true
		})
		err := a.Fence(testContext(t), job, "z", hung.Cluster, hung.TransactionalID)
		if err == nil || !strings.Contains(err.Error(), "fence c/j/z/0/1/0 of sink z on 127.0.0.1") || !strings.Contains(err.Error(), answer.Message) {
			t.Errorf("error %v", err)
		}
	}
	f.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
	if err := a.Fence(testContext(t), job, "z", hung.Cluster, hung.TransactionalID); err == nil {
		t.Error("no answer is no error")
	}
	if refused, err := a.Commit(testContext(t), job, after); refused || err != nil {
		t.Fatal(refused, err)
	}
	if err := a.Fence(testContext(t), job, "z", hung.Cluster, hung.TransactionalID); err != nil {
		t.Fatal(err)
	}
	if got := valuesOf(consume(t, f, "out", 1)); !cmp.Equal(got, []string{"b"}) {
		t.Errorf("visible: %q", got)
	}
	err := a.Fence(testContext(t), &graph.Job{}, "z", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "c/j/z/0/1/0")
	if err == nil || !strings.Contains(err.Error(), "c/j/z/0/1/0") {
		t.Errorf("error %v", err)
	}
}
