package kafka

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/graph"
)

// exactlyOnce is jobOf with a sink that has transactions, and checkpoints.
func exactlyOnce(f *kfake.Cluster, change func(*graph.Job)) *graph.Job {
	job := jobOf(f, func(*graph.KafkaSource) {})
	job.Sinks[0].Kafka.Guarantee = graph.ExactlyOnce
	job.Checkpoint.Interval = time.Second
	change(job)
	return job
}

func set(name, value string) func(*graph.Job) {
	return func(j *graph.Job) { j.Sinks[0].Kafka.Properties[name] = value }
}

func TestCheckTransactionTimeout(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"), kfake.BrokerConfigs(map[string]string{brokerLimit: "800000"}))
	closed := startFake(t, kfake.SeedTopics(1, "in", "out"))
	closed.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		closed.KeepControl()
		res := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		r := kmsg.NewDescribeConfigsResponseResource()
		r.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		res.Resources = append(res.Resources, r)
		return res, nil, true
	})
	tests := []struct {
		name string
		job  *graph.Job
		want string
	}{
		{"at the limit", exactlyOnce(f, set(propTransactionTimeout, "800000")), ""},
		{"above", exactlyOnce(f, set(propTransactionTimeout, "800001")), "sink z: transaction.timeout.ms: 800001 is above the broker's transaction.max.timeout.ms (800000); lower it, or raise transaction.max.timeout.ms on all brokers"},
		{"the default is above", exactlyOnce(f, func(*graph.Job) {}), "sink z: transaction.timeout.ms: 900000 is above the broker's transaction.max.timeout.ms (800000)"},
		{"the limit is a secret", exactlyOnce(closed, set(propTransactionTimeout, "900001")), "sink z: transaction.timeout.ms: 900001 is above the broker's transaction.max.timeout.ms (which it does not tell)"},
		{"as long as two checkpoints", exactlyOnce(f, set(propTransactionTimeout, "301250")), ""},
		{"two short checkpoints", exactlyOnce(f, func(j *graph.Job) {
			j.Checkpoint.Timeout, j.Sinks[0].Kafka.Properties[propTransactionTimeout] = 10*time.Second, "51000"
		}), ""},
		{"two checkpoints far apart", exactlyOnce(f, func(j *graph.Job) { j.Checkpoint.MinPause = 20 * time.Minute }),
			"sink z: transaction.timeout.ms: 900000 is too short: checkpoint.minPause 20m0s + 2 × checkpoint.timeout 2m0s, and 30s or a fifth of it that must be left, make 1800000 ms; raise it to 1800000 or more (the brokers' transaction.max.timeout.ms allowing), or shorten checkpoint.timeout or checkpoint.minPause"},
		{"too short for two checkpoints", exactlyOnce(f, set(propTransactionTimeout, "301249")),
			"sink z: transaction.timeout.ms: 301249 is too short: checkpoint.interval 1s + 2 × checkpoint.timeout 2m0s, and 30s or a fifth of it that must be left, make 301250 ms; raise it to 301250 or more (the brokers' transaction.max.timeout.ms allowing), or shorten checkpoint.timeout or checkpoint.interval"},
		{"at-least-once has none", exactlyOnce(f, func(j *graph.Job) { j.Sinks[0].Kafka.Guarantee = graph.AtLeastOnce }), ""},
	}
	for _, test := range tests {
		err := newAdmin(t).Check(testContext(t), test.job)
		if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

// TestProbe: sinks that have the question in common ask once, under one id, and wait for a fresh cluster.
func TestProbe(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"))
	var asked atomic.Int64
	var ids []string
	fresh := []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions}
	f.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		r := req.(*kmsg.InitProducerIDRequest)
		if r.TransactionalID == nil {
			return nil, nil, false
		}
		ids = append(ids, *r.TransactionalID)
		n := int(asked.Add(1)) - 1
		if n >= len(fresh) {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		res.ErrorCode = fresh[n].Code
		return res, nil, true
	})
	job := exactlyOnce(f, func(j *graph.Job) {
		j.Sinks[0].Kafka.TransactionalIDPrefix = "team-a."
		j.Sinks = append(j.Sinks, j.Sinks[0])
		j.Sinks[1].Name = "y"
	})
	if err := newAdmin(t).CheckTransactions(testContext(t), job); err != nil {
		t.Fatal(err)
	}
	want := []string{"team-a.sluice-probe", "team-a.sluice-probe", "team-a.sluice-probe", "team-a.sluice-probe", "team-a.sluice-probe"}
	if d := cmp.Diff(want, ids); d != "" {
		t.Error(d)
	}
}

// TestProbeForbidden: missing permissions are found when the job is submitted.
func TestProbeForbidden(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"))
	f.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		if req.(*kmsg.InitProducerIDRequest).TransactionalID == nil {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		res.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return res, nil, true
	})
	err := newAdmin(t).Check(testContext(t), exactlyOnce(f, func(*graph.Job) {}))
	if err == nil || !strings.HasPrefix(err.Error(), "sink z: ask for a transaction under the id sluice-probe: ") || !strings.Contains(err.Error(), "grant WRITE") {
		t.Errorf("error %v", err)
	}
}

func TestSinkPartitions(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(3, "in", "out"), kfake.SeedTopics(7, "wide"))
	job := exactlyOnce(f, func(j *graph.Job) {
		add := func(name string, change func(*graph.KafkaSink)) {
			k := *j.Sinks[0].Kafka
			change(&k)
			j.Sinks = append(j.Sinks, graph.Sink{Name: name, Kafka: &k})
		}
		add("wide", func(k *graph.KafkaSink) { k.Topic = "wide" })
		add("dynamic", func(k *graph.KafkaSink) { k.Topic, k.TopicExpression = "", "topic" })
		add("gone", func(k *graph.KafkaSink) { k.Topic = "gone" })
		add("plain", func(k *graph.KafkaSink) { k.Guarantee = graph.AtLeastOnce })
		j.Sinks = append(j.Sinks, graph.Sink{Name: "screen", Print: &graph.PrintSink{}})
	})
	if d := cmp.Diff(map[string]int{"z": 3, "wide": 7}, newAdmin(t).SinkPartitions(testContext(t), job)); d != "" {
		t.Error(d)
	}
}
