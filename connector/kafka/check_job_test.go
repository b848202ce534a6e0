package kafka

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// TestCheckJob: what a submission would be refused for without a question to a broker is found beforehand, with the
// place and the way out, and once.
func TestCheckJob(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(job *graph.Job, in *graph.KafkaSource, out *graph.KafkaSink)
		want   string // the problem; empty: none
	}{
		{"nothing", func(*graph.Job, *graph.KafkaSource, *graph.KafkaSink) {}, ""},
		{"no group.id", func(_ *graph.Job, in *graph.KafkaSource, _ *graph.KafkaSink) { delete(in.Properties, propGroup) },
			`sources.in.kafka.properties["group.id"]: group.id: startup: committed needs it; add it, or set startup: earliest | latest`},
		{"no group.id, not needed", func(_ *graph.Job, in *graph.KafkaSource, _ *graph.KafkaSink) {
			delete(in.Properties, propGroup)
			in.Startup.Mode = graph.StartEarliest
		}, ""},
		{"no group.id, which mode: group needs", func(_ *graph.Job, in *graph.KafkaSource, _ *graph.KafkaSink) {
			delete(in.Properties, propGroup)
			in.Mode = graph.ModeGroup
		}, ""},
		{"no group.id, which ZooKeeper needs", func(_ *graph.Job, in *graph.KafkaSource, _ *graph.KafkaSink) {
			delete(in.Properties, propGroup)
			in.Offsets = graph.OffsetsZooKeeper
		}, ""},
		{"old broker", func(_ *graph.Job, in *graph.KafkaSource, _ *graph.KafkaSink) {
			in.Properties[propBrokerVersion] = "0.8.2"
		},
			`sources.in.kafka.properties["broker.version"]: broker.version: 0.8.2: offsets in Kafka are not read from brokers before 0.11`},
		{"exactly-once to an old broker", func(_ *graph.Job, _ *graph.KafkaSource, out *graph.KafkaSink) {
			out.Properties[propBrokerVersion] = "0.9.0"
		},
			`sinks.out.kafka.properties["broker.version"]: broker.version: 0.9.0: guarantee: exactly-once needs transactions`},
		{"short transactions", func(_ *graph.Job, _ *graph.KafkaSource, out *graph.KafkaSink) {
			out.Properties[propTransactionTimeout] = "60000"
		}, `sinks.out.kafka.properties["transaction.timeout.ms"]: transaction.timeout.ms: 60000 is too short: checkpoint.interval 1s + 2 × checkpoint.timeout 2m0s, and 30s or a fifth of it that must be left, make 301250 ms; raise it to 301250 or more`},
		{"long checkpoints", func(job *graph.Job, _ *graph.KafkaSource, _ *graph.KafkaSink) {
			job.Checkpoint.Timeout = 10 * time.Minute
		},
			`sinks.out.kafka.properties["transaction.timeout.ms"]: transaction.timeout.ms: 900000 is too short`},
		{"lingers until nobody may try it again", func(_ *graph.Job, _ *graph.KafkaSource, out *graph.KafkaSink) {
			out.Properties[propLinger], out.Properties[propDeliveryTimeout] = "30000", "30000"
		}, `sinks.out.kafka.properties["linger.ms"]: linger.ms: 30000 is not below delivery.timeout.ms, which is 30000 and begins with the first record of a batch; lower it`},
		{"lingers shorter", func(_ *graph.Job, _ *graph.KafkaSource, out *graph.KafkaSink) { out.Properties[propLinger] = "30000" }, ""},
		{"short transactions that are none", func(_ *graph.Job, _ *graph.KafkaSource, out *graph.KafkaSink) {
			out.Guarantee, out.Properties[propTransactionTimeout] = graph.AtLeastOnce, "60000"
		}, ""},
		{"said already", func(_ *graph.Job, _ *graph.KafkaSource, out *graph.KafkaSink) {
			out.Properties[propTransactionTimeout], out.Properties[propLinger] = "1", "600000"
		}, ""},
		{"no Kafka", func(job *graph.Job, _ *graph.KafkaSource, _ *graph.KafkaSink) {
			job.Sources[0].Kafka, job.Sinks[0].Kafka = nil, nil
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := &graph.KafkaSource{Topics: []string{"a"}, Properties: map[string]string{propBootstrap: "a:1", propGroup: "g"}}
			out := &graph.KafkaSink{Topic: "b", Guarantee: graph.ExactlyOnce, Properties: map[string]string{propBootstrap: "a:1"}}
			job := &graph.Job{Checkpoint: graph.Checkpointing{Interval: time.Second}, Sources: []graph.Source{{Name: "in", Kafka: in}}, Sinks: []graph.Sink{{Name: "out", From: []string{"in"}, Kafka: out}}}
			job.SetDefaults()
			c.change(job, in, out)
			var got []string
			for _, p := range CheckJob(job) {
				got = append(got, p.String())
				if p.Hint == "" {
					t.Errorf("%s: no way out", p)
				}
			}
			if text := strings.Join(got, "\n"); (text == "") != (c.want == "") || len(got) > 1 || !strings.HasPrefix(text, c.want) {
				t.Errorf("problems\n%s\nwant\n%s", text, c.want)
			}
		})
	}
}
