package wire

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testContext ends with the test, at the latest after 20 s.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func startFake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	f, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func openCluster(t testing.TB, f *kfake.Cluster, change ...func(*Config)) *Cluster {
	t.Helper()
	cfg := Config{Bootstrap: f.ListenAddrs()}
	for _, c := range change {
		c(&cfg)
	}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func franz(t testing.TB, f *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append([]kgo.Opt{kgo.SeedBrokers(f.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.FetchMaxWait(100 * time.Millisecond)}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// leaderOf looks the leader up, failing the test.
func leaderOf(t testing.TB, c *Cluster, topic string, partition int32) int32 {
	t.Helper()
	l, err := c.Leader(testContext(t), topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	return l.Broker
}

// shown is a record as both clients show it.
type shown struct {
	Offset    int64
	Timestamp int64
	Key       []byte
	Value     []byte
	Headers   []RecordHeader
}

// fetchAll reads a partition from an offset to the high watermark (or the last stable offset) and
// checks that the position only moves forward.
func fetchAll(t testing.TB, c *Cluster, topic string, partition int32, from int64, isolation Isolation) []shown {
	t.Helper()
	var out []shown
	var filter AbortedFilter
	for next := from; ; {
		res, err := c.Fetch(testContext(t), leaderOf(t, c, topic, partition), &FetchRequest{
			Isolation: isolation, MaxWait: 100 * time.Millisecond, MaxBytes: 1 << 20,
			Partitions: []FetchPartition{{Topic: topic, Partition: partition, Offset: next, LeaderEpoch: -1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		p := &res.Partitions[0]
		if p.Err != nil {
			t.Fatal(p.Err)
		}
		filter.Reset(p.Aborted, isolation)
		promised := p.NextOffset()
		for {
			b, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			if b == nil {
				break
			}
			deliver, err := filter.Deliver(b)
			if err != nil {
				t.Fatal(err)
			}
			if deliver {
				if err := b.Limit(from, -1); err != nil {
					t.Fatal(err)
				}
				out = append(out, shownRecords(t, b)...)
			}
			if b.Next() <= next {
				t.Fatalf("batch at %d ends at %d, but %d was next", b.BaseOffset, b.Next(), next)
			}
			next = b.Next()
			b.Release()
		}
		if promised != next {
			t.Fatalf("NextOffset says %d, the batches end at %d", promised, next)
		}
		end := p.HighWatermark
		if isolation == ReadCommitted {
			end = p.LastStable
		}
		res.Release()
		if next >= end {
			return out
		}
	}
}

func shownRecords(t testing.TB, r *RawBatch) []shown {
	t.Helper()
	b := r.Batch()
	if err := b.Open(); err != nil {
		t.Fatal(err)
	}
	var out []shown
	for i := range b.Records {
		rec := &b.Records[i]
		p := shown{Offset: rec.Offset, Timestamp: rec.Timestamp, Key: clone(b.Bytes(rec.Key)), Value: clone(b.Bytes(rec.Value))}
		hs, err := Headers(b.Bytes(rec.Headers))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hs {
			p.Headers = append(p.Headers, RecordHeader{h.Key, clone(h.Value)})
		}
		if o := b.Origins[rec.Origin]; o.Topic != r.Topic || o.Partition != r.Partition {
			t.Fatalf("origin %v of a record of %s/%d", o, r.Topic, r.Partition)
		}
		out = append(out, p)
	}
	return out
}

// clone copies and keeps nil apart from empty.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// consume reads n records of a partition with franz-go.
func consume(t testing.TB, cl *kgo.Client, n int) []shown {
	t.Helper()
	var out []shown
	for ctx := testContext(t); len(out) < n; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { out = append(out, shownOf(r)) })
	}
	return out
}

func shownOf(r *kgo.Record) shown {
	p := shown{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		p.Headers = append(p.Headers, RecordHeader{h.Key, h.Value})
	}
	return p
}
