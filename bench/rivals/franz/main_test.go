package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/bench/rivals/task"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

func TestCopy(t *testing.T) {
	cluster := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	cluster.CreateTopic(t, "in", 4, nil)
	var records []*kgo.Record
	for i := range 300 {
		word := []string{"yes", "no", "yesterday"}[i%3]
		records = append(records, &kgo.Record{Topic: "in", Partition: int32(i % 2), Value: fmt.Appendf(nil, "%s %d", word, i), Timestamp: time.UnixMilli(int64(1000 + i))})
	}
	cluster.Produce(t, records)
	for name, c := range map[string]struct {
		prefix, word string
		want         int64
	}{"all": {want: 300}, "prefix": {prefix: "yes", want: 200}, "word": {word: "yes", want: 100}} {
		t.Run(name, func(t *testing.T) {
			cluster.CreateTopic(t, name, 4, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			s := settings{brokers: cluster.Addr(), source: "in", target: name, compression: "lz4", task: task.Task{Prefix: c.prefix, Word: c.word}}
			ends, err := endsOf(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			in, out, err := copyAll(ctx, s, ends)
			if err != nil || in != 300 || out != c.want {
				t.Fatalf("%d in, %d out, %v; want 300 and %d", in, out, err, c.want)
			}
			var want []string
			for _, r := range cluster.Read(t, "in") {
				if word, _, _ := strings.Cut(string(r.Value), " "); strings.HasPrefix(word, c.prefix) && (c.word == "" || word == c.word) {
					want = append(want, text(r))
				}
			}
			var got []string
			for _, r := range cluster.Read(t, name) {
				got = append(got, text(r))
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
		})
	}
}

func TestCount(t *testing.T) {
	cluster := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	cluster.CreateTopic(t, "in", 4, nil)
	cluster.CreateTopic(t, "out", 4, nil)
	var records []*kgo.Record
	for i := range 300 {
		records = append(records, &kgo.Record{Topic: "in", Partition: int32(i % 4), Key: fmt.Appendf(nil, "key-%d", i%7), Value: []byte("x")})
	}
	cluster.Produce(t, records)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s := settings{brokers: cluster.Addr(), source: "in", target: "out", compression: "none", task: task.Task{Count: true}}
	ends, err := endsOf(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if in, out, err := copyAll(ctx, s, ends); err != nil || in != 300 || out != 300 {
		t.Fatalf("%d in, %d out, %v", in, out, err)
	}
	partition, count := map[string]int32{}, map[string]int{}
	for _, r := range cluster.Read(t, "out") {
		key := string(r.Key)
		count[key]++
		if string(r.Value) != fmt.Sprint(count[key]) {
			t.Errorf("count %d of %s is %s", count[key], key, r.Value)
		}
		if count[key] > 1 && partition[key] != r.Partition {
			t.Errorf("%s is in partitions %d and %d", key, partition[key], r.Partition)
		}
		partition[key] = r.Partition
	}
	if len(count) != 7 || count["key-0"] != 43 {
		t.Errorf("counts %v", count)
	}
}

func text(r *kgo.Record) string {
	return fmt.Sprintf("%d %s %d", r.Partition, r.Value, r.Timestamp.UnixMilli())
}
