// Command txn is the bare transactional loop that the benchmark measures exactly-once against: it copies a
// topic to its end, each batch with a new header and its records unopened, in transactions of a fixed
// interval. Two or more transactional ids a partition take turns, so that no transaction waits for the
// end of the one before. It does no more than that: no checkpoints, no state, nothing survives it.
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

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/bench/rivals/self"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// settings are the flags.
type settings struct {
	brokers, source, target string
	interval                time.Duration
	ids                     int
	profile                 string // file
}

// counters are over all partitions.
type counters struct {
	records, transactions, refused, stalledMicros atomic.Uint64
}

func main() {
	var s settings
	flag.StringVar(&s.brokers, "brokers", "", "bootstrap list")
	flag.StringVar(&s.source, "source", "", "topic to read")
	flag.StringVar(&s.target, "target", "", "topic to write, with the same partitions")
	flag.DurationVar(&s.interval, "interval", 100*time.Millisecond, "length of a transaction")
	flag.IntVar(&s.ids, "ids", 4, "transactional ids of a partition, in turn; at least 2")
	flag.StringVar(&s.profile, "profile", "", "file for a CPU profile; empty: none is taken")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var n counters
	err := self.Profiled(s.profile, func() error { return copyAll(ctx, s, &n) })
	if err == nil {
		err = self.Report(os.Stdout, map[string]uint64{
			"recordsIn": n.records.Load(), "recordsOut": n.records.Load(), "transactions": n.transactions.Load(),
			"refused": n.refused.Load(), "stalledMicros": n.stalledMicros.Load(),
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// copyAll copies every partition that is not empty, each in a loop of its own.
func copyAll(ctx context.Context, s settings, n *counters) (err error) {
	if s.ids < 2 {
		return fmt.Errorf("-ids %d: want at least 2", s.ids)
	}
	cluster, err := wire.Open(wire.Config{Bootstrap: strings.Split(s.brokers, ","), ClientID: "bare-loop"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	ends, err := endsOf(ctx, cluster, s.source)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for partition, end := range ends {
		c := &copier{settings: s, cluster: cluster, n: n, partition: partition, end: end}
		batches := make(chan *wire.RawBatch, readAhead)
		g.Go(func() error { return c.read(ctx, batches) })
		g.Go(func() error { return c.write(ctx, batches) })
	}
	return g.Wait()
}

// endsOf gives the end offset of every partition of a topic that is not empty.
func endsOf(ctx context.Context, cluster *wire.Cluster, topic string) (map[int32]int64, error) {
	md, err := cluster.Metadata(ctx, []string{topic})
	if err != nil {
		return nil, err
	}
	t, ok := md.Topic(topic)
	if !ok {
		return nil, fmt.Errorf("topic %s: the answer about it names others", topic)
	}
	if t.Err != nil {
		return nil, t.Err
	}
	var queries []wire.OffsetQuery
	for _, p := range t.Partitions {
		queries = append(queries, wire.OffsetQuery{Topic: topic, Partition: p.ID, Timestamp: wire.Latest})
	}
	answers, err := cluster.ListOffsets(ctx, queries, wire.ReadCommitted)
	if err != nil {
		return nil, err
	}
	ends := map[int32]int64{}
	for _, a := range answers {
		if a.Err != nil {
			return nil, a.Err
		}
		if a.Offset > 0 {
			ends[a.Partition] = a.Offset
		}
	}
	return ends, nil
}
