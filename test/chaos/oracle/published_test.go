package oracle

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Offsets that are ahead of what is completed, or that go back and stay there, are findings; what a broker says from memory
// for a moment is none.
func TestPublished(t *testing.T) {
	at := func(offset int64) Offsets { return Offsets{"in": {0: offset}} }
	type step struct {
		after                time.Duration
		published, completed int64
	}
	for name, c := range map[string]struct {
		steps []step
		last  int64 // checkpoint at the end
		want  []string
	}{
		"follows": {[]step{{0, 3, 5}, {time.Second, 5, 5}, {time.Second, 5, 9}}, 5, nil},
		"ahead": {[]step{{0, 6, 5}}, 6,
			[]string{"published offsets: 1", "published offsets: in/0 is published at 6, the newest completed checkpoint is at 5"}},
		"back for a moment": {[]step{{0, 5, 5}, {time.Second, 3, 5}, {2 * time.Second, 3, 5}, {time.Second / 2, 5, 5}, {time.Minute, 5, 5}}, 5, nil},
		"back": {[]step{{0, 5, 5}, {time.Second, 3, 5}, {4 * time.Second, 4, 5}, {time.Second, 5, 5}}, 5,
			[]string{"published offsets: 1", "published offsets: in/0 went back from 5 to 4"}},
		"the last one is not published": {[]step{{0, 5, 5}}, 7,
			[]string{"published offsets: 1", "published offsets: in/0 is published at 5, the last checkpoint is at 7, 10s after the job's end"}},
		"never looked at": {nil, 0, []string{"published offsets: 1", "published offsets: they could never be looked at"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var published, completed int64
			config := Published{Completed: func(context.Context) (Offsets, error) { return at(completed), nil }}
			w := newPublishedWatch(config, nil, func(context.Context) (Offsets, error) { return at(published), nil })
			for _, s := range c.steps {
				time.Sleep(s.after)
				published, completed = s.published, s.completed
				w.look(t.Context())
			}
			completed = c.last
			if got := w.finish(t.Context(), true); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		})
	}
}

// The job manager may show a checkpoint a little after it is published.
func TestPublishedAndShownLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := newPublishedWatch(Published{Completed: func(context.Context) (Offsets, error) {
			if time.Since(start) < 100*time.Millisecond {
				return Offsets{}, nil
			}
			return Offsets{"in": {0: 5}}, nil
		}}, nil, func(context.Context) (Offsets, error) { return Offsets{"in": {0: 5}}, nil })
		w.look(t.Context())
		if got := w.finish(t.Context(), true); got != nil {
			t.Errorf("%q", got)
		}
	})
}

// Whom nobody answers knows nothing.
func TestPublishedIsNotKnown(t *testing.T) {
	broken := errors.New("no brokers")
	answered := Offsets{"in": {0: 5}}
	w := newPublishedWatch(Published{Completed: func(context.Context) (Offsets, error) { return nil, broken }}, nil,
		func(context.Context) (Offsets, error) { return answered, nil })
	w.look(t.Context())
	if got := w.finish(t.Context(), false); got != nil {
		t.Errorf("the job manager is down: %q", got)
	}
	w = newPublishedWatch(Published{}, nil, func(context.Context) (Offsets, error) { return nil, broken })
	w.look(t.Context())
	if got := w.finish(t.Context(), false); len(got) == 0 {
		t.Error("brokers that never answer are no finding")
	}
}
