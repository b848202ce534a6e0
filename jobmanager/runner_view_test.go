package jobmanager

import (
	"testing"
	"time"
)

// However often something changes, making views takes no more than a share of the time.
func TestViewsTakeAShareOfTheTime(t *testing.T) {
	t.Parallel()
	const cost, events = 3 * time.Millisecond, 10_000
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now, views := began, 0
	var p pace
	for range events {
		now = now.Add(100 * time.Microsecond)
		if p.wait(now).IsZero() {
			views++
			p.made(now, now.Add(cost))
			now = now.Add(cost)
		}
	}
	if share := float64(views) * float64(cost) / float64(now.Sub(began)); share > 0.1 || share < 0.08 {
		t.Errorf("%d views take %.2f of the time, want at most, and about, a tenth", views, share)
	}
	p.made(now, now.Add(time.Second))
	if at, want := p.wait(now), now.Add(time.Second+viewDelay); !at.Equal(want) {
		t.Errorf("after a view that took a second the next one is held back until %s, want %s", at, want)
	}
}
