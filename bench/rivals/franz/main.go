// Command franz is a rival of the benchmark: a plain loop with franz-go that reads a topic to its end and writes
// every record, or what a task makes of it, to the same partition of another topic.
// Its settings are those of a careful author: large fetches, batches near 1 MB, acks of all replicas.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/bench/rivals/self"
	"github.com/sluice-stream/sluice/bench/rivals/task"
)

// Settings of the client. The batch size is below Kafka's default max.message.bytes.
const (
	batchBytes          = 1000 << 10
	fetchBytes          = 8 << 20
	partitionFetchBytes = 1 << 20
	linger              = 10 * time.Millisecond
	bufferedRecords     = 100_000
	pollRecords         = 20_000
)

// settings are the flags.
type settings struct {
	brokers, source, target string
	compression             string // none or lz4
	task                    task.Task
}

func main() {
	var s settings
	flag.StringVar(&s.brokers, "brokers", "", "bootstrap list")
	flag.StringVar(&s.source, "source", "", "topic to read")
	flag.StringVar(&s.target, "target", "", "topic to write, with the same partitions")
	flag.StringVar(&s.compression, "compression", "none", "of what is written: none or lz4")
	s.task.Flags(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run copies and prints one JSON object with its counts, allocations and peak memory.
func run(ctx context.Context, s settings) error {
	ends, err := endsOf(ctx, s)
	if err != nil {
		return err
	}
	in, out, err := copyAll(ctx, s, ends)
	if err != nil {
		return err
	}
	return self.Report(os.Stdout, map[string]uint64{"recordsIn": uint64(in), "recordsOut": uint64(out)})
}

// endsOf gives the end offset of every partition of the source that is not empty.
func endsOf(ctx context.Context, s settings) (map[int32]int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(s.brokers, ",")...))
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	defer client.Close()
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, s.source)
	if err = errors.Join(err, listed.Error()); err != nil {
		return nil, fmt.Errorf("listing the ends of %s: %w", s.source, err)
	}
	ends := map[int32]int64{}
	for partition, end := range listed[s.source] {
		if end.Offset > 0 {
			ends[partition] = end.Offset
		}
	}
	return ends, nil
}

// writing are the options of the producer. A count goes where Kafka's default partitioner puts its key.
func (s *settings) writing() ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchMaxBytes(batchBytes), kgo.ProducerLinger(linger), kgo.MaxBufferedRecords(bufferedRecords),
	}
	switch s.compression {
	case "none":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.NoCompression()))
	case "lz4":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	default:
		return nil, fmt.Errorf("-compression %s: want none or lz4", s.compression)
	}
	if s.task.Count {
		return append(opts, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil))), nil
	}
	return append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner())), nil
}

func copyAll(ctx context.Context, s settings, ends map[int32]int64) (in, out int64, err error) {
	starts, left := map[int32]kgo.Offset{}, int64(0)
	for partition, end := range ends {
		starts[partition] = kgo.NewOffset().At(0)
		left += end
	}
	opts, err := s.writing()
	if err != nil {
		return 0, 0, err
	}
	client, err := kgo.NewClient(append(opts,
		kgo.SeedBrokers(strings.Split(s.brokers, ",")...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.source: starts}),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(partitionFetchBytes),
	)...)
	if err != nil {
		return 0, 0, fmt.Errorf("making a client: %w", err)
	}
	defer client.Close()
	var failed failure
	do := s.task.Start()
	for left > 0 {
		fetches := client.PollRecords(ctx, pollRecords)
		if err := fetches.Err(); err != nil {
			return in, out, fmt.Errorf("reading %s: %w", s.source, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			in++
			value, keep := r.Value, true
			if do != nil {
				var err error
				value, keep, err = do(r.Key, r.Value)
				failed.note(r, err)
			}
			if !keep {
				return
			}
			out++
			client.Produce(ctx, &kgo.Record{Topic: s.target, Key: r.Key, Value: value, Headers: r.Headers, Partition: r.Partition, Timestamp: r.Timestamp}, failed.note)
		})
	}
	if err := client.Flush(ctx); err != nil {
		return in, out, fmt.Errorf("writing %s: %w", s.target, err)
	}
	return in, out, failed.first()
}

// failure keeps the first error of a task or of the producer.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) note(r *kgo.Record, err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = fmt.Errorf("%s, partition %d: %w", r.Topic, r.Partition, err)
	}
}

func (f *failure) first() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
