package taskmanager

import (
	"testing"
	"time"
)

// TestLease counts from the sending of the newest heartbeat that was answered (DESIGN rule 13).
func TestLease(t *testing.T) {
	var now time.Duration
	l := newLease(func() time.Duration { return now })
	at := func(sec float64) { now = time.Duration(sec * float64(time.Second)) }
	want := func(sec float64) {
		t.Helper()
		if got := l.left(); got != time.Duration(sec*float64(time.Second)) {
			t.Errorf("at %s %s are left, want %gs", now, got, sec)
		}
	}
	at(100)
	if l.left() > 0 {
		t.Error("a lease that never began runs")
	}
	l.begin(now, 5*time.Second)
	want(5)
	at(101)
	first := l.send()
	at(102)
	second := l.send()
	at(103)
	third := l.send()
	want(2) // nothing is answered
	at(104)
	l.answered(second)
	want(3)
	l.answered(first) // late, and of an older one
	want(3)
	l.answered(second)
	want(3)
	l.answered(third)
	want(4)
	l.answered(99) // never sent
	want(4)
	if len(l.sentAt) != 0 {
		t.Errorf("%d answered heartbeats are kept", len(l.sentAt))
	}
	lost := l.send()
	at(200)
	want(-92)
	l.begin(now, 5*time.Second) // a new session; an answer to the old one's heartbeat is none
	l.answered(lost)
	want(5)
}

func TestLeaseForgetsUnanswered(t *testing.T) {
	l := newLease(func() time.Duration { return 0 })
	l.begin(0, time.Second)
	for range 1000 {
		l.send()
	}
	l.answered(1000)
	if len(l.sentAt) != 0 {
		t.Errorf("%d heartbeats are kept", len(l.sentAt))
	}
}

// TestBootTime compares CLOCK_BOOTTIME with Go's clock: it moves, and forwards.
func TestBootTime(t *testing.T) {
	before, began := bootTime(), time.Now()
	for time.Since(began) < 2*time.Millisecond {
	}
	if d := bootTime() - before; d < 2*time.Millisecond || d > 10*time.Second {
		t.Errorf("2ms took %s", d)
	}
}
