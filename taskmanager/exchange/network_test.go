package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

var acrossTwo = map[string]ident.WorkerID{"from/0": "tm-1", "from/1": "tm-2", "to/0": "tm-1", "to/1": "tm-2"}

// receive takes from all channels of a subtask until each has ended. It returns the offsets per input in
// the order of their coming, with -id for a barrier, and checks that keys are where they belong.
func receive(ctx context.Context, in *Inputs, self, parallelism int) ([][]int64, error) {
	got := make([][]int64, in.Count())
	for open := in.Count(); open > 0; {
		e, err := next(ctx, in)
		if err != nil {
			return got, err
		}
		switch e.Kind {
		case EndElement:
			open--
		case BarrierElement:
			got[e.Input] = append(got[e.Input], -int64(e.Checkpoint))
		default:
			for i := range e.Batch.Records {
				r := &e.Batch.Records[i]
				key := e.Batch.Bytes(r.StreamKey)
				if want := fmt.Sprintf("value of %d", r.Offset); string(e.Batch.Bytes(r.Value)) != want {
					return got, fmt.Errorf("offset %d has %q", r.Offset, e.Batch.Bytes(r.Value))
				}
				group := graph.KeyGroup(key, graph.DefaultMaxParallelism)
				if graph.SubtaskOfKeyGroup(group, parallelism, graph.DefaultMaxParallelism) != self {
					return got, fmt.Errorf("key %q came to %d", key, self)
				}
				got[e.Input] = append(got[e.Input], r.Offset)
			}
			in.Release(e)
		}
	}
	return got, nil
}

// exchangeAll sends n records from each of two senders by hash over two task managers, a barrier in the
// middle, and checks that each arrives once, in order, on its side of the barrier.
func exchangeAll(t *testing.T, r *rig, n int) {
	p := twoVertices(2, 2, graph.Hash)
	attempts := []*Attempt{r.attempt("tm-1", p, acrossTwo), r.attempt("tm-2", p, acrossTwo)}
	outputs := []*Output{mustOutput(t, attempts[0], 0), mustOutput(t, attempts[1], 1)}
	stop := run(t, attempts...)
	ctx := deadline(t)
	var wg sync.WaitGroup
	errs, got := make([]error, 4), make([][][]int64, 2)
	for s, o := range outputs {
		wg.Go(func() { errs[s] = sendHalves(ctx, o, s*n, n) })
	}
	for i, a := range attempts {
		in := mustInputs(t, a, i)
		wg.Go(func() { got[i], errs[2+i] = receive(ctx, in, i, 2) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stop()...); err != nil {
		t.Fatalf("attempt ended with %v", err)
	}
	for s := range outputs {
		checkArrived(t, s*n, n, got[0][s], got[1][s])
	}
}

func sendHalves(ctx context.Context, o *Output, start, n int) error {
	for half := range 2 {
		for i := 0; i < n/2; i += 100 {
			if err := o.Emit(ctx, keyed(start+half*n/2+i, 100)); err != nil {
				return err
			}
		}
		if half == 0 {
			if err := o.Barrier(ctx, 7); err != nil {
				return err
			}
		}
	}
	return o.End(ctx)
}

func checkArrived(t *testing.T, start, n int, channels ...[]int64) {
	t.Helper()
	seen := map[int64]bool{}
	for _, offsets := range channels {
		last, barrier := int64(-1), false
		for _, o := range offsets {
			if o == -7 {
				barrier = true
				continue
			}
			if o <= last || seen[o] || barrier != (o >= int64(start+n/2)) {
				t.Fatalf("offset %d after %d, barrier seen: %v", o, last, barrier)
			}
			seen[o], last = true, o
		}
	}
	if len(seen) != n {
		t.Fatalf("%d of %d records arrived", len(seen), n)
	}
}

func TestHashOverTwoTaskManagers(t *testing.T) {
	exchangeAll(t, newRig(t, false, Config{}, "tm-1", "tm-2"), 20000)
}

func TestHashOverTwoTaskManagersInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exchangeAll(t, newRig(t, true, Config{BatchBytes: 1 << 10, QueueBytes: 2 << 10}, "tm-1", "tm-2"), 4000)
	})
}

// A receiver that does not read holds up its own channel only: the other channel of the same stream goes
// on, and the sender of the blocked one waits after its credit.
func TestBlockedChannelDoesNotBlockItsNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, Config{BatchBytes: 4 << 10, QueueBytes: 16 << 10}, "tm-1", "tm-2")
		where := map[string]ident.WorkerID{"from/0": "tm-1", "from/1": "tm-1", "to/0": "tm-2", "to/1": "tm-2"}
		p := twoVertices(2, 2, graph.Forward)
		a1, a2 := r.attempt("tm-1", p, where), r.attempt("tm-2", p, where)
		slow, fast := mustOutput(t, a1, 0), mustOutput(t, a1, 1)
		run(t, a1, a2)
		ctx, cancel := context.WithCancel(deadline(t))
		var wg sync.WaitGroup
		sent := 0
		wg.Go(func() {
			for slow.Emit(ctx, keyed(0, 100)) == nil {
				sent += 100
			}
		})
		wg.Go(func() {
			for i := range 100 {
				if err := fast.Emit(ctx, keyed(i*100, 100)); err != nil {
					t.Error(err)
				}
			}
			if err := fast.End(ctx); err != nil {
				t.Error(err)
			}
		})
		in, records := mustInputs(t, a2, 1), 0
		for {
			e, err := next(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == EndElement {
				break
			}
			records += e.Batch.Len()
			in.Release(e)
		}
		if records != 10000 {
			t.Fatalf("%d records came over the free channel", records)
		}
		synctest.Wait()
		if sent == 0 || sent > 3000 {
			t.Fatalf("the blocked sender has sent %d records, want some, bounded by the credit", sent)
		}
		time.Sleep(5 * time.Second)
		if got, want := slow.Waiting(), "back-pressure: to/0 takes nothing since 5s"; got != want {
			t.Errorf("the blocked output says %q, want %q", got, want)
		}
		if got := fast.Waiting(); got != "" {
			t.Errorf("the free output says %q", got)
		}
		cancel()
		wg.Wait()
	})
}

// An attempt ends soon although a peer that hangs does not answer the end of the stream.
func TestEndDoesNotWaitForAPeerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, Config{}, "tm-1", "tm-2")
		hang := bufconn.Listen(1 << 16)
		server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			<-s.Context().Done()
			return nil
		}))
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(hang) })
		defer serving.Wait()
		defer server.Stop()
		r.networks["tm-1"].cfg.Dial = func(ctx context.Context, _ string) (net.Conn, error) { return hang.DialContext(ctx) }
		a := r.attempt("tm-1", twoVertices(1, 1, graph.Forward), map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-2"})
		mustOutput(t, a, 0)
		stop := run(t, a)
		synctest.Wait()
		began := time.Now()
		if err := stop()[0]; err != nil || time.Since(began) != closeLinger {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

func TestOutputIsTakenOnce(t *testing.T) {
	r := newRig(t, false, Config{}, "tm-1", "tm-2")
	a := r.attempt("tm-1", twoVertices(2, 2, graph.Hash), acrossTwo)
	mustOutput(t, a, 0)
	from := func(index int) ident.Subtask { return ident.Subtask{Vertex: "from", Index: index} }
	if _, err := a.Output(from(0), 0, nil); !errors.Is(err, errTaken) {
		t.Errorf("taken twice: %v", err)
	}
	for what, take := range map[string]func() error{
		"edge":  func() error { _, err := a.Output(from(0), 1, nil); return err },
		"place": func() error { _, err := a.Output(from(1), 0, nil); return err },
		"input": func() error { _, err := a.Inputs(ident.Subtask{Vertex: "to", Index: 1}); return err },
	} {
		if take() == nil {
			t.Errorf("%s that is not here was given out", what)
		}
	}
}

func TestPeerThatDiesFailsTheAttempt(t *testing.T) {
	r := newRig(t, false, Config{}, "tm-1", "tm-2")
	p := twoVertices(2, 2, graph.Hash)
	a1, a2 := r.attempt("tm-1", p, acrossTwo), r.attempt("tm-2", p, acrossTwo)
	o := mustOutput(t, a1, 0)
	mustOutput(t, a2, 1)
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- a1.Run(ctx) }()
	stopped := make(chan error, 1)
	other, stop := context.WithCancel(ctx)
	go func() { stopped <- a2.Run(other) }()
	if err := o.Emit(ctx, keyed(0, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := o.Flush(ctx); err != nil { // returns once the peer has granted credit: the stream is open
		t.Fatal(err)
	}
	r.servers["tm-2"].Stop()
	err := <-failed
	var peer *PeerError
	if !errors.As(err, &peer) || peer.Peer.Worker != "tm-2" || peer.Ended || !strings.Contains(err.Error(), r.address["tm-2"]) {
		t.Fatalf("the attempt ended with %v", err)
	}
	stop()
	<-stopped
}

func TestPeerThatEndsInGoodOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, Config{}, "tm-1", "tm-2")
		p := twoVertices(2, 2, graph.Hash)
		a1, a2 := r.attempt("tm-1", p, acrossTwo), r.attempt("tm-2", p, acrossTwo)
		mustOutput(t, a1, 0)
		mustOutput(t, a2, 1)
		failed := make(chan error, 1)
		go func() { failed <- a1.Run(t.Context()) }()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a2.Run(ctx) }()
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the attempt that was cancelled ended with %v", err)
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("an orderly end took %s", d)
		}
		err := <-failed
		var peer *PeerError
		if !errors.As(err, &peer) || !peer.Ended || time.Since(began) != endedGrace {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

func TestAttemptThatIsNotDeployedThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, Config{OpenWait: 5 * time.Second}, "tm-1", "tm-2")
		where := map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-2"}
		a := r.attempt("tm-1", twoVertices(1, 1, graph.Forward), where)
		mustOutput(t, a, 0)
		err := a.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "has not been deployed here within 5s") {
			t.Errorf("the sender ended with %v", err)
		}
		err = r.attempt("tm-2", twoVertices(1, 1, graph.Forward), where).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "task manager tm-1 (tm-1): it has not connected within 5s") {
			t.Errorf("the receiver ended with %v", err)
		}
	})
}

func TestPeerThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, Config{}, "tm-1")
		r.address["tm-9"] = "nowhere:1"
		a := r.attempt("tm-1", twoVertices(1, 1, graph.Forward), map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-9"})
		mustOutput(t, a, 0)
		err := a.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "task manager tm-9 (nowhere:1)") || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestStreamForAnotherTaskManagerIsRefused(t *testing.T) {
	r := newRig(t, false, Config{}, "tm-1", "tm-2")
	r.address["tm-3"] = r.address["tm-2"] // an address that now belongs to another one
	a := r.attempt("tm-1", twoVertices(1, 1, graph.Forward), map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-3"})
	mustOutput(t, a, 0)
	if err := a.Run(deadline(t)); err == nil || !strings.Contains(err.Error(), "this is task manager tm-2, not tm-3") {
		t.Fatalf("ended with %v", err)
	}
}

func TestOlderAttemptIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, Config{}, "tm-1", "tm-2")
		where := map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-2"}
		p := twoVertices(1, 1, graph.Forward)
		current, err := r.networks["tm-2"].NewAttempt(AttemptConfig{Job: "job", Fence: ident.Fence{Epoch: 1, Attempt: 2}, Graph: p, Placements: r.place(where)})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, current)
		synctest.Wait()
		old := r.attempt("tm-1", p, where)
		mustOutput(t, old, 0)
		began := time.Now()
		var peer *PeerError
		if err := old.Run(t.Context()); !errors.As(err, &peer) || !peer.Ended || time.Since(began) > endedGrace {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		stop()
	})
}

// A record of the largest size passes, a larger one is the user's error and names where it came from.
func TestLargestRecord(t *testing.T) {
	for name, where := range map[string]map[string]ident.WorkerID{
		"local":  {"from/0": "tm-1", "to/0": "tm-1"},
		"remote": {"from/0": "tm-1", "to/0": "tm-2"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false, Config{}, "tm-1", "tm-2")
			p := twoVertices(1, 1, graph.Forward)
			a1, a2 := r.attempt("tm-1", p, where), r.attempt("tm-2", p, where)
			o := mustOutput(t, a1, 0)
			to := map[string]*Attempt{"local": a1, "remote": a2}[name]
			run(t, a1, a2)
			ctx := deadline(t)
			value := bytes.Repeat([]byte("v"), MaxRecordBytes)
			b := &operator.Batch{Origins: []operator.Origin{{Topic: "big", Partition: 2}}}
			b.Records = []operator.Record{
				{Key: operator.Null, Headers: operator.Null, StreamKey: operator.Null, Value: b.Put([]byte("small"))},
				{Key: operator.Null, Headers: operator.Null, StreamKey: operator.Null, Value: b.Put(value)},
			}
			if err := o.Emit(ctx, b); err != nil {
				t.Fatal(err)
			}
			if err := o.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			in, sizes := mustInputs(t, to, 0), []int32{}
			for len(sizes) < 2 {
				e, err := next(ctx, in)
				if err != nil {
					t.Fatal(err)
				}
				for i := range e.Batch.Records {
					sizes = append(sizes, e.Batch.Records[i].Value.Len)
				}
				in.Release(e)
			}
			if sizes[0] != 5 || sizes[1] != MaxRecordBytes {
				t.Fatalf("values of %v bytes came", sizes)
			}
			b.Records[1].Key = b.Put([]byte("k"))
			err := o.Emit(ctx, b)
			var class interface{ FailureClass() string }
			if err == nil || !strings.Contains(err.Error(), "big/2 offset 0") || !errors.As(err, &class) || class.FailureClass() != "user" {
				t.Fatalf("a record above the limit gave %v", err)
			}
		})
	}
}

func TestRebalanceSpreadsBatches(t *testing.T) {
	r := newRig(t, false, Config{BatchBytes: 1 << 10}, "tm-1")
	where := map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-1", "to/1": "tm-1", "to/2": "tm-1"}
	a := r.attempt("tm-1", twoVertices(1, 3, graph.Rebalance), where)
	o := mustOutput(t, a, 0)
	ctx := deadline(t)
	for i := range 30 { // idle between single records: each goes to another subtask
		if err := errors.Join(o.Emit(ctx, keyed(i, 1)), o.Flush(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(o.Emit(ctx, keyed(30, 1000)), o.Barrier(ctx, 1)); err != nil {
		t.Fatal(err)
	}
	total := 0
	for i := range 3 {
		in, n, barriers := mustInputs(t, a, i), 0, 0
		for {
			e, ok, err := in.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if e.Kind == BarrierElement {
				barriers++
				continue
			}
			n += e.Batch.Len()
			in.Release(e)
		}
		if total += n; n < 250 || barriers != 1 {
			t.Errorf("subtask %d got %d records and %d barriers", i, n, barriers)
		}
	}
	if total != 1030 {
		t.Fatalf("%d records arrived, want 1030", total)
	}
}

// firstLetter keys by the first byte of the value and skips values with an odd offset.
type firstLetter struct{}

func (firstLetter) Keys(b *operator.Batch, arena []byte, spans []operator.Span) ([]byte, []operator.Span, error) {
	for i := range b.Records {
		if b.Records[i].Offset%2 == 1 {
			spans = append(spans, Skip)
			continue
		}
		spans = append(spans, operator.Span{Off: uint32(len(arena)), Len: 1})
		arena = append(arena, b.Bytes(b.Records[i].Value)[0])
	}
	return arena, spans, nil
}

func TestKeyerKeysAndSkips(t *testing.T) {
	r := newRig(t, false, Config{}, "tm-1")
	a := r.attempt("tm-1", twoVertices(1, 1, graph.Hash), map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-1"})
	o, err := a.Output(ident.Subtask{Vertex: "from"}, 0, firstLetter{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := deadline(t)
	if err := errors.Join(o.Emit(ctx, keyed(0, 10)), o.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	e, err := next(ctx, mustInputs(t, a, 0))
	if err != nil {
		t.Fatal(err)
	}
	if e.Batch.Len() != 5 {
		t.Fatalf("%d records, want the 5 that are not skipped", e.Batch.Len())
	}
	for i := range e.Batch.Records {
		if got := string(e.Batch.Bytes(e.Batch.Records[i].StreamKey)); got != "v" {
			t.Fatalf("stream key %q", got)
		}
	}
}
