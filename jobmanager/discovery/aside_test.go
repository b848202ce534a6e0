package discovery

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// missing is an attempt with t/0 and t/1 in subtask 0, t/2 in 1, and a topic that stays; t is listed no more.
type missing struct {
	t     *testing.T
	m     *Machine
	fence ident.Fence
	now   time.Time
}

func other(partition int32) manifest.Position {
	p := at(partition, 1)
	p.Topic, p.TopicID = "u", manifest.TopicID{9}
	return p
}

func goneFrom(t *testing.T, s Source) *missing {
	g := &missing{t: t, m: New([]Source{s}), now: begin}
	g.start(first, at(2, 7))
	return g
}

func (g *missing) start(f ident.Fence, second ...manifest.Position) {
	g.fence = f
	g.m.Step(g.now, Started{Fence: f, Splits: map[ident.Subtask][]manifest.Position{sub(0): {at(0, 5), at(1, 6), other(0)}, sub(1): second}})
}

// list answers the listing that is due with the topics that exist, and gives what comes of it.
func (g *missing) list(topics ...string) []Effect {
	g.t.Helper()
	exist := map[string]manifest.TopicID{}
	for _, name := range topics {
		exist[name] = map[string]manifest.TopicID{"t": idA, "u": {9}}[name]
	}
	out := g.m.Step(g.now, Listed{Fence: g.fence, Source: "s", Topics: exist})
	return out
}

// later lets the next listing become due.
func (g *missing) later() {
	g.t.Helper()
	g.now = g.m.Deadline()
	if g.now.IsZero() {
		g.t.Fatal("no listing is due")
	}
	g.m.Step(g.now, Tick{})
}

// until lists without t until something comes of it, for at most limit.
func (g *missing) until(limit time.Duration) []Effect {
	g.t.Helper()
	for end := g.now.Add(limit); g.now.Before(end); g.later() {
		if out := g.list("u"); len(out) > 0 {
			return out
		}
	}
	return nil
}

var pattern = Source{Name: "s", Interval: 5 * time.Minute, Pattern: true}

func TestGoneTopicsAreSetAside(t *testing.T) {
	g := goneFrom(t, pattern)
	expect(t, g.until(2*time.Hour), "set aside t/0 at 5, t/1 at 6, t/2 at 7")
	if since := g.now.Sub(begin); since < time.Hour || since > time.Hour+2*time.Minute {
		t.Errorf("after %s", since)
	}
	if w := g.m.Status().Waiting; len(w) != 1 || !strings.HasSuffix(w[0], "the other topics go on; where one was read up to is set aside after an hour") {
		t.Errorf("%q", w)
	}
	due(t, g.m, -1) // while an answer is awaited
	aside := AsideSet{Fence: first, Source: "s", Positions: []manifest.Position{at(0, 50), at(1, 60), at(2, 70)}}
	expect(t, g.m.Step(g.now, aside), "remove t/0 at 50, t/1 at 60 from s/0 of 1.1", "remove t/2 at 70 from s/1 of 1.1")
	if st := g.m.Status(); len(st.Waiting) > 0 || st.SetAside != 3 {
		t.Errorf("%+v", st)
	}
	g.later()
	expect(t, g.list("u"))
	due(t, g.m, g.now.Add(pattern.Interval).Sub(begin)) // nothing is missing any more
	g.later()
	// The same topic is back: it is read by those that may have kept it, though others have less to do.
	back := Listed{Fence: first, Source: "s", Topics: exists(idA), Found: []manifest.Position{at(0, 0), at(1, 0), at(2, 0)}}
	back.Topics["u"] = manifest.TopicID{9}
	expect(t, g.m.Step(g.now, back), "store t/0 at 0, t/1 at 0, t/2 at 0")
	expect(t, g.m.Step(g.now, Stored{Fence: first, Source: "s", Positions: aside.Positions}), "add t/0 at 50, t/1 at 60 to s/0 of 1.1", "add t/2 at 70 to s/1 of 1.1")
	// It counts from the start when it goes again.
	g.later()
	if out := g.until(59 * time.Minute); len(out) > 0 {
		t.Errorf("%v", out)
	}
}

// TestAnotherTopicAfterOneWasSetAside: it is as any new one, in the same attempt and in the next.
func TestAnotherTopicAfterOneWasSetAside(t *testing.T) {
	for _, sameAttempt := range []bool{true, false} {
		g := goneFrom(t, pattern)
		g.until(2 * time.Hour)
		g.m.Step(g.now, AsideSet{Fence: first, Source: "s", Positions: []manifest.Position{at(0, 5), at(1, 6), at(2, 7)}})
		if !sameAttempt {
			g.fence = next
			g.m.Step(g.now, Started{Fence: next, Splits: map[ident.Subtask][]manifest.Position{sub(0): {other(0)}, sub(1): nil}})
		} else {
			g.later()
		}
		fresh := at(0, 0)
		fresh.TopicID = idB
		topics := exists(idB)
		topics["u"] = manifest.TopicID{9}
		expect(t, g.m.Step(g.now, Listed{Fence: g.fence, Source: "s", Topics: topics, Found: []manifest.Position{fresh}}), "store t/0 at 0")
		to := map[bool]int{true: 0, false: 1}[sameAttempt] // who had it; who has the least
		expect(t, g.m.Step(g.now, Stored{Fence: g.fence, Source: "s", Positions: []manifest.Position{fresh}}), fmt.Sprintf("add t/0 at 0 to s/%d of %s", to, g.fence))
		for range 5 {
			g.later()
			expect(t, g.m.Step(g.now, Listed{Fence: g.fence, Source: "s", Topics: topics}))
		}
		if w := g.m.Status().Waiting; len(w) > 0 {
			t.Errorf("%q", w)
		}
	}
}

// TestWhatIsNotSetAside has too little evidence, or no way to tell a later topic from the one that is gone.
func TestWhatIsNotSetAside(t *testing.T) {
	for name, c := range map[string]struct {
		source Source
		bend   func(g *missing)
		limit  time.Duration
	}{
		"named topics":     {Source{Name: "s", Interval: time.Minute}, nil, 10 * time.Hour},
		"less than a hour": {pattern, nil, 59 * time.Minute},
		"seen in between": {pattern, func(g *missing) {
			g.until(50 * time.Minute)
			g.list("t", "u")
			g.later()
		}, 50 * time.Minute},
		"a split without an id": {pattern, func(g *missing) {
			p := at(2, 7)
			p.TopicID = manifest.TopicID{}
			g.start(next, p)
		}, 10 * time.Hour},
		"listings that fail": {pattern, func(g *missing) {
			for range 8 {
				g.list("u")
				g.later()
			}
			for range 100 {
				g.m.Step(g.now, Listed{Fence: g.fence, Source: "s", Err: errors.New("no broker")})
				g.later()
			}
		}, time.Nanosecond}, // one more, the ninth
	} {
		t.Run(name, func(t *testing.T) {
			g := goneFrom(t, c.source)
			if c.bend != nil {
				c.bend(g)
			}
			if out := g.until(c.limit); len(out) > 0 {
				t.Errorf("%v after %s", out, g.now.Sub(begin))
			}
			if w := g.m.Status().Waiting; len(w) == 0 {
				t.Error("it is not told")
			}
		})
	}
}

// TestAbsenceOutlivesAttempts: a job that restarts often sets aside, too. What comes late of an attempt is dropped.
func TestAbsenceOutlivesAttempts(t *testing.T) {
	g := goneFrom(t, pattern)
	var out []Effect
	for n := ident.Attempt(2); len(out) == 0; n++ {
		if out = g.list("u"); len(out) > 0 {
			break
		}
		g.now = g.now.Add(7 * time.Minute)
		g.m.Step(g.now, Ended{Fence: g.fence})
		g.start(ident.Fence{Epoch: 1, Attempt: n}, at(2, 7))
	}
	expect(t, out, "set aside t/0 at 5, t/1 at 6, t/2 at 7")
	if since := g.now.Sub(begin); since != 63*time.Minute { // ten listings
		t.Errorf("after %s", since)
	}
	g.m.Step(g.now, Ended{Fence: g.fence})
	late := AsideSet{Fence: g.fence, Source: "s", Positions: []manifest.Position{at(0, 5)}}
	expect(t, g.m.Step(g.now, late), "ignored set aside 1 splits of s: the attempt does not run")
}

// TestSettingAsideIsTriedAgain after a write that failed, and for what was left out.
func TestSettingAsideIsTriedAgain(t *testing.T) {
	g := goneFrom(t, pattern)
	g.until(2 * time.Hour)
	expect(t, g.m.Step(g.now, AsideSet{Fence: first, Source: "s", Err: errors.New("no space")}))
	if w := strings.Join(g.m.Status().Waiting, "; "); !strings.Contains(w, "no space") {
		t.Errorf("%q", w)
	}
	g.later()
	expect(t, g.list("u"), "set aside t/0 at 5, t/1 at 6, t/2 at 7")
	expect(t, g.m.Step(g.now, AsideSet{Fence: first, Source: "s", Positions: []manifest.Position{at(1, 6)}}), "remove t/1 at 6 from s/0 of 1.1")
	if w := g.m.Status().Waiting; len(w) != 1 {
		t.Errorf("%q", w)
	}
	g.later()
	expect(t, g.list("u"), "set aside t/0 at 5, t/2 at 7")
}

// TestUnreadIsAskedForAgain: what cannot be read yet is told, and looked for soon; the rest is read.
func TestUnreadIsAskedForAgain(t *testing.T) {
	m := New([]Source{{Name: "s", Interval: time.Hour, Pattern: true}})
	m.Step(begin, Started{Fence: first, Splits: map[ident.Subtask][]manifest.Position{{Vertex: "s"}: nil}})
	m.Step(begin, Listed{Fence: first, Source: "s", Found: []manifest.Position{at(0, 0), at(1, 0)}, Topics: map[string]manifest.TopicID{"t": idA}})
	expect(t, m.Step(begin, Stored{Fence: first, Source: "s", Positions: []manifest.Position{at(1, 0)}, Unread: errors.New("topic t is back, and has no id")}), "add t/1 at 0 to s/0 of 1.1")
	if got := m.Status().Waiting; len(got) != 1 || !strings.Contains(got[0], "topic t is back, and has no id") {
		t.Errorf("waiting for %q", got)
	}
	if due := m.Deadline(); due != begin.Add(retryMin) {
		t.Errorf("looks again after %s", due.Sub(begin))
	}
}
