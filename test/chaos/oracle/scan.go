package oracle

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// scanIdleTimeout is how long a scan waits for the next record of a topic at rest.
const scanIdleTimeout = 15 * time.Second

// scanner reads whole topics when the run is over.
type scanner struct {
	brokers []string
	client  *kgo.Client
	admin   *kadm.Client
}

func newScanner(brokers []string) (*scanner, error) {
	client, err := kgo.NewClient(readerOptions(brokers)...)
	if err != nil {
		return nil, fmt.Errorf("scan at %v: %w", brokers, err)
	}
	return &scanner{brokers: brokers, client: client, admin: kadm.NewClient(client)}, nil
}

func (s *scanner) close() { s.client.Close() }

// settled waits until the last stable offset of each partition is its high watermark. Partitions where it is
// not in time are named; the last stable offsets are the ends of what a read_committed reader can see.
func (s *scanner) settled(ctx context.Context, topic string, timeout time.Duration) (ends map[int32]int64, hung []string, err error) {
	deadline := time.Now().Add(timeout)
	for {
		stable, err := s.offsets(ctx, topic, s.admin.ListCommittedOffsets)
		if err != nil {
			return nil, nil, err
		}
		high, err := s.offsets(ctx, topic, s.admin.ListEndOffsets)
		if err != nil {
			return nil, nil, err
		}
		if maps.Equal(stable, high) {
			return stable, nil, nil
		}
		if time.Now().After(deadline) {
			return stable, hungPartitions(topic, stable, high, timeout), nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("last stable offsets of %s: %w", topic, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// HungLSO begins the reason of each partition whose last stable offset stays behind its high watermark.
const HungLSO = "hung LSO: "

func hungPartitions(topic string, stable, high map[int32]int64, timeout time.Duration) []string {
	var hung []string
	for _, p := range slices.Sorted(maps.Keys(high)) {
		if stable[p] != high[p] {
			hung = append(hung, fmt.Sprintf(HungLSO+"%s/%d stands at %d, high watermark %d, after %v at rest", topic, p, stable[p], high[p], timeout))
		}
	}
	return hung
}

type listOffsets func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error)

func (s *scanner) offsets(ctx context.Context, topic string, list listOffsets) (map[int32]int64, error) {
	listed, err := list(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	offsets := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { offsets[o.Partition] = o.Offset })
	if len(offsets) == 0 {
		return nil, fmt.Errorf("list offsets of %s: the topic has no partitions", topic)
	}
	return offsets, nil
}

// inputTimeout is how long the markers of the generator's last transactions may be on their way: they come after the
// answer to their commit.
const inputTimeout = 30 * time.Second

// input adds all committed records of a topic to the expectation. With a transaction that nobody ends it cannot know them.
func (s *scanner) input(ctx context.Context, topic string, e *expectation) error {
	ends, hung, err := s.settled(ctx, topic, inputTimeout)
	if err == nil && len(hung) > 0 {
		err = fmt.Errorf("input: the generator left a transaction open: %s", strings.Join(hung, "; "))
	}
	if err != nil {
		return err
	}
	var failed error
	err = s.scan(ctx, topic, ends, false, func(r *kgo.Record) {
		if failed == nil {
			failed = e.add(workload.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value}, required)
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// output shows all committed records up to the ends to the judge.
func (s *scanner) output(ctx context.Context, ends map[int32]int64, topic string, j *judge, hung bool) (*sightings, error) {
	final := newSightings()
	err := s.scan(ctx, topic, ends, hung, func(r *kgo.Record) {
		j.see(r)
		final.add(r.Partition, r.Offset, sumOfRecord(r))
	})
	return &final, err
}

// scan reads a topic from its start to the ends. mayFallShort: with an open transaction, what lies in front
// of it may belong to an aborted one whose marker comes later and is not shown; the end is then where nothing
// comes any more.
func (s *scanner) scan(ctx context.Context, topic string, ends map[int32]int64, mayFallShort bool, visit func(*kgo.Record)) error {
	starts, err := s.offsets(ctx, topic, s.admin.ListStartOffsets)
	if err != nil {
		return err
	}
	left := map[int32]int64{}
	for p, end := range ends {
		if end > starts[p] {
			left[p] = end
		}
	}
	// Control records are kept: the last record of a partition may be a marker.
	client, err := kgo.NewClient(append(readerOptions(s.brokers), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(),
		kgo.FetchMaxPartitionBytes(1<<20), kgo.FetchMaxWait(100*time.Millisecond))...)
	if err != nil {
		return fmt.Errorf("scan %s: %w", topic, err)
	}
	defer client.Close()
	for len(left) > 0 {
		idle, err := poll(ctx, client, left, visit)
		switch {
		case idle && mayFallShort:
			return nil
		case idle:
			return fmt.Errorf("scan %s: nothing comes for %v, and these partitions have not reached their ends: %v", topic, scanIdleTimeout, left)
		case err != nil:
			return fmt.Errorf("scan %s: %w", topic, err)
		}
	}
	return nil
}

// poll takes one fetch; partitions that reached their ends leave left.
func poll(ctx context.Context, client *kgo.Client, left map[int32]int64, visit func(*kgo.Record)) (idle bool, err error) {
	waiting, cancel := context.WithTimeout(ctx, scanIdleTimeout)
	defer cancel()
	fetches := client.PollFetches(waiting)
	if waiting.Err() != nil && fetches.NumRecords() == 0 {
		return ctx.Err() == nil, ctx.Err()
	}
	if err := fetches.Err(); err != nil {
		return false, err
	}
	fetches.EachRecord(func(r *kgo.Record) {
		if end, reading := left[r.Partition]; !reading || r.Offset >= end {
			return
		} else if r.Offset+1 == end {
			delete(left, r.Partition)
		}
		if !r.Attrs.IsControl() {
			visit(r)
		}
	})
	return false, nil
}
