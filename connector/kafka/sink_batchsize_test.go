package kafka

import (
	"testing"
	"time"
)

// TestBatchSizeGrowsAgain: a topic whose max.message.bytes was low for a while gets large batches again, and one where
// it stays low refuses fewer and fewer of them.
func TestBatchSizeGrowsAgain(t *testing.T) {
	const configured = 1 << 20
	start := time.Unix(1000, 0)
	s := newBatchSize(configured)
	for part := configured / 2; part >= 512; part /= 2 { // a burst of refusals at one time
		s.refused(part, start)
	}
	if s.bytes != 512 || !s.small() {
		t.Fatalf("after refusals down to 512: %+v", s)
	}
	now := start
	for s.small() && now.Sub(start) < time.Minute {
		now = now.Add(50 * time.Millisecond)
		if s.taken(now); s.small() && now.Sub(start) < firstRaise && s.bytes != 512 {
			t.Fatalf("it grew %s after the refusal", now.Sub(start))
		}
	}
	if s.bytes != configured || now.Sub(start) > firstRaise+11*raiseStep {
		t.Errorf("%s after the limit was raised: %+v", now.Sub(start), s)
	}

	for _, limit := range []int{configured / 3, configured * 3 / 4} {
		now = now.Add(time.Hour)
		s.bytes = configured
		refusals, start := 0, now
		for ; now.Sub(start) < time.Hour; now = now.Add(50 * time.Millisecond) {
			if s.bytes > limit {
				refusals++
				s.refused((s.bytes+1)/2, now)
			} else {
				s.taken(now)
			}
		}
		if refusals < 8 || refusals > 18 {
			t.Errorf("%d refusals in an hour with a limit of %d that stays", refusals, limit)
		}
		if s.bytes <= limit/4 || s.bytes > 2*limit {
			t.Errorf("%d bytes with a limit of %d", s.bytes, limit)
		}
	}
}
