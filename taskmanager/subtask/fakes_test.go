package subtask

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal is what happened, in order, for all fakes of a test.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

// take returns the lines since the last call.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := strings.Join(j.lines, ", ")
	j.lines = nil
	return text
}

// fakeSource delivers what the test puts into its channel.
type fakeSource struct {
	batches chan operator.SourceBatch
	fail    chan error
	*journal
}

func newFakeSource(j *journal) *fakeSource {
	return &fakeSource{batches: make(chan operator.SourceBatch, 16), fail: make(chan error, 1), journal: j}
}

func (s *fakeSource) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-s.fail:
		return err
	}
}
func (s *fakeSource) Batches() <-chan operator.SourceBatch { return s.batches }
func (s *fakeSource) Lag() []operator.SplitLag             { return nil }

func split(partition int32) manifest.Split {
	return manifest.Split{Source: "src", Topic: "t", Partition: partition}
}

func position(partition int32, next, stop int64) manifest.Position {
	return manifest.Position{Split: split(partition), Next: next, LeaderEpoch: -1, Stop: stop}
}

// deliver puts values of one split in, with the offsets before next.
func (s *fakeSource) deliver(partition int32, next int64, values ...string) {
	sb := operator.SourceBatch{Split: split(partition), Next: next, LeaderEpoch: 2, Release: func() { s.add("released") }}
	if len(values) > 0 {
		sb.Batch = batchOf(partition, next-int64(len(values)), values...)
	}
	s.batches <- sb
}

func batchOf(partition int32, offset int64, values ...string) *operator.Batch {
	b := &operator.Batch{Origins: []operator.Origin{{Topic: "t", Partition: partition}}}
	for i, v := range values {
		s := b.Put([]byte(v))
		b.Records = append(b.Records, operator.Record{Key: s, StreamKey: s, Value: s, Headers: operator.Null, Offset: offset + int64(i)})
	}
	return b
}

func values(b *operator.Batch) string {
	var out []string
	for i := range b.Records {
		out = append(out, string(b.Bytes(b.Records[i].Value)))
	}
	return strings.Join(out, " ")
}

// fakeSink writes into the journal and reports seals when told to.
type fakeSink struct {
	name   string
	sealed chan operator.SealedEpoch
	// gate, if not nil, is received from before each Write.
	gate chan struct{}
	*journal
}

func newFakeSink(name string, j *journal) *fakeSink {
	return &fakeSink{name: name, sealed: make(chan operator.SealedEpoch, 4), journal: j}
}

func (s *fakeSink) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (s *fakeSink) Write(ctx context.Context, b *operator.Batch) error {
	if s.gate != nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.gate:
		}
	}
	s.add("%s writes %s", s.name, values(b))
	return nil
}
func (s *fakeSink) Seal(_ context.Context, id ident.CheckpointID) error {
	s.add("%s seals #%d", s.name, id)
	return nil
}
func (s *fakeSink) Sealed() <-chan operator.SealedEpoch   { return s.sealed }
func (s *fakeSink) Completed(id ident.CheckpointID)       { s.add("%s hears of #%d", s.name, id) }
func (s *fakeSink) seal(id ident.CheckpointID, tx string) { s.sealed <- sealedEpoch(id, tx) }

func sealedEpoch(id ident.CheckpointID, tx string) operator.SealedEpoch {
	return operator.SealedEpoch{Checkpoint: id, Transactions: []manifest.Transaction{{TransactionalID: tx}}}
}

// fakeCount counts records; its state is the decimal count.
type fakeCount struct {
	n   int
	err error
	*journal
}

func (c *fakeCount) Process(b *operator.Batch, out operator.Collector) error {
	if err := b.Open(); err != nil {
		return err
	}
	for i := range b.Records {
		switch string(b.Bytes(b.Records[i].Value)) {
		case "poison":
			return poisonError{}
		case "panic":
			panic("a bug")
		}
	}
	c.n += b.Len()
	return out.Emit(b)
}

func (c *fakeCount) Restore(piece []byte) error {
	var n int
	if _, err := fmt.Sscanf(string(piece), "%d", &n); err != nil {
		return err
	}
	c.n += n
	return nil
}

func (c *fakeCount) Snapshot() ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	return fmt.Appendf(nil, "%d", c.n), nil
}

type poisonError struct{}

func (poisonError) Error() string        { return "record is poison" }
func (poisonError) FailureClass() string { return ClassUser }

// fakeOutput writes into the journal.
type fakeOutput struct {
	open []string
	*journal
}

func (o *fakeOutput) Emit(_ context.Context, b *operator.Batch) error {
	o.open = append(o.open, values(b))
	return nil
}
func (o *fakeOutput) Flush(context.Context) error {
	if len(o.open) > 0 {
		o.add("sends %s", strings.Join(o.open, " "))
		o.open = nil
	}
	return nil
}
func (o *fakeOutput) Waiting() string { return "" }
func (o *fakeOutput) Barrier(ctx context.Context, id ident.CheckpointID) error {
	_ = o.Flush(ctx)
	o.add("barrier #%d", id)
	return nil
}
func (o *fakeOutput) End(ctx context.Context) error {
	_ = o.Flush(ctx)
	o.add("end")
	return nil
}

// fakeReporter writes into the journal; acks as id, next offsets, state, transactions.
type fakeReporter struct{ *journal }

func (r fakeReporter) Running() { r.add("running") }
func (r fakeReporter) AtEnd()   { r.add("at end") }
func (r fakeReporter) Decline(id ident.CheckpointID, reason string) {
	r.add("decline #%d (%s)", id, reason)
}
func (r fakeReporter) Ack(a *manifest.Ack) {
	var parts []string
	for _, p := range a.Positions {
		parts = append(parts, fmt.Sprintf("%d@%d", p.Partition, p.Next))
	}
	for _, s := range a.State {
		parts = append(parts, fmt.Sprintf("%s=%s", s.Operator, s.Inline))
	}
	var tx []string
	for _, t := range a.Transactions {
		tx = append(tx, t.TransactionalID)
	}
	slices.Sort(tx)
	r.add("ack #%d %s", a.Checkpoint, strings.Join(append(parts, tx...), " "))
}

// nodes of the vertex that most tests use: src, count, and what follows.
func sourceNode(mode graph.BoundMode) graph.Node {
	return graph.Node{Name: "src", Kind: graph.KindSource, Parent: -1, Source: &graph.Source{Kafka: &graph.KafkaSource{Bounded: graph.Bound{Mode: mode}}}}
}

func node(name string, kind graph.Kind, parent int) graph.Node {
	return graph.Node{Name: name, Kind: kind, Parent: parent}
}

// start runs a task; stop ends it and returns its error.
func start(t *testing.T, cfg Config) (task *Task, stop func() error) {
	t.Helper()
	cfg.Job, cfg.MaxParallelism = "job", graph.DefaultMaxParallelism
	cfg.Vertex.Name, cfg.Vertex.Parallelism = cfg.Vertex.Nodes[0].Name, max(cfg.Vertex.Parallelism, 1)
	cfg.Subtask.Vertex = cfg.Vertex.Name
	task, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- task.Run(ctx) }()
	var once sync.Once
	stop = func() (err error) {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return task, stop
}
