package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
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

// TestSinkForgotten: a broker that lost track of the producer makes the sink go on with a new id.
func TestSinkForgotten(t *testing.T) {
	for _, code := range []int16{kerr.OutOfOrderSequenceNumber.Code, kerr.UnknownProducerID.Code} {
		f := startFake(t, kfake.SeedTopics(2, "out"))
		w := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f, propRetryBackoff, "5", propBatchSize, "2000")})
		w.write(batchOf(append(numbered("in", 0, 100), numbered("in", 1, 100)...)...))
		w.seal(1)
		w.sealed(1)
		old := w.sink.producer.ID
		produceErrors(f, code, 2)
		w.write(batchOf(append(numbered("in", 0, 200), numbered("in", 1, 200)...)...))
		w.seal(2)
		w.sealed(2)
		have := map[int32][]string{}
		for _, g := range consume(t, f, "out", 600) {
			have[g.Partition] = append(have[g.Partition], string(g.Value))
		}
		for p := range int32(2) {
			var want []string
			for _, n := range []int{100, 200} {
				for i := range n {
					want = append(want, fmt.Sprint("v", i))
				}
			}
			diff(t, want, have[p])
		}
		if w.sink.producer.ID == old {
			t.Error("the producer id is the old one")
		}
	}
}

// TestSinkSplits: batches above the topic's limit are split, a single record above it is a failure.
func TestSinkSplits(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "out"))
	limit := 5000
	f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		if len(r.Topics[0].Partitions[0].Records) > limit {
			return produceError(r, kerr.MessageTooLarge.Code), nil, true
		}
		return nil, nil, false
	})
	w := startSink(t, &graph.KafkaSink{Topic: "out", Properties: forSink(f)})
	var records []*kgo.Record
	for i := range 500 {
		records = append(records, &kgo.Record{Key: fmt.Appendf(nil, "%d", i), Value: bytes.Repeat([]byte{'x'}, 100), Timestamp: time.UnixMilli(int64(i))})
	}
	for i := 0; i < len(records); i += 250 {
		w.write(batchOf(records[i : i+250]...))
		w.seal(ident.CheckpointID(i + 1))
		w.sealed(ident.CheckpointID(i + 1))
	}
	diff(t, expected("out", 0, records), consume(t, f, "out", len(records)))
	if used := w.sink.memory.used; used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
	w.write(batchOf(&kgo.Record{Value: make([]byte, 6000)}))
	err := w.failure()
	if err == nil || !strings.Contains(err.Error(), "out/0: Produce out/0") || !strings.Contains(err.Error(), "raise the topic's max.message.bytes") {
		t.Errorf("error %v", err)
	}
}

func TestSinkRefuses(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(2, "out"))
	tests := []struct {
		name  string
		sink  graph.KafkaSink
		props []string
		batch *operator.Batch
		part  PartitionFunc
		want  string
	}{
		{"large record", graph.KafkaSink{Topic: "out"}, []string{propMaxRequest, "1024"}, batchOf(&kgo.Record{Topic: "in", Partition: 3, Value: make([]byte, 1025)}), nil,
			"out/0: a record of 1025 bytes (from in/3 offset 0) is above max.request.size, which is 1024; raise max.request.size"},
		{"preserve", graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve}, nil, batchOf(&kgo.Record{Topic: "in", Partition: 2}), nil,
			"out: partitioner: preserve wants partition 2, as in in, and the topic has 2 partitions; give it as many"},
		{"expression", graph.KafkaSink{Topic: "out", Partitioner: graph.ByExpression}, nil, batchOf(&kgo.Record{Topic: "in", Partition: 1}),
			func(*operator.Batch, int) (int32, error) { return -1, nil },
			"out: the partition expression gives -1 for the record of in/1 offset 0, and the topic has the partitions 0 to 1; take it modulo"},
		{"no topic", graph.KafkaSink{Topic: "nowhere"}, []string{propDeliveryTimeout, "1000"}, batchOf(&kgo.Record{}), nil,
			"nowhere: the topic could not be found for 1s: Metadata nowhere at "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.sink.Properties = forSink(f, test.props...)
			w := startSink(t, &test.sink, func(c *SinkConfig) { c.Partition = test.part })
			err := w.sink.Write(testContext(t), test.batch)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
		})
	}
}

// TestSinkGivesUp: after delivery.timeout.ms the attempt fails and says why.
func TestSinkGivesUp(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "out"))
	w := startSink(t, &graph.KafkaSink{Topic: "out", Properties: forSink(f, propDeliveryTimeout, "1000", propRequestTimeout, "1000")})
	produceErrors(f, kerr.NotEnoughReplicas.Code, 1<<30)
	w.write(batchOf(numbered("in", 0, 7)...))
	err := w.failure()
	want := "out/0: 7 records could not be written for 1s (delivery.timeout.ms): Produce out/0 at "
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "NOT_ENOUGH_REPLICAS") {
		t.Errorf("error %v", err)
	}
	if err := w.sink.Write(testContext(t), batchOf(numbered("in", 0, 1)...)); err != nil && !errors.Is(err, w.sink.failure) {
		t.Errorf("a write behind the failure: %v", err)
	}
}

// TestSinkBackpressure: Write waits while nothing can be sent, within the memory, and ends with its ctx.
func TestSinkBackpressure(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(8, "out"))
	release := make(chan struct{})
	f.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.DropControl()
		f.SleepControl(func() { <-release })
		return nil, nil, false
	})
	w := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f, propBufferMemory, "1048576", propLinger, "60000")})
	big := func(p int32) *operator.Batch {
		return batchOf(&kgo.Record{Topic: "in", Partition: p, Value: make([]byte, 100<<10)})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	written := 0
	var err error
	for err == nil {
		if err = w.sink.Write(ctx, big(int32(written%8))); err == nil {
			written++
		}
		if written > 50 {
			t.Fatal("nothing holds the writer back")
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) || written < 5 {
		t.Errorf("%d written, then %v", written, err)
	}
	close(release)
	// though linger.ms is a minute, a waiting writer makes open batches go
	for i := range 30 {
		w.write(big(int32(i % 8)))
	}
	w.seal(1)
	w.sealed(1)
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	if w.sink.memory.used != 0 {
		t.Errorf("%d bytes are still counted", w.sink.memory.used)
	}
}

// TestSealDoesNotWait: records behind a seal go on while the sealed ones are not answered, and the seal is
// reported only then.
func TestSealDoesNotWait(t *testing.T) {
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

func TestSinkNoGuarantee(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "out"))
	w := startSink(t, &graph.KafkaSink{Topic: "out", Guarantee: graph.NoGuarantee, Properties: forSink(f)})
	acks := make(chan int16, 10)
	release := make(chan struct{})
	f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		acks <- req.(*kmsg.ProduceRequest).Acks
		f.DropControl()
		f.SleepControl(func() { <-release })
		return nil, nil, false
	})
	w.write(batchOf(numbered("in", 0, 5)...))
	w.seal(1)
	w.sealed(1) // without an answer
	if got := <-acks; got != 1 {
		t.Errorf("acks %d", got)
	}
	close(release)
	consume(t, f, "out", 5)
}

// TestSinkSharesPartitions compares the partitions of keys with those of franz-go's default, which is
// Kafka's, and counts the records of the other partitioners.
func TestSinkSharesPartitions(t *testing.T) {
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

func TestSinkUnreachable(t *testing.T) {
	k := &graph.KafkaSink{Topic: "out", Properties: map[string]string{propBootstrap: fmt.Sprintf("127.0.0.1:%d", freePort(t))}}
	w := startSink(t, k)
	waitFor(t, func() bool { heard, _ := w.reasons.heard("refused"); return heard }, "reason")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := w.sink.Write(ctx, batchOf(numbered("in", 0, 1)...)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
}
