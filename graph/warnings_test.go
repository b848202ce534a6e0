package graph

import (
	"strings"
	"testing"
)

// TestMixedPolicies: who reads a topic with two policies is told where the stricter one counts.
func TestMixedPolicies(t *testing.T) {
	const want = "sources.b.kafka.onError: sources a and b both read topic \"t\" and meet at both: there the stricter policy counts; give both sources the same onError"
	for _, test := range []struct {
		name string
		job  string
		more func(*Job)
		want string
	}{
		{"the same topic", "source a onError=skip\nsource b onError=fail\noperator both a,b filter=f\nsink z both", nil, want},
		{"the same policy", "source a onError=skip\nsource b onError=skip\noperator both a,b filter=f\nsink z both", nil, ""},
		{"they do not meet", "source a onError=skip\nsource b onError=fail\nsink y a\nsink z b", nil, ""},
		{"other topics", "source a onError=skip\nsource b onError=fail\noperator both a,b filter=f\nsink z both", func(j *Job) { j.Sources[1].Kafka.Topics = []string{"u"} }, ""},
		{"a pattern", "source a onError=skip\nsource b onError=fail\noperator both a,b filter=f\nsink z both",
			func(j *Job) { j.Sources[1].Kafka.Topics, j.Sources[1].Kafka.TopicPattern = nil, "[a-z]" }, want},
		{"two topics of dead letters", "source a onError=deadLetter deadLetter=d\nsource b onError=deadLetter deadLetter=e\noperator both a,b filter=f\nsink z both", nil, want},
	} {
		job := parseJob(t, "job j p=1\n"+test.job)
		if test.more != nil {
			test.more(job)
		}
		var got []string
		for _, p := range Warnings(job) {
			got = append(got, p.String())
		}
		if text := strings.Join(got, "\n"); text != test.want {
			t.Errorf("%s: %s\nwant %s", test.name, text, test.want)
		}
	}
}

// TestLoops: a sink that feeds its own source is told, unless that source ends or another cluster is meant.
func TestLoops(t *testing.T) {
	const want = `sinks.z.kafka.topic: sink z writes to topic "t", which source s reads: what it writes comes back for ever; name another topic, or filter what comes back`
	for name, test := range map[string]struct {
		change func(source *KafkaSource, sink *KafkaSink)
		want   string
	}{
		"the same topic":  {func(*KafkaSource, *KafkaSink) {}, want},
		"a pattern":       {func(k *KafkaSource, _ *KafkaSink) { k.Topics, k.TopicPattern = nil, "t.*" }, want},
		"partitions":      {func(k *KafkaSource, _ *KafkaSink) { k.Topics, k.Partitions = nil, map[string][]int32{"t": {0}} }, want},
		"another topic":   {func(_ *KafkaSource, z *KafkaSink) { z.Topic = "u" }, ""},
		"another cluster": {func(_ *KafkaSource, z *KafkaSink) { z.Properties = map[string]string{propServers: "b:1"} }, ""},
		"bounded":         {func(k *KafkaSource, _ *KafkaSink) { k.Bounded.Mode = BoundLatest }, ""},
		"an expression":   {func(_ *KafkaSource, z *KafkaSink) { z.Topic, z.TopicExpression = "", "topic" }, ""},
	} {
		job := validJob()
		source, sink := job.Sources[0].Kafka, job.Sinks[0].Kafka
		source.Properties, sink.Properties = map[string]string{propServers: "a:1"}, map[string]string{propServers: "a:1"}
		test.change(source, sink)
		var got []string
		for _, p := range Warnings(job) {
			got = append(got, p.String())
		}
		if text := strings.Join(got, "\n"); text != test.want {
			t.Errorf("%s: %s\nwant %s", name, text, test.want)
		}
	}
}
