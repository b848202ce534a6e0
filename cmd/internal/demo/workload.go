package demo

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	keys = 1000
	// heldFrom is the share of the input that is there before the kill, so that the kill is in the middle
	// however fast the machine is; fullPace is how long all of it would take at the pace until then.
	heldFrom = 0.6
	fullPace = 4 * time.Second
	feedTick = 5 * time.Millisecond
)

// workload is the input of the demo and what must come out. Record i goes to partition i modulo 4, as its
// record i / 4, with key "user-" + i modulo 1000, so all records of a key are in one partition; nine of ten
// are "paid".
type workload struct {
	total    int
	expected int
	perKey   map[string]int
	produced atomic.Int64
}

func newWorkload(total int) *workload {
	w := &workload{total: total, perKey: map[string]int{}}
	for i := range total {
		if paid(i) {
			w.perKey[keyOf(i)]++
			w.expected++
		}
	}
	return w
}

func paid(i int) bool        { return (i/keys)%10 != 3 }
func keyOf(i int) string     { return "user-" + strconv.Itoa(i%keys) }
func perPartition(n int) int { return n / partitions }

// covered is how many records come out of the input below the given offsets, by partition.
func (w *workload) covered(offsets map[string]int64) int64 {
	var n int64
	for p := range partitions {
		for k := range int(offsets[strconv.Itoa(p)]) {
			if paid(k*partitions + p) {
				n++
			}
		}
	}
	return n
}

// due is how many records are to be written after that time, before the release.
func (w *workload) due(after time.Duration) int {
	return int(float64(w.total) * min(heldFrom, after.Seconds()/fullPace.Seconds()))
}

// feed writes the input: its first part at a steady pace, all that is left as fast as it goes once
// released is closed.
func (w *workload) feed(ctx context.Context, b *broker, released <-chan struct{}) error {
	cl, err := b.client(kgo.DefaultProduceTopic(b.input), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed atomic.Pointer[error]
	acked := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
			return
		}
		w.produced.Add(1)
	}
	tick := time.NewTicker(feedTick)
	defer tick.Stop()
	started := time.Now()
	for i, due := 0, 0; i < w.total && failed.Load() == nil; {
		select {
		case <-released:
			due = w.total
		case <-ctx.Done():
			return nil // the demo is over
		case <-tick.C:
			due = max(due, w.due(time.Since(started)))
		}
		for ; i < due && ctx.Err() == nil; i++ {
			cl.Produce(ctx, inputRecord(i), acked)
		}
	}
	if err := cl.Flush(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("generate records: %w", err)
	}
	if p := failed.Load(); p != nil && ctx.Err() == nil {
		return fmt.Errorf("generate records: %w", *p)
	}
	return nil
}

func inputRecord(i int) *kgo.Record {
	state := "open"
	if paid(i) {
		state = "paid"
	}
	return &kgo.Record{Key: []byte(keyOf(i)), Value: []byte(state + " order " + strconv.Itoa(i)), Partition: int32(i % partitions)}
}
