package kafka

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testContext ends with the test, at the latest after 30 s.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
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

// produce writes records, one batch per call and partition, and fills in their offsets.
func produce(t testing.TB, cl *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	if err := cl.ProduceSync(testContext(t), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// numbered makes n records for a partition, "v0", "v1"...
func numbered(topic string, partition int32, n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i))}
	}
	return out
}

// properties are those of a fake cluster, with pairs added.
func properties(f *kfake.Cluster, pairs ...string) map[string]string {
	p := map[string]string{propBootstrap: strings.Join(f.ListenAddrs(), ","), propFetchMaxWait: "50"}
	for i := 0; i < len(pairs); i += 2 {
		p[pairs[i]] = pairs[i+1]
	}
	return p
}

func forSink(f *kfake.Cluster, pairs ...string) map[string]string {
	p := properties(f, pairs...)
	delete(p, propFetchMaxWait)
	return p
}

// reasons collects what a source or sink reports.
type reasons struct {
	mu   sync.Mutex
	said []string
}

func (r *reasons) set(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, reason)
}

// heard says whether a reason with the text was reported, and whether the last one is that all is well.
func (r *reasons) heard(text string) (heard, well bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.said {
		heard = heard || strings.Contains(s, text)
	}
	return heard, len(r.said) == 0 || r.said[len(r.said)-1] == ""
}

// got is a record as a source delivered it.
type got struct {
	Topic      string
	Partition  int32
	Offset     int64
	Timestamp  int64
	Key, Value []byte
	Headers    []wire.RecordHeader
}

// reading is a source under test.
type reading struct {
	t       testing.TB
	source  *Source
	reasons *reasons
	cancel  context.CancelFunc
	done    chan error
	next    map[manifest.Split]int64
	records []got
	batches int
}

func position(topic string, partition int32, next, stop int64) manifest.Position {
	return manifest.Position{Split: manifest.Split{Source: "s", Topic: topic, Partition: partition}, Next: next, LeaderEpoch: -1, Stop: stop}
}

func newConnections(t testing.TB) *Connections {
	c := NewConnections(nil)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func startSource(t testing.TB, props map[string]string, positions ...manifest.Position) *reading {
	t.Helper()
	return startChangedSource(t, func(*Source) {}, props, positions...)
}

// startChangedSource is startSource with other constants.
func startChangedSource(t testing.TB, change func(*Source), props map[string]string, positions ...manifest.Position) *reading {
	t.Helper()
	r := &reading{t: t, reasons: &reasons{}, done: make(chan error, 1), next: map[manifest.Split]int64{}}
	var err error
	r.source, err = NewSource(SourceConfig{Kafka: &graph.KafkaSource{Properties: props}, Positions: positions, Connections: newConnections(t), Status: r.reasons.set})
	if err != nil {
		t.Fatal(err)
	}
	change(r.source)
	for _, p := range positions {
		r.next[p.Split] = p.Next
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.source.Run(ctx) }()
	t.Cleanup(func() { r.stop() })
	return r
}

// stop ends the source and returns what Run returned.
func (r *reading) stop() error {
	r.cancel()
	err := <-r.done
	r.done <- err
	return err
}

// take handles one batch as the subtask does. It returns false after the wait.
func (r *reading) take(wait time.Duration) bool {
	r.t.Helper()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case b := <-r.source.Batches():
		r.handle(b)
		return true
	case err := <-r.done:
		r.done <- err
		if err != nil {
			r.t.Fatalf("the source failed: %v", err)
		}
		return false
	case <-timer.C:
		return false
	}
}

func (r *reading) handle(b operator.SourceBatch) {
	r.t.Helper()
	defer b.Release()
	r.batches++
	if b.Next <= r.next[b.Split] {
		r.t.Fatalf("%v: position %d after %d", b.Split, b.Next, r.next[b.Split])
	}
	if b.Batch != nil {
		if err := b.Batch.Open(); err != nil {
			r.t.Fatal(err)
		}
		for i := range b.Batch.Records {
			rec := &b.Batch.Records[i]
			o := b.Batch.Origins[rec.Origin]
			if o.Topic != b.Split.Topic || o.Partition != b.Split.Partition || rec.Offset < r.next[b.Split] || rec.Offset >= b.Next {
				r.t.Fatalf("record %v offset %d in the batch of %v from %d to %d", o, rec.Offset, b.Split, r.next[b.Split], b.Next)
			}
			r.records = append(r.records, shown(r.t, b.Batch, rec))
		}
	}
	r.next[b.Split] = b.Next
}

func shown(t testing.TB, b *operator.Batch, rec *operator.Record) got {
	t.Helper()
	headers, err := wire.Headers(b.Bytes(rec.Headers))
	if err != nil {
		t.Fatal(err)
	}
	for i := range headers {
		headers[i].Value = clone(headers[i].Value)
	}
	o := b.Origins[rec.Origin]
	return got{o.Topic, o.Partition, rec.Offset, rec.Timestamp, clone(b.Bytes(rec.Key)), clone(b.Bytes(rec.Value)), headers}
}

// clone copies and keeps nil apart from empty.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// until takes batches until the split has reached an offset.
func (r *reading) until(topic string, partition int32, next int64) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	split := manifest.Split{Source: "s", Topic: topic, Partition: partition}
	for r.next[split] < next {
		if !r.take(time.Second) && time.Now().After(deadline) {
			r.t.Fatalf("%s/%d is at %d, want %d; reasons %v", topic, partition, r.next[split], next, r.reasons.said)
		}
	}
}

// failure waits for Run to fail.
func (r *reading) failure() error {
	r.t.Helper()
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	for {
		select {
		case b := <-r.source.Batches():
			r.handle(b)
		case err := <-r.done:
			r.done <- err
			return err
		case <-timer.C:
			r.t.Fatalf("the source did not fail; reasons %v", r.reasons.said)
		}
	}
}

// fromFranz is a record as franz-go shows it.
func fromFranz(r *kgo.Record) got {
	g := got{r.Topic, r.Partition, r.Offset, r.Timestamp.UnixMilli(), clone(r.Key), clone(r.Value), nil}
	for _, h := range r.Headers {
		g.Headers = append(g.Headers, wire.RecordHeader{Key: h.Key, Value: clone(h.Value)})
	}
	return g
}

// consume reads n records of a topic with franz-go, in order per partition.
func consume(t testing.TB, f *kfake.Cluster, topic string, n int) []got {
	t.Helper()
	cl := franz(t, f, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var out []got
	for len(out) < n {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records in %s", len(out), n, topic)
		}
		fs.EachRecord(func(r *kgo.Record) { out = append(out, fromFranz(r)) })
	}
	// what is too much would come at once
	more, stop := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer stop()
	cl.PollFetches(more).EachRecord(func(r *kgo.Record) { out = append(out, fromFranz(r)) })
	return out
}

// positionOf shortens tables.
type positionOf = manifest.Position

func kafkaSource(props map[string]string) *graph.KafkaSource {
	return &graph.KafkaSource{Properties: props}
}
