package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Load is what a generator writes.
type Load struct {
	// Brokers is where it writes; no fault may stand between.
	Brokers []string
	// Seed decides keys, sizes and fates. Times, and with them the offsets, are not repeatable.
	Seed int64
	// Rate is records per second in all; default 2,000. What could not be sent in time is left out, not made up for.
	Rate int
	// LargeEvery: every so many records of the ordinary topic have 512 KiB, of the others half has 100 B and half
	// 1 KiB. Default 2,000; −1: none. The full suite takes 50.
	LargeEvery int
	// Keys of each topic; default 200, and a quarter of it in the compacted one.
	Keys int
	// KeyBytes is the least length of a key of the ordinary topic.
	KeyBytes int
}

// Shares of the load, in percent.
const (
	transactionalPercent = 10 // of all records
	abortPercent         = 20 // of the transactions
	compactedPercent     = 5  // of all records
	filteredPercent      = 10 // of all records: job C drops them
)

const (
	smallBytes, mediumBytes, largeBytes = 100, 1 << 10, 512 << 10
	// tick is the pace of the plain streams, transactionTime that of the transactions.
	tick            = 100 * time.Millisecond
	transactionTime = 300 * time.Millisecond
	// flushTimeout is how long the end of the load may wait for brokers.
	flushTimeout = time.Minute
)

// Stats are counts of records.
type Stats struct {
	// Acknowledged were written and, if in a transaction, committed. Aborted were written in a transaction that was
	// aborted. Unknown may be there or not: their brokers did not answer.
	Acknowledged, Aborted, Unknown int64
}

// Generator writes the input of a workload.
type Generator struct {
	workload *Workload
	load     Load
	payload  string
	seqs     map[string][]atomic.Int64 // by topic and partition

	acknowledged, acknowledgedIn, aborted, unknown atomic.Int64

	mu      sync.Mutex
	journal []Record
}

// NewGenerator prepares a generator.
func (w *Workload) NewGenerator(l Load) (*Generator, error) {
	if len(l.Brokers) == 0 {
		return nil, errors.New("generator: no brokers are given")
	}
	l.Rate = orDefault(l.Rate, 2000)
	l.LargeEvery = orDefault(l.LargeEvery, 2000)
	l.Keys = orDefault(l.Keys, 200)
	g := &Generator{workload: w, load: l, seqs: map[string][]atomic.Int64{}}
	for _, topic := range []string{w.In(), w.Compacted()} {
		g.seqs[topic] = make([]atomic.Int64, w.params.Partitions)
	}
	for p := range g.seqs[w.Compacted()] {
		g.seqs[w.Compacted()][p].Store(compactedFrom)
	}
	// The same few words again and again: a batch that compression does not make smaller is sent without it.
	random := rand.New(rand.NewPCG(uint64(l.Seed), 0))
	words := strings.Fields("order paid open shipped refund customer invoice 1000 2500 9999")
	var text strings.Builder
	for text.Len() < 2*largeBytes {
		text.WriteString(words[random.IntN(len(words))] + " ")
	}
	g.payload = text.String()
	return g, nil
}

// Stats are the counts so far.
func (g *Generator) Stats() Stats {
	return Stats{Acknowledged: g.acknowledged.Load(), Aborted: g.aborted.Load(), Unknown: g.unknown.Load()}
}

// Acknowledged is how many records of the ordinary topic are certainly there.
func (g *Generator) Acknowledged() int64 { return g.acknowledgedIn.Load() }

// Journal are the records of the compacted topic that were acknowledged.
func (g *Generator) Journal() []Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.journal[:len(g.journal):len(g.journal)]
}

// Run writes until ctx ends, and then what is left; it leaves no transaction open. An error means that some of
// the load did not get out; it is no error that brokers were away for a while.
func (g *Generator) Run(ctx context.Context) error {
	send, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	limit := make(chan *time.Timer, 1)
	unhook := context.AfterFunc(ctx, func() { limit <- time.AfterFunc(flushTimeout, cancel) })
	defer func() {
		if !unhook() {
			(<-limit).Stop()
		}
	}()
	var failed [3]error
	var streams sync.WaitGroup
	streams.Go(func() { failed[0] = g.plain(ctx, send) })
	streams.Go(func() { failed[1] = g.compacted(ctx, send) })
	streams.Go(func() { failed[2] = g.transactions(ctx, send) })
	streams.Wait()
	return errors.Join(failed[:]...)
}

// stream makes the records of one goroutine.
type stream struct {
	*Generator
	topic  string
	random *rand.Rand
	keys   int
	made   int
	large  int // every so many; 0: none
}

func (g *Generator) stream(topic string, number uint64, keys int) *stream {
	return &stream{Generator: g, topic: topic, random: rand.New(rand.NewPCG(uint64(g.load.Seed), number)), keys: max(1, keys)}
}

// next makes a record. Keys are spread over all partitions, so counts of a key come from several of them.
func (s *stream) next() *kgo.Record {
	s.made++
	partition := s.random.Int32N(s.workload.params.Partitions)
	size := smallBytes
	if s.random.IntN(2) == 0 {
		size = mediumBytes
	}
	if s.topic == s.workload.Compacted() {
		size = smallBytes // the journal holds them all
	} else if s.large > 0 && s.made%s.large == 0 {
		size = largeBytes
	}
	fan := s.random.IntN(4)
	if s.random.IntN(100) < filteredPercent {
		fan = Filtered
	}
	from := s.random.IntN(len(s.payload) - size)
	v := Value{Partition: partition, Seq: s.seqs[s.topic][partition].Add(1) - 1, Fan: fan, Payload: []byte(s.payload[from : from+size])}
	key := fmt.Sprintf("k%04d", s.random.IntN(s.keys))
	if s.topic == s.workload.Compacted() {
		key = "c" + key
	} else if more := s.load.KeyBytes - len(key); more > 0 {
		key += strings.Repeat(".", more)
	}
	return &kgo.Record{Topic: s.topic, Partition: partition, Key: []byte(key), Value: v.Append(nil)}
}

// pace calls send with the number of records that are due at a rate, until ctx ends. At most one second is
// made up for.
func pace(ctx context.Context, rate float64, every time.Duration, send func(n int)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last, due := time.Now(), 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			due = min(due+rate*now.Sub(last).Seconds(), max(1, rate))
			last = now
			send(int(due))
			due -= float64(int(due))
		}
	}
}

// share is records per second of a part of the load.
func (g *Generator) share(percent int) float64 { return float64(g.load.Rate) * float64(percent) / 100 }
