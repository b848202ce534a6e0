// Command kafkago is a rival of the benchmark: kafka-go as its users have it, a Reader for each partition and one
// Writer. It reads a topic to its end and writes every record, or what a task makes of it, to the same partition
// of another topic. Its settings are those of a careful author: large fetches that are read ahead, batches near
// 1 MB, acks of all replicas.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/bench/rivals/self"
	"github.com/sluice-stream/sluice/bench/rivals/task"
)

// Settings of the Reader and the Writer. The batch size is below Kafka's default max.message.bytes.
const (
	batchBytes    = 1000 << 10
	batchRecords  = 10_000
	linger        = 10 * time.Millisecond
	fetchMinBytes = 64 << 10
	fetchMaxBytes = 4 << 20
	fetchWait     = 100 * time.Millisecond
	readAhead     = 20_000 // records of a partition
	callTimeout   = 30 * time.Second
)

// settings are the flags.
type settings struct {
	brokers, source, target string
	compression             string // none or lz4
	task                    task.Task
	profile                 string // file
}

// counters are over all partitions.
type counters struct{ in, out atomic.Uint64 }

func main() {
	var s settings
	flag.StringVar(&s.brokers, "brokers", "", "bootstrap list")
	flag.StringVar(&s.source, "source", "", "topic to read")
	flag.StringVar(&s.target, "target", "", "topic to write, with the same partitions")
	flag.StringVar(&s.compression, "compression", "none", "of what is written: none or lz4")
	flag.StringVar(&s.profile, "profile", "", "file for a CPU profile; empty: none is taken")
	s.task.Flags(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var n counters
	err := self.Profiled(s.profile, func() error { return copyAll(ctx, s, &n) })
	if err == nil {
		err = self.Report(os.Stdout, map[string]uint64{"recordsIn": n.in.Load(), "recordsOut": n.out.Load()})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// keep writes a record to the partition that it was read from.
func keep(m kafka.Message, _ ...int) int { return m.WriterData.(int) }

func (s *settings) writer(transport *kafka.Transport) (*kafka.Writer, error) {
	w := &kafka.Writer{
		Addr: kafka.TCP(strings.Split(s.brokers, ",")...), Transport: transport, Topic: s.target, RequiredAcks: kafka.RequireAll, Balancer: kafka.BalancerFunc(keep),
		BatchSize: batchRecords, BatchBytes: batchBytes, BatchTimeout: linger, WriteTimeout: callTimeout, ReadTimeout: callTimeout,
	}
	switch s.compression {
	case "none":
	case "lz4":
		w.Compression = kafka.Lz4
	default:
		return nil, fmt.Errorf("-compression %s: want none or lz4", s.compression)
	}
	return w, nil
}

// copyAll copies every partition that is not empty, each in a loop of its own. The count of a key needs all its
// records in one place, which one Reader for each partition does not give.
func copyAll(ctx context.Context, s settings, n *counters) (err error) {
	if s.task.Count {
		return errors.New("-count: this loop keeps partitions apart; use the one of franz-go")
	}
	transport := &kafka.Transport{ClientID: "kafka-go-loop"}
	defer transport.CloseIdleConnections()
	w, err := s.writer(transport)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	ends, err := endsOf(ctx, s, transport)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for partition, end := range ends {
		g.Go(func() error {
			if err := s.copyOne(ctx, w, partition, end, n); err != nil {
				return fmt.Errorf("partition %d: %w", partition, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (s *settings) copyOne(ctx context.Context, w *kafka.Writer, partition int, end int64, n *counters) (err error) {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: strings.Split(s.brokers, ","), Topic: s.source, Partition: partition, IsolationLevel: kafka.ReadCommitted,
		MinBytes: fetchMinBytes, MaxBytes: fetchMaxBytes, MaxWait: fetchWait, QueueCapacity: readAhead,
	})
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.SetOffset(0); err != nil {
		return fmt.Errorf("going to the start of %s: %w", s.source, err)
	}
	do := s.task.Start()
	batch := make([]kafka.Message, 0, batchRecords)
	for last := false; !last; {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return fmt.Errorf("reading %s: %w", s.source, err)
		}
		n.in.Add(1)
		last = m.Offset+1 >= end
		value, keep := m.Value, true
		if do != nil {
			if value, keep, err = do(m.Key, m.Value); err != nil {
				return fmt.Errorf("%s, offset %d: %w", s.source, m.Offset, err)
			}
		}
		if keep {
			batch = append(batch, kafka.Message{Key: m.Key, Value: value, Headers: m.Headers, Time: m.Time, WriterData: partition})
		}
		if last || len(batch) == cap(batch) {
			if err := w.WriteMessages(ctx, batch...); err != nil {
				return fmt.Errorf("writing %s: %w", s.target, err)
			}
			n.out.Add(uint64(len(batch)))
			batch = batch[:0]
		}
	}
	return nil
}

// endsOf gives the end offset of every partition of the source that is not empty.
func endsOf(ctx context.Context, s settings, transport *kafka.Transport) (map[int]int64, error) {
	client := &kafka.Client{Addr: kafka.TCP(strings.Split(s.brokers, ",")...), Timeout: callTimeout, Transport: transport}
	metadata, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{s.source}})
	if err != nil {
		return nil, fmt.Errorf("asking for the partitions of %s: %w", s.source, err)
	}
	var asked []kafka.OffsetRequest
	for _, t := range metadata.Topics {
		if t.Error != nil {
			return nil, fmt.Errorf("topic %s: %w", t.Name, t.Error)
		}
		for _, p := range t.Partitions {
			asked = append(asked, kafka.LastOffsetOf(p.ID))
		}
	}
	listed, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{s.source: asked}})
	if err != nil {
		return nil, fmt.Errorf("listing the ends of %s: %w", s.source, err)
	}
	ends := map[int]int64{}
	for _, p := range listed.Topics[s.source] {
		if p.Error != nil {
			return nil, fmt.Errorf("listing the end of %s, partition %d: %w", s.source, p.Partition, p.Error)
		}
		if p.LastOffset > 0 {
			ends[p.Partition] = p.LastOffset
		}
	}
	return ends, nil
}
