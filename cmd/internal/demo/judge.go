package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// stableTimeout bounds the wait for the last transaction markers after the job's end.
const stableTimeout = 5 * time.Second

// verdict is what an independent client found in the output.
type verdict struct {
	records, out, lost, duplicates, outOfOrder int
	wrong                                      string // the first impossible record; empty: none
	open                                       int64  // offsets between the last stable one and the high watermark, over all partitions
	live                                       int64  // records that the reader saw that was there all the time
}

// verify reads the whole output as a read_committed reader sees it. For each key the counts 1..n must be
// there, each once and in this order.
func (w *workload) verify(ctx context.Context, b *broker) (verdict, error) {
	cl, err := b.client(kgo.ConsumeTopics(b.output), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()) // the last record of a partition may be a marker
	if err != nil {
		return verdict{}, err
	}
	defer cl.Close()
	left, open, err := stable(ctx, kadm.NewClient(cl), b.output)
	if err != nil {
		return verdict{}, fmt.Errorf("read the output: %w", err)
	}
	judge := w.newJudge()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return verdict{}, fmt.Errorf("read the output: %w", err)
		}
		fetches.EachRecord(judge.see)
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if n := len(p.Records); n > 0 && p.Records[n-1].Offset+1 >= left[p.Partition] {
				delete(left, p.Partition)
			}
		})
	}
	v := judge.verdict()
	v.open = open
	return v, nil
}

// stable gives the last stable offset of each partition that is not empty, and how far they are behind the
// high watermarks: 0, unless a transaction stays open.
func stable(ctx context.Context, admin *kadm.Client, topic string) (ends map[int32]int64, open int64, err error) {
	deadline := time.Now().Add(stableTimeout)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ends, open, err = stableNow(ctx, admin, topic)
		if err != nil || open == 0 || time.Now().After(deadline) {
			return ends, open, err
		}
		select {
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func stableNow(ctx context.Context, admin *kadm.Client, topic string) (ends map[int32]int64, open int64, err error) {
	committed, err := admin.ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, committed.Error()); err != nil {
		return nil, 0, err
	}
	high, err := admin.ListEndOffsets(ctx, topic)
	if err = errors.Join(err, high.Error()); err != nil {
		return nil, 0, err
	}
	ends = map[int32]int64{}
	committed.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			ends[o.Partition] = o.Offset
		}
		open += high[topic][o.Partition].Offset - o.Offset
	})
	return ends, open, nil
}

// judge counts output records. It knows of the job only what must come out.
type judge struct {
	expected int
	seen     map[string]*seenKey
	found    verdict
}

// seenKey is what came out of a key: which counts, and the highest of them.
type seenKey struct {
	counts  []bool
	highest int
}

func (w *workload) newJudge() *judge {
	j := &judge{expected: w.expected, seen: map[string]*seenKey{}}
	for k, n := range w.perKey {
		j.seen[k] = &seenKey{counts: make([]bool, n+1)}
	}
	return j
}

// see takes one output record; transaction markers do not count.
func (j *judge) see(r *kgo.Record) {
	if r.Attrs.IsControl() {
		return
	}
	j.found.records++
	key, known := j.seen[string(r.Key)]
	n, err := strconv.Atoi(string(r.Value))
	if !known || err != nil || n < 1 || n >= len(key.counts) {
		if j.found.wrong == "" {
			j.found.wrong = fmt.Sprintf("key %q count %q at %s-%d offset %d", r.Key, r.Value, r.Topic, r.Partition, r.Offset)
		}
		return
	}
	j.found.out++
	switch {
	case key.counts[n]:
		j.found.duplicates++
	case n < key.highest:
		j.found.outOfOrder++
	}
	key.counts[n], key.highest = true, max(key.highest, n)
}

func (j *judge) verdict() verdict {
	v := j.found
	v.lost = j.expected - (v.out - v.duplicates)
	return v
}

// problem says what is wrong with the output; empty: nothing.
func (v *verdict) problem() string {
	switch {
	case v.wrong != "":
		return "impossible output: " + v.wrong
	case v.lost != 0:
		return fmt.Sprintf("%d records lost", v.lost)
	case v.duplicates != 0:
		return fmt.Sprintf("%d duplicates", v.duplicates)
	case v.outOfOrder != 0:
		return fmt.Sprintf("%d records out of order", v.outOfOrder)
	case v.live != int64(v.records):
		return fmt.Sprintf("a reader that was there all the time saw %d records, one that came afterwards %d", v.live, v.records)
	case v.open != 0:
		return fmt.Sprintf("transactions are open: the last stable offsets are %d behind", v.open)
	}
	return ""
}
