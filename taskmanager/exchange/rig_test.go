package exchange

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a few task managers' exchanges in one process.
type rig struct {
	t        testing.TB
	networks map[ident.WorkerID]*Network
	servers  map[ident.WorkerID]*grpc.Server
	address  map[ident.WorkerID]string
	serving  sync.WaitGroup
}

// newRig serves on TCP, or in memory (for synctest) if bubble.
func newRig(t testing.TB, bubble bool, cfg Config, workers ...ident.WorkerID) *rig {
	r := &rig{t: t, networks: map[ident.WorkerID]*Network{}, servers: map[ident.WorkerID]*grpc.Server{}, address: map[ident.WorkerID]string{}}
	pipes := map[string]*bufconn.Listener{}
	for _, w := range workers {
		cfg.Worker = w
		var l net.Listener
		if bubble {
			pipe := bufconn.Listen(64 << 10)
			pipes[string(w)] = pipe
			cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
				if p := pipes[address]; p != nil {
					return p.DialContext(ctx)
				}
				return nil, errors.New("connection refused")
			}
			l, r.address[w] = pipe, string(w)
		} else {
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l, r.address[w] = tcp, tcp.Addr().String()
		}
		n := NewNetwork(cfg)
		s := grpc.NewServer(n.ServerOptions()...)
		n.Register(s)
		r.networks[w], r.servers[w] = n, s
		r.serving.Go(func() { _ = s.Serve(l) })
	}
	t.Cleanup(func() {
		for _, s := range r.servers {
			s.Stop()
		}
		r.serving.Wait()
	})
	return r
}

// twoVertices is from -> to with one edge.
func twoVertices(senders, receivers int, p graph.Partitioning) *graph.Physical {
	return &graph.Physical{
		Vertices:       []graph.Vertex{{Name: "from", Parallelism: senders}, {Name: "to", Parallelism: receivers}},
		Edges:          []graph.Edge{{ID: 0, From: "from", To: "to", Partitioning: p}},
		MaxParallelism: graph.DefaultMaxParallelism,
	}
}

// place puts each subtask on a worker: the text is worker by subtask.
func (r *rig) place(where map[string]ident.WorkerID) map[ident.Subtask]Peer {
	out := map[ident.Subtask]Peer{}
	for text, w := range where {
		s, err := ident.ParseSubtask(text)
		if err != nil {
			r.t.Fatal(err)
		}
		out[s] = Peer{w, r.address[w]}
	}
	return out
}

func (r *rig) attempt(w ident.WorkerID, p *graph.Physical, where map[string]ident.WorkerID) *Attempt {
	r.t.Helper()
	a, err := r.networks[w].NewAttempt(AttemptConfig{Job: "job", Fence: ident.Fence{Epoch: 1, Attempt: 1}, Graph: p, Placements: r.place(where)})
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

func mustOutput(t testing.TB, a *Attempt, sender int) *Output {
	t.Helper()
	o, err := a.Output(ident.Subtask{Vertex: "from", Index: sender}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func mustInputs(t testing.TB, a *Attempt, receiver int) *Inputs {
	t.Helper()
	in, err := a.Inputs(ident.Subtask{Vertex: "to", Index: receiver})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// run starts the attempts; the returned stop ends them all and returns their errors.
func run(t testing.TB, attempts ...*Attempt) (stop func() []error) {
	ctx, cancel := context.WithCancel(t.Context())
	errs := make([]error, len(attempts))
	var wg sync.WaitGroup
	for i, a := range attempts {
		wg.Go(func() { errs[i] = a.Run(ctx) })
	}
	var once sync.Once
	stop = func() []error {
		once.Do(func() { cancel(); wg.Wait() })
		return errs
	}
	t.Cleanup(func() { stop() })
	return stop
}

// next waits for the next element.
func next(ctx context.Context, in *Inputs) (Element, error) {
	for {
		e, ok, err := in.Next()
		if ok || err != nil {
			return e, err
		}
		select {
		case <-ctx.Done():
			return Element{}, context.Cause(ctx)
		case <-in.Ready():
		}
	}
}

// keyed is a batch of n records with the stream keys k0, k1 … from start on.
func keyed(start, n int) *operator.Batch {
	b := &operator.Batch{Origins: []operator.Origin{{Topic: "t"}}}
	for i := start; i < start+n; i++ {
		key := b.Put(fmt.Appendf(nil, "k%d", i))
		b.Records = append(b.Records, operator.Record{
			Key: key, StreamKey: key, Value: b.Put(fmt.Appendf(nil, "value of %d", i)), Headers: operator.Null, Offset: int64(i), Timestamp: int64(i),
		})
	}
	return b
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
