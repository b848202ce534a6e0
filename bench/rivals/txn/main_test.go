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

// The copy is complete and in order, in many transactions and in one.
func TestCopy(t *testing.T) {
	kafka := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	kafka.CreateTopic(t, "in", 4, nil)
	for round := range 5 { // a batch each
		var records []*kgo.Record
		for i := range 300 {
			records = append(records, &kgo.Record{Topic: "in", Partition: int32(i % 3), Value: fmt.Appendf(nil, "%d-%d", round, i), Timestamp: time.UnixMilli(int64(1000 + i))})
		}
		kafka.Produce(t, records)
	}
	for name, interval := range map[string]time.Duration{"many": time.Nanosecond, "one": time.Hour} {
		t.Run(name, func(t *testing.T) {
			kafka.CreateTopic(t, name, 4, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var n counters
			if err := copyAll(ctx, settings{brokers: kafka.Addr(), source: "in", target: name, interval: interval, ids: 2}, &n); err != nil {
				t.Fatal(err)
			}
			if want := text(kafka.Read(t, "in")); !slices.Equal(text(kafka.Read(t, name)), want) || n.records.Load() != uint64(len(want)) {
				t.Errorf("%d records counted, or the copy differs from the %d of the source", n.records.Load(), len(want))
			}
			if got := n.transactions.Load(); (name == "one") != (got == 3) || got < 3 {
				t.Errorf("%d transactions for 3 partitions", got)
			}
		})
	}
}

func text(records []*kgo.Record) (out []string) {
	for _, r := range records {
		out = append(out, fmt.Sprintf("%d %s %d", r.Partition, r.Value, r.Timestamp.UnixMilli()))
	}
	return out
}

func TestRefusals(t *testing.T) {
	kafka := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	for name, s := range map[string]settings{
		"one id": {brokers: kafka.Addr(), source: "in", target: "out", ids: 1}, "no topic": {brokers: kafka.Addr(), source: "nothing", target: "out", ids: 2},
	} {
		if err := copyAll(t.Context(), s, &counters{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
