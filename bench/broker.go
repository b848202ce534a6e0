package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/machine"
)

const (
	// partitions is what every topic of the benchmark has; jobs run with the same parallelism.
	partitions = 4
	// brokerHeapMiB is Kafka's own default heap.
	brokerHeapMiB = 1024
	topicTimeout  = 60 * time.Second
)

// broker is the real Kafka of one run of the benchmark.
type broker struct {
	cluster *kafkaenv.Cluster
	addr    string
	pid     int
	client  *kgo.Client
	admin   *kadm.Client
}

func startBroker(ctx context.Context) (*broker, error) {
	cluster, err := kafkaenv.Open(ctx, kafkaenv.Options{
		Kind: kafkaenv.Kafka43, Benchmark: true, HeapMiB: brokerHeapMiB,
		Properties: map[string]string{"log.segment.delete.delay.ms": "1000"},
	})
	if err != nil {
		return nil, err
	}
	b := &broker{cluster: cluster, addr: cluster.Addr()}
	if b.client, err = kgo.NewClient(b.options()...); err != nil {
		return nil, errors.Join(fmt.Errorf("making a client: %w", err), cluster.Close())
	}
	b.admin = kadm.NewClient(b.client)
	if b.pid, err = machine.ChildPid("java"); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// options are those of every client of the benchmark itself; the rivals have their own.
func (b *broker) options(extra ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(b.addr, ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RequiredAcks(kgo.AllISRAcks()),
	}, extra...)
}

func (b *broker) close() error {
	b.client.Close()
	return b.cluster.Close()
}

// createTopic makes a topic and waits until its leaders answer.
func (b *broker) createTopic(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	if _, err := b.admin.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return fmt.Errorf("creating topic %s: %w", topic, err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := b.ends(ctx, topic)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for topic %s (%w): %w", topic, err, context.Cause(ctx))
		}
	}
}

func (b *broker) deleteTopic(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	if _, err := b.admin.DeleteTopic(ctx, topic); err != nil {
		return fmt.Errorf("deleting topic %s: %w", topic, err)
	}
	return nil
}

// ends gives the end offset of each partition, by partition.
func (b *broker) ends(ctx context.Context, topic string) ([partitions]int64, error) {
	var out [partitions]int64
	listed, err := b.admin.ListEndOffsets(ctx, topic)
	if err = errors.Join(err, listed.Error()); err != nil {
		return out, fmt.Errorf("listing the ends of %s: %w", topic, err)
	}
	if n := len(listed[topic]); n != partitions {
		return out, fmt.Errorf("topic %s has %d partitions, want %d", topic, n, partitions)
	}
	for partition, end := range listed[topic] {
		out[partition] = end.Offset
	}
	return out, nil
}
