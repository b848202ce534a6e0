package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

func TestSourceSurvives(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		reason string
		fault  func(f *kfake.Cluster, times int)
	}{
		{"not leader", "NOT_LEADER", func(f *kfake.Cluster, times int) { fetchErrors(f, kerr.NotLeaderForPartition.Code, times) }},
		{"unknown topic", "UNKNOWN_TOPIC", func(f *kfake.Cluster, times int) {
			fetchErrors(f, kerr.UnknownTopicOrPartition.Code, times)
		}},
		{"server error", "UNKNOWN_SERVER_ERROR", func(f *kfake.Cluster, times int) { fetchErrors(f, kerr.UnknownServerError.Code, times) }},
		{"fenced epoch", "FENCED_LEADER_EPOCH", func(f *kfake.Cluster, times int) { fetchErrors(f, kerr.FencedLeaderEpoch.Code, times) }},
		{"connections cut", "Fetch at", func(f *kfake.Cluster, times int) {
			n := 0
			f.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
				if n++; n > times*3 { // the wire repeats a cut fetch by itself
					f.DropControl()
					return nil, nil, false
				}
				f.KeepControl()
				return nil, errors.New("cut"), true
			})
		}},
		{"leader unknown", "LEADER_NOT_AVAILABLE", func(f *kfake.Cluster, times int) {
			fetchErrors(f, kerr.NotLeaderForPartition.Code, 1)
			n := 0
			f.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
				m := req.(*kmsg.MetadataRequest)
				if len(m.Topics) == 0 {
					f.KeepControl()
					return nil, nil, false
				}
				if n++; n > times {
					f.DropControl()
					return nil, nil, false
				}
				f.KeepControl()
				return leaderless(f, m), nil, true
			})
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := startFake(t, kfake.SeedTopics(2, "in"))
			cl := franz(t, f)
			produce(t, cl, append(numbered("in", 0, 10), numbered("in", 1, 10)...)...)
			r := startSource(t, properties(f, propRetryBackoff, "10"), position("in", 0, 0, -1), position("in", 1, 0, -1))
			r.until("in", 0, 10)
			r.until("in", 1, 10)
			test.fault(f, 3)
			produce(t, cl, append(numbered("in", 0, 10), numbered("in", 1, 10)...)...)
			r.until("in", 0, 20)
			r.until("in", 1, 20)
			if len(r.records) != 40 {
				t.Errorf("%d records", len(r.records))
			}
			waitFor(t, func() bool { heard, well := r.reasons.heard(test.reason); return heard && well }, "reason %q in %q, then none", test.reason, r.reasons.said)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func leaderless(f *kfake.Cluster, m *kmsg.MetadataRequest) kmsg.Response {
	res := m.ResponseKind().(*kmsg.MetadataResponse)
	host, port, _ := net.SplitHostPort(f.ListenAddrs()[0])
	b := kmsg.NewMetadataResponseBroker()
	b.Host = host
	fmt.Sscan(port, &b.Port)
	res.Brokers = append(res.Brokers, b)
	for _, t := range m.Topics {
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = t.Topic
		for p := range int32(2) {
			part := kmsg.NewMetadataResponseTopicPartition()
			part.Partition, part.Leader, part.ErrorCode = p, -1, kerr.LeaderNotAvailable.Code
			topic.Partitions = append(topic.Partitions, part)
		}
		res.Topics = append(res.Topics, topic)
	}
	return res
}

// fetchErrors answers the next fetches with an error for every partition.
func fetchErrors(f *kfake.Cluster, code int16, times int) {
	n := 0
	f.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if n++; n > times {
			f.DropControl()
			return nil, nil, false
		}
		f.KeepControl()
		return fetchError(req.(*kmsg.FetchRequest), code), nil, true
	})
}

func fetchError(req *kmsg.FetchRequest, code int16) kmsg.Response {
	res := req.ResponseKind().(*kmsg.FetchResponse)
	for _, t := range req.Topics {
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			part := kmsg.NewFetchResponseTopicPartition()
			part.Partition, part.ErrorCode, part.HighWatermark = p.Partition, code, -1
			topic.Partitions = append(topic.Partitions, part)
		}
		res.Topics = append(res.Topics, topic)
	}
	return res
}

// waitFor asks again and again; what it waits for happens in other goroutines, with a broker between.
func waitFor(t testing.TB, done func() bool, format string, args ...any) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(10 * time.Second); !done(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("no "+format, args...)
		}
	}
}

// TestSourceFollowsLeaders moves partitions among brokers while records come.
func TestSourceFollowsLeaders(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.NumBrokers(3), kfake.SeedTopics(3, "in"))
	cl := franz(t, f)
	r := startSource(t, properties(f, propRetryBackoff, "10"), position("in", 0, 0, -1), position("in", 1, 0, -1), position("in", 2, 0, -1))
	for round := range int64(6) {
		for p := range int32(3) {
			produce(t, cl, numbered("in", p, 10)...)
		}
		for p := range int32(3) {
			r.until("in", p, (round+1)*10)
			if err := f.MoveTopicPartition("in", p, int32(round+int64(p))%3); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(r.records) != 180 {
		t.Errorf("%d records", len(r.records))
	}
}

// TestSourceBrokerRestart: the broker goes and comes back at the same address.
func TestSourceBrokerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := freePort(t)
	start := func() *kfake.Cluster {
		f, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.SeedTopics(1, "in"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := start()
	produce(t, franz(t, f), numbered("in", 0, 10)...)
	r := startSource(t, properties(f), position("in", 0, 0, -1))
	r.until("in", 0, 10)
	f.Close()
	waitFor(t, func() bool { heard, _ := r.reasons.heard("refused"); return heard }, "reason while the broker is away: %q", r.reasons.said)
	f = start()
	t.Cleanup(f.Close)
	produce(t, franz(t, f), numbered("in", 0, 10)...)
	r.until("in", 0, 20)
	if _, well := r.reasons.heard(""); !well {
		t.Errorf("still in trouble: %q", r.reasons.said)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestSourceFails(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "retained"))
	cl := franz(t, f)
	produce(t, cl, numbered("in", 0, 10)...)
	tests := []struct {
		name  string
		from  int64
		fault func()
		want  string
	}{
		{"behind the end", 99, func() {}, "in/0: the position 99 is behind the end of the log, which is 10: the topic was deleted and created again"},
		{"no permission", 0, func() { fetchErrors(f, kerr.TopicAuthorizationFailed.Code, 1) }, "in/0: Fetch in/0 at "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.fault()
			r := startSource(t, properties(f), position("in", 0, test.from, -1))
			err := r.failure()
			var classed interface{ FailureClass() string }
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || !errors.As(err, &classed) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

func TestSourceBeforeTheStart(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	cl := franz(t, f)
	produce(t, cl, numbered("in", 0, 10)...)
	deleteRecords(t, cl, "in", 7)
	r := startSource(t, properties(f), position("in", 0, 3, -1))
	want := "in/0: the position 3 is before the start of the log, which is 7: retention deleted 4 offsets that were not read; raise the topic's retention"
	if err := r.failure(); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}

func deleteRecords(t testing.TB, cl *kgo.Client, topic string, before int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Offset = before
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	res, err := req.RequestWith(testContext(t), cl)
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSourceBadBatch: damaged bytes are fetched again; if they stay damaged, the attempt fails and says
// where.
func TestSourceBadBatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		times int
		fails bool
	}{{"on the way", 2, false}, {"on disk", 1000, true}} {
		t.Run(test.name, func(t *testing.T) {
			f := startFake(t, kfake.SeedTopics(1, "in"))
			produce(t, franz(t, f), numbered("in", 0, 10)...)
			damage(t, f, test.times, numbered("in", 0, 10), lastBit)
			r := startSource(t, properties(f, propRetryBackoff, "5"), position("in", 0, 0, -1))
			if !test.fails {
				r.until("in", 0, 10)
				return
			}
			if err := r.failure(); err == nil || !strings.Contains(err.Error(), "in/0: the log cannot be read at offset 0: in/0: batch at offset 0: checksum") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestPassedOnBadBatch: the checksum of what is passed on unopened is the taking broker's to check, and the failure names
// where the batch was read.
func TestPassedOnBadBatch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		records int
		refusal *kerr.Error // instead of the broker's own
	}{"checksum": {10, nil}, "size": {1, kerr.MessageTooLarge}} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, kfake.SeedTopics(1, "in", "out"))
			records := numbered("in", 0, c.records)
			for _, r := range records {
				r.Value = make([]byte, smallBatchBytes) // smaller batches are opened and merged
			}
			produce(t, franz(t, f), records...)
			damage(t, f, 1000, records, lastBit)
			if c.refusal != nil {
				f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
					f.KeepControl()
					return produceError(req.(*kmsg.ProduceRequest), c.refusal.Code), nil, true
				})
			}
			r := startChangedSource(t, func(s *Source) { s.passedOn[wire.None] = true }, properties(f), position("in", 0, 0, -1))
			w := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f, propRetryBackoff, "5")})
			b := <-r.source.Batches()
			w.write(b.Batch)
			b.Release()
			if err := w.failure(); err == nil || !strings.Contains(err.Error(), "out/0: in/0: batch at offset 0: checksum is") || !strings.Contains(err.Error(), "the disk of its broker may be damaged") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestOpenedBadBatch: a sink that has to open what is damaged says that the cause is outside, and the way out.
func TestOpenedBadBatch(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"))
	records := numbered("in", 0, 10)
	for _, r := range records {
		r.Value = make([]byte, smallBatchBytes)
	}
	produce(t, franz(t, f), records...)
	damage(t, f, 1000, records, lastBit)
	r := startChangedSource(t, func(s *Source) { s.passedOn[wire.None] = true }, properties(f), position("in", 0, 0, -1))
	w := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.ByKey, Properties: forSink(f)})
	b := <-r.source.Batches()
	defer b.Release()
	var fault *Error
	err := w.sink.Write(testContext(t), b.Batch)
	if !errors.As(err, &fault) || fault.FailureClass() != "external" || !strings.Contains(err.Error(), "in/0: batch at offset 0: checksum is") || !strings.Contains(err.Error(), "the disk of its broker may be damaged") {
		t.Errorf("error %v", err)
	}
}

// TestPassedOn: the source checks what a sink opens anyway, or what nobody reads again.
func TestPassedOn(t *testing.T) {
	sink := func(change func(*graph.KafkaSink)) *graph.KafkaSink {
		k := &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Guarantee: graph.AtLeastOnce, Properties: map[string]string{propBootstrap: "a:1"}}
		change(k)
		return k
	}
	whole := sink(func(*graph.KafkaSink) {})
	compressed := func(codec string) *graph.KafkaSink {
		return sink(func(k *graph.KafkaSink) { k.Properties[propCompression] = codec })
	}
	all := []wire.Codec{wire.None, wire.Gzip, wire.Snappy, wire.LZ4, wire.Zstd}
	for name, c := range map[string]struct {
		sinks []*graph.KafkaSink
		want  []wire.Codec
	}{
		"others take it, too":   {nil, nil},
		"one sink":              {[]*graph.KafkaSink{whole}, all},
		"two sinks":             {[]*graph.KafkaSink{whole, whole}, all},
		"one of two by key":     {[]*graph.KafkaSink{whole, sink(func(k *graph.KafkaSink) { k.Partitioner = graph.ByKey })}, nil},
		"the topic by contents": {[]*graph.KafkaSink{sink(func(k *graph.KafkaSink) { k.TopicExpression = "value" })}, nil},
		"no guarantee":          {[]*graph.KafkaSink{sink(func(k *graph.KafkaSink) { k.Guarantee = graph.NoGuarantee })}, nil},
		"one compression":       {[]*graph.KafkaSink{whole, compressed("lz4")}, []wire.Codec{wire.LZ4}},
		"no compression":        {[]*graph.KafkaSink{compressed("none")}, []wire.Codec{wire.None}},
		"two compressions":      {[]*graph.KafkaSink{compressed("lz4"), compressed("zstd")}, nil},
		"an old broker":         {[]*graph.KafkaSink{sink(func(k *graph.KafkaSink) { k.Properties[propBrokerVersion] = "0.10.2" })}, nil},
	} {
		connectors := NewConnectors(nil, nil)
		source, err := connectors.NewSource(&graph.Node{Source: &graph.Source{Kafka: &graph.KafkaSource{Properties: map[string]string{propBootstrap: "a:1"}}}}, operator.SourceContext{Sinks: c.sinks})
		if err != nil {
			t.Fatal(err)
		}
		var got []wire.Codec
		for codec, passed := range source.(*Source).passedOn {
			if passed {
				got = append(got, wire.Codec(codec))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if err := connectors.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPassedOnStrangeHeader: a header that no sink would pass on is checked at once, before it moves the position.
func TestPassedOnStrangeHeader(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	records := numbered("in", 0, 10)
	for _, r := range records {
		r.Value = make([]byte, smallBatchBytes)
	}
	produce(t, franz(t, f), records...)
	const atLastOffsetDelta = 23
	damage(t, f, 1, records, func(batch []byte) { batch[atLastOffsetDelta+1] ^= 0x10 })
	r := startChangedSource(t, func(s *Source) { s.passedOn[wire.None] = true }, properties(f, propRetryBackoff, "5"), position("in", 0, 0, -1))
	r.until("in", 0, 10)
}

// TestEpochsArePlausible: no checksum covers the epoch of a batch, and it goes into checkpoints.
func TestEpochsArePlausible(t *testing.T) {
	for _, c := range []struct{ last, leader, batch, want int32 }{
		{-1, 5, 3, 3}, {3, 5, 5, 5}, {3, 5, 6, 3}, {3, 5, 2, 3}, {3, -1, 9, 9}, {3, 5, -1, 3}, {-1, 0, -1, -1},
	} {
		sp := &split{Position: manifest.Position{LeaderEpoch: c.last}, leader: wire.Leader{Epoch: c.leader}}
		if got := sp.plausible(c.batch); got != c.want {
			t.Errorf("a batch of epoch %d after %d, the leader has %d: %d, want %d", c.batch, c.last, c.leader, got, c.want)
		}
	}
}

// lastBit is of the last record's headers.
func lastBit(batch []byte) { batch[len(batch)-1] ^= 1 }

// damage answers the first fetches with a batch in which a bit is wrong.
func damage(t testing.TB, f *kfake.Cluster, times int, records []*kgo.Record, change func(batch []byte)) {
	t.Helper()
	var w wire.Builder
	for _, r := range records {
		w.AppendRecord(r.Timestamp.UnixMilli(), r.Key, r.Value, nil)
	}
	batch, err := w.Finish(wire.NoProducer, nil)
	if err != nil {
		t.Fatal(err)
	}
	change(batch)
	n := 0
	f.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if n++; n > times {
			f.DropControl()
			return nil, nil, false
		}
		f.KeepControl()
		out := req.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = "in"
		part := kmsg.NewFetchResponseTopicPartition()
		part.RecordBatches, part.HighWatermark = batch, int64(len(records))
		topic.Partitions = append(topic.Partitions, part)
		out.Topics = append(out.Topics, topic)
		return out, nil, true
	})
}

// TestSourceBehind: a leader that counts less of the log as replicated than was read is waited for, however long, and says so.
func TestSourceBehind(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	cl := franz(t, f)
	produce(t, cl, numbered("in", 0, 10)...)
	var lags atomic.Bool
	lags.Store(true)
	f.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if !lags.Load() {
			return nil, nil, false
		}
		f.KeepControl()
		res := fetchError(req.(*kmsg.FetchRequest), 0)
		res.(*kmsg.FetchResponse).Topics[0].Partitions[0].HighWatermark = 4
		return res, nil, true
	})
	reasons := make(chan string, 1000)
	src, err := NewSource(SourceConfig{Kafka: kafkaSource(properties(f, propRetryBackoff, "5")), Connections: newConnections(t), Positions: []positionOf{position("in", 0, 10, -1)},
		Status: func(reason string) { reasons <- reason }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx) }()
	if reason := <-reasons; !strings.Contains(reason, "replicated up to 4, and the position is 10") {
		t.Errorf("it waits for %q", reason)
	}
	produce(t, cl, numbered("in", 0, 1)...)
	lags.Store(false)
	b := <-src.Batches()
	b.Release()
	if reason := <-reasons; reason != "" {
		t.Errorf("it reads again and waits for %q", reason)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
