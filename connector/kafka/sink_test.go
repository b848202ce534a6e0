package kafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// writing is a sink under test.
type writing struct {
	t       testing.TB
	sink    *Sink
	reasons *reasons
	cancel  context.CancelFunc
	done    chan error
}

func startSink(t testing.TB, k *graph.KafkaSink, change ...func(*SinkConfig)) *writing {
	t.Helper()
	w := &writing{t: t, reasons: &reasons{}, done: make(chan error, 1)}
	if k.Guarantee == "" {
		k.Guarantee = graph.AtLeastOnce
	}
	if k.Partitioner == "" {
		k.Partitioner = graph.ByKey
	}
	cfg := SinkConfig{Kafka: k, Connections: newConnections(t), Status: w.reasons.set}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if w.sink, err = NewSink(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() { w.done <- w.sink.Run(ctx) }()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *writing) stop() error {
	w.cancel()
	err := <-w.done
	w.done <- err
	return err
}

func (w *writing) write(b *operator.Batch) {
	w.t.Helper()
	if err := w.sink.Write(testContext(w.t), b); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writing) seal(id ident.CheckpointID) {
	w.t.Helper()
	if err := w.sink.Seal(testContext(w.t), id); err != nil {
		w.t.Fatal(err)
	}
}

// sealed waits for the report of a checkpoint.
func (w *writing) sealed(id ident.CheckpointID) {
	w.t.Helper()
	select {
	case e := <-w.sink.Sealed():
		if e.Checkpoint != id || len(e.Transactions) > 0 {
			w.t.Fatalf("sealed %+v, want %d", e, id)
		}
	case err := <-w.done:
		w.done <- err
		w.t.Fatalf("the sink ended: %v", err)
	case <-time.After(20 * time.Second):
		w.t.Fatalf("checkpoint %d is not sealed; reasons %q", id, w.reasons.said)
	}
}

func (w *writing) failure() error {
	w.t.Helper()
	select {
	case err := <-w.done:
		w.done <- err
		return err
	case <-time.After(20 * time.Second):
		w.t.Fatalf("the sink did not fail; reasons %q", w.reasons.said)
	}
	return nil
}

// batchOf makes an opened batch of records, as an operator emits it.
func batchOf(records ...*kgo.Record) *operator.Batch {
	b := &operator.Batch{}
	for i, r := range records {
		rec := operator.Record{Key: b.Put(r.Key), Value: b.Put(r.Value), Headers: operator.Null, StreamKey: operator.Null, Timestamp: r.Timestamp.UnixMilli(), Offset: int64(i)}
		var headers []wire.RecordHeader
		for _, h := range r.Headers {
			headers = append(headers, wire.RecordHeader{Key: h.Key, Value: h.Value})
		}
		if len(headers) > 0 {
			rec.Headers = b.Put(wire.AppendHeaders(nil, headers))
		}
		rec.Origin = b.AddOrigin(operator.Origin{Topic: r.Topic, Partition: r.Partition})
		b.Records = append(b.Records, rec)
	}
	return b
}

// expected is what a reader sees of records that were written to one partition.
func expected(topic string, partition int32, records []*kgo.Record) []got {
	var out []got
	for i, r := range records {
		g := fromFranz(r)
		g.Topic, g.Partition, g.Offset = topic, partition, int64(i)
		out = append(out, g)
	}
	return out
}

func TestSinkWrites(t *testing.T) {
	t.Parallel()
	for _, c := range codecs {
		t.Run(c.name, func(t *testing.T) {
			f := startFake(t, kfake.SeedTopics(1, "out"))
			w := startSink(t, &graph.KafkaSink{Topic: "out", Properties: forSink(f, propCompression, c.name)})
			records := awkward("in", 0)
			w.write(batchOf(records...))
			w.seal(1)
			w.sealed(1)
			diff(t, expected("out", 0, records), consume(t, f, "out", len(records)))
			if got := f.PartitionInfo("out", 0); got.HighWatermark != int64(len(records)) {
				t.Errorf("high watermark %d", got.HighWatermark)
			}
		})
	}
}

// TestSinkLinger: a record goes out without a seal.
func TestSinkLinger(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	w := startSink(t, &graph.KafkaSink{Topic: "out", Properties: forSink(f, propLinger, "1")})
	w.write(batchOf(numbered("in", 0, 3)...))
	consume(t, f, "out", 3)
	w.write(batchOf(numbered("in", 0, 3)...))
	consume(t, f, "out", 6)
}

// TestPassThrough goes from topic to topic unopened, keeps the compression, and begins and ends in the
// middle of batches.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	for _, c := range codecs {
		for _, test := range []struct {
			name  string
			props []string
			from  int64
		}{
			{"as it is", nil, 0},
			{"from the middle", nil, 3},
			{"same codec", []string{propCompression, c.name}, 0},
			{"another codec", []string{propCompression, "zstd"}, 0},
		} {
			t.Run(c.name+" "+test.name, func(t *testing.T) {
				t.Parallel()
				f := startFake(t, kfake.SeedTopics(2, "in", "out"))
				records := awkward("in", 1)
				cl := franz(t, f, kgo.ProducerBatchCompression(c.franz))
				produce(t, cl, records...)
				produce(t, cl, numbered("in", 0, 5)...)
				w := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f, test.props...)})
				r := startSource(t, properties(f), position("in", 1, test.from, int64(len(records))))
				end := int64(len(records))
				opened := 0
				for next := test.from; next < end; {
					b := <-r.source.Batches()
					if b.Batch != nil {
						w.write(b.Batch)
						if b.Batch.Packed == nil {
							opened++
						}
					}
					next = b.Next
					b.Release()
				}
				w.seal(1)
				w.sealed(1)
				diff(t, expected("out", 1, records[test.from:]), consume(t, f, "out", len(records)-int(test.from)))
				if whole := test.from == 0 && (len(test.props) == 0 || test.props[1] == c.name); whole != (opened == 0) {
					t.Errorf("%d batches were opened", opened)
				}
			})
		}
	}
}

// TestSinkOrder: whatever fails on the way, every partition has its records once and in order, and seals
// are reported in order, behind what they cover.
func TestSinkOrder(t *testing.T) {
	t.Parallel()
	faults := []struct {
		name   string
		reason string
		fault  func(f *kfake.Cluster)
	}{
		{"none", "", func(*kfake.Cluster) {}},
		{"not leader", "NOT_LEADER", func(f *kfake.Cluster) { produceErrors(f, kerr.NotLeaderForPartition.Code, 5) }},
		{"not enough replicas", "NOT_ENOUGH_REPLICAS", func(f *kfake.Cluster) { produceErrors(f, kerr.NotEnoughReplicas.Code, 5) }},
		{"unknown topic", "UNKNOWN_TOPIC", func(f *kfake.Cluster) { produceErrors(f, kerr.UnknownTopicOrPartition.Code, 5) }},
		{"written but not answered", "REQUEST_TIMED_OUT", func(f *kfake.Cluster) { produceLate(f, 5) }},
		{"connections cut", "Produce at", func(f *kfake.Cluster) {
			n := 0
			f.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				f.KeepControl()
				if n++; n > 12 {
					f.DropControl()
				}
				if n%2 == 0 {
					return nil, nil, false
				}
				return nil, errors.New("cut"), true
			})
		}},
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, kfake.NumBrokers(2), kfake.SeedTopics(4, "out"))
			w := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve,
				Properties: forSink(f, propRetryBackoff, "5", propReconnectBackoff, "5", propBatchSize, "2000", propLinger, "0")})
			w.write(batchOf(numbered("in", 0, 1)...))
			fault.fault(f)
			const rounds, size = 20, 100
			written := 1
			for round := range rounds {
				for p := range int32(4) {
					w.write(batchOf(numbered("in", p, size)...))
					written += size
				}
				w.seal(ident.CheckpointID(round + 1))
			}
			for round := range rounds {
				w.sealed(ident.CheckpointID(round + 1))
			}
			have := map[int32][]string{}
			for _, g := range consume(t, f, "out", written) {
				have[g.Partition] = append(have[g.Partition], string(g.Value))
			}
			for p := range int32(4) {
				want := []string{}
				if p == 0 {
					want = append(want, "v0")
				}
				for range rounds {
					for i := range size {
						want = append(want, fmt.Sprint("v", i))
					}
				}
				diff(t, want, have[p])
			}
			if heard, well := w.reasons.heard(fault.reason); !well || !heard && fault.reason != "" {
				t.Errorf("reasons %q", w.reasons.said)
			}
		})
	}
}

func produceErrors(f *kfake.Cluster, code int16, times int) {
	n := 0
	f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if n++; n > times {
			f.DropControl()
			return nil, nil, false
		}
		f.KeepControl()
		return produceError(req.(*kmsg.ProduceRequest), code), nil, true
	})
}

func produceError(req *kmsg.ProduceRequest, code int16) kmsg.Response {
	res := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range req.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition, part.ErrorCode, part.BaseOffset = p.Partition, code, -1
			topic.Partitions = append(topic.Partitions, part)
		}
		res.Topics = append(res.Topics, topic)
	}
	return res
}

// produceLate writes the first batches through a client of its own, and answers that they timed out.
func produceLate(f *kfake.Cluster, times int) {
	n := 0
	f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		if r.TimeoutMillis == lateMark {
			return nil, nil, false
		}
		if n++; n > times {
			return nil, nil, false
		}
		node := int(f.CurrentNode())
		f.SleepControl(func() {
			cl, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...), kgo.MaxVersions(kversion.V2_4_0()))
			if err != nil {
				panic(err)
			}
			defer cl.Close()
			copied := *r
			copied.TimeoutMillis = lateMark
			if _, err = kmsg.NewPtrMetadataRequest().RequestWith(context.Background(), cl); err == nil {
				_, err = cl.Broker(node).Request(context.Background(), &copied)
			}
			if err != nil {
				panic(err)
			}
		})
		return produceError(r, kerr.RequestTimedOut.Code), nil, true
	})
}

const lateMark = 12_345

// TestSealDoesNotWait: records behind a seal go on while the sealed ones are not answered, and the seal is
// reported only then.
func TestSealDoesNotWait(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	w := startSink(t, &graph.KafkaSink{Topic: "out", Properties: forSink(f)})
	w.seal(1)
	w.sealed(1) // nothing written
	release := make(chan struct{})
	f.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.DropControl()
		f.SleepControl(func() { <-release })
		return nil, nil, false
	})
	w.write(batchOf(numbered("in", 0, 5)...))
	w.seal(2)
	w.write(batchOf(numbered("in", 0, 5)...))
	w.seal(3)
	w.seal(4)
	select {
	case e := <-w.sink.Sealed():
		t.Fatalf("sealed %v before the answer", e)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	for id := range ident.CheckpointID(3) {
		w.sealed(id + 2)
	}
	if got := consume(t, f, "out", 10); len(got) != 10 {
		t.Errorf("%d records", len(got))
	}
}

// TestSinkSharesPartitions compares the partitions of keys with those of franz-go's default, which is
// Kafka's, and counts the records of the other partitioners.
func TestSinkSharesPartitions(t *testing.T) {
	t.Parallel()
	const n = 1000
	f := startFake(t, kfake.SeedTopics(7, "key", "nokey", "rr", "fixed", "expr", "mine", "yours"))
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Key: fmt.Appendf(nil, "key %d", i), Value: []byte("v")})
	}
	run := func(k *graph.KafkaSink, change func(*SinkConfig), records ...*kgo.Record) {
		k.Properties = forSink(f, propLinger, "0")
		w := startSink(t, k, change)
		for i := 0; i < len(records); i += 100 {
			w.write(batchOf(records[i : i+100]...))
			w.seal(ident.CheckpointID(i + 1))
			w.sealed(ident.CheckpointID(i + 1))
		}
		w.stop()
	}
	same := func(*SinkConfig) {}
	run(&graph.KafkaSink{Topic: "key"}, same, records...)
	kafkas := kgo.StickyKeyPartitioner(nil).ForTopic("key")
	for _, g := range consume(t, f, "key", n) {
		if want := kafkas.Partition(&kgo.Record{Key: g.Key}, 7); g.Partition != int32(want) {
			t.Fatalf("key %q is in partition %d, want %d", g.Key, g.Partition, want)
		}
	}
	count := func(topic string) map[int32]int {
		counts := map[int32]int{}
		for _, g := range consume(t, f, topic, n) {
			counts[g.Partition]++
		}
		return counts
	}
	var bare []*kgo.Record
	for range n {
		bare = append(bare, &kgo.Record{Value: []byte("v")})
	}
	run(&graph.KafkaSink{Topic: "nokey"}, same, bare...)
	diff(t, map[int32]int{0: 200, 1: 200, 2: 200, 3: 100, 4: 100, 5: 100, 6: 100}, count("nokey"))
	run(&graph.KafkaSink{Topic: "rr", Partitioner: graph.RoundRobin}, same, bare...)
	diff(t, map[int32]int{0: 143, 1: 143, 2: 143, 3: 143, 4: 143, 5: 143, 6: 142}, count("rr"))
	run(&graph.KafkaSink{Topic: "fixed", Partitioner: graph.Fixed}, func(c *SinkConfig) { c.Subtask = 9 }, bare...)
	diff(t, map[int32]int{2: n}, count("fixed"))
	run(&graph.KafkaSink{Topic: "expr", Partitioner: graph.ByExpression}, func(c *SinkConfig) {
		c.Partition = func(_ *operator.Batch, i int) (int32, error) { return int32(i % 2), nil }
	}, bare...)
	diff(t, map[int32]int{0: 500, 1: 500}, count("expr"))
	run(&graph.KafkaSink{TopicExpression: "…", Partitioner: graph.Fixed}, func(c *SinkConfig) {
		c.Topic = func(_ *operator.Batch, i int) (string, error) {
			return []string{"mine", "yours"}[i%2], map[bool]error{true: ErrSkip}[i%10 == 0]
		}
	}, bare...)
	if mine, yours := len(consume(t, f, "mine", 400)), len(consume(t, f, "yours", 500)); mine != 400 || yours != 500 {
		t.Errorf("%d and %d records", mine, yours)
	}
}
