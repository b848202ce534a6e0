package demo

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	inTopic, outTopic = "demo-in", "demo-out"
	partitions        = 4
	keys              = 1000
)

// broker is the embedded broker: kfake, an imitation of Kafka in this process.
type broker struct {
	cluster *kfake.Cluster
	addr    string
}

func startBroker() (*broker, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, inTopic, outTopic))
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	return &broker{cluster: c, addr: c.ListenAddrs()[0]}, nil
}

// workload is the input of the demo and what must come out. Record i goes to partition i modulo 4 with key
// "user-" + i modulo 1000, so all records of a key are in one partition; nine of ten are "paid".
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

// produce writes the records from..to-1.
func (w *workload) produce(ctx context.Context, addr string, from, to int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(inTopic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return fmt.Errorf("generate records: %w", err)
	}
	defer cl.Close()
	var failed atomic.Pointer[error]
	for i := from; i < to && failed.Load() == nil && ctx.Err() == nil; i++ {
		state := "open"
		if paid(i) {
			state = "paid"
		}
		cl.Produce(ctx, &kgo.Record{Key: []byte(keyOf(i)), Value: []byte(state + " order " + strconv.Itoa(i)), Partition: int32(i % partitions)},
			func(_ *kgo.Record, err error) {
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				w.produced.Add(1)
			})
	}
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("generate records: %w", err)
	}
	if p := failed.Load(); p != nil {
		return fmt.Errorf("generate records: %w", *p)
	}
	return nil
}

// verdict is what an independent client found in the output.
type verdict struct {
	out, lost, duplicates int
	wrong                 string // the first impossible record; empty: none
}

// verify reads the whole output. For each key the counts 1..n must each be there; one that is there twice is
// a duplicate.
func (w *workload) verify(ctx context.Context, addr string) (verdict, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(outTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()) // the last record of a partition may be a marker
	if err != nil {
		return verdict{}, fmt.Errorf("read the output: %w", err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, outTopic)
	if err != nil {
		return verdict{}, fmt.Errorf("read the output: %w", err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
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
	return judge.verdict(), nil
}

// judge counts output records. It knows of the job only what must come out.
type judge struct {
	expected int
	seen     map[string][]bool // key → count → it was there
	found    verdict
}

func (w *workload) newJudge() *judge {
	j := &judge{expected: w.expected, seen: map[string][]bool{}}
	for k, n := range w.perKey {
		j.seen[k] = make([]bool, n+1)
	}
	return j
}

// see takes one output record; transaction markers do not count.
func (j *judge) see(r *kgo.Record) {
	if r.Attrs.IsControl() {
		return
	}
	counts, known := j.seen[string(r.Key)]
	n, err := strconv.Atoi(string(r.Value))
	if !known || err != nil || n < 1 || n >= len(counts) {
		if j.found.wrong == "" {
			j.found.wrong = fmt.Sprintf("key %q count %q at %s-%d offset %d", r.Key, r.Value, r.Topic, r.Partition, r.Offset)
		}
		return
	}
	j.found.out++
	if counts[n] {
		j.found.duplicates++
	}
	counts[n] = true
}

func (j *judge) verdict() verdict {
	v := j.found
	v.lost = j.expected - (v.out - v.duplicates)
	return v
}

// problem says what is wrong with the output; empty: nothing. Duplicates are no fault of at-least-once.
func (v *verdict) problem() string {
	switch {
	case v.wrong != "":
		return "impossible output: " + v.wrong
	case v.lost != 0:
		return fmt.Sprintf("%d records lost", v.lost)
	}
	return ""
}

// outputWatch looks at the end of the output, with a client of its own, and notes when it grew.
type outputWatch struct {
	grownAt atomic.Int64 // unix milliseconds of the last growth that was seen
	records atomic.Int64
}

func (o *outputWatch) run(ctx context.Context, addr string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return fmt.Errorf("watch the output: %w", err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		ends, err := admin.ListCommittedOffsets(ctx, outTopic)
		if err != nil {
			continue // asked again in 20 ms; the demo fails by its own deadline if this lasts
		}
		var sum int64
		ends.Each(func(e kadm.ListedOffset) { sum += max(0, e.Offset) })
		if sum > o.records.Load() {
			o.records.Store(sum)
			o.grownAt.Store(time.Now().UnixMilli())
		}
	}
}
