package taskmanager

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// handed is a transactional sink that notes what it is handed out.
type handed struct {
	operator.Sink
	below []int
}

func (h *handed) HandOut(below int) { h.below = append(h.below, below) }

// TestHandOutBeforeTheSinkIsMade: a hand-out is not lost that comes while the attempt is still being built; one of
// another attempt changes nothing.
func TestHandOutBeforeTheSinkIsMade(t *testing.T) {
	key := sinkKey{subtaskOf(0), "out"}
	other := sinkKey{subtaskOf(1), "out"}
	a := &attempt{id: attemptOf(2), sinks: map[sinkKey]operator.Transactional{}, handedOut: map[sinkKey]int{}}
	tm := &TaskManager{attempts: map[ident.JobID]*attempt{a.id.job: a}}
	tm.onHandOut(a.id, key, 7)
	tm.onHandOut(a.id, key, 5) // late
	tm.onHandOut(attemptOf(1), key, 9)
	tm.onHandOut(attemptOf(3), key, 9)
	tm.onHandOut(attemptID{job: "unknown", fence: a.id.fence}, key, 9)
	sink, second := &handed{}, &handed{}
	a.addTransactional(key, sink)
	a.addTransactional(other, second)
	if want := []int{7}; !slices.Equal(sink.below, want) || second.below != nil {
		t.Errorf("the sinks were handed out %v and %v, want %v and nothing", sink.below, second.below, want)
	}
	tm.onHandOut(a.id, key, 8)
	tm.onHandOut(a.id, key, 6) // a watermark: it only rises
	tm.onHandOut(a.id, other, 5)
	if want := []int{7, 8, 8}; !slices.Equal(sink.below, want) || !slices.Equal(second.below, []int{5}) {
		t.Errorf("the sinks were handed out %v and %v, want %v and [5]", sink.below, second.below, want)
	}
}

// TestLeaseNeverRevives: an answer that comes after the lease is over does not bring it back, and an attempt that
// was cancelled may not use its ids although the lease runs.
func TestLeaseNeverRevives(t *testing.T) {
	var now time.Duration
	l := newLease(func() time.Duration { return now })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a := &attempt{tm: &TaskManager{lease: l}, over: ctx.Done()}
	if err := a.lease(); !errors.Is(err, errLeaseOver) {
		t.Errorf("before any session: %v", err)
	}
	l.begin(0, 5*time.Second)
	now = time.Second
	first := l.send()
	now = 4 * time.Second
	second := l.send()
	l.answered(first)
	now = 6*time.Second - 1
	if err := a.lease(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	now = 6 * time.Second
	if err := a.lease(); !errors.Is(err, errLeaseOver) {
		t.Errorf("at its end: %v", err)
	}
	l.answered(second) // sent in time, but the answer came too late
	if err := a.lease(); !errors.Is(err, errLeaseOver) {
		t.Errorf("after a late answer: %v", err)
	}
	l.begin(now, 5*time.Second)
	if err := a.lease(); err != nil {
		t.Errorf("in a new session: %v", err)
	}
	cancel()
	if err := a.lease(); !errors.Is(err, errCanceled) {
		t.Errorf("after the cancellation: %v", err)
	}
}
