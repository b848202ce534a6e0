package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Values look like lines of a log: half is text that repeats, half is random, and the last digits are the
// number of the record, so that each value occurs once. One line of a partition in four is a warning.
const (
	infoText  = "level=info service=checkout region=eu-central msg=request finished status=200 "
	warnText  = "level=warn service=checkout region=eu-central msg=request repeated status=503 "
	infoStart = "level=info"
	seqDigits = 12
	// minValueBytes leaves room for the level and the number.
	minValueBytes = 2*len(infoStart) + 2*seqDigits
	warnOneIn     = 4
	// slabRecords share one allocation while a topic is filled.
	slabRecords = 1000
	// maxValueBytes leaves the noise room to vary.
	maxValueBytes = 32 << 10
	maxBatchSize  = 1000 << 10
)

func isWarning(i int) bool { return (i/partitions)%warnOneIn == warnOneIn-1 }

// generator makes the values of one topic, the same ones in every run.
type generator struct {
	random *rand.Rand
	noise  []byte
}

func newGenerator() *generator {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	g := &generator{random: rand.New(rand.NewPCG(1, 2)), noise: make([]byte, 1<<16)}
	for i := range g.noise {
		g.noise[i] = letters[g.random.IntN(len(letters))]
	}
	return g
}

// fill writes the value of record i over all of value.
func (g *generator) fill(value []byte, i int) {
	text := infoText
	if isWarning(i) {
		text = warnText
	}
	half := len(value) / 2
	for at := 0; at < half; at += len(text) {
		copy(value[at:half], text)
	}
	from := g.random.IntN(len(g.noise) - len(value))
	copy(value[half:], g.noise[from:])
	putSeq(value, i)
}

func putSeq(value []byte, i int) {
	digits := value[len(value)-seqDigits:]
	for d := len(digits) - 1; d >= 0; d-- {
		digits[d] = byte('0' + i%10)
		i /= 10
	}
}

func seqOf(value []byte) (int, error) {
	if len(value) < seqDigits {
		return 0, fmt.Errorf("value of %d bytes, want at least %d", len(value), seqDigits)
	}
	return strconv.Atoi(string(value[len(value)-seqDigits:]))
}

// castagnoli is the polynomial that processors compute in hardware.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digest sums up a topic: how many records each partition has, and a checksum over key, value and
// timestamp of each record that depends on their order. Two topics with equal digests are equal.
type digest struct {
	Count [partitions]int64
	Sum   [partitions]uint64
}

// fnvPrime makes the sum depend on the order.
const fnvPrime = 1099511628211

func (d *digest) add(partition int32, key, value []byte, millis int64) {
	d.Count[partition]++
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	d.Sum[partition] = d.Sum[partition]*fnvPrime + uint64(sum) + uint64(millis)<<32 + uint64(len(key))
}

func (d *digest) total() int64 {
	var n int64
	for _, count := range d.Count {
		n += count
	}
	return n
}

// dataset is a filled topic with what a job makes of it.
type dataset struct {
	topic      string
	valueBytes int
	records    int
	all        digest // a copy
	infos      digest // what passes the filter
}

// fillTopic creates the topic and writes the records, spread evenly.
func fillTopic(ctx context.Context, b *broker, topic string, valueBytes, records int) (*dataset, error) {
	if err := b.createTopic(ctx, topic); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(b.options(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(maxBatchSize),
		kgo.ProducerLinger(10*time.Millisecond), kgo.MaxBufferedRecords(100_000))...)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	defer client.Close()
	data := &dataset{topic: topic, valueBytes: valueBytes, records: records}
	gen, start := newGenerator(), time.Now().Truncate(time.Millisecond)
	var failed produceError
	for i := 0; i < records && failed.get() == nil; i += slabRecords {
		n := min(slabRecords, records-i)
		values, slab := make([]byte, n*valueBytes), make([]kgo.Record, n)
		at := start.Add(time.Duration(i/slabRecords) * time.Millisecond)
		for k := range slab {
			value := values[k*valueBytes : (k+1)*valueBytes : (k+1)*valueBytes]
			gen.fill(value, i+k)
			partition := int32((i + k) % partitions)
			data.all.add(partition, nil, value, at.UnixMilli())
			if !isWarning(i + k) {
				data.infos.add(partition, nil, value, at.UnixMilli())
			}
			slab[k] = kgo.Record{Value: value, Partition: partition, Timestamp: at}
			client.Produce(ctx, &slab[k], failed.note)
		}
	}
	if err := errors.Join(client.Flush(ctx), failed.get()); err != nil {
		return nil, fmt.Errorf("filling %s: %w", topic, err)
	}
	return data, nil
}

// produceError keeps the first error of a producer.
type produceError struct {
	mu  sync.Mutex
	err error
}

func (p *produceError) note(_ *kgo.Record, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *produceError) get() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// verify reads a topic with franz-go, which shares no code with Sluice, as a read_committed reader and
// compares it with what must be there. wrong says what is not as it must be; empty when all is. For a
// rival that is franz-go itself the reader is independent of its writing side only.
func verify(ctx context.Context, b *broker, topic string, want *digest) (wrong string, err error) {
	ends, err := b.ends(ctx, topic)
	if err != nil {
		return "", err
	}
	starts, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for partition, end := range ends {
		if end > 0 {
			starts[int32(partition)], left[int32(partition)] = kgo.NewOffset().At(0), end
		}
	}
	var got reading
	if len(left) > 0 {
		// The last record of a partition may be the marker of a transaction.
		client, err := kgo.NewClient(b.options(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.FetchMaxBytes(8<<20),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
		if err != nil {
			return "", fmt.Errorf("making a client: %w", err)
		}
		defer client.Close()
		for len(left) > 0 {
			fetches := client.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return "", fmt.Errorf("reading %s: %w", topic, err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				if !r.Attrs.IsControl() {
					got.add(r)
				}
				if r.Offset+1 >= left[r.Partition] {
					delete(left, r.Partition)
				}
			})
		}
	}
	return got.compare(want), nil
}

// reading is what the verifier saw. It can name the first record that is out of order, which a digest
// alone cannot.
type reading struct {
	digest
	lastSeq  [partitions]int
	disorder string
}

func (r *reading) add(record *kgo.Record) {
	p := record.Partition
	seq, err := seqOf(record.Value)
	switch {
	case r.disorder != "":
	case err != nil:
		r.disorder = fmt.Sprintf("partition %d, offset %d: %v", p, record.Offset, err)
	case r.Count[p] > 0 && seq <= r.lastSeq[p]:
		r.disorder = fmt.Sprintf("partition %d, offset %d: record %d after record %d", p, record.Offset, seq, r.lastSeq[p])
	}
	r.lastSeq[p] = seq
	r.digest.add(p, record.Key, record.Value, record.Timestamp.UnixMilli())
}

func (r *reading) compare(want *digest) string {
	if r.digest == *want && r.disorder == "" {
		return ""
	}
	if r.Count != want.Count {
		return fmt.Sprintf("%d records per partition, want %d; %s", r.Count, want.Count, r.disorder)
	}
	if r.disorder != "" {
		return r.disorder
	}
	return "the right number of records in the right order, but a key, value or timestamp differs"
}
