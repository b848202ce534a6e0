// Command bare is the yardstick of the benchmark: the least that can be done between a fetch and a produce over
// kafka-go's Transport. It copies a topic to its end; each batch is checked, gets a new header and checksum
// where it lies in memory, and is written, its records unopened. With -recode every record is decoded and encoded
// again into new batches, and with -prefix only those are whose value begins so. It does no more than that: no
// retries, no checkpoints, nothing survives it.
package main

import (
	"context"
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
)

// settings are the flags.
type settings struct {
	brokers, source, target string
	compression             string // of recoded batches: none or lz4; the others stay as they are
	recode                  bool
	prefix                  string
	profile                 string // file
}

// counters are over all partitions.
type counters struct{ in, out atomic.Uint64 }

func main() {
	var s settings
	flag.StringVar(&s.brokers, "brokers", "", "bootstrap list")
	flag.StringVar(&s.source, "source", "", "topic to read")
	flag.StringVar(&s.target, "target", "", "topic to write, with the same partitions")
	flag.StringVar(&s.compression, "compression", "none", "of what is encoded again: none or lz4")
	flag.BoolVar(&s.recode, "recode", false, "decode every record and encode it again")
	flag.StringVar(&s.prefix, "prefix", "", "with -recode: keep only records whose value begins with this")
	flag.StringVar(&s.profile, "profile", "", "file for a CPU profile; empty: none is taken")
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

func (s *settings) check() error {
	switch {
	case s.compression != "none" && s.compression != "lz4":
		return fmt.Errorf("-compression %s: want none or lz4", s.compression)
	case s.prefix != "" && !s.recode:
		return fmt.Errorf("-prefix %q: batches that are not opened cannot be filtered; add -recode", s.prefix)
	}
	return nil
}

// metadataTTL is how long the transport trusts what it knows of leaders.
const metadataTTL = 5 * time.Second

// copyAll copies every partition that is not empty, each in a loop of its own.
func copyAll(ctx context.Context, s settings, n *counters) error {
	if err := s.check(); err != nil {
		return err
	}
	register()
	transport := &kafka.Transport{ClientID: "bare", MetadataTTL: metadataTTL}
	defer transport.CloseIdleConnections()
	to := kafka.TCP(strings.Split(s.brokers, ",")...)
	ends, err := endsOf(ctx, &kafka.Client{Addr: to, Timeout: callTimeout, Transport: transport}, s.source)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for partition, end := range ends {
		c := &copier{settings: s, transport: transport, to: to, n: n, partition: partition, end: end}
		sets := make(chan *recordSet, readAhead)
		g.Go(func() error { return c.read(ctx, sets) })
		g.Go(func() error { return c.write(ctx, sets) })
	}
	return g.Wait()
}

// endsOf gives the end offset of every partition of a topic that is not empty.
func endsOf(ctx context.Context, client *kafka.Client, topic string) (map[int32]int64, error) {
	metadata, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, fmt.Errorf("asking for the partitions of %s: %w", topic, err)
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
	listed, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: asked}, IsolationLevel: kafka.ReadCommitted})
	if err != nil {
		return nil, fmt.Errorf("listing the ends of %s: %w", topic, err)
	}
	ends := map[int32]int64{}
	for _, p := range listed.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("listing the end of %s, partition %d: %w", topic, p.Partition, p.Error)
		}
		if p.LastOffset > 0 {
			ends[int32(p.Partition)] = p.LastOffset
		}
	}
	return ends, nil
}
