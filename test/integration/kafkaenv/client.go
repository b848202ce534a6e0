package kafkaenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// callTimeout bounds each helper; they finish in milliseconds unless something is wrong.
const callTimeout = 60 * time.Second

// Client makes a franz-go client, which is independent of the code under test, and closes it with the
// test. Without options it writes to the partition that a record names and reads nothing.
func (c *Cluster) Client(tb testing.TB, options ...kgo.Opt) *kgo.Client {
	tb.Helper()
	client, err := c.client(options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

func (c *Cluster) client(options ...kgo.Opt) (*kgo.Client, error) {
	base := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(c.Addr(), ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.FetchMaxWait(200 * time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		// Larger than the largest record that Sluice takes.
		kgo.ProducerBatchMaxBytes(20 << 20), kgo.BrokerMaxWriteBytes(100 << 20),
	}
	client, err := kgo.NewClient(append(base, options...)...)
	if err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", c.kind, err)
	}
	return client, nil
}

// waitForMetadata waits until the metadata lists every broker that runs. A port that is open is not
// enough: the broker's registration follows.
func (c *Cluster) waitForMetadata(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	want := 0
	for _, s := range c.servers {
		if s.running() {
			want += strings.Count(s.bootstrap(), ",") + 1
		}
	}
	client, err := c.client(kgo.RequestRetries(0), kgo.DialTimeout(time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		brokers, err := kadm.NewClient(client).ListBrokers(ctx)
		if err == nil && len(brokers) >= want {
			return nil
		}
		for i, s := range c.servers {
			if b, ok := s.(*broker); ok && b.process != nil && !s.running() && want == len(c.servers) {
				return fmt.Errorf("node %d of %s ended while it started:\n%s", i, c.kind, s.log())
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d brokers of %s, metadata lists %d (%v): %w\n%s", want, c.kind, len(brokers), err, ctx.Err(), c.Logs())
		}
	}
}

// CreateTopic creates a topic and waits until every partition has a leader. configs may be nil.
func (c *Cluster) CreateTopic(tb testing.TB, topic string, partitions int32, configs map[string]string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	if err := c.createTopic(ctx, topic, partitions, configs); err != nil {
		tb.Fatal(err)
	}
}

func (c *Cluster) createTopic(ctx context.Context, topic string, partitions int32, configs map[string]string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	settings := map[string]*string{}
	for key, value := range configs {
		settings[key] = &value
	}
	if _, err := admin.CreateTopic(ctx, partitions, -1, settings, topic); err != nil {
		return fmt.Errorf("creating topic %s on %s: %w", topic, c.kind, err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ends, err := admin.ListEndOffsets(ctx, topic) // answered by the leaders, so they know that they are
		if err == nil && len(ends[topic]) == int(partitions) && ends.Error() == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the leaders of %s on %s (%w): %w", topic, c.kind, errors.Join(err, ends.Error()), ctx.Err())
		}
	}
}

// Produce writes the records, each to its own Partition, with acks=all, in the order given within a
// partition. Options such as the compression may follow.
func (c *Cluster) Produce(tb testing.TB, records []*kgo.Record, options ...kgo.Opt) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	client, err := c.client(options...)
	if err != nil {
		tb.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		tb.Fatalf("producing %d records to %s: %v", len(records), c.kind, err)
	}
}

// ProduceTransaction writes the records in one transaction and commits or aborts it.
func (c *Cluster) ProduceTransaction(tb testing.TB, id string, commit bool, records []*kgo.Record, options ...kgo.Opt) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	if err := c.transact(ctx, id, commit, records, options...); err != nil {
		tb.Fatal(err)
	}
}

func (c *Cluster) transact(ctx context.Context, id string, commit bool, records []*kgo.Record, options ...kgo.Opt) error {
	client, err := c.client(append(options, kgo.TransactionalID(id))...)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		return fmt.Errorf("beginning transaction %s: %w", id, err)
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("producing in transaction %s: %w", id, err)
	}
	if err := client.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return fmt.Errorf("ending transaction %s with commit=%t: %w", id, commit, err)
	}
	return nil
}

// Ends is the offset behind the last readable record of each partition of a topic: the LSO.
func (c *Cluster) Ends(tb testing.TB, topic string) map[int32]int64 {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	ends, err := c.ends(ctx, topic)
	if err != nil {
		tb.Fatal(err)
	}
	return ends
}

func (c *Cluster) ends(ctx context.Context, topic string) (map[int32]int64, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	listed, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, listed.Error()); err != nil {
		return nil, fmt.Errorf("listing the ends of %s on %s: %w", topic, c.kind, err)
	}
	ends := map[int32]int64{}
	for partition, offset := range listed[topic] {
		ends[partition] = offset.Offset
	}
	return ends, nil
}

// Read returns every committed record of a topic as of now, ordered by partition and offset. No
// transaction may be open in it.
func (c *Cluster) Read(tb testing.TB, topic string) []*kgo.Record {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	records, err := c.read(ctx, topic)
	if err != nil {
		tb.Fatal(err)
	}
	return records
}

func (c *Cluster) read(ctx context.Context, topic string) ([]*kgo.Record, error) {
	ends, err := c.ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(ends, func(_ int32, end int64) bool { return end == 0 })
	starts := map[int32]kgo.Offset{}
	for partition := range ends {
		starts[partition] = kgo.NewOffset().AtStart()
	}
	// Control records are kept to know when the end is reached: the last one of a log is often a marker.
	client, err := c.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var records []*kgo.Record
	for len(ends) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("reading %s of %s, %d records so far, missing the ends %v: %w", topic, c.kind, len(records), ends, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, waiting := ends[r.Partition]
			if r.Offset+1 >= end {
				delete(ends, r.Partition)
			}
			if waiting && r.Offset < end && !r.Attrs.IsControl() {
				records = append(records, r)
			}
		})
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return records, nil
}

// Compact makes the cleaner run over a topic of CompactedTopic and waits until less than the given
// number of records is left. It appends records with the key "roll", as only a closed segment is cleaned.
func (c *Cluster) Compact(tb testing.TB, topic string, below int) {
	tb.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(callTimeout)
	for left := below; left >= below; left = len(c.Read(tb, topic)) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s of %s still holds %d records after %s, want less than %d\n%s", topic, c.kind, left, callTimeout, below, c.Logs())
		}
		<-tick.C
		c.Produce(tb, []*kgo.Record{{Topic: topic, Key: []byte("roll"), Value: []byte("x")}})
		if f, ok := c.servers[0].(*fake); ok {
			f.cluster.Compact()
		}
	}
}

// CompactedTopic is the configuration of a topic that is compacted within a second.
func CompactedTopic() map[string]string {
	return map[string]string{
		"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "100",
		"min.compaction.lag.ms": "0", "max.compaction.lag.ms": "100",
	}
}

// exercise uses what a test uses, so that its classes get into the archive.
func (c *Cluster) exercise(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.createTopic(ctx, "exercise", 2, nil); err != nil {
		return err
	}
	for _, commit := range []bool{true, false, true} {
		records := []*kgo.Record{{Topic: "exercise", Value: []byte("a")}, {Topic: "exercise", Partition: 1, Value: []byte("b")}}
		if err := c.transact(ctx, "exercise", commit, records); err != nil {
			return err
		}
	}
	records, err := c.read(ctx, "exercise")
	if err == nil && len(records) != 4 {
		err = fmt.Errorf("read %d committed records, want 4", len(records))
	}
	return err
}
