package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

func TestLogEnds(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in"))
	produce(t, franz(t, f), numbered("in", 0, 10)...)
	open := franz(t, f, kgo.TransactionalID("open"))
	if err := open.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, open, numbered("in", 0, 3)...)
	var offsets kadm.Offsets
	offsets.AddOffset("in", 0, 7, -1)
	if err := kadm.NewClient(franz(t, f)).CommitAllOffsets(testContext(t), "g", offsets); err != nil {
		t.Fatal(err)
	}
	job := jobOf(f, func(k *graph.KafkaSource) { k.Properties[propGroup] = "g" })
	splits := []manifest.Split{{Source: "s", Topic: "in", Partition: 1}, {Source: "s", Topic: "in", Partition: 0}, {Source: "s", Topic: "in", Partition: 9}, {Source: "x", Topic: "in"}}
	want := []string{
		"high 0 stable 0 [kafka -1] <nil>",
		"high 13 stable 10 [kafka 7] <nil>",
		"high -1 stable -1 [kafka -1]", // and an error
		`high -1 stable -1 [] the job has no source "x" that reads from Kafka`,
	}
	ends := newAdmin(t).LogEnds(testContext(t), job, splits)
	for i, e := range ends {
		if got := printed(&e); e.Split != splits[i] || !strings.HasPrefix(got, want[i]) {
			t.Errorf("%v: got %s, want %s", splits[i], got, want[i])
		}
	}
	if ends[2].Err == nil {
		t.Error("nobody says that there is no partition 9")
	}
	if err := open.EndTransaction(testContext(t), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}

// Which partitions a group has is not in any checkpoint: they are listed, with what the group has committed.
func TestLogEndsOfAGroup(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in"))
	produce(t, franz(t, f), numbered("in", 1, 5)...)
	var offsets kadm.Offsets
	offsets.AddOffset("in", 1, 3, -1)
	if err := kadm.NewClient(franz(t, f)).CommitAllOffsets(testContext(t), "g", offsets); err != nil {
		t.Fatal(err)
	}
	job := jobOf(f, func(k *graph.KafkaSource) { k.Mode, k.Properties[propGroup] = graph.ModeGroup, "g" })
	known := manifest.Split{Source: "s", Topic: "in", Partition: 1}
	ends := newAdmin(t).LogEnds(testContext(t), job, []manifest.Split{known})
	if len(ends) != 2 || ends[0].Split != known || printed(&ends[0]) != "high 5 stable 5 [kafka 3] <nil>" || ends[1].Split.Partition != 0 {
		t.Errorf("%+v", ends)
	}
}

func printed(e *operator.LogEnd) string {
	var published []string
	for _, p := range e.Published {
		published = append(published, fmt.Sprintf("%s %d", p.Storage, p.Next))
	}
	return fmt.Sprintf("high %d stable %d %v %v", e.High, e.Stable, published, e.Err)
}

// Sources of a job fail one by one, each with a reason, and not after the deadline.
func TestLogEndsOfBrokersThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	job := jobOf(f, func(*graph.KafkaSource) {})
	down := &graph.KafkaSource{Topics: []string{"in"}, Properties: map[string]string{propBootstrap: fmt.Sprintf("127.0.0.1:%d", freePort(t)), propGroup: "g"}}
	job.Sources = append(job.Sources, graph.Source{Name: "down", Kafka: down})
	job.SetDefaults()
	ctx, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
	defer cancel()
	ends := newAdmin(t).LogEnds(ctx, job, []manifest.Split{{Source: "down", Topic: "in"}, {Source: "s", Topic: "in"}})
	if ends[0].Err == nil || ends[0].High != -1 || len(ends[0].Published) != 1 || ends[0].Published[0].Err == nil {
		t.Errorf("of a broker that is down: %+v", ends[0])
	}
	if ends[1].Err != nil || ends[1].High != 0 {
		t.Errorf("of one that answers: %+v", ends[1])
	}
}

func TestLookUpProperty(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"linger.ms", ""},
		{"linger.m", "linger.m: no such property; did you mean linger.ms?"},
		{"acks", "acks: it is set by Sluice"},
		{"nothing.like.it.at.all", "nothing.like.it.at.all: no such property"},
	} {
		p, err := LookUpProperty(c.name)
		var fault *PropertyError
		switch {
		case c.want == "" && (err != nil || p.Name != c.name):
			t.Errorf("%s: %+v, %v", c.name, p, err)
		case c.want != "" && (!errors.As(err, &fault) || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
