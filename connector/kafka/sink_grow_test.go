package kafka

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// TestSinkSeesNewPartitions: a record for a partition that the topic got while the sink runs is written there; one for a
// partition that it has not is refused without asking each time.
func TestSinkSeesNewPartitions(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "out"))
	asked := 0
	var mu sync.Mutex
	f.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		asked++
		return nil, nil, false
	})
	refused := 0
	by := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.ByExpression, Properties: forSink(f)}, func(c *SinkConfig) {
		c.Partition = func(b *operator.Batch, i int) (int32, error) { return b.Origins[b.Records[i].Origin].Partition, nil }
		c.Failed = func(*operator.Batch, int, string, error) error { refused++; return nil }
	})
	preserving := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f)})
	keyed := startSink(t, &graph.KafkaSink{Topic: "out", Properties: forSink(f)})
	key := &kgo.Record{Topic: "in", Key: []byte("key"), Value: []byte("by key")}
	for _, w := range []*writing{by, preserving, keyed} {
		w.write(batchOf(key))
		w.seal(1)
		w.sealed(1)
	}
	if _, err := kadm.NewClient(franz(t, f)).CreatePartitions(testContext(t), 2, "out"); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*writing{by, preserving, keyed} {
		waitFor(t, func() bool { return time.Since(w.sink.topics["out"].askedAt) > askAgainAfter }, "time to ask again")
		w.write(batchOf(&kgo.Record{Topic: "in", Partition: 3, Key: []byte("key"), Value: []byte("new")}))
		w.seal(2)
		w.sealed(2)
	}
	in := map[int32]int{}
	for _, r := range consume(t, f, "out", 6) {
		in[r.Partition]++
	}
	if kept := keyPartition([]byte("key"), 2); in[3] != 2 || in[kept] < 2 || in[0]+in[1] != 4 || refused != 0 {
		t.Errorf("records by partition %v, %d were refused; the key belongs to %d", in, refused, kept)
	}
	mu.Lock()
	before := asked
	mu.Unlock()
	for range 50 {
		by.write(batchOf(&kgo.Record{Topic: "in", Partition: 9}))
	}
	mu.Lock()
	defer mu.Unlock()
	if refused != 50 || asked-before > 10 {
		t.Errorf("%d refused, asked %d times for it", refused, asked-before)
	}
}

// TestPassedOnWithinLimit: what max.request.size refuses is refused in batches that could be passed on unopened, too.
func TestPassedOnWithinLimit(t *testing.T) {
	t.Parallel()
	for _, c := range codecs {
		f := startFake(t, kfake.SeedTopics(1, "in", "out"))
		cl := franz(t, f, kgo.ProducerBatchCompression(c.franz))
		records := numbered("in", 0, 5)
		records[2].Value = bytes.Repeat([]byte("0123456789"), 1000)
		produce(t, cl, records...)
		refused := 0
		w := startSink(t, &graph.KafkaSink{Topic: "out", Partitioner: graph.Preserve, Properties: forSink(f, propMaxRequest, "2048")}, func(cfg *SinkConfig) {
			cfg.Failed = func(*operator.Batch, int, string, error) error { refused++; return nil }
		})
		r := startSource(t, properties(f), position("in", 0, 0, 5))
		for n := 0; n < 5; {
			b := <-r.source.Batches()
			n += b.Batch.Len()
			w.write(b.Batch)
			b.Release()
		}
		w.seal(1)
		w.sealed(1)
		if out := consume(t, f, "out", 4); len(out) != 4 || refused != 1 {
			t.Errorf("%s: %d records, %d refused", c.name, len(out), refused)
		}
	}
}
