package publish

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

var (
	inKafka     = graph.Publication{Source: "s", Storage: graph.OffsetsKafka}
	inZooKeeper = graph.Publication{Source: "s", Storage: graph.OffsetsZooKeeper}
	errDown     = errors.New("down")
	begin       = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

func of(n int) *manifest.Manifest {
	return &manifest.Manifest{Checkpoint: ident.CheckpointID(n)}
}

func published(to graph.Publication, n int, err error) Published {
	return Published{To: to, Checkpoint: ident.CheckpointID(n), Err: err}
}

// story steps a machine and checks the effects of each event.
type story struct {
	t   *testing.T
	m   *Machine
	now time.Time
}

func (s *story) step(ev Event, want ...string) {
	s.t.Helper()
	var got []string
	for _, eff := range s.m.Step(s.now, ev) {
		got = append(got, eff.String())
	}
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		s.t.Errorf("%s: %s gives %q, want %q", s.now.Sub(begin), ev, got, want)
	}
}

// wait lets time go to the deadline, which is so far off.
func (s *story) wait(d time.Duration, want ...string) {
	s.t.Helper()
	if left := s.m.Deadline().Sub(s.now); left != d {
		s.t.Fatalf("%s: the deadline is in %s, want %s", s.now.Sub(begin), left, d)
	}
	s.now = s.now.Add(d)
	s.step(Tick{}, want...)
}

func TestNewestOnly(t *testing.T) {
	s := &story{t, New([]graph.Publication{inKafka, inZooKeeper}, nil), begin}
	s.step(Announced{of(1)}, "publish 1 of s in kafka", "publish 1 of s in zookeeper")
	s.step(Announced{of(2)})
	s.step(Announced{of(3)})
	s.step(published(inKafka, 1, nil), "publish 3 of s in kafka")
	s.step(published(inKafka, 3, nil))
	s.step(published(inKafka, 3, nil)) // a repeat
	s.step(Announced{of(2)})           // late
	s.step(published(inZooKeeper, 1, nil), "publish 3 of s in zookeeper")
	if !s.m.Deadline().IsZero() {
		t.Errorf("the deadline is %s, want none while a write is on its way", s.m.Deadline())
	}
}

// TestDown: a place that is down is asked at most every ten seconds, however many checkpoints complete, and gets
// the newest offsets when it is back. The other one does not notice.
func TestDown(t *testing.T) {
	s := &story{t, New([]graph.Publication{inKafka, inZooKeeper}, nil), begin}
	s.step(Announced{of(1)}, "publish 1 of s in kafka", "publish 1 of s in zookeeper")
	s.step(published(inKafka, 1, nil))
	for _, pause := range []time.Duration{250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000} {
		s.step(published(inZooKeeper, 1, errDown))
		s.wait(pause*time.Millisecond, "publish 1 of s in zookeeper")
	}
	s.step(published(inZooKeeper, 1, errDown))
	s.step(Announced{of(2)}, "publish 2 of s in kafka")
	s.step(published(inKafka, 2, nil))
	status := s.m.Status()[1]
	if status.Error != "down" || !status.FailedSince.Equal(begin) || status.Checkpoint != 0 {
		t.Errorf("status %+v", status)
	}
	s.wait(10*time.Second, "publish 2 of s in zookeeper")
	s.step(published(inZooKeeper, 2, nil))
	if status := s.m.Status()[1]; status.Error != "" || !status.FailedSince.IsZero() || status.Checkpoint != 2 || !status.At.Equal(s.now) {
		t.Errorf("status %+v", status)
	}
}

func TestEnd(t *testing.T) {
	t.Run("nothing to do", func(t *testing.T) {
		s := &story{t, New(nil, nil), begin}
		s.step(Announced{of(1)})
		s.step(Ending{}, "ended")
		s.step(Ending{})
	})
	t.Run("waits for what is on its way and for what follows", func(t *testing.T) {
		s := &story{t, New([]graph.Publication{inKafka}, nil), begin}
		s.step(Announced{of(1)}, "publish 1 of s in kafka")
		s.step(Announced{of(2)})
		s.step(Ending{})
		s.step(published(inKafka, 1, nil), "publish 2 of s in kafka")
		s.step(published(inKafka, 2, nil), "ended")
	})
	t.Run("tries what is down for ten seconds", func(t *testing.T) {
		s := &story{t, New([]graph.Publication{inZooKeeper}, of(7)), begin}
		s.step(Tick{}, "publish 7 of s in zookeeper")
		for range 5 {
			s.step(published(inZooKeeper, 7, errDown))
			s.now = s.m.Deadline()
			s.step(Tick{}, "publish 7 of s in zookeeper")
		}
		s.step(published(inZooKeeper, 7, errDown))
		ending := s.now
		s.step(Ending{}, "publish 7 of s in zookeeper")
		if text := s.m.Waiting(); text != "the last offsets of s in zookeeper are not published yet: down" {
			t.Errorf("waits for %q", text)
		}
		s.step(published(inZooKeeper, 7, errDown))
		s.now = ending.Add(9 * time.Second)
		effects := s.m.Step(s.now, Tick{})
		if p, ok := effects[0].(Publish); !ok || p.Timeout != time.Second {
			t.Errorf("%v, want a last write within a second", effects)
		}
		s.now = ending.Add(endTimeout)
		s.step(Tick{}) // it is still on its way
		s.step(published(inZooKeeper, 7, errDown), "ended")
		if !s.m.Deadline().IsZero() || s.m.Waiting() != "" {
			t.Errorf("deadline %s, waits for %q", s.m.Deadline(), s.m.Waiting())
		}
	})
}

// TestWalk: whatever happens, one write at a time goes to a place, none is older than the one before, and a
// machine that is asked to end does so, once, with nothing on its way.
func TestWalk(t *testing.T) {
	for seed := range uint64(300) {
		w := &walk{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: begin, sending: map[graph.Publication]ident.CheckpointID{}, last: map[graph.Publication]ident.CheckpointID{}}
		w.m = New([]graph.Publication{inKafka, inZooKeeper}, nil)
		for i := range 200 {
			if i == 150 {
				w.step(Ending{})
			}
			w.random(i + 1)
		}
		for n := 0; !w.ended && n < 100; n++ {
			w.random(0)
		}
		if !w.ended {
			t.Fatalf("seed %d: it does not end", seed)
		}
	}
}

type walk struct {
	t             *testing.T
	rand          *rand.Rand
	m             *Machine
	now           time.Time
	sending, last map[graph.Publication]ident.CheckpointID
	ended         bool
}

func (w *walk) random(n int) {
	place := []graph.Publication{inKafka, inZooKeeper}[w.rand.IntN(2)]
	switch {
	case n > 0 && w.rand.IntN(3) == 0:
		w.step(Announced{of(n)})
	case w.sending[place] != 0 && w.rand.IntN(2) == 0:
		answer := Published{To: place, Checkpoint: w.sending[place]}
		if w.rand.IntN(2) == 0 {
			answer.Err = errDown
		}
		delete(w.sending, place)
		w.step(answer)
	default:
		w.now = w.now.Add(time.Duration(w.rand.IntN(2000)) * time.Millisecond)
		w.step(Tick{})
	}
}

func (w *walk) step(ev Event) {
	for _, eff := range w.m.Step(w.now, ev) {
		var fault string
		switch e := eff.(type) {
		case Publish:
			switch {
			case w.ended:
				fault = "after the end"
			case w.sending[e.To] != 0:
				fault = "two at a time"
			case e.Manifest.Checkpoint < w.last[e.To]:
				fault = "older than the one before"
			case e.Timeout <= 0 || e.Timeout > writeTimeout:
				fault = fmt.Sprintf("timeout %s", e.Timeout)
			}
			w.sending[e.To], w.last[e.To] = e.Manifest.Checkpoint, e.Manifest.Checkpoint
		case Ended:
			if w.ended || len(w.sending) > 0 {
				fault = "ended twice, or with writes on their way"
			}
			w.ended = true
		}
		if fault != "" {
			w.t.Fatalf("%s: %s gives %s: %s", w.now.Sub(begin), ev, eff, fault)
		}
	}
}
