package wire

import (
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

// fetched is an answer in words.
func fetched(t *testing.T, res *FetchResponse) []string {
	t.Helper()
	defer res.Release()
	var out []string
	for i := range res.Partitions {
		p := &res.Partitions[i]
		line := fmt.Sprintf("%s/%d from %d: end %d stable %d start %d preferred %d aborted %v error %v;", p.Topic, p.Partition, p.Offset, p.HighWatermark, p.LastStable, p.LogStart, p.PreferredReplica, p.Aborted, p.Err != nil)
		for {
			b, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			if b == nil {
				break
			}
			line += fmt.Sprintf(" %d-%d", b.BaseOffset, b.LastOffset())
			b.Release()
		}
		out = append(out, line)
	}
	return out
}

// transact writes three transactions to two partitions of topics; the second one is aborted.
func transact(t *testing.T, f *kfake.Cluster, topics ...string) {
	t.Helper()
	ctx := testContext(t)
	txn := franz(t, f, kgo.TransactionalID("x"))
	for n, commit := range []bool{true, false, true} {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for _, topic := range topics {
			for p := range int32(2) {
				if err := txn.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: p, Value: fmt.Append(nil, n)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := txn.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFetchByID: the same comes out whether topics are named or given by their ids, and a broker that gets ids reads
// no other topic of the name.
func TestFetchByID(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a", "b", "c"))
	var versions atomic.Int64 // of the last fetch of ours
	f.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		versions.Store(int64(r.GetVersion()))
		return nil, nil, false
	})
	cl, ctx := openCluster(t, f), testContext(t)
	transact(t, f, "a", "b")
	ids, err := cl.TopicIDs(ctx, []string{"a", "b", "c"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(withIDs bool) []string {
		req := &FetchRequest{Isolation: ReadCommitted, MaxWait: 50 * time.Millisecond}
		for _, tp := range []TopicPartition{{"b", 1}, {"a", 0}, {"c", 1}, {"b", 0}} {
			p := FetchPartition{Topic: tp.Topic, Partition: tp.Partition, LeaderEpoch: -1}
			if withIDs {
				p.TopicID = ids[tp.Topic]
			}
			req.Partitions = append(req.Partitions, p)
		}
		res, err := cl.Fetch(ctx, 0, req)
		if err != nil {
			t.Fatal(err)
		}
		return fetched(t, res)
	}
	byName := ask(false)
	if v := versions.Load(); v != 11 {
		t.Errorf("v%d without ids", v)
	}
	byID := ask(true)
	if v := versions.Load(); v != fetchByIDVersion {
		t.Errorf("v%d with ids", v)
	}
	if d := cmp.Diff(byName, byID); d != "" || len(byID) != 4 || !strings.Contains(byID[0], "aborted [{") {
		t.Errorf("by name and by id: %s\n%q", d, byID)
	}
	admin := kadm.NewClient(franz(t, f))
	if _, err := admin.DeleteTopics(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(ctx, 2, 1, nil, "b"); err != nil {
		t.Fatal(err)
	}
	res, err := cl.Fetch(ctx, 0, &FetchRequest{MaxWait: 10 * time.Millisecond, Partitions: []FetchPartition{{Topic: "b", TopicID: ids["b"], LeaderEpoch: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	if err := res.Partitions[0].Err; !HasCode(err, CodeUnknownTopicID) || Classify(err) != ClassRefresh || res.Partitions[0].Topic != "b" {
		t.Errorf("after it was created again: %v", err)
	}
}

// TestFetchByIDIsNotForAll: without the id of each topic, or from a broker that is too old, names it is.
func TestFetchByIDIsNotForAll(t *testing.T) {
	for name, opts := range map[string][]kfake.Opt{"an id is unknown": nil, "the broker is old": {kfake.MaxVersions(kversion.V2_8_0())}} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, append(opts, kfake.SeedTopics(1, "a", "b"))...)
			cl, ctx := openCluster(t, f), testContext(t)
			ids, err := cl.TopicIDs(ctx, []string{"a", "b"})
			if err != nil || ids["a"] == ([16]byte{}) {
				t.Fatal(ids, err)
			}
			if opts == nil {
				ids["b"] = [16]byte{}
			}
			for range 2 {
				res, err := cl.Fetch(ctx, 0, &FetchRequest{MaxWait: time.Millisecond, Partitions: []FetchPartition{
					{Topic: "a", TopicID: ids["a"], LeaderEpoch: -1}, {Topic: "b", TopicID: ids["b"], LeaderEpoch: -1}}})
				if err != nil || len(res.Partitions) != 2 || res.Partitions[0].Err != nil || res.Partitions[1].Err != nil {
					t.Fatalf("%+v, %v", res, err)
				}
				res.Release()
			}
		})
	}
}
