package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/machine"
)

// sinkPartitions are those of the topic that exactly-once sinks write to.
const sinkPartitions = 16

// broker is what the jobs read from and write to.
type broker struct {
	bootstrap string
	pid       int // 0: it is kfake, in this process
	close     func() error
}

// startBroker starts kfake in this process, or a real Kafka of one broker, with a topic "in" of so many partitions
// and a topic "out".
func startBroker(ctx context.Context, kind kafkaenv.Kind, partitions int32) (*broker, error) {
	if kind == kafkaenv.Fake {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "in"), kfake.SeedTopics(sinkPartitions, "out"))
		if err != nil {
			return nil, fmt.Errorf("starting kfake: %w", err)
		}
		return &broker{bootstrap: strings.Join(cluster.ListenAddrs(), ","), close: func() error { cluster.Close(); return nil }}, nil
	}
	cluster, err := kafkaenv.Open(ctx, kafkaenv.Options{Kind: kind, Benchmark: true})
	if err != nil {
		return nil, err
	}
	b := &broker{bootstrap: cluster.Addr(), close: cluster.Close}
	if b.pid, err = machine.ChildPid("java"); err == nil {
		err = b.createTopics(ctx, partitions)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *broker) createTopics(ctx context.Context, partitions int32) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(b.bootstrap, ",")...))
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	defer client.Close()
	for topic, n := range map[string]int32{"in": partitions, "out": sinkPartitions} {
		if _, err := kadm.NewClient(client).CreateTopic(ctx, n, 1, nil, topic); err != nil {
			return fmt.Errorf("creating topic %s: %w", topic, err)
		}
	}
	return nil
}
