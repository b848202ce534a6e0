package kafka

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// idleSink takes records without a broker; drain empties it.
func idleSink(t testing.TB, k *graph.KafkaSink, partitions int) *Sink {
	t.Helper()
	k.Properties = map[string]string{propBootstrap: "a:1", propBufferMemory: "1073741824"}
	cfg := SinkConfig{Kafka: k, Connections: NewConnections(nil)}
	if k.Guarantee == graph.ExactlyOnce {
		cfg.Transactions = &operator.TransactionContext{Prefix: idPrefix, Owned: 1, Cap: 1, Level: func(operator.TransactionLevel) {}, Lease: func() error { return nil }}
	}
	s, err := NewSink(cfg)
	if err != nil {
		t.Fatal(err)
	}
	found := &wire.Topic{Name: "out"}
	for i := range partitions {
		found.Partitions = append(found.Partitions, wire.Partition{ID: int32(i)})
	}
	s.topics["out"] = s.newTopic(found)
	s.grow(s.topics["out"], found)
	s.producer = &wire.Producer{ID: 1}
	if s.transactions != nil {
		s.transactions.pool.Next(time.Now())
		s.transactions.pool.Initialised(0, 1, 1)
	}
	close(s.ready)
	return s
}

func drain(s *Sink) (batches, records int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.topics["out"].targets {
		s.closeOpen(t)
		for len(t.queue) > 0 {
			b := t.queue[0]
			batches++
			records += b.count
			s.delivered(t, b, -1)
		}
	}
	return batches, records
}

// TestSinkWriteAllocates: nothing per record, whatever the partitioner.
func TestSinkWriteAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var records []*kgo.Record
	for i := range 10_000 {
		records = append(records, &kgo.Record{Topic: "in", Partition: int32(i % 4), Key: fmt.Appendf(nil, "key %d", i%100), Value: make([]byte, 100)})
	}
	b := batchOf(records...)
	for i, p := range []graph.PartitionerMode{graph.ByKey, graph.RoundRobin, graph.Fixed, graph.Preserve, graph.Preserve} {
		s := idleSink(t, &graph.KafkaSink{Topic: "out", Guarantee: []graph.Guarantee{graph.AtLeastOnce, graph.ExactlyOnce}[i/4], Partitioner: p}, 4)
		n := testing.AllocsPerRun(20, func() {
			if err := s.Write(context.Background(), b); err != nil {
				t.Fatal(err)
			}
			if _, n := drain(s); n != len(records) {
				t.Fatalf("%d records", n)
			}
		})
		if n > 20 {
			t.Errorf("%s: %.0f allocations for %d records", p, n, len(records))
		}
	}
}

// TestPassThroughAllocates goes through everything, the fake broker included, whose batches are large.
func TestPassThroughAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const rounds, size = 40, 5000
	f := startFake(t, kfake.SeedTopics(2, "in", "out"))
	cl := franz(t, f, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(1<<20))
	at, _, err := newAdmin(t).StartPositions(testContext(t), jobOf(f, func(*graph.KafkaSource) {})) // with topic ids
	if err != nil {
		t.Fatal(err)
	}
	at[0].Stop, at[1].Stop = rounds/2*size, rounds/2*size
	value := make([]byte, 100)
	for i := range rounds {
		var records []*kgo.Record
		for range size {
			records = append(records, &kgo.Record{Topic: "in", Partition: int32(i % 2), Value: value, Timestamp: time.UnixMilli(1)})
		}
		produce(t, cl, records...)
	}
	for _, test := range []struct {
		name  string
		mode  graph.PartitionerMode
		open  bool
		exact bool
	}{{"passed on", graph.Preserve, false, false}, {"opened", graph.Preserve, true, false}, {"by key", graph.ByKey, true, false}, {"passed on in transactions", graph.Preserve, false, true}, {"opened in transactions", graph.Preserve, true, true}} {
		k := &graph.KafkaSink{Topic: "out", Partitioner: test.mode, Properties: forSink(f)}
		var w *writing
		if test.exact {
			w = startTransactional(t, f, k).writing
		} else {
			w = startSink(t, k)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := startSource(t, properties(f), at...)
		records := 0
		for records < rounds*size {
			b := <-r.source.Batches()
			if test.open {
				if err := b.Batch.Open(); err != nil {
					t.Fatal(err)
				}
			}
			records += b.Batch.Len()
			w.write(b.Batch)
			b.Release()
		}
		w.seal(1)
		<-w.sink.Sealed()
		runtime.ReadMemStats(&after)
		per := float64(after.Mallocs-before.Mallocs) / float64(records)
		t.Logf("%s: %.4f allocations per record", test.name, per)
		if per > 0.05 {
			t.Errorf("%s: %.3f allocations per record", test.name, per)
		}
		w.stop()
		r.stop()
	}
}

// BenchmarkSinkWrite is the cost of a record from an opened batch into its partition's batch.
func BenchmarkSinkWrite(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, p := range []graph.PartitionerMode{graph.ByKey, graph.Preserve} {
			b.Run(fmt.Sprintf("%s-%d", p, size), func(b *testing.B) {
				var records []*kgo.Record
				for i := range 1000 {
					records = append(records, &kgo.Record{Topic: "in", Partition: int32(i % 4), Key: fmt.Appendf(nil, "key %d", i%100), Value: make([]byte, size)})
				}
				batch := batchOf(records...)
				s := idleSink(b, &graph.KafkaSink{Topic: "out", Guarantee: graph.AtLeastOnce, Partitioner: p}, 4)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for range b.N/1000 + 1 {
					if err := s.Write(context.Background(), batch); err != nil {
						b.Fatal(err)
					}
					drain(s)
				}
			})
		}
	}
}
