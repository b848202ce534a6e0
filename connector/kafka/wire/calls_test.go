package wire

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// holdProduce keeps a Produce request unanswered until release is closed.
func holdProduce(entered chan<- struct{}, release <-chan struct{}) func(kmsg.Request) (kmsg.Response, error, bool) {
	return func(r kmsg.Request) (kmsg.Response, error, bool) {
		if r.Key() != int16(kmsg.Produce) {
			return nil, nil, false
		}
		entered <- struct{}{}
		<-release
		return nil, errors.New("too late"), true
	}
}

func TestMetadata(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(3), kfake.SeedTopics(4, "b"), kfake.SeedTopics(1, "a"))
	cl := openCluster(t, f)
	ctx := testContext(t)
	m, err := cl.Metadata(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Brokers) != 3 || len(m.Topics) != 2 || m.Topics[0].Name != "a" || len(m.Topics[1].Partitions) != 4 {
		t.Fatalf("%+v", m)
	}
	for p := range int32(4) {
		l, err := cl.Leader(ctx, "b", p)
		if err != nil || l.Broker != f.LeaderFor("b", p) || l.Epoch < 0 {
			t.Errorf("leader of b/%d: %v, %v", p, l, err)
		}
	}
	if m, err = cl.Metadata(ctx, []string{}); err != nil || len(m.Topics) != 0 || len(m.Brokers) != 3 {
		t.Fatalf("no topics: %+v, %v", m, err)
	}
	missing, err := cl.MissingTopics(ctx, []string{"a", "nope", "b"})
	if err != nil || cmp.Diff([]string{"nope"}, missing) != "" {
		t.Errorf("missing %v, %v", missing, err)
	}
	for topic, partition := range map[string]int32{"nope": 0, "b": 4} {
		if _, err := cl.Leader(ctx, topic, partition); !HasCode(err, CodeUnknownTopicOrPartition) || Classify(err) != ClassRefresh {
			t.Errorf("%s/%d: %v", topic, partition, err)
		}
	}
	if f.TopicInfo("nope") != nil {
		t.Error("asking created the topic")
	}
}

// TestLeaderMoves follows a leader after NOT_LEADER_OR_FOLLOWER.
func TestLeaderMoves(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "t"))
	cl := openCluster(t, f, func(c *Config) { c.MetadataTTL = time.Hour })
	old := leaderOf(t, cl, "t", 0)
	if err := f.MoveTopicPartition("t", 0, 1-old); err != nil {
		t.Fatal(err)
	}
	fetch := func(at int32) error {
		res, err := cl.Fetch(testContext(t), at, &FetchRequest{MaxWait: 10 * time.Millisecond, Partitions: []FetchPartition{{Topic: "t", LeaderEpoch: -1}}})
		if err != nil {
			t.Fatal(err)
		}
		return res.Partitions[0].Err
	}
	err := fetch(old)
	var answer *Error
	if !errors.As(err, &answer) || answer.Code != CodeNotLeader || answer.Address == "" || Classify(err) != ClassRefresh {
		t.Fatalf("%+v", err)
	}
	cl.Forget("t")
	if now := leaderOf(t, cl, "t", 0); now != 1-old || fetch(now) != nil {
		t.Fatalf("leader %d", now)
	}
}

func TestManyPartitionsInOneRequest(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(3, "a", "b"))
	cl := openCluster(t, f)
	leader := leaderOf(t, cl, "a", 0)
	var builders [6]Builder
	var req ProduceRequest
	req.Acks = 1
	var fetch FetchRequest
	for i := range builders { // topics alternate: the request has to sort them
		topic, partition := string("ab"[i%2]), int32(i/2)
		builders[i].AppendRecord(1, nil, fmt.Appendf(nil, "%s/%d", topic, partition), nil)
		data, err := builders[i].Finish(NoProducer, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Batches = append(req.Batches, ProduceBatch{Topic: topic, Partition: partition, Data: data})
		fetch.Partitions = append(fetch.Partitions, FetchPartition{Topic: topic, Partition: partition, LeaderEpoch: -1})
	}
	req.Batches = append(req.Batches, ProduceBatch{Topic: "nope", Data: req.Batches[0].Data})
	results, err := cl.Produce(testContext(t), leader, &req)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results[:6] {
		if r.Err != nil || r.BaseOffset != 0 {
			t.Errorf("batch %d: %+v", i, r)
		}
	}
	if !HasCode(results[6].Err, CodeUnknownTopicOrPartition) || !strings.HasPrefix(results[6].Err.Error(), "Produce nope/0 at 127.0.0.1:") {
		t.Errorf("%v", results[6].Err)
	}
	res, err := cl.Fetch(testContext(t), leader, &fetch)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	got := map[string]bool{}
	for i := range res.Partitions {
		p := &res.Partitions[i]
		b, err := p.Next()
		if err != nil || b == nil {
			t.Fatal(err, b)
		}
		if v := string(shownRecords(t, b)[0].Value); v != fmt.Sprintf("%s/%d", p.Topic, p.Partition) {
			t.Errorf("%s in %s/%d", v, p.Topic, p.Partition)
		}
		got[b.Topic+fmt.Sprint(b.Partition)] = true
		b.Release()
	}
	if len(got) != 6 {
		t.Errorf("%v", got)
	}
	if _, err := cl.Produce(testContext(t), leader, &ProduceRequest{Batches: []ProduceBatch{req.Batches[0], req.Batches[0]}}); err == nil || !strings.Contains(err.Error(), "two batches for a/0") {
		t.Error(err)
	}
}

func TestProduceWithoutAcks(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	cl := openCluster(t, f)
	var w Builder
	w.AppendRecord(1, nil, []byte("v"), nil)
	data, err := w.Finish(NoProducer, nil)
	if err != nil {
		t.Fatal(err)
	}
	leader := leaderOf(t, cl, "t", 0)
	for range 3 { // the connection stays usable
		if _, err := cl.Produce(testContext(t), leader, &ProduceRequest{Acks: 0, Batches: []ProduceBatch{{Topic: "t", Partition: 0, Data: data}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cl.Produce(testContext(t), leader, &ProduceRequest{Acks: 1, Batches: []ProduceBatch{{Topic: "t", Partition: 0, Data: data}}}); err != nil {
		t.Fatal(err)
	}
	for len(fetchAll(t, cl, "t", 0, 0, ReadCommitted)) != 4 {
		if testContext(t).Err() != nil {
			t.Fatal("not all arrived")
		}
	}
}

func TestSequences(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	cl := openCluster(t, f)
	ctx := testContext(t)
	p, err := cl.InitProducerID(ctx, "", 0)
	if err != nil || p.ID < 0 || p.Transactional {
		t.Fatal(p, err)
	}
	var w Builder
	w.AppendRecord(1, nil, []byte("v"), nil)
	send := func() ProduceResult {
		data, err := w.Finish(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := cl.Produce(ctx, leaderOf(t, cl, "t", 0), &ProduceRequest{Acks: -1, Batches: []ProduceBatch{{Topic: "t", Partition: 0, Data: data}}})
		if err != nil {
			t.Fatal(err)
		}
		return res[0]
	}
	if r := send(); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := send(); r.Err != nil && !HasCode(r.Err, CodeDuplicateSequence) {
		t.Fatal(r.Err)
	}
	p.Sequence = 5
	if r := send(); !HasCode(r.Err, CodeOutOfOrderSequence) || Classify(r.Err) != ClassFatal {
		t.Fatal(r.Err)
	}
	if got := fetchAll(t, cl, "t", 0, 0, ReadUncommitted); len(got) != 1 {
		t.Fatalf("%d records", len(got))
	}
	if NextSequence(1<<31-1, 1) != 0 || NextSequence(7, 3) != 10 {
		t.Error("sequences do not wrap as Kafka's do")
	}
}

func TestOffsets(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(3), kfake.SeedTopics(3, "t"))
	ctx := testContext(t)
	w := franz(t, f)
	for i := range 10 {
		r := &kgo.Record{Topic: "t", Partition: 1, Value: []byte("v"), Timestamp: time.UnixMilli(int64(1000 * (i + 1)))}
		if err := w.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cl := openCluster(t, f)
	for ts, want := range map[int64]int64{Earliest: 0, Latest: 10, 1500: 1, 3000: 2, 99_000: -1} {
		got, err := cl.ListOffsets(ctx, []OffsetQuery{{"t", 0, Latest}, {"t", 1, ts}, {"t", 2, Earliest}, {"nope", 0, ts}}, ReadCommitted)
		if err != nil {
			t.Fatal(err)
		}
		if got[0].Offset != 0 || got[1].Offset != want || got[1].Err != nil || got[2].Offset != 0 || !HasCode(got[3].Err, CodeUnknownTopicOrPartition) {
			t.Errorf("timestamp %d: %+v", ts, got)
		}
	}
	parts := []TopicPartition{{"t", 0}, {"t", 1}}
	got, err := cl.OffsetFetch(ctx, "g", parts)
	if err != nil || got[0].Offset != -1 || got[1].Offset != -1 {
		t.Fatal(got, err)
	}
	if err := cl.OffsetCommit(ctx, "g", []CommittedOffset{{Topic: "t", Partition: 1, Offset: 7, LeaderEpoch: 0, Metadata: "sluice:job:3"}}); err != nil {
		t.Fatal(err)
	}
	if got, err = cl.OffsetFetch(ctx, "g", parts); err != nil || got[0].Offset != -1 || got[1].Offset != 7 || got[1].Metadata != "sluice:job:3" {
		t.Fatal(got, err)
	}
	theirs, err := kadm.NewClient(w).FetchOffsets(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := theirs.Lookup("t", 1); !ok || o.At != 7 || o.Metadata != "sluice:job:3" {
		t.Fatalf("another client sees %+v", o)
	}
}

// TestCoordinatorMoves commits again after NOT_COORDINATOR: the cache forgets by itself.
func TestCoordinatorMoves(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "t"))
	cl := openCluster(t, f)
	ctx := testContext(t)
	first, err := cl.FindGroupCoordinator(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	for f.CoordinatorFor("g") == first {
		f.RehashCoordinators()
	}
	offsets := []CommittedOffset{{Topic: "t", Offset: 1, LeaderEpoch: -1}}
	if err := cl.OffsetCommit(ctx, "g", offsets); Classify(err) != ClassCoordinator {
		t.Fatalf("%v", err)
	}
	if err := cl.OffsetCommit(ctx, "g", offsets); err != nil {
		t.Fatal(err)
	}
}

func TestTransactions(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "t"))
	cl := openCluster(t, f)
	ctx := testContext(t)
	leader := map[int32]int32{0: leaderOf(t, cl, "t", 0), 1: leaderOf(t, cl, "t", 1)}
	var want []string
	for n, commit := range []bool{true, false, true, false} {
		id := fmt.Sprintf("cluster/job/sink/0/1/%d", n)
		p, err := cl.InitProducerID(ctx, id, time.Minute)
		if err != nil || !p.Transactional {
			t.Fatal(p, err)
		}
		if err := cl.AddPartitionsToTxn(ctx, id, p, []TopicPartition{{"t", 0}, {"t", 1}}); err != nil {
			t.Fatal(err)
		}
		for seq := range int32(3) {
			p.Sequence = seq
			for part, broker := range leader {
				var w Builder
				v := fmt.Sprintf("%d-%d", n, seq)
				w.AppendRecord(1, nil, []byte(v), nil)
				data, err := w.Finish(p, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := cl.Produce(ctx, broker, &ProduceRequest{TransactionalID: id, Acks: -1, Batches: []ProduceBatch{{Topic: "t", Partition: part, Data: data}}})
				if err != nil || res[0].Err != nil {
					t.Fatal(err, res)
				}
				if commit && part == 0 {
					want = append(want, v)
				}
			}
		}
		// the job manager ends what another process began
		if err := openCluster(t, f).EndTxn(ctx, id, p, commit); err != nil {
			t.Fatal(err)
		}
	}
	for part := range int32(2) {
		var got []string
		for _, r := range fetchAll(t, cl, "t", part, 0, ReadCommitted) {
			got = append(got, string(r.Value))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("t/%d: %s", part, d)
		}
		if all := fetchAll(t, cl, "t", part, 0, ReadUncommitted); len(all) != 12 {
			t.Errorf("%d records uncommitted, want 12", len(all))
		}
	}
	// from the middle of the aborted transaction: its entry lies before
	if got := fetchAll(t, cl, "t", 0, 5, ReadCommitted); len(got) != 3 {
		t.Errorf("%d records from the middle of an aborted transaction, want 3", len(got))
	}
	_, err := cl.InitProducerID(ctx, "x", time.Hour*24)
	if !HasCode(err, CodeInvalidTransactionTimeout) {
		t.Errorf("%v", err)
	}
	err = cl.EndTxn(ctx, "x", Producer{ID: 99, Epoch: 0}, true)
	if !HasCode(err, CodeInvalidProducerIDMapping) || Classify(err) != ClassFatal {
		t.Errorf("%v", err)
	}
}

func TestVersions(t *testing.T) {
	if err := openCluster(t, startFake(t)).CheckVersions(testContext(t)); err != nil {
		t.Fatal(err)
	}
	old := startFake(t, kfake.MaxVersions(kversion.V0_10_2()))
	err := openCluster(t, old).CheckVersions(testContext(t))
	if !HasCode(err, CodeUnsupportedVersion) || !strings.Contains(err.Error(), "InitProducerId (idempotent writing): the broker does not offer it") || !strings.Contains(err.Error(), old.ListenAddrs()[0]) {
		t.Errorf("%v", err)
	}
	if !strings.Contains(err.Error(), "with broker.version: 0.9.0 it is read and written at-least-once") {
		t.Errorf("%v: no way out for Kafka 0.10", err)
	}
	if !strings.Contains(err.Error(), "Fetch (reading): the broker offers v0 to v3, Sluice speaks v4 to v11") && !strings.Contains(err.Error(), "Fetch") {
		t.Errorf("%v", err)
	}
}

func TestBrokerConfig(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(2), kfake.BrokerConfigs(map[string]string{"transaction.max.timeout.ms": "5000"}))
	got, err := openCluster(t, f).BrokerConfig(testContext(t), 1, "transaction.max.timeout.ms")
	if err != nil || len(got) != 1 || got["transaction.max.timeout.ms"] != "5000" {
		t.Fatal(got, err)
	}
	if _, err := openCluster(t, f).BrokerConfig(testContext(t), 77, "transaction.max.timeout.ms"); !HasCode(err, CodeBrokerNotAvailable) {
		t.Fatal(err)
	}
}

func TestTopicConfig(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	got, err := openCluster(t, f).TopicConfig(testContext(t), "t", "max.message.bytes")
	if err != nil || got["max.message.bytes"] == "" {
		t.Fatal(got, err)
	}
}

func TestAuthorization(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "ann", "secret"), kfake.Superuser("PLAIN", "root", "secret"))
	cl := openCluster(t, f, func(c *Config) { c.SASL = SASL{"PLAIN", "ann", "secret"} })
	_, err := cl.MissingTopics(testContext(t), []string{"t"})
	if !HasCode(err, CodeTopicAuthorizationFailed) || Classify(err) != ClassFatal || !strings.Contains(err.Error(), "grant READ") {
		t.Fatal(err)
	}
	if _, err := cl.OffsetFetch(testContext(t), "g", []TopicPartition{{"t", 0}}); !HasCode(err, CodeGroupAuthorizationFailed) {
		t.Fatal(err)
	}
}

// TestRepeats sends what may be repeated again when the broker closes the connection, and nothing
// else: a second InitProducerId could abort a transaction.
func TestRepeats(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	cl := openCluster(t, f)
	leaderOf(t, cl, "t", 0)
	var asked atomic.Int32
	cutOnce := func(key kmsg.Key) {
		asked.Store(0)
		f.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			f.KeepControl()
			if asked.Add(1) == 1 {
				return nil, errors.New("cut the connection"), true
			}
			return nil, nil, false
		})
	}
	cutOnce(kmsg.ListOffsets)
	got, err := cl.ListOffsets(testContext(t), []OffsetQuery{{"t", 0, Latest}}, ReadCommitted)
	if err != nil || got[0].Err != nil || asked.Load() != 2 {
		t.Errorf("%v, %v, asked %d times", got, err, asked.Load())
	}
	cutOnce(kmsg.Fetch)
	res, err := cl.Fetch(testContext(t), leaderOf(t, cl, "t", 0), &FetchRequest{MaxWait: time.Millisecond, Partitions: []FetchPartition{{Topic: "t", LeaderEpoch: -1}}})
	if err != nil || asked.Load() != 2 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
	res.Release()
	cutOnce(kmsg.InitProducerID)
	_, err = cl.InitProducerID(testContext(t), "x", time.Minute)
	var call *CallError
	if !errors.As(err, &call) || !call.Sent || asked.Load() != 1 || Classify(err) != ClassRefresh {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
	cutOnce(kmsg.EndTxn)
	if err = cl.EndTxn(testContext(t), "x", Producer{}, true); !errors.As(err, &call) || !call.Sent || asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
}

func TestReconnects(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	cl := openCluster(t, f)
	leaderOf(t, cl, "t", 0)
	cl.dialer.mu.Lock()
	for c := range cl.dialer.live { // as a broker that closes idle connections
		c.Conn.Close()
	}
	cl.dialer.mu.Unlock()
	// closed here, the error is another one than the peer's: only what follows must work
	for range 5 {
		if _, err := cl.Metadata(testContext(t), nil); err == nil {
			return
		}
	}
	t.Fatal("no new connection")
}
