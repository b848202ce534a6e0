package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

func TestCopy(t *testing.T) {
	cluster := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	const perPartition = 20_000 // more than one recoded batch
	for name, codec := range map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "lz4": kgo.Lz4Compression()} {
		source := "in-" + name
		cluster.CreateTopic(t, source, 4, nil)
		cluster.Produce(t, someRecords(source, perPartition), kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(500_000))
		for _, s := range []settings{{}, {recode: true}, {recode: true, prefix: "yes"}} {
			s.brokers, s.source, s.target, s.compression = cluster.Addr(), source, fmt.Sprintf("out-%s-%t-%s", name, s.recode, s.prefix), name
			t.Run(s.target, func(t *testing.T) {
				cluster.CreateTopic(t, s.target, 4, nil)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				var n counters
				if err := copyAll(ctx, s, &n); err != nil {
					t.Fatal(err)
				}
				var want, got []string
				for _, r := range cluster.Read(t, source) {
					if strings.HasPrefix(string(r.Value), s.prefix) {
						want = append(want, text(r))
					}
				}
				for _, r := range cluster.Read(t, s.target) {
					got = append(got, text(r))
				}
				if !slices.Equal(got, want) || n.in.Load() != 2*perPartition || n.out.Load() != uint64(len(want)) {
					t.Errorf("%d in, %d out; %d records, want %d, all equal", n.in.Load(), n.out.Load(), len(got), len(want))
				}
			})
		}
	}
}

func someRecords(topic string, perPartition int) []*kgo.Record {
	var records []*kgo.Record
	for i := range 2 * perPartition {
		r := &kgo.Record{Topic: topic, Partition: int32(i % 2), Value: fmt.Appendf(nil, "%s %098d", []string{"yes", "no", "yesterday"}[i%3], i), Timestamp: time.UnixMilli(int64(1000 + i*7%11))}
		switch i % 5 {
		case 1:
			r.Key = fmt.Appendf(nil, "key-%d", i)
		case 2:
			r.Key, r.Headers = []byte{}, []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a"}}
		case 3:
			if i%9 == 0 {
				r.Value = nil
			}
		}
		records = append(records, r)
	}
	return records
}

func text(r *kgo.Record) string {
	return fmt.Sprintf("%d %q %t %q %t %v %d", r.Partition, r.Key, r.Key == nil, r.Value, r.Value == nil, r.Headers, r.Timestamp.UnixMilli())
}

func TestSettings(t *testing.T) {
	for _, bad := range []settings{{compression: "zip"}, {compression: "none", prefix: "x"}} {
		if err := bad.check(); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestDamage(t *testing.T) {
	var w builder
	w.reset()
	w.add(1, &record{value: []byte("value"), headers: []byte{0}})
	good := w.finish(w.bytes, codecNone)
	if b, err := firstBatch(good); err != nil || len(b) != len(good) || b.next() != 1 {
		t.Fatalf("%v, %v", b, err)
	}
	for i := atMagic; i < len(good); i++ {
		bad := slices.Clone(good)
		bad[i] ^= 1
		if _, err := firstBatch(bad); err == nil {
			t.Errorf("byte %d is changed, which nobody sees", i)
		}
	}
	if b, err := firstBatch(good[:len(good)-1]); b != nil || err != nil {
		t.Errorf("a batch that is cut short is %v, %v", b, err)
	}
}
