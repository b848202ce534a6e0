package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}

// client is a producer that waits for brokers for as long as it takes.
func (g *Generator) client(codec kgo.CompressionCodec, more ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(g.load.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(5 * time.Millisecond), kgo.MaxBufferedRecords(10_000), kgo.MaxBufferedBytes(32 << 20), kgo.UnknownTopicRetries(-1),
		kgo.DialTimeout(3 * time.Second), kgo.RequestTimeoutOverhead(5 * time.Second), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.MetadataMaxAge(2 * time.Second), kgo.DisableClientMetrics(),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("generator: %w", err)
	}
	return client, nil
}

// plain writes to the ordinary topic; the compression changes with each tick.
func (g *Generator) plain(ctx, send context.Context) error {
	var clients []*kgo.Client
	for _, codec := range codecs {
		c, err := g.client(codec)
		if err != nil {
			return err
		}
		defer c.Close()
		clients = append(clients, c)
	}
	s := g.stream(g.workload.In(), 1, g.load.Keys)
	s.large = max(0, g.load.LargeEvery)
	turn := 0
	pace(ctx, g.share(100-transactionalPercent-compactedPercent), tick, func(n int) {
		for range n {
			clients[turn%len(clients)].Produce(send, s.next(), g.written)
		}
		turn++
	})
	return flush(send, clients...)
}

// written takes the answer for a record of the ordinary topic.
func (g *Generator) written(_ *kgo.Record, err error) {
	if err != nil {
		g.unknown.Add(1)
		return
	}
	g.acknowledged.Add(1)
	g.acknowledgedIn.Add(1)
}

// compacted writes to the compacted topic and keeps the journal.
func (g *Generator) compacted(ctx, send context.Context) error {
	client, err := g.client(kgo.Lz4Compression())
	if err != nil {
		return err
	}
	defer client.Close()
	s := g.stream(g.workload.Compacted(), 2, g.load.Keys/4)
	pace(ctx, g.share(compactedPercent), tick, func(n int) {
		for range n {
			client.Produce(send, s.next(), g.journalled)
		}
	})
	return flush(send, client)
}

func (g *Generator) journalled(r *kgo.Record, err error) {
	if err != nil {
		g.unknown.Add(1)
		return
	}
	g.acknowledged.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.journal = append(g.journal, Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value})
}

func flush(ctx context.Context, clients ...*kgo.Client) error {
	for _, c := range clients {
		if err := c.Flush(ctx); err != nil {
			return fmt.Errorf("generator: %d records are not out after %v: %w", c.BufferedProduceRecords(), flushTimeout, err)
		}
	}
	return nil
}

// transactions writes short transactions to the ordinary topic and aborts a fifth of them. After an error the
// outcome is unknown and a new client begins, which first ends what the old one left open.
func (g *Generator) transactions(ctx, send context.Context) error {
	s := g.stream(g.workload.In(), 3, g.load.Keys)
	codec := 0
	var client *kgo.Client
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	renew := func() (err error) {
		if client == nil {
			codec++
			client, err = g.client(codecs[codec%len(codecs)], kgo.TransactionalID(g.workload.params.Name+"-upstream"), kgo.TransactionTimeout(30*time.Second))
		}
		return err
	}
	var broken error
	pace(ctx, g.share(transactionalPercent), transactionTime, func(n int) {
		if broken = renew(); broken != nil || n == 0 {
			return
		}
		if !g.transaction(send, client, s, n) {
			client.Close()
			client = nil
		}
	})
	if broken != nil || client != nil {
		return broken
	}
	if broken = renew(); broken != nil {
		return broken
	}
	if _, _, err := client.ProducerID(send); err != nil { // aborts what is open
		return fmt.Errorf("generator: end the last transaction: %w", err)
	}
	return nil
}

// transaction writes n records in one transaction; false means that the outcome is unknown.
func (g *Generator) transaction(ctx context.Context, client *kgo.Client, s *stream, n int) bool {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout/2)
	defer cancel()
	commit := kgo.TransactionEndTry(s.random.IntN(100) >= abortPercent)
	err := client.BeginTransaction()
	var records []*kgo.Record
	if err == nil {
		for range n {
			records = append(records, s.next())
		}
		err = client.ProduceSync(ctx, records...).FirstErr()
	}
	if err == nil {
		err = client.EndTransaction(ctx, commit)
	}
	switch count := int64(len(records)); {
	case err != nil:
		g.unknown.Add(count)
	case commit == kgo.TryCommit:
		g.acknowledged.Add(count)
		g.acknowledgedIn.Add(count)
	default:
		g.aborted.Add(count)
	}
	return err == nil
}
