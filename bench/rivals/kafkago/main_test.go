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
	const n = 24_000 // more than one batch in each of two partitions
	for i := range n {
		word := []string{"yes", "no", "yesterday"}[i%3]
		records = append(records, &kgo.Record{Topic: "in", Partition: int32(i % 2), Value: fmt.Appendf(nil, "%s %d", word, i), Timestamp: time.UnixMilli(int64(1000 + i))})
	}
	cluster.Produce(t, records)
	for name, c := range map[string]struct {
		prefix, word, compression string
		want                      uint64
	}{"all": {compression: "none", want: n}, "prefix": {prefix: "yes", compression: "lz4", want: n / 3 * 2}, "word": {word: "yes", compression: "none", want: n / 3}} {
		t.Run(name, func(t *testing.T) {
			cluster.CreateTopic(t, name, 4, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			s := settings{brokers: cluster.Addr(), source: "in", target: name, compression: c.compression, task: task.Task{Prefix: c.prefix, Word: c.word}}
			var counted counters
			if err := copyAll(ctx, s, &counted); err != nil || counted.in.Load() != n || counted.out.Load() != c.want {
				t.Fatalf("%d in, %d out, %v; want %d and %d", counted.in.Load(), counted.out.Load(), err, n, c.want)
			}
			var want, got []string
			for _, r := range cluster.Read(t, "in") {
				if word, _, _ := strings.Cut(string(r.Value), " "); strings.HasPrefix(word, c.prefix) && (c.word == "" || word == c.word) {
					want = append(want, text(r))
				}
			}
			for _, r := range cluster.Read(t, name) {
				got = append(got, text(r))
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %d records, want %d, all equal", len(got), len(want))
			}
		})
	}
}

func text(r *kgo.Record) string {
	return fmt.Sprintf("%d %s %d", r.Partition, r.Value, r.Timestamp.UnixMilli())
}

func TestRefused(t *testing.T) {
	for _, bad := range []settings{{compression: "zip"}, {compression: "none", task: task.Task{Count: true}}} {
		if err := copyAll(t.Context(), bad, &counters{}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
