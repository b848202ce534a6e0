package oracle_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/chaos/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// copier does what a job of the workload does, in one goroutine and in transactions of one fetch each. The
// hook may spoil the output.
type copier struct {
	w      *workload.Workload
	client *kgo.Client
	counts map[string]int
	spoil  func(made int, out []*kgo.Record) []*kgo.Record
	made   int
}

func newCopier(t *testing.T, w *workload.Workload, brokers []string) *copier {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(w.In(), w.Compacted()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.TransactionalID(w.Out()+"-copier"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	return &copier{w: w, client: client, counts: map[string]int{}}
}

// run copies until ctx ends.
func (c *copier) run(ctx context.Context, copied func(int64)) error {
	defer c.client.Close()
	for {
		fetches := c.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("copier: %w", err)
		}
		if err := c.copy(fetches.Records()); err != nil {
			return err
		}
		copied(int64(fetches.NumRecords()))
	}
}

func (c *copier) copy(in []*kgo.Record) error {
	var out []*kgo.Record
	for _, r := range in {
		outputs, err := c.w.Expected(workload.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value})
		if err != nil {
			return err
		}
		for emit, o := range outputs {
			if c.w.Counted() {
				c.counts[string(o.Key)]++
				o.Value = fmt.Append(nil, c.counts[string(o.Key)])
			}
			out = append(out, &kgo.Record{Topic: c.w.Out(), Partition: c.partition(r), Key: o.Key, Value: o.Value, Headers: []kgo.RecordHeader{
				{Key: "src", Value: fmt.Appendf(nil, "%s/%d/%d", r.Topic, r.Partition, r.Offset)}, {Key: "emit", Value: fmt.Append(nil, emit)},
			}})
		}
	}
	if c.spoil != nil {
		out = c.spoil(c.made, out)
	}
	c.made += len(out)
	if err := c.client.BeginTransaction(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // the last transaction ends though the run is over
	defer cancel()
	if err := c.client.ProduceSync(ctx, out...).FirstErr(); err != nil {
		return err
	}
	return c.client.EndTransaction(ctx, kgo.TryCommit)
}

func (c *copier) partition(r *kgo.Record) int32 {
	if c.w.Kind() == workload.A || c.w.Kind() == workload.D {
		return r.Partition
	}
	h := fnv.New32a()
	h.Write(r.Key)
	return int32(h.Sum32() % uint32(c.w.Params().Partitions))
}

// once spoils the first fetch behind the hundredth record that has two outputs for the same partition.
func once(change func(out []*kgo.Record, i, j int) []*kgo.Record) func(int, []*kgo.Record) []*kgo.Record {
	done := false
	return func(made int, out []*kgo.Record) []*kgo.Record {
		if done || made < 100 {
			return out
		}
		for i := range out {
			for j := i + 1; j < len(out); j++ {
				if out[i].Partition == out[j].Partition && string(out[i].Headers[0].Value[:8]) == string(out[j].Headers[0].Value[:8]) {
					done = true
					return change(out, i, j)
				}
			}
		}
		return out
	}
}

// story is a run on kfake.
type story struct {
	name  string
	kind  workload.Kind
	spoil func(int, []*kgo.Record) []*kgo.Record
	after func(t *testing.T, ctx context.Context, w *workload.Workload, brokers []string) // load and copier have ended
	want  string                                                                          // of the counts; empty: the verdict is ok
	says  string                                                                          // a reason holds it
}

func TestRuns(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	for i, s := range []story{
		{name: "map", kind: workload.A},
		{name: "copy", kind: workload.D},
		{name: "counts", kind: workload.B},
		{name: "fan-out", kind: workload.C},
		{name: "one dropped", kind: workload.A, want: "lost 1 dup 0 order 0 phantom 0", says: "lost: ",
			spoil: once(func(out []*kgo.Record, i, _ int) []*kgo.Record { return slices.Delete(out, i, i+1) })},
		{name: "one twice", kind: workload.C, want: "lost 0 dup 1 order 0 phantom 0", says: "again",
			spoil: once(func(out []*kgo.Record, i, j int) []*kgo.Record {
				again := *out[i]
				return append(out, &again)
			})},
		{name: "two swapped", kind: workload.A, want: "lost 0 dup 0 order ≥1 phantom 0", says: "out of order: ",
			spoil: once(func(out []*kgo.Record, i, j int) []*kgo.Record { out[i], out[j] = out[j], out[i]; return out })},
		{name: "phantom", kind: workload.B, want: "lost 0 dup 0 order 0 phantom 1", says: "no committed record",
			spoil: once(func(out []*kgo.Record, i, _ int) []*kgo.Record {
				ghost := *out[i]
				ghost.Headers = []kgo.RecordHeader{{Key: "src", Value: []byte("ghost/0/0")}, {Key: "emit", Value: []byte("0")}}
				return append(out, &ghost)
			})},
		{name: "open transaction", kind: workload.A, want: "lost 0 dup 0 order 0 phantom 0", says: "hung LSO: ", after: leaveOpen},
	} {
		t.Run(s.name, func(t *testing.T) { s.run(t, cluster.ListenAddrs(), i) })
	}
}

// leaveOpen begins a transaction on the output and never ends it.
func leaveOpen(t *testing.T, ctx context.Context, w *workload.Workload, brokers []string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(w.Out()+"-forgotten"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: w.Out(), Value: []byte("?")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func (s *story) run(t *testing.T, brokers []string, number int) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w, err := workload.New(s.kind, workload.Params{Name: fmt.Sprintf("run-%d", number), Brokers: strings.Join(brokers, ",")})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.CreateTopics(ctx, brokers...); err != nil {
		t.Fatal(err)
	}
	g, err := w.NewGenerator(workload.Load{Brokers: brokers, Seed: int64(number), Rate: 2000, LargeEvery: 500})
	if err != nil {
		t.Fatal(err)
	}
	o, err := oracle.Start(ctx, oracle.Config{Seed: int64(number), Workload: w, Brokers: brokers, Journal: g.Journal, Acknowledged: g.Acknowledged, LSOTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	s.load(t, ctx, w, g, o, brokers)
	if s.after != nil {
		s.after(t, ctx, w, brokers)
	}
	report, err := o.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.check(t, &report, g)
}

// load runs generator and copier until all is copied.
func (s *story) load(t *testing.T, ctx context.Context, w *workload.Workload, g *workload.Generator, o *oracle.Oracle, brokers []string) {
	copying, stop := context.WithCancel(ctx)
	defer stop()
	c := newCopier(t, w, brokers)
	c.spoil = s.spoil
	progress := make(chan int64, 1000)
	var running sync.WaitGroup
	running.Go(func() {
		defer close(progress)
		if err := c.run(copying, func(n int64) { progress <- n }); err != nil {
			t.Error(err)
		}
	})
	loading, end := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer end()
	o.Note(oracle.Fault, time.Now())
	if err := g.Run(loading); err != nil {
		t.Error(err)
	}
	o.Note(oracle.LoadStopped, time.Now())
	for copied, all := int64(0), g.Stats().Acknowledged; copied < all; {
		n, more := <-progress
		if !more {
			t.Fatalf("copied %d of %d records", copied, all)
		}
		copied += n
	}
	stop()
	for range progress { // what it copied last
	}
	running.Wait()
}

func (s *story) check(t *testing.T, r *oracle.Report, g *workload.Generator) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	order := fmt.Sprint(r.OutOfOrder)
	if strings.Contains(s.want, "≥1") && r.OutOfOrder >= 1 {
		order = "≥1"
	}
	got := fmt.Sprintf("lost %d dup %d order %s phantom %d", r.Lost, r.Duplicates, order, r.Phantoms)
	want := s.want
	if want == "" {
		want = "lost 0 dup 0 order 0 phantom 0"
	}
	if got != want || r.ReaderMismatch != 0 || r.WrongCounts != 0 {
		t.Errorf("%s, mismatch %d, wrong counts %d; want %s", got, r.ReaderMismatch, r.WrongCounts, want)
	}
	if r.OK() != (s.want == "") || !strings.Contains(string(text), s.says) {
		t.Errorf("verdict %q, want one that holds %q", r.Verdict, s.says)
	}
	if r.RecordsIn != g.Stats().Acknowledged || r.FirstOutputMs == nil || r.LSOStallMs <= 0 {
		t.Errorf("%d records in, want %d; first output %v, LSO stall %d ms", r.RecordsIn, g.Stats().Acknowledged, r.FirstOutputMs, r.LSOStallMs)
	}
}
