package exchange

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// mute is a connection on which, once told to, nothing arrives any more on either side.
type mute struct {
	net.Conn
	on <-chan struct{}
}

func (m mute) Write(p []byte) (int, error) {
	select {
	case <-m.on:
		return len(p), nil
	default:
		return m.Conn.Write(p)
	}
}

// Read loses what arrives while it is mute.
func (m mute) Read(p []byte) (int, error) {
	for {
		n, err := m.Conn.Read(p)
		select {
		case <-m.on:
			if err == nil {
				continue
			}
		default:
		}
		return n, err
	}
}

// A network that is silent is noticed on both sides, soon, though neither has anything to send; before that, the
// stream lives for as long as it likes.
func TestSilentNetworkFailsTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, Config{}, "tm-1", "tm-2")
		silence := make(chan struct{})
		dial := r.networks["tm-1"].cfg.Dial
		r.networks["tm-1"].cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			c, err := dial(ctx, address)
			return mute{c, silence}, err
		}
		where := map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-2"}
		p := twoVertices(1, 1, graph.Forward)
		sender, receiver := r.attempt("tm-1", p, where), r.attempt("tm-2", p, where)
		mustOutput(t, sender, 0)
		var ended [2]time.Time
		var errs [2]error
		var runs sync.WaitGroup
		for i, a := range []*Attempt{sender, receiver} {
			runs.Go(func() {
				errs[i] = a.Run(t.Context())
				ended[i] = time.Now()
			})
		}
		time.Sleep(3 * time.Hour)
		if !ended[0].IsZero() || !ended[1].IsZero() {
			t.Fatalf("an idle exchange ended: %v", errs)
		}
		began := time.Now()
		close(silence)
		runs.Wait()
		for i := range ended {
			var peer *PeerError
			after := ended[i].Sub(began)
			if !errors.As(errs[i], &peer) || !errors.Is(peer.Cause, errSilent) || peer.Ended || after < (silentBeats-1)*beatEvery || after > (silentBeats+1)*beatEvery {
				t.Errorf("side %d ended after %s: %v", i, after, errs[i])
			}
		}
	})
}

// A peer is not missed before its first message, and the beats with a message between them start anew.
func TestPulse(t *testing.T) {
	t.Parallel()
	var p pulse
	beats := func(n int) (err error) {
		for range n {
			err = errors.Join(err, p.beat())
		}
		return err
	}
	if err := beats(10 * silentBeats); err != nil {
		t.Errorf("before the first message: %v", err)
	}
	for range 3 {
		p.hear()
		if err := beats(silentBeats); err != nil { // the first one sees the message
			t.Errorf("after a message: %v", err)
		}
	}
	if err := p.beat(); !errors.Is(err, errSilent) {
		t.Errorf("after %d silent beats: %v", silentBeats, err)
	}
}
