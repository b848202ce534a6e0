package kafka

import (
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/sluice-stream/sluice/graph"
)

// buryingJob is exactly-once from source s to sink z, and has dead letters.
func buryingJob(source, sink map[string]string) *graph.Job {
	job := &graph.Job{
		Name: "j", Sources: []graph.Source{{Name: "s", Kafka: &graph.KafkaSource{Topics: []string{"in"}, Properties: source,
			Startup: graph.Startup{Mode: graph.StartEarliest}, OnError: graph.OnError{Policy: graph.DeadLetter, DeadLetterTopic: "dead"}}}},
		Sinks: []graph.Sink{{Name: "z", From: []string{"s"}, Kafka: &graph.KafkaSink{Topic: "out", Guarantee: graph.ExactlyOnce, TransactionalIDPrefix: "team-", Properties: sink}}},
	}
	job.Checkpoint.Interval = time.Second
	job.SetDefaults()
	return job
}

// TestDeadLetterSink: it connects as its source does, without what only a source has, and has the transactions
// of the exactly-once sink if that is on the same cluster.
func TestDeadLetterSink(t *testing.T) {
	t.Parallel()
	source := map[string]string{propBootstrap: "a:1", propClientID: "source", propFetchMaxWait: "50", propGroup: "g"}
	for _, test := range []struct {
		servers, timeoutMs, prefix string
		want                       map[string]string
	}{
		{"a:1", "300000", "team-", map[string]string{propBootstrap: "a:1", propClientID: "source", propTransactionTimeout: "300000"}},
		{"a:1", "1200000", "team-", map[string]string{propBootstrap: "a:1", propClientID: "source", propTransactionTimeout: "1200000"}},
		{"b:2", "300000", "", map[string]string{propBootstrap: "a:1", propClientID: "source", propTransactionTimeout: "300000"}},
		{"b:2", "1200000", "", map[string]string{propBootstrap: "a:1", propClientID: "source"}}, // its brokers may not allow it
	} {
		job := buryingJob(source, map[string]string{propBootstrap: test.servers, propClientID: "sink", propTransactionTimeout: test.timeoutMs})
		sinks := sinksOf(job)
		if len(sinks) != 2 || sinkPart(&sinks[0]) != "sink z" || sinkPart(&sinks[1]) != "dead letters of source s" {
			t.Fatalf("sinks %+v", sinks)
		}
		k := sinks[1].Kafka
		if !maps.Equal(k.Properties, test.want) || k.Topic != "dead" || k.Guarantee != graph.ExactlyOnce || k.TransactionalIDPrefix != test.prefix {
			t.Errorf("the sink at %s: %+v", test.servers, k)
		}
		if _, err := Resolve(graph.KindSink, k.Properties); err != nil {
			t.Errorf("the sink at %s: %v", test.servers, err)
		}
		// what it wrote is committed as it connects itself, in whichever vertex it is
		cfg, err := sinkConnection(job, graph.DeadLetterName("s", "some-vertex"), "a:1")
		if err != nil || cfg.connection[propClientID] != "source" {
			t.Errorf("error %v, connection %v", err, cfg.connection)
		}
	}
	if len(source) != 4 {
		t.Errorf("the properties of the source became %v", source)
	}
}

// TestDeadLetterCheck: a submit is refused if the topic does not exist, or the brokers do not allow the
// transactions.
func TestDeadLetterCheck(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"))
	job := buryingJob(properties(f), forSink(f))
	err := newAdmin(t).Check(testContext(t), job)
	if err == nil || !strings.Contains(err.Error(), "dead letters of source s: topic dead: it does not exist") {
		t.Errorf("error %v", err)
	}
	g := startFake(t, kfake.SeedTopics(1, "in", "out", "dead"))
	job = buryingJob(properties(g), forSink(g, propTransactionTimeout, "10000"))
	if err = newAdmin(t).Check(testContext(t), job); err == nil || !strings.Contains(err.Error(), "dead letters of source s: "+propTransactionTimeout) {
		t.Errorf("error %v", err)
	}
	job = buryingJob(properties(g), forSink(g))
	if err = newAdmin(t).Check(testContext(t), job); err != nil {
		t.Error(err)
	}
}

// TestDeadLetterTimeoutDefault: what graph takes for the default is that of the property.
func TestDeadLetterTimeoutDefault(t *testing.T) {
	t.Parallel()
	cfg, err := Resolve(graph.KindSink, map[string]string{propBootstrap: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	for ms, copied := range map[int64]bool{cfg.Produce.TransactionTimeout.Milliseconds() - 1: true, cfg.Produce.TransactionTimeout.Milliseconds(): false} {
		job := buryingJob(map[string]string{propBootstrap: "a:1"}, map[string]string{propBootstrap: "b:2", propTransactionTimeout: strconv.FormatInt(ms, 10)})
		if _, got := sinksOf(job)[1].Kafka.Properties[propTransactionTimeout]; got != copied {
			t.Errorf("%d ms: taken over %t, want %t", ms, got, copied)
		}
	}
}
