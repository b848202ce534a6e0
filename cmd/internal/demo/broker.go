package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions = 4
	// topicTimeout bounds the making and the deletion of the two topics.
	topicTimeout = 15 * time.Second
)

// broker is where the demo runs, with its two topics. They are made for one run.
type broker struct {
	servers       []string
	input, output string
	embedded      *kfake.Cluster // nil: a real Kafka
}

// openBroker makes the topics on the brokers named, or on an embedded one.
func openBroker(ctx context.Context, bootstrapServers string) (*broker, error) {
	prefix := fmt.Sprintf("sluice-demo-%08x", rand.Uint32())
	b := &broker{input: prefix + "-in", output: prefix + "-out"}
	if bootstrapServers == "" {
		var err error
		if b.embedded, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, b.input, b.output)); err != nil {
			return nil, fmt.Errorf("start the embedded broker: %w", err)
		}
		b.servers = b.embedded.ListenAddrs()
		return b, nil
	}
	for _, server := range strings.Split(bootstrapServers, ",") {
		b.servers = append(b.servers, strings.TrimSpace(server))
	}
	return b, b.admin(ctx, "make the topics of the demo", func(ctx context.Context, admin *kadm.Client) error {
		made, err := admin.CreateTopics(ctx, partitions, -1, nil, b.input, b.output) // -1: the broker's default
		return errors.Join(err, made.Error())
	})
}

// close deletes the topics. An embedded broker ends with them.
func (b *broker) close() error {
	if b.embedded != nil {
		b.embedded.Close()
		return nil
	}
	return b.admin(context.Background(), "delete the topics of the demo", func(ctx context.Context, admin *kadm.Client) error {
		deleted, err := admin.DeleteTopics(ctx, b.input, b.output)
		return errors.Join(err, deleted.Error())
	})
}

func (b *broker) admin(ctx context.Context, what string, do func(context.Context, *kadm.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	cl, err := b.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := do(ctx, kadm.NewClient(cl)); err != nil {
		return fmt.Errorf("%s at %s: %w", what, b, err)
	}
	return nil
}

// client is one of the demo itself; it shares no code with Sluice.
func (b *broker) client(opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.servers...)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make a client of %s: %w", b, err)
	}
	return cl, nil
}

// String is the bootstrap list.
func (b *broker) String() string { return strings.Join(b.servers, ",") }

func (b *broker) name() string {
	if b.embedded != nil {
		return "kfake (embedded imitation of Kafka)"
	}
	return "Kafka at " + b.String()
}

// introduction says what the broker is and, of an imitation, how it differs from the real one. A test holds
// it to what it says.
func (b *broker) introduction() string {
	if b.embedded != nil {
		return "embedded broker: kfake at " + b.String() + ", one node in memory; it ends transactions at once, where Kafka answers" +
			" CONCURRENT_TRANSACTIONS for a while; `make test` runs the same on real Kafka"
	}
	return fmt.Sprintf("broker: Kafka at %s; topics %s and %s, deleted at the end", b, b.input, b.output)
}
