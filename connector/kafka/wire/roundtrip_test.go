package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/operator"
)

var codecs = []struct {
	codec Codec
	franz kgo.CompressionCodec
}{
	{None, kgo.NoCompression()}, {Gzip, kgo.GzipCompression()}, {Snappy, kgo.SnappyCompression()}, {LZ4, kgo.Lz4Compression()}, {Zstd, kgo.ZstdCompression()},
}

// awkward holds every shape of record that a topic may have.
func awkward() []*kgo.Record {
	at := time.UnixMilli(1_700_000_000_000)
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 70_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	out := []*kgo.Record{
		{Key: nil, Value: nil, Timestamp: at},
		{Key: []byte{}, Value: []byte{}, Timestamp: at},
		{Key: []byte("k"), Value: nil, Timestamp: at.Add(-time.Hour)},
		{Key: nil, Value: []byte("v"), Timestamp: at.Add(time.Hour)},
		{Key: []byte("h"), Value: []byte("v"), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "", Value: []byte{}}}},
		{Key: []byte("big"), Value: bytes.Repeat([]byte("sluice "), 20_000), Timestamp: at},
		{Key: []byte("noise"), Value: noise, Timestamp: at},
	}
	for i := range 300 {
		out = append(out, &kgo.Record{Key: fmt.Appendf(nil, "key-%d", i), Value: noise[i : i+i%100], Timestamp: at.Add(time.Duration(i) * time.Millisecond)})
	}
	return out
}

func TestFranzWritesWeRead(t *testing.T) {
	for _, c := range codecs {
		t.Run(c.codec.String(), func(t *testing.T) {
			f := startFake(t, kfake.SeedTopics(1, "t"))
			cl := franz(t, f, kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(c.franz))
			want := awkward()
			if err := cl.ProduceSync(testContext(t), want...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			got := fetchAll(t, openCluster(t, f), "t", 0, 0, ReadCommitted)
			compareRecords(t, want, got)
		})
	}
}

func TestWeWriteFranzReads(t *testing.T) {
	for _, c := range codecs {
		t.Run(c.codec.String(), func(t *testing.T) {
			f := startFake(t, kfake.SeedTopics(2, "t"))
			cl := openCluster(t, f)
			z, err := NewCompressor(c.codec, 0)
			if err != nil {
				t.Fatal(err)
			}
			want := awkward()
			var w Builder
			appendAll(&w, want)
			data, err := w.Finish(NoProducer, z)
			if err != nil {
				t.Fatal(err)
			}
			res, err := cl.Produce(testContext(t), leaderOf(t, cl, "t", 1), &ProduceRequest{Acks: -1, Batches: []ProduceBatch{{Topic: "t", Partition: 1, Data: data}}})
			if err != nil {
				t.Fatal(err)
			}
			if res[0].Err != nil || res[0].BaseOffset != 0 {
				t.Fatalf("result %+v", res[0])
			}
			reader := franz(t, f, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {1: kgo.NewOffset().At(0)}}))
			compareRecords(t, want, consume(t, reader, len(want)))
			compareRecords(t, want, fetchAll(t, cl, "t", 1, 0, ReadUncommitted))
		})
	}
}

// TestPassThrough sends fetched batches on with a new header only.
func TestPassThrough(t *testing.T) {
	for _, c := range codecs {
		t.Run(c.codec.String(), func(t *testing.T) {
			f := startFake(t, kfake.SeedTopics(1, "in", "out"))
			want := awkward()
			if err := franz(t, f, kgo.DefaultProduceTopic("in"), kgo.ProducerBatchCompression(c.franz)).ProduceSync(testContext(t), want...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			cl := openCluster(t, f)
			p, err := cl.InitProducerID(testContext(t), "", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			leader := leaderOf(t, cl, "in", 0)
			res, err := cl.Fetch(testContext(t), leader, &FetchRequest{MaxWait: time.Second, Partitions: []FetchPartition{{Topic: "in", LeaderEpoch: -1}}})
			if err != nil {
				t.Fatal(err)
			}
			defer res.Release()
			for {
				b, err := res.Partitions[0].Next()
				if err != nil {
					t.Fatal(err)
				}
				if b == nil {
					break
				}
				data, err := b.Rewrite(nil, p)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(data[HeaderSize:], b.Bytes()[HeaderSize:]) {
					t.Fatal("the records were touched")
				}
				p.Sequence = NextSequence(p.Sequence, b.Count())
				out, err := cl.Produce(testContext(t), leader, &ProduceRequest{Acks: -1, Batches: []ProduceBatch{{Topic: "out", Partition: 0, Data: data}}})
				if err != nil || out[0].Err != nil {
					t.Fatal(err, out)
				}
				b.Release()
			}
			compareRecords(t, want, fetchAll(t, cl, "out", 0, 0, ReadCommitted))
		})
	}
}

func appendAll(w *Builder, records []*kgo.Record) {
	b := new(operator.Batch)
	for _, r := range records {
		b.Reset()
		rec := operator.Record{Key: b.Put(r.Key), Value: b.Put(r.Value), Headers: operator.Null, Timestamp: r.Timestamp.UnixMilli()}
		if len(r.Headers) > 0 {
			var hs []RecordHeader
			for _, h := range r.Headers {
				hs = append(hs, RecordHeader{h.Key, h.Value})
			}
			rec.Headers = b.Put(AppendHeaders(nil, hs))
		}
		w.Append(b, &rec)
	}
}

func compareRecords(t *testing.T, want []*kgo.Record, got []shown) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i, r := range want {
		w := shownOf(r)
		w.Offset = int64(i)
		if !reflect.DeepEqual(w, got[i]) {
			t.Fatalf("record %d: %s", i, cmp.Diff(w, got[i]))
		}
	}
}
