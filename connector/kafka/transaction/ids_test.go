package transaction

import (
	"testing"
	"time"
)

// TestGrowth: the pool asks for ids one by one when none is left, up to the cap, then says what it waits for.
func TestGrowth(t *testing.T) {
	h := newHarness(t, 4, 6)
	h.well()
	for n := range uint64(6) {
		want := min(4, int(n)+1)
		if n >= 4 {
			h.level(0, int(n)+1)
			if h.Current() != nil || h.Waiting() != "another transactional id from the job manager" {
				t.Fatalf("waiting for %s", h.Waiting())
			}
			h.HandOut(int(n) + 1)
			h.HandOut(want) // an old message
			if h.Waiting() != "a producer id from the transaction coordinator" {
				t.Errorf("waiting for %s", h.Waiting())
			}
			h.well()
		}
		h.write(p0)
		h.Seal(identOf(n + 1))
		if _, ok := h.NextAck(); !ok {
			t.Fatal("no ack")
		}
	}
	h.level(0, 6)
	if want := "the commit of a checkpoint: all 6 transactional ids hold transactions that are not committed"; h.Waiting() != want {
		t.Errorf("waiting for %s", h.Waiting())
	}
	h.quiet()
	h.Completed(2)
	h.well()
	h.level(1, 6)
}

// TestBurnt: an id whose InitProducerId was not answered is never used again, and replaced.
func TestBurnt(t *testing.T) {
	h := newHarness(t, 2, 3)
	a, b := call[Init](h), call[Init](h)
	h.InitFailed(h.now, a.Number, Unknown)
	h.level(0, 3)
	h.init(b)
	h.HandOut(3)
	h.HandOut(1)
	burnt := map[int]bool{a.Number: true}
	for i := range 20 {
		c := call[Init](h)
		if burnt[c.Number] {
			t.Fatalf("%s is used again", c.ID)
		}
		h.InitFailed(h.now, c.Number, Unknown)
		burnt[c.Number] = true
		h.quiet() // one at a time, after a pause
		wanted := h.Level().Wanted
		if wanted != 2+len(burnt)+1 && wanted != 2+len(burnt) {
			t.Fatalf("wanted %d with %d burnt", wanted, len(burnt))
		}
		h.HandOut(wanted)
		h.quiet()
		_, at := h.Next(h.now)
		if got := at.Sub(h.now); got != pause(Unknown, i+1) {
			t.Fatalf("pause %d is %s", i, got)
		}
		h.now = at
	}
	if h.Burnt() != len(burnt) {
		t.Errorf("%d are burnt", h.Burnt())
	}
	h.well()
	h.level(min(2, len(h.ids)-len(burnt)-1), 2+len(burnt))
}

// TestInitFails: an id that was not burnt is asked again after a pause; others are not held up.
func TestInitFails(t *testing.T) {
	tests := []struct {
		outcome Outcome
		pauses  []time.Duration // ms
	}{
		{Unsent, []time.Duration{20, 40, 80, 160, 320, 640, 1000, 1000}},
		{Retriable, []time.Duration{20, 40, 80, 160, 320, 640, 1000, 1000}},
		{Busy, []time.Duration{20, 40, 80, 100, 100}},
	}
	for _, test := range tests {
		h := newHarness(t, 1, 4)
		for _, ms := range test.pauses {
			c := call[Init](h)
			h.InitFailed(h.now, c.Number, test.outcome)
			_, at := h.Next(h.now)
			if at.Sub(h.now) != ms*time.Millisecond {
				t.Errorf("outcome %d: pause %s, want %d ms", test.outcome, at.Sub(h.now), ms)
			}
			h.now = at
		}
		if h.Burnt() != 0 {
			t.Errorf("outcome %d burns", test.outcome)
		}
		c := call[Init](h)
		h.InitFailed(h.now, c.Number, test.outcome)
		h.HandOut(2)
		if c := call[Init](h); c.Number != 1 {
			t.Errorf("outcome %d: the next one is %d", test.outcome, c.Number)
		}
	}
}

// TestBusyIDs: ids whose transactions Kafka does not come to complete hold nobody up: others are asked for in their place.
func TestBusyIDs(t *testing.T) {
	h := newHarness(t, 3, 5)
	busy := func(times int) {
		for range times { // each time all of them
			for range 3 {
				h.InitFailed(h.now, call[Init](h).Number, Busy)
			}
			_, h.now = h.Next(h.now)
		}
	}
	busy(spareBusy - 2)
	h.level(0, 3)
	if h.Waiting() != "a producer id from the transaction coordinator" {
		t.Errorf("waiting for %s", h.Waiting())
	}
	busy(4)
	h.level(0, 4)
	if want := "a producer id from the transaction coordinator, which refuses 3 transactional ids again and again: it may still be completing the transactions before"; h.Waiting() != want {
		t.Errorf("waiting for %s", h.Waiting())
	}
	h.HandOut(4)
	h.level(0, 4)
	if h.init(call[Init](h)); h.Current() == nil {
		t.Error("the new id is of no use")
	}
	h.well()
	h.level(2, 4)
}

// TestRotation: near the end of the epochs, an idle id is asked again until its producer id is a new one.
func TestRotation(t *testing.T) {
	h := newHarness(t, 1, 4)
	epoch, producer, asked := int16(32_690), int64(5), 0
	for range 40 {
		for h.Current() == nil {
			c := call[Init](h)
			asked++
			if epoch++; epoch == 32_767 {
				epoch, producer = 0, producer+1
			}
			h.Initialised(c.Number, producer, epoch)
		}
		if e := h.Current().Epoch; e >= 32_700 || e > 100 && producer != 5 {
			t.Fatalf("a transaction at epoch %d", e)
		}
		h.Enter(p0)
		h.Added(call[Add](h))
		h.Produced(h.newest[p0], 0, 1)
		h.Seal(identOf(uint64(asked)))
		if _, ok := h.NextAck(); !ok {
			t.Fatal("no ack")
		}
		h.Completed(identOf(uint64(asked)))
	}
	if producer != 6 || asked != 40+67 {
		t.Errorf("producer %d after %d calls", producer, asked)
	}
}

func TestSequenceWraps(t *testing.T) {
	s := &Share{sequence: 1<<31 - 3}
	if a, b := s.Number(5), s.Number(1); a != 1<<31-3 || b != 2 {
		t.Errorf("sequences %d, %d", a, b)
	}
}

// TestRefresh: producer ids that were not used for hours are asked for again once they are next, and
// a writer always has one.
func TestRefresh(t *testing.T) {
	h := newHarness(t, 4, 8)
	h.well()
	h.level(2, 4)
	_, at := h.Next(h.now)
	if at.Sub(h.now) != keepFor {
		t.Fatalf("looks again after %s", at.Sub(h.now))
	}
	old := h.Current()
	h.now = at
	a := call[Init](h)
	if h.Current() == nil || h.Current() == old {
		t.Fatal("the current transaction is not a fresh one")
	}
	h.init(a)
	h.well()
	h.level(2, 4)
	if asked := h.epoch[0] + h.epoch[1] + h.epoch[2] + h.epoch[3]; asked != 5 {
		t.Errorf("asked %v", h.epoch)
	}
	h.write(p0)
	kept := h.Current()
	h.now = h.now.Add(keepFor + 1)
	h.well()
	if h.Current() != kept {
		t.Error("a transaction was given up that has begun")
	}
}

// TestUnsure: after an Add without an answer, a late copy could open the id once more: its epoch is raised
// as soon as it is committed, needed or not.
func TestUnsure(t *testing.T) {
	for _, o := range []Outcome{Unsent, Busy, Retriable, Unknown} {
		h := newHarness(t, 4, 8)
		h.well()
		h.HandOut(6)
		s := h.Enter(p0)
		add := call[Add](h)
		h.AddFailed(h.now, add, o)
		h.now = h.now.Add(time.Second)
		h.well()
		h.Produced(s, 0, 1)
		h.Seal(1)
		h.well()
		h.ack(1, prefix+"0")
		h.quiet()
		h.Completed(1)
		if o != Unknown {
			h.quiet()
			continue
		}
		c := call[Init](h)
		if c.Number != 0 {
			t.Fatalf("asks for %s", c.ID)
		}
		h.InitFailed(h.now, c.Number, Busy)
		h.quiet()
		h.now = h.now.Add(time.Second)
		h.init(call[Init](h))
		h.quiet()
		h.level(3, 6)
	}
}
