package kafka

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/operator"
)

var codecs = []struct {
	name  string
	franz kgo.CompressionCodec
}{
	{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()}, {"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()},
}

// awkward holds every shape of record that a topic may have.
func awkward(topic string, partition int32) []*kgo.Record {
	at := time.UnixMilli(1_700_000_000_000)
	out := []*kgo.Record{
		{Timestamp: at},
		{Key: []byte{}, Value: []byte{}, Timestamp: at},
		{Key: []byte("k"), Timestamp: at.Add(-time.Hour)},
		{Value: []byte("v"), Timestamp: at.Add(time.Hour)},
		{Key: []byte("h"), Value: []byte("v"), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "", Value: []byte{}}}},
		{Key: []byte("big"), Value: bytes.Repeat([]byte("sluice "), 20_000), Timestamp: at},
	}
	for i := range 100 {
		out = append(out, &kgo.Record{Key: fmt.Appendf(nil, "key-%d", i), Value: bytes.Repeat([]byte{byte(i)}, i), Timestamp: at.Add(time.Duration(i) * time.Millisecond)})
	}
	for _, r := range out {
		r.Topic, r.Partition = topic, partition
	}
	return out
}

func allFranz(records []*kgo.Record) []got {
	var out []got
	for _, r := range records {
		out = append(out, fromFranz(r))
	}
	return out
}

func diff(t testing.TB, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want -, got +\n%.4000s", d)
	}
}

func TestSourceDelivers(t *testing.T) {
	t.Parallel()
	for _, c := range codecs {
		t.Run(c.name, func(t *testing.T) {
			f := startFake(t, kfake.SeedTopics(1, "in"))
			want := awkward("in", 0)
			produce(t, franz(t, f, kgo.ProducerBatchCompression(c.franz)), want...)
			r := startSource(t, properties(f), position("in", 0, 0, -1))
			r.until("in", 0, int64(len(want)))
			diff(t, allFranz(want), r.records)
			if lag := r.source.Lag(); len(lag) != 1 || lag[0].Lag != 0 {
				t.Errorf("lag %v", lag)
			}
		})
	}
}

// TestSourceMiddleAndStop begins and ends in the middle of batches, at every place.
func TestSourceMiddleAndStop(t *testing.T) {
	t.Parallel()
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression()} {
		f := startFake(t, kfake.SeedTopics(1, "in"))
		cl := franz(t, f, kgo.ProducerBatchCompression(codec))
		var all []*kgo.Record
		for range 3 {
			batch := numbered("in", 0, 4)
			produce(t, cl, batch...)
			all = append(all, batch...)
		}
		for from := range int64(12) {
			for stop := from + 1; stop <= 12; stop += 3 {
				r := startSource(t, properties(f), position("in", 0, from, stop))
				r.until("in", 0, stop)
				diff(t, allFranz(all[from:stop]), r.records)
				if got := r.next[position("in", 0, 0, 0).Split]; got != stop {
					t.Errorf("from %d to %d ends at %d", from, stop, got)
				}
				if r.take(20 * time.Millisecond) {
					t.Errorf("from %d to %d: a batch came behind the stop", from, stop)
				}
				r.stop()
			}
		}
	}
}

// TestSourceTransactions: aborted records and markers are not delivered, and the position moves behind
// them.
func TestSourceTransactions(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	plain := franz(t, f)
	cl := franz(t, f, kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("in"))
	var want []got
	transaction := func(end kgo.TransactionEndTry) {
		records := numbered("in", 0, 5)
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, cl, records...)
		between := numbered("in", 0, 1)
		produce(t, plain, between...)
		if err := cl.EndTransaction(testContext(t), end); err != nil {
			t.Fatal(err)
		}
		if end == kgo.TryCommit {
			want = append(want, allFranz(records)...)
		}
		want = append(want, allFranz(between)...)
	}
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		transaction(end)
	}
	const end = 6 * 7 // 5 + 1 records and a marker each
	r := startSource(t, properties(f), position("in", 0, 0, end))
	r.until("in", 0, end)
	diff(t, want, r.records)
	waitFor(t, func() bool {
		b := r.source.budget
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.used == 0
	}, "bytes given back, those that were not delivered included")

	t.Run("read_uncommitted", func(t *testing.T) {
		r := startSource(t, properties(f, propIsolation, "read_uncommitted"), position("in", 0, 0, end))
		r.until("in", 0, end)
		if len(r.records) != 36 {
			t.Errorf("%d records, want all 36", len(r.records))
		}
	})
	t.Run("only aborted", func(t *testing.T) {
		r := startSource(t, properties(f), position("in", 0, 36, end))
		r.until("in", 0, end)
		diff(t, want[len(want)-1:], r.records)
	})
}

// TestSourceMergesSmallBatches: many small batches come as few.
func TestSourceMergesSmallBatches(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	cl := franz(t, f, kgo.ProducerBatchCompression(kgo.NoCompression()))
	var want []*kgo.Record
	for range 200 {
		batch := numbered("in", 0, 2)
		produce(t, cl, batch...)
		want = append(want, batch...)
	}
	r := startSource(t, properties(f), position("in", 0, 1, -1))
	r.until("in", 0, 400)
	diff(t, allFranz(want[1:]), r.records)
	if r.batches > 20 {
		t.Errorf("%d batches", r.batches)
	}
}

func TestSourceManyPartitionsAndLeaders(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.NumBrokers(3), kfake.SeedTopics(6, "a", "b"))
	cl := franz(t, f)
	want := map[string][]got{}
	r := startSource(t, properties(f, propFetchMaxBytes, "4096", propPartitionFetchBytes, "2048"), func() (all []positionOf) {
		for _, topic := range []string{"a", "b"} {
			for p := range int32(6) {
				records := numbered(topic, p, 500)
				for len(records) > 0 {
					produce(t, cl, records[:50]...)
					want[fmt.Sprint(topic, p)] = append(want[fmt.Sprint(topic, p)], allFranz(records[:50])...)
					records = records[50:]
				}
				all = append(all, position(topic, p, 0, 500))
			}
		}
		return all
	}()...)
	for _, topic := range []string{"a", "b"} {
		for p := range int32(6) {
			r.until(topic, p, 500)
		}
	}
	have := map[string][]got{}
	for _, g := range r.records {
		k := fmt.Sprint(g.Topic, g.Partition)
		have[k] = append(have[k], g)
	}
	diff(t, want, have)
}

// TestSourceNoStarvation: partitions behind a busy one are served, though every answer is full.
func TestSourceNoStarvation(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "a", "z"))
	cl := franz(t, f, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for range 60 {
		produce(t, cl, &kgo.Record{Topic: "a", Value: make([]byte, 900)})
	}
	produce(t, cl, numbered("z", 0, 1)...)
	r := startSource(t, properties(f, propFetchMaxBytes, "1024", propPartitionFetchBytes, "1024"), position("a", 0, 0, -1), position("z", 0, 0, -1))
	r.until("z", 0, 1)
	if at := r.next[position("a", 0, 0, 0).Split]; at > 20 {
		t.Errorf("a was at %d before z was served", at)
	}
}

// TestSourceBackpressure: a subtask that takes nothing holds the source within its bytes.
func TestSourceBackpressure(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	f := startFake(t, kfake.SeedTopics(4, "in"))
	cl := franz(t, f, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for p := range int32(4) {
		for range 20 {
			produce(t, cl, &kgo.Record{Topic: "in", Partition: p, Value: make([]byte, 100<<10)})
		}
	}
	src, err := NewSource(SourceConfig{Kafka: kafkaSource(properties(f)), Connections: newConnections(t), InFlightBytes: limit,
		Positions: []positionOf{position("in", 0, 0, 20), position("in", 1, 0, 20), position("in", 2, 0, 20), position("in", 3, 0, 20)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx) }()
	defer func() { cancel(); <-done }()
	used := func() int64 {
		src.budget.mu.Lock()
		defer src.budget.mu.Unlock()
		return src.budget.used
	}
	waitFor(t, func() bool { return used() > limit/2 }, "more than half of the bytes in flight")
	most := int64(0)
	var held []operator.SourceBatch
	for range 80 {
		most = max(most, used())
		b := <-src.out
		if held = append(held, b); len(held) > 3 {
			held[0].Release()
			held = held[1:]
		}
	}
	if most > limit+limit/2 {
		t.Errorf("%d bytes in flight, the limit is %d", most, limit)
	}
	for _, b := range held {
		b.Release()
	}
	waitFor(t, func() bool { return used() == 0 }, "bytes given back")
}

// TestSourceEndSplit: a split that the subtask has ended is not fetched any more and has no lag; the others go
// on.
func TestSourceEndSplit(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in"))
	client := franz(t, f)
	produce(t, client, numbered("in", 0, 10)...)
	produce(t, client, numbered("in", 1, 10)...)
	r := startSource(t, properties(f), position("in", 0, 0, -1), position("in", 1, 0, -1))
	r.until("in", 0, 10)
	r.until("in", 1, 10)
	r.source.EndSplit(position("in", 0, 0, -1).Split, 7)
	produce(t, client, numbered("in", 0, 10)...)
	for i := range 3 { // a request that was on its way may have seen the split
		produce(t, client, numbered("in", 1, 10)...)
		r.until("in", 1, int64(20+10*i))
	}
	before := r.next[position("in", 0, 0, -1).Split]
	produce(t, client, numbered("in", 0, 10)...)
	produce(t, client, numbered("in", 1, 10)...)
	r.until("in", 1, 50)
	if after := r.next[position("in", 0, 0, -1).Split]; after != before {
		t.Errorf("the ended split was read from %d to %d", before, after)
	}
	for _, lag := range r.source.Lag() {
		if lag.Split.Partition == 0 && (lag.Lag != 0 || lag.Next != 7) {
			t.Errorf("ended split: lag %+v", lag)
		}
	}
}

// TestLagOfSplitsAtTheirEnd: nobody fetches them, and yet it is known that nothing is left.
func TestLagOfSplitsAtTheirEnd(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in"))
	r := startSource(t, properties(f), position("in", 0, 0, 0), position("in", 1, 7, 5))
	for _, l := range r.source.Lag() {
		if l.Lag != 0 {
			t.Errorf("%+v, want a lag of 0", l)
		}
	}
}
