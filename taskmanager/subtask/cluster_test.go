package subtask

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/taskmanager/exchange"
)

// endless generates records of one split up to a stop offset.
type endless struct {
	partition  int32
	next, stop int64
	perBatch   int64
	pace       time.Duration // between batches; 0: as fast as they are taken
	batches    chan operator.SourceBatch
}

func (s *endless) Batches() <-chan operator.SourceBatch { return s.batches }
func (s *endless) Lag() []operator.SplitLag             { return nil }
func (s *endless) Run(ctx context.Context) error {
	for s.next < s.stop {
		n := min(s.perBatch, s.stop-s.next)
		words := make([]string, n)
		for i := range words {
			words[i] = strconv.FormatInt((s.next+int64(i))%997, 36)
		}
		b := batchOf(s.partition, s.next, words...)
		s.next += n
		if s.pace > 0 {
			time.Sleep(s.pace) // only in a bubble
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case s.batches <- operator.SourceBatch{Batch: b, Split: split(s.partition), Next: s.next, LeaderEpoch: -1, Release: func() {}}:
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// ledger is the job manager as far as these tests need it: it gathers acks as sets.
type ledger struct {
	mu       sync.Mutex
	acks     map[ident.CheckpointID]map[ident.Subtask]*manifest.Ack
	declined map[ident.CheckpointID]bool
	atEnd    int
	changed  chan struct{}
}

func newLedger() *ledger {
	return &ledger{acks: map[ident.CheckpointID]map[ident.Subtask]*manifest.Ack{}, declined: map[ident.CheckpointID]bool{}, changed: make(chan struct{}, 1)}
}

func (l *ledger) change(f func()) {
	l.mu.Lock()
	f()
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *ledger) Running() {}
func (l *ledger) AtEnd()   { l.change(func() { l.atEnd++ }) }
func (l *ledger) Ack(a *manifest.Ack) {
	l.change(func() {
		if l.acks[a.Checkpoint] == nil {
			l.acks[a.Checkpoint] = map[ident.Subtask]*manifest.Ack{}
		}
		l.acks[a.Checkpoint][a.Subtask] = a
	})
}
func (l *ledger) Decline(id ident.CheckpointID, _ string) { l.change(func() { l.declined[id] = true }) }

// wait waits until done holds.
func (l *ledger) wait(t *testing.T, ctx context.Context, what string, done func() bool) {
	t.Helper()
	for {
		l.mu.Lock()
		ok := done()
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, context.Cause(ctx))
		case <-l.changed:
		}
	}
}

// check compares, for every complete checkpoint, what the sources had read with what was counted.
func (l *ledger) check(t *testing.T, subtasks int) (complete int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, acks := range l.acks {
		if len(acks) != subtasks {
			continue
		}
		complete++
		var read, counted int64
		for _, a := range acks {
			for _, p := range a.Positions {
				read += p.Next
			}
			for _, s := range a.State {
				n, err := strconv.ParseInt(string(s.Inline), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				counted += n
			}
		}
		if read != counted {
			t.Errorf("checkpoint %d is no cut: %d records read, %d counted", id, read, counted)
		}
		if l.declined[id] {
			t.Errorf("checkpoint %d is complete and declined", id)
		}
	}
	return complete
}

// world is src (2) -> hash -> count (2) -> print (sink) on two task managers.
type world struct {
	tasks  []*Task // src/0 count/0 src/1 count/1
	ledger *ledger
	group  *errgroup.Group
}

const perSplit = 40000

func physical() *graph.Physical {
	return &graph.Physical{
		Vertices: []graph.Vertex{
			{Name: "src", Parallelism: 2, Nodes: []graph.Node{{
				Name: "src", Kind: graph.KindSource, Parent: -1,
				Source: &graph.Source{Kafka: &graph.KafkaSource{Bounded: graph.Bound{Mode: graph.BoundLatest}}},
			}}},
			{Name: "count", Parallelism: 2, Nodes: []graph.Node{{Name: "count", Kind: graph.KindOperator, Parent: -1}}},
		},
		Edges:          []graph.Edge{{From: "src", To: "count", Partitioning: graph.Hash}},
		MaxParallelism: graph.DefaultMaxParallelism,
	}
}

func newWorld(t *testing.T, ctx context.Context, pace time.Duration, listen func(worker string) (net.Listener, string, func(context.Context, string) (net.Conn, error))) *world {
	t.Helper()
	w := &world{ledger: newLedger()}
	p, workers := physical(), []ident.WorkerID{"tm-1", "tm-2"}
	placements, networks := map[ident.Subtask]exchange.Peer{}, map[ident.WorkerID]*exchange.Network{}
	for i, worker := range workers {
		l, address, dial := listen(string(worker))
		n := exchange.NewNetwork(exchange.Config{Worker: worker, Dial: dial, BatchBytes: 2 << 10, QueueBytes: 8 << 10})
		server := grpc.NewServer(n.ServerOptions()...)
		n.Register(server)
		served := make(chan struct{})
		go func() { defer close(served); _ = server.Serve(l) }()
		t.Cleanup(func() { server.Stop(); <-served })
		networks[worker] = n
		for _, v := range p.Vertices {
			placements[ident.Subtask{Vertex: v.Name, Index: i}] = exchange.Peer{Worker: worker, Address: address}
		}
	}
	w.group, ctx = errgroup.WithContext(ctx)
	for i, worker := range workers {
		a, err := networks[worker].NewAttempt(exchange.AttemptConfig{Job: "job", Fence: ident.Fence{Epoch: 1, Attempt: 1}, Graph: p, Placements: placements})
		if err != nil {
			t.Fatal(err)
		}
		for v := range p.Vertices {
			task := w.build(t, a, &p.Vertices[v], i, pace)
			w.tasks = append(w.tasks, task)
			w.group.Go(func() error { return task.Run(ctx) })
		}
		w.group.Go(func() error { return a.Run(ctx) })
	}
	return w
}

func (w *world) build(t *testing.T, a *exchange.Attempt, v *graph.Vertex, index int, pace time.Duration) *Task {
	t.Helper()
	self := ident.Subtask{Vertex: v.Name, Index: index}
	cfg := Config{Job: "job", Subtask: self, Vertex: *v, MaxParallelism: graph.DefaultMaxParallelism, Reporter: w.ledger}
	if v.Name == "src" {
		out, err := a.Output(self, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Outputs = []NodeOutput{{Output: out}}
		cfg.Source = &endless{partition: int32(index), stop: perSplit, perBatch: 50, pace: pace, batches: make(chan operator.SourceBatch)}
		cfg.Positions = []manifest.Position{position(int32(index), 0, perSplit)}
	} else {
		in, err := a.Inputs(self)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Inputs = in
		cfg.Operators = map[string]operator.Operator{"count": &fakeCount{}}
	}
	task, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// counted is how many records the receivers have taken.
func (w *world) counted() int64 {
	return w.tasks[1].Counters().RecordsIn.Load() + w.tasks[3].Counters().RecordsIn.Load()
}

func (w *world) anyAtEnd() bool {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return w.ledger.atEnd > 0
}

// disturb triggers checkpoints while the records flow: some on both sources, some on one only (the other
// trigger is lost), some aborted before or after. It ends when all data is sent, with a last one.
func (w *world) disturb(t *testing.T, ctx context.Context, rnd *rand.Rand, pause func()) {
	id := ident.CheckpointID(0)
	for w.counted() < 2*perSplit && ctx.Err() == nil {
		id++
		first, second := w.tasks[0], w.tasks[2]
		if rnd.IntN(2) == 0 {
			first, second = second, first
		}
		first.Trigger(id, Periodic)
		fate := rnd.IntN(4)
		if fate == 0 { // lost on the way to the second source; the next one supersedes it
			pause()
			continue
		}
		pause()
		second.Trigger(id, Periodic)
		if fate == 1 {
			for _, task := range w.tasks {
				task.Abort(id)
			}
			continue
		}
		w.ledger.wait(t, ctx, fmt.Sprintf("checkpoint %d", id), func() bool { return len(w.ledger.acks[id]) == 4 })
	}
	w.ledger.wait(t, ctx, "the end of both sources", func() bool { return w.ledger.atEnd == 2 })
	id++
	w.tasks[0].Trigger(id, Final)
	w.tasks[2].Trigger(id, Final)
	w.ledger.wait(t, ctx, "the final checkpoint", func() bool { return len(w.ledger.acks[id]) == 4 })
	var counted int
	for subtask, a := range w.ledger.acks[id] {
		if subtask.Vertex == "count" {
			n, _ := strconv.Atoi(string(a.State[0].Inline))
			counted += n
		}
	}
	if counted != 2*perSplit {
		t.Errorf("the final checkpoint counts %d records, want %d", counted, 2*perSplit)
	}
}

func (w *world) end(t *testing.T, cancel func()) {
	cancel()
	if err := w.group.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	n := w.ledger.check(t, 4)
	t.Logf("%d complete checkpoints, %d declined", n, len(w.ledger.declined))
	if n < 10 || len(w.ledger.declined) == 0 {
		t.Error("the test saw too little")
	}
}

// Over real connections: every complete checkpoint is a consistent cut, whatever happens to others.
func TestCutsAreConsistentOverTCP(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 60*time.Second, errors.New("the test takes too long"))
	defer cancel()
	w := newWorld(t, ctx, 0, func(string) (net.Listener, string, func(context.Context, string) (net.Conn, error)) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l, l.Addr().String(), nil
	})
	w.disturb(t, ctx, rand.New(rand.NewPCG(1, 2)), func() {
		// At its end a source sends nothing more, and the other one may be held.
		for mark := w.counted() + 500; w.counted() < mark && !w.anyAtEnd() && ctx.Err() == nil; {
			runtime.Gosched()
		}
	})
	w.end(t, cancel)
}

// The same in a bubble: it would report any goroutine that hangs or stays.
func TestCutsAreConsistentInBubble(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				pipes := map[string]*bufconn.Listener{}
				w := newWorld(t, ctx, time.Millisecond, func(worker string) (net.Listener, string, func(context.Context, string) (net.Conn, error)) {
					pipes[worker] = bufconn.Listen(32 << 10)
					return pipes[worker], worker, func(ctx context.Context, to string) (net.Conn, error) { return pipes[to].DialContext(ctx) }
				})
				w.disturb(t, ctx, rand.New(rand.NewPCG(seed, 3)), func() { time.Sleep(3 * time.Millisecond) })
				w.end(t, cancel)
			})
		})
	}
}
