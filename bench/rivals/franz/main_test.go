package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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
			s := settings{brokers: cluster.Addr(), source: "in", target: name, keep: test([]byte(c.prefix), []byte(c.word))}
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
				if s.keep == nil || s.keep(r.Value) {
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

func text(r *kgo.Record) string {
	return fmt.Sprintf("%d %s %d", r.Partition, r.Value, r.Timestamp.UnixMilli())
}
