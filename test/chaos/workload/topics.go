package workload

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Topic is a topic to make.
type Topic struct {
	Name        string
	Partitions  int32
	Replication int16
	Configs     map[string]*string
}

// Topics are the topics of the job: input, compacted input, output.
func (w *Workload) Topics() []Topic {
	text := func(s string) *string { return &s }
	topic := func(name string) Topic {
		t := Topic{Name: name, Partitions: w.params.Partitions, Replication: w.params.Replication, Configs: map[string]*string{}}
		if t.Replication >= 3 {
			t.Configs["min.insync.replicas"] = text("2")
		}
		return t
	}
	compacted := topic(w.Compacted())
	compacted.Configs["cleanup.policy"] = text("compact")
	compacted.Configs["segment.ms"] = text("3000") // only closed segments are compacted
	compacted.Configs["min.cleanable.dirty.ratio"] = text("0.01")
	return []Topic{topic(w.In()), compacted, topic(w.Out())}
}

// CreateTopics makes the topics. A topic that is there already is an error: a run needs fresh ones.
func (w *Workload) CreateTopics(ctx context.Context, brokers ...string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return fmt.Errorf("create topics at %v: %w", brokers, err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for _, t := range w.Topics() {
		if _, err := admin.CreateTopic(ctx, t.Partitions, t.Replication, t.Configs, t.Name); err != nil {
			return fmt.Errorf("create topic %s: %w", t.Name, err)
		}
	}
	return nil
}
