package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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
	for _, broker := range client.SeedBrokers() {
		if err := w.waitKnown(ctx, broker); err != nil {
			return fmt.Errorf("create topics at %v: %w", brokers, err)
		}
	}
	return nil
}

// knownEvery is how often a broker is asked for new topics.
const knownEvery = 20 * time.Millisecond

// waitKnown waits until a broker tells the leaders of all partitions: the one that made the topics is ahead of others,
// and a job that asks one of those would be refused.
func (w *Workload) waitKnown(ctx context.Context, broker *kgo.Broker) error {
	request := kmsg.NewPtrMetadataRequest()
	for _, t := range w.Topics() {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(t.Name)
		request.Topics = append(request.Topics, topic)
	}
	for {
		response, err := broker.RetriableRequest(ctx, request)
		if err != nil {
			return fmt.Errorf("asking a broker for the new topics: %w", err)
		}
		if led(response.(*kmsg.MetadataResponse)) {
			return nil
		}
		select {
		case <-time.After(knownEvery):
		case <-ctx.Done():
			return fmt.Errorf("waiting until a broker knows the new topics: %w", context.Cause(ctx))
		}
	}
}

// led says that every partition of the answer has a leader.
func led(response *kmsg.MetadataResponse) bool {
	for _, t := range response.Topics {
		if t.ErrorCode != 0 || len(t.Partitions) == 0 {
			return false
		}
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 || p.Leader < 0 {
				return false
			}
		}
	}
	return true
}
