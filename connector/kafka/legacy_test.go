package kafka

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// TestLegacyRefusals: what brokers before 0.11 cannot do is refused before anybody is asked, with the way out.
func TestLegacyRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*graph.KafkaSource)
		want   string // empty: not refused
	}{
		{"earliest", func(*graph.KafkaSource) {}, ""},
		{"no group, default storage", func(k *graph.KafkaSource) { k.Offsets = graph.OffsetsKafka }, ""},
		{"offsets in Kafka", func(k *graph.KafkaSource) { k.Offsets, k.Properties[propGroup] = graph.OffsetsKafka, "g" },
			"broker.version: 0.8.2: offsets are not written to Kafka with brokers before 0.11; set offsets: {storage: zookeeper} or {storage: none}"},
		{"offsets in both", func(k *graph.KafkaSource) { k.Offsets, k.Properties[propGroup] = graph.OffsetsBoth, "g" }, "offsets are not written to Kafka"},
		{"offsets in ZooKeeper", func(k *graph.KafkaSource) { k.Offsets, k.Properties[propGroup] = graph.OffsetsZooKeeper, "g" }, ""},
		{"no offsets", func(k *graph.KafkaSource) { k.Offsets, k.Properties[propGroup] = graph.OffsetsNone, "g" }, ""},
		{"committed in Kafka", func(k *graph.KafkaSource) {
			k.Startup.Mode, k.Offsets, k.Properties[propGroup] = graph.StartCommitted, graph.OffsetsKafka, "g"
		}, "startup: committed finds none; set offsets: {storage: zookeeper}, or startup: earliest"},
		{"committed in ZooKeeper", func(k *graph.KafkaSource) {
			k.Startup.Mode, k.Offsets, k.Properties[propGroup] = graph.StartCommitted, graph.OffsetsZooKeeper, "g"
		}, ""},
		{"timestamp", func(k *graph.KafkaSource) {
			k.Startup = graph.Startup{Mode: graph.StartTimestamp, Timestamp: time.UnixMilli(1)}
		}, "only as precisely as the segments of their logs; use earliest, latest or {offsets: …}"},
		{"bounded by a timestamp", func(k *graph.KafkaSource) {
			k.Bounded = graph.Bound{Mode: graph.BoundTimestamp, Timestamp: time.UnixMilli(1)}
		}, "only as precisely as the segments"},
		{"dead letters", func(k *graph.KafkaSource) { k.OnError = graph.OnError{Policy: graph.DeadLetter} }, "dead letters carry headers"},
		{"group", func(k *graph.KafkaSource) { k.Mode = graph.ModeGroup }, "remove mode: group"},
		{"group as it has to be", func(k *graph.KafkaSource) {
			k.Mode, k.Startup.Mode, k.Offsets, k.Properties[propGroup] = graph.ModeGroup, graph.StartCommitted, graph.OffsetsKafka, "g"
		}, "remove mode: group"},
	} {
		k := &graph.KafkaSource{Topics: []string{"t"}, Properties: map[string]string{propBootstrap: "a:1", propBrokerVersion: "0.8.2"}}
		k.Startup.Mode, k.Offsets = graph.StartEarliest, graph.OffsetsNone
		c.change(k)
		err := checkSource(&graph.Source{Name: "s", Kafka: k})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		delete(k.Properties, propBrokerVersion)
		if err := checkSource(&graph.Source{Name: "s", Kafka: k}); err != nil {
			t.Errorf("%s without broker.version: %v", c.name, err)
		}
	}
	for guarantee, want := range map[graph.Guarantee]string{
		graph.NoGuarantee: "", graph.AtLeastOnce: "",
		graph.ExactlyOnce: "broker.version: 0.9.0: guarantee: exactly-once needs transactions, which came with Kafka 0.11; use guarantee: at-least-once",
	} {
		err := checkLegacySink(&graph.KafkaSink{Guarantee: guarantee, Properties: map[string]string{propBrokerVersion: "0.9.0"}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", guarantee, err, want)
		}
	}
}
