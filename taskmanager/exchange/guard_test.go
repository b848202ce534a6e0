package exchange

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// countedConn counts what is written: with TCP, a call is a system call.
type countedConn struct {
	net.Conn
	calls, bytes *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.calls.Add(1)
	c.bytes.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// TestRemoteCallsAndBytes holds what a record costs on its way to another process apart from the time: a fiftieth of
// a system call at most, and few bytes beside its own.
func TestRemoteCallsAndBytes(t *testing.T) {
	const rounds = 100
	var calls, bytes atomic.Int64
	r := newRig(t, false, Config{Dial: func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		return countedConn{conn, &calls, &bytes}, err
	}}, "tm-1", "tm-2")
	where := map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-2"}
	p := twoVertices(1, 1, graph.Hash)
	a1, a2 := r.attempt("tm-1", p, where), r.attempt("tm-2", p, where)
	o, in, ctx := mustOutput(t, a1, 0), mustInputs(t, a2, 0), deadline(t)
	run(t, a1, a2)
	batch := bench100()
	sent := make(chan error, 1)
	go func() {
		for range rounds {
			if err := o.Emit(ctx, batch); err != nil {
				sent <- err
				return
			}
		}
		sent <- o.End(ctx)
	}()
	records := 0
	for {
		e, err := next(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == EndElement {
			break
		}
		records += len(e.Batch.Records)
		in.Release(e)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if want := rounds * len(batch.Records); records != want {
		t.Fatalf("%d records arrived, want %d", records, want)
	}
	own := float64(len(batch.Arena)) / float64(len(batch.Records))
	perCall, perRecord := float64(records)/float64(calls.Load()), float64(bytes.Load())/float64(records)
	t.Logf("%.0f records in a write, %.1f bytes a record of %.1f", perCall, perRecord, own)
	if perCall < 50 {
		t.Errorf("a write for each %.1f records", perCall)
	}
	if perRecord > own+16 {
		t.Errorf("a record of %.1f bytes takes %.1f", own, perRecord)
	}
}
