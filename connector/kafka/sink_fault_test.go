package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// TestSinkForgotten: a broker that lost track of the producer makes the sink go on with a new id.
func TestSinkForgotten(t *testing.T) {
	t.Parallel()
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

// TestSinkSplits: batches above the topic's limit are split, and sealed when the last part is written; a
// single record above it is a failure.
func TestSinkSplits(t *testing.T) {
	t.Parallel()
	const limit, size = 5000, 250
	f := startFake(t, kfake.SeedTopics(1, "out"))
	w := startSink(t, &graph.KafkaSink{Topic: "out", Properties: forSink(f)})
	parts, accepted := make(chan int, 1), 0 // how many batches were sealed when the last part came
	f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		data := r.Topics[0].Partitions[0].Records
		if len(data) > limit {
			return produceError(r, kerr.MessageTooLarge.Code), nil, true
		}
		if accepted += int(binary.BigEndian.Uint32(data[57:])); accepted%size == 0 { // the count of a batch
			parts <- len(w.sink.sealed)
		}
		return nil, nil, false
	})
	var records []*kgo.Record
	for i := range 2 * size {
		records = append(records, &kgo.Record{Key: fmt.Appendf(nil, "%d", i), Value: bytes.Repeat([]byte{'x'}, 100), Timestamp: time.UnixMilli(int64(i))})
	}
	for i := range 2 {
		w.write(batchOf(records[i*size : (i+1)*size]...))
		w.seal(ident.CheckpointID(i + 1))
		if early := <-parts; early > 0 {
			t.Errorf("batch %d was sealed before its last part", i)
		}
		w.sealed(ident.CheckpointID(i + 1))
	}
	diff(t, expected("out", 0, records), consume(t, f, "out", len(records)))
	w.sink.mu.Lock()
	batches, out := &w.sink.topics["out"].size, w.sink.topics["out"].targets[0]
	if used := w.sink.memory.used; used != 0 || out.ahead != 0 {
		t.Errorf("%d bytes are still counted, %d of them ahead", used, out.ahead)
	}
	before := batches.bytes
	batches.raiseAt = time.Time{} // the pause is over
	w.sink.mu.Unlock()
	w.write(batchOf(records[0]))
	w.seal(3)
	w.sealed(3)
	w.sink.mu.Lock()
	if batches.bytes != 2*before {
		t.Errorf("batches are closed at %d bytes, after %d: they do not grow again", batches.bytes, before)
	}
	w.sink.mu.Unlock()
	w.write(batchOf(&kgo.Record{Value: make([]byte, 6000)}))
	err := w.failure()
	if err == nil || !strings.Contains(err.Error(), "out/0: Produce out/0") || !strings.Contains(err.Error(), "raise the topic's max.message.bytes") {
		t.Errorf("error %v", err)
	}
}

func TestSinkRefuses(t *testing.T) {
	t.Parallel()
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
			"out: a record of 1025 bytes (from in/3 offset 0) is above max.request.size, which is 1024; raise max.request.size"},
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

// TestSinkLeavesOut: a record that the sink cannot take is left out if that is decided, and the others go on.
func TestSinkLeavesOut(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "out"))
	var told []string
	w := startSink(t, &graph.KafkaSink{TopicExpression: "value", Partitioner: graph.ByExpression, Properties: forSink(f, propMaxRequest, "1024")}, func(c *SinkConfig) {
		c.Topic = func(_ *operator.Batch, i int) (string, error) {
			return []string{"out", "out", "out", "no topic", "", "..", strings.Repeat("x", 250)}[i], nil
		}
		c.Partition = func(_ *operator.Batch, i int) (int32, error) { return int32(i), nil }
		c.Failed = func(b *operator.Batch, i int, part string, cause error) error {
			class := "expression"
			var fault interface{ RecordFault() string }
			if errors.As(cause, &fault) {
				class = fault.RecordFault()
			}
			told = append(told, fmt.Sprint(i, " ", part, " ", class))
			return nil
		}
	})
	records := []*kgo.Record{{Topic: "in", Value: make([]byte, 1025)}, {Topic: "in", Value: []byte("stays")}}
	for range 5 {
		records = append(records, &kgo.Record{Topic: "in"})
	}
	w.write(batchOf(records...))
	w.seal(1)
	w.sealed(1)
	want := []string{"0 size size", "2 partitioner expression", "3 topicExpression expression", "4 topicExpression expression", "5 topicExpression expression", "6 topicExpression expression"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if out := consume(t, f, "out", 1); len(out) != 1 || string(out[0].Value) != "stays" {
		t.Errorf("output %v", out)
	}
}

// TestSinkGivesUp: after delivery.timeout.ms the attempt fails and says why.
func TestSinkGivesUp(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

// TestSinkLittleAhead: batches wait for their partition within aheadBytes, though buffer.memory has room, and go on when the
// broker answers.
func TestSinkLittleAhead(t *testing.T) {
	t.Parallel()
	t.Run("passed on", func(t *testing.T) { littleAhead(t, graph.Preserve, 1) })
	t.Run("opened", func(t *testing.T) { littleAhead(t, graph.ByKey, 3) })
}

// littleAhead writes records of 300 KiB, of which so many are in a batch.
func littleAhead(t *testing.T, how graph.PartitionerMode, inBatch int) {
	f := startFake(t, kfake.SeedTopics(1, "out"))
	release := make(chan struct{})
	f.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.DropControl()
		f.SleepControl(func() { <-release })
		return nil, nil, false
	})
	w := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: how, Properties: forSink(f)})
	var builder wire.Builder
	builder.AppendRecord(1, nil, make([]byte, 300<<10), nil)
	data, err := builder.Finish(wire.NoProducer, nil)
	if err != nil {
		t.Fatal(err)
	}
	pass := func(ctx context.Context) error {
		raw, _, err := wire.ParseBatch(data, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw.Topic = "in"
		defer raw.Release()
		return w.sink.Write(ctx, raw.Batch())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	for n := 0; err == nil; n++ {
		if err = pass(ctx); n > 50 {
			t.Fatal("nothing holds the writer back")
		}
	}
	written := waiting(w.sink, "out", 0)
	if most := aheadBytes/len(data) + inBatch; !errors.Is(err, context.DeadlineExceeded) || written > most {
		t.Errorf("%d written, want at most %d; then %v", written, most, err)
	}
	close(release)
	for range 20 {
		if err := pass(testContext(t)); err != nil {
			t.Fatal(err)
		}
		written++
	}
	w.seal(1)
	w.sealed(1)
	if got := len(consume(t, f, "out", written)); got != written {
		t.Errorf("%d records, want %d", got, written)
	}
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	if left := w.sink.topics["out"].targets[0].ahead; w.sink.memory.used != 0 || left != 0 {
		t.Errorf("%d bytes are still counted, %d of them ahead", w.sink.memory.used, left)
	}
}

// waiting is how many records wait for a partition.
func waiting(s *Sink, topic string, partition int32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[topic].targets[partition]
	n := 0
	for _, b := range t.queue {
		n += b.count
	}
	if t.open != nil {
		n += t.open.builder.Count()
	}
	return n
}

func TestSinkUnreachable(t *testing.T) {
	t.Parallel()
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

// TestSinkBrokerRestart: the broker goes while records are written and comes back at the same address.
func TestSinkBrokerRestart(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), freePort(t)
	start := func() *kfake.Cluster {
		f, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.SeedTopics(2, "out"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := start()
	w := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f)})
	write := func(id ident.CheckpointID) {
		for p := range int32(2) {
			w.write(batchOf(numbered("in", p, 100)...))
		}
		w.seal(id)
	}
	write(1)
	w.sealed(1)
	f.Close()
	write(2)
	waitFor(t, func() bool { heard, _ := w.reasons.heard("refused"); return heard }, "reason while the broker is away: %q", w.reasons.said)
	write(3)
	f = start()
	t.Cleanup(f.Close)
	w.sealed(2)
	w.sealed(3)
	next := map[int32]int{}
	for _, g := range consume(t, f, "out", 600) {
		if want := fmt.Sprint("v", next[g.Partition]%100); string(g.Value) != want {
			t.Fatalf("partition %d has %s, want %s", g.Partition, g.Value, want)
		}
		next[g.Partition]++
	}
	diff(t, map[int32]int{0: 300, 1: 300}, next)
	if _, well := w.reasons.heard(""); !well {
		t.Errorf("still in trouble: %q", w.reasons.said)
	}
}

// TestSinkDuplicate: a broker that has the batch already has acknowledged it.
func TestSinkDuplicate(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	w := startSink(t, &graph.KafkaSink{Topic: "out", Properties: forSink(f, propDeliveryTimeout, "1000")})
	produceErrors(f, kerr.DuplicateSequenceNumber.Code, 1)
	w.write(batchOf(numbered("in", 0, 5)...))
	w.seal(1)
	w.sealed(1)
	w.write(batchOf(numbered("in", 0, 1)...)) // with the sequence behind the first batch
	w.seal(2)
	w.sealed(2)
}

// TestRenumber begins the sequence of a partition anew.
func TestRenumber(t *testing.T) {
	old, renewed := &wire.Producer{ID: 1}, &wire.Producer{ID: 2}
	p := &target{producer: old, sequence: 70}
	for _, n := range []int{5, 7} {
		b := &outBatch{count: n}
		p.number(b)
		p.queue = append(p.queue, b)
	}
	p.renumber(renewed)
	for i, want := range []int32{0, 5} {
		if b := p.queue[i]; b.sequence != want || b.producer != renewed {
			t.Errorf("batch %d: sequence %d of %v", i, b.sequence, b.producer)
		}
	}
	if p.sequence != 12 {
		t.Errorf("the next sequence is %d", p.sequence)
	}
}
