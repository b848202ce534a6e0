package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// expectation is what must be in a topic.
type expectation interface {
	// total is the number of records.
	total() int64
	// checker begins to compare.
	checker() checker
}

// checker is given every record of a topic, in the order of each partition.
type checker interface {
	add(r *kgo.Record)
	// wrong says what is not as it must be; empty when all is. Asked after the last record.
	wrong() string
}

// verify reads a topic with franz-go, which shares no code with Sluice, as a read_committed reader and
// compares it with what must be there. wrong says what is not as it must be; empty when all is. For a
// rival that is franz-go itself the reader is independent of its writing side only.
func verify(ctx context.Context, b *broker, topic string, want expectation) (wrong string, err error) {
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
	got := want.checker()
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
	return got.wrong(), nil
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

func (d *digest) checker() checker { return &reading{want: d} }

// reading is what the verifier saw. It can name the first record that is out of order, which a digest
// alone cannot.
type reading struct {
	digest
	want     *digest
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

func (r *reading) wrong() string {
	if r.digest == *r.want && r.disorder == "" {
		return ""
	}
	if r.Count != r.want.Count {
		return fmt.Sprintf("%d records per partition, want %d; %s", r.Count, r.want.Count, r.disorder)
	}
	if r.disorder != "" {
		return r.disorder
	}
	return "the right number of records in the right order, but a key, value or timestamp differs"
}

// amount is a number of records, whatever is in them.
type amount int64

func (a amount) total() int64     { return int64(a) }
func (a amount) checker() checker { return &amountReading{want: a} }

type amountReading struct{ seen, want amount }

func (a *amountReading) add(*kgo.Record) { a.seen++ }

func (a *amountReading) wrong() string {
	if a.seen == a.want {
		return ""
	}
	return fmt.Sprintf("%d records, want %d", a.seen, a.want)
}

// counts is how many records each key has, by its index.
type counts struct{ expect []int32 }

func newCounts() *counts { return &counts{expect: make([]int32, keyedKeys)} }

func (c *counts) total() int64 {
	var n int64
	for _, count := range c.expect {
		n += int64(count)
	}
	return n
}

func (c *counts) checker() checker {
	return &countReading{want: c, seen: make([]int32, keyedKeys), partition: make([]int8, keyedKeys)}
}

// countReading follows the running count of every key.
type countReading struct {
	want      *counts
	seen      []int32 // the count of the last record of a key
	partition []int8  // of the first record of a key
	fault     string  // the first
}

func (c *countReading) add(r *kgo.Record) {
	if c.fault != "" {
		return
	}
	if fault := c.see(r); fault != "" {
		c.fault = fmt.Sprintf("partition %d, offset %d: %s", r.Partition, r.Offset, fault)
	}
}

func (c *countReading) see(r *kgo.Record) (fault string) {
	index, err := indexOf(r.Key)
	if err != nil {
		return err.Error()
	}
	count, err := strconv.Atoi(string(r.Value))
	if err != nil {
		return fmt.Sprintf("the count of %s: %v", r.Key, err)
	}
	if count != int(c.seen[index])+1 {
		return fmt.Sprintf("the count of %s is %d after %d", r.Key, count, c.seen[index])
	}
	if count == 1 {
		c.partition[index] = int8(r.Partition)
	}
	if c.partition[index] != int8(r.Partition) {
		return fmt.Sprintf("%s was in partition %d before", r.Key, c.partition[index])
	}
	c.seen[index]++
	return ""
}

// indexOf is the reverse of keyOf.
func indexOf(key []byte) (int, error) {
	if len(key) == len("key-00000000") && string(key[:4]) == "key-" {
		if index, err := strconv.Atoi(string(key[4:])); err == nil && index >= 0 && index < keyedKeys {
			return index, nil
		}
	}
	return 0, fmt.Errorf("key %q is none of the input", key)
}

func (c *countReading) wrong() string {
	if c.fault != "" {
		return c.fault
	}
	for index, want := range c.want.expect {
		if c.seen[index] != want {
			return fmt.Sprintf("the last count of %s is %d, want %d", keyOf(index), c.seen[index], want)
		}
	}
	return ""
}
