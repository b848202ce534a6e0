package discovery

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

var (
	begin = time.Unix(1000, 0)
	first = ident.Fence{Epoch: 1, Attempt: 1}
	next  = ident.Fence{Epoch: 1, Attempt: 2}
	idA   = manifest.TopicID{1}
	idB   = manifest.TopicID{2}
)

func at(partition int32, offset int64) manifest.Position {
	return manifest.Position{Split: manifest.Split{Source: "s", Topic: "t", Partition: partition}, TopicID: idA, Next: offset, LeaderEpoch: -1, Stop: -1}
}

func sub(i int) ident.Subtask { return ident.Subtask{Vertex: "s", Index: i} }

// started is an attempt of two subtasks: 0 reads t/0 and t/1, 1 reads t/2.
func started(f ident.Fence) Started {
	return Started{Fence: f, Splits: map[ident.Subtask][]manifest.Position{
		sub(0): {at(0, 5), at(1, 6)}, sub(1): {at(2, 7)}, {Vertex: "other", Index: 0}: nil,
	}}
}

func exists(id manifest.TopicID) map[string]manifest.TopicID {
	return map[string]manifest.TopicID{"t": id}
}

func expect(t *testing.T, effects []Effect, want ...string) {
	t.Helper()
	var got []string
	for _, e := range effects {
		got = append(got, e.String())
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Fatalf("effects:\n%s\nwant:\n%s", a, b)
	}
}

func due(t *testing.T, m *Machine, want time.Duration) {
	t.Helper()
	d := m.Deadline()
	if want < 0 && d.IsZero() {
		return
	}
	if got := d.Sub(begin); got != want {
		t.Fatalf("the next look is after %s, want %s", got, want)
	}
}

func TestFoundSplitsAreStoredThenAdded(t *testing.T) {
	m := New([]Source{{Name: "s", Interval: time.Minute}})
	expect(t, m.Step(begin, Tick{}))
	due(t, m, -1)
	expect(t, m.Step(begin, started(first)), "list s for 1.1, 3 splits are known")
	due(t, m, -1) // while an answer is awaited
	found := []manifest.Position{at(4, 0), at(3, 9), at(0, 0), {Split: manifest.Split{Source: "x", Topic: "t", Partition: 8}}, at(3, 9), at(5, 0)}
	expect(t, m.Step(begin, Listed{Fence: first, Source: "s", Found: found, Topics: exists(idA)}), "store t/3 at 9, t/4 at 0, t/5 at 0")
	due(t, m, -1)
	// What an earlier attempt stored of t/4 counts.
	stored := []manifest.Position{at(3, 9), at(4, 2), at(5, 0)}
	expect(t, m.Step(begin, Stored{Fence: first, Source: "s", Positions: stored}),
		"add t/4 at 2 to s/0 of 1.1", "add t/3 at 9, t/5 at 0 to s/1 of 1.1")
	due(t, m, time.Minute)
	expect(t, m.Step(begin.Add(time.Minute), Tick{}), "list s for 1.1, 6 splits are known")
	expect(t, m.Step(begin.Add(time.Minute), Listed{Fence: first, Source: "s", Found: found, Topics: exists(idA)}))
	due(t, m, 2*time.Minute)
	if st := m.Status(); st.Found != 3 || st.Failures != 0 || len(st.Waiting) > 0 {
		t.Errorf("%+v", st)
	}
}

func TestAnswersOfOtherAttemptsAreDropped(t *testing.T) {
	m := New([]Source{{Name: "s", Interval: time.Minute}})
	m.Step(begin, started(first))
	listed := Listed{Fence: first, Source: "s", Found: []manifest.Position{at(3, 0)}, Topics: exists(idA)}
	m.Step(begin, listed)
	expect(t, m.Step(begin, Ended{Fence: first}))
	stored := Stored{Fence: first, Source: "s", Positions: []manifest.Position{at(3, 0)}}
	expect(t, m.Step(begin, stored), "ignored stored 1 splits of s: the attempt does not run")
	expect(t, m.Step(begin, started(next)), "list s for 1.2, 3 splits are known")
	expect(t, m.Step(begin, stored), "ignored stored 1 splits of s: the attempt does not run")
	expect(t, m.Step(begin, listed), "ignored listed s for 1.1: 1 topics, 1 new splits: the attempt does not run")
	expect(t, m.Step(begin, Ended{Fence: first}), "ignored attempt 1.1 ended: a newer one runs")
	expect(t, m.Step(begin, started(first)), "ignored attempt 1.1 runs: it is late")
	listed.Fence = next
	expect(t, m.Step(begin, listed), "store t/3 at 0")
	expect(t, m.Step(begin, listed)[1:]) // the first is ignored: a store is awaited
}

func TestAnAttemptThatNeverRan(t *testing.T) {
	m := New([]Source{{Name: "s"}})
	expect(t, m.Step(begin, Ended{Fence: next}))
	expect(t, m.Step(begin, started(first)), "ignored attempt 1.1 runs: it is late")
}

func TestWithoutAnIntervalOneLookPerAttempt(t *testing.T) {
	m := New([]Source{{Name: "s"}})
	for _, f := range []ident.Fence{first, next} {
		expect(t, m.Step(begin, started(f)), fmt.Sprintf("list s for %s, 3 splits are known", f))
		expect(t, m.Step(begin, Listed{Fence: f, Source: "s", Err: errors.New("no broker")}))
		due(t, m, time.Second) // until it has worked once
		m.Step(begin.Add(time.Second), Tick{})
		expect(t, m.Step(begin.Add(time.Second), Listed{Fence: f, Source: "s", Topics: exists(idA)}))
		due(t, m, -1)
	}
}

func TestFailuresAreTriedAgain(t *testing.T) {
	m := New([]Source{{Name: "s", Interval: time.Hour}})
	m.Step(begin, started(first))
	now, pauses := begin, []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}
	for i, pause := range pauses {
		expect(t, m.Step(now, Listed{Fence: first, Source: "s", Err: errors.New("no broker")}))
		due(t, m, now.Add(pause*time.Second).Sub(begin))
		if w := m.Status().Waiting; len(w) != 1 || w[0] != fmt.Sprintf("source s: new partitions are not found: no broker (tried again, %d times so far; the others are read)", i+1) {
			t.Fatalf("%q", w)
		}
		now = now.Add(pause * time.Second)
		expect(t, m.Step(now, Tick{}), "list s for 1.1, 3 splits are known")
	}
	// A part of what is new is taken, the rest is asked for again.
	expect(t, m.Step(now, Listed{Fence: first, Source: "s", Found: []manifest.Position{at(3, 0)}, Topics: exists(idA), Err: errors.New("t/4 has no leader")}), "store t/3 at 0")
	expect(t, m.Step(now, Stored{Fence: first, Source: "s", Err: errors.New("no space")}))
	if st := m.Status(); len(st.Waiting) != 1 || !strings.Contains(st.Waiting[0], "no space") || st.Failures != 10 {
		t.Errorf("%+v", st)
	}
	now = m.Deadline()
	m.Step(now, Tick{})
	expect(t, m.Step(now, Listed{Fence: first, Source: "s", Topics: exists(idA)}))
	due(t, m, now.Add(time.Hour).Sub(begin))
	if w := m.Status().Waiting; len(w) > 0 {
		t.Errorf("%q", w)
	}
}

func TestGoneTopicsAreTold(t *testing.T) {
	m := New([]Source{{Name: "s", Interval: time.Minute}})
	m.Step(begin, started(first))
	expect(t, m.Step(begin, Listed{Fence: first, Source: "s", Topics: map[string]manifest.TopicID{}}))
	if w := m.Status().Waiting; len(w) != 1 || w[0] != "source s: topic t does not exist any more, or may not be seen: nothing is read from there; the other topics go on" {
		t.Errorf("%q", w)
	}
	due(t, m, time.Second) // it may have been a broker that lags
	m.Step(begin.Add(time.Second), Tick{})
	m.Step(begin.Add(time.Second), Listed{Fence: first, Source: "s", Topics: exists(idA)})
	if w := m.Status().Waiting; len(w) > 0 {
		t.Errorf("%q", w)
	}
}

// TestAnotherTopicOfTheSameName: one listing may come from a broker that is cut off, three in a row do not.
func TestAnotherTopicOfTheSameName(t *testing.T) {
	m := New([]Source{{Name: "s", Interval: time.Minute}})
	m.Step(begin, started(first))
	other := Listed{Fence: first, Source: "s", Topics: exists(idB), Found: []manifest.Position{at(9, 0)}}
	now := begin
	for range 2 {
		expect(t, m.Step(now, other))
		now = m.Deadline()
		m.Step(now, Tick{})
		expect(t, m.Step(now, other)) // nothing of it is taken
		if w := m.Status().Waiting; len(w) != 1 || !strings.Contains(w[0], "its id was "+idA.String()+" and is "+idB.String()) {
			t.Errorf("%q", w)
		}
		now = m.Deadline()
		m.Step(now, Tick{})
		expect(t, m.Step(now, Listed{Fence: first, Source: "s", Topics: exists(idA)})) // it was a lagging broker
		now = m.Deadline()
		m.Step(now, Tick{})
	}
	for range 2 {
		m.Step(now, other)
		now = m.Deadline()
		m.Step(now, Tick{})
	}
	expect(t, m.Step(now, other), "fail 1.1: "+Recreated("s", "t", idA, idB))
	due(t, m, -1)
}

// TestUnknownIDs: brokers that tell none are believed; one that is told later counts from then on.
func TestUnknownIDs(t *testing.T) {
	m := New([]Source{{Name: "s", Interval: time.Minute}})
	old := at(0, 5)
	old.TopicID = manifest.TopicID{}
	m.Step(begin, Started{Fence: first, Splits: map[ident.Subtask][]manifest.Position{sub(0): {old}}})
	now := begin
	for _, id := range []manifest.TopicID{{}, idA, {}, idA} {
		expect(t, m.Step(now, Listed{Fence: first, Source: "s", Topics: exists(id)}))
		now = m.Deadline()
		m.Step(now, Tick{})
	}
	m.Step(now, Listed{Fence: first, Source: "s", Topics: exists(idB)})
	if w := m.Status().Waiting; len(w) != 1 {
		t.Errorf("%q", w)
	}
}

// TestStoredOfAnotherTopic: what was stored of a topic that was deleted before it was read is not read of the next.
func TestStoredOfAnotherTopic(t *testing.T) {
	m := New([]Source{{Name: "s", Interval: time.Minute}})
	m.Step(begin, Started{Fence: first, Splits: map[ident.Subtask][]manifest.Position{sub(0): nil}})
	fresh, stale := at(0, 0), at(0, 700)
	fresh.TopicID = idB
	m.Step(begin, Listed{Fence: first, Source: "s", Topics: exists(idB), Found: []manifest.Position{fresh}})
	expect(t, m.Step(begin, Stored{Fence: first, Source: "s", Positions: []manifest.Position{stale}}), "fail 1.1: "+Recreated("s", "t", idA, idB))
}

// TestWalk answers at random: a split is added once per attempt, after it was stored, to the least loaded subtask.
func TestWalk(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m, now := New([]Source{{Name: "s", Interval: time.Second}}), begin
		fence, partitions := ident.Fence{Epoch: 1}, 3
		durable, given := map[int32]bool{}, map[int32]bool{}
		var loads [3]int
		var waiting []Event
		do := func(ev Event) {
			for _, eff := range m.Step(now, ev) {
				switch e := eff.(type) {
				case List:
					answer := Listed{Fence: e.Fence, Source: "s", Topics: exists(idA)}
					for p := range int32(partitions) {
						answer.Found = append(answer.Found, at(p, 0))
					}
					waiting = append(waiting, answer)
				case Store:
					waiting = append(waiting, Stored{Fence: e.Fence, Source: "s", Positions: e.Positions})
				case Add:
					for _, p := range e.Positions {
						if !durable[p.Partition] || given[p.Partition] || e.Fence != fence {
							t.Fatalf("seed %d: %s: durable %t, given %t", seed, e, durable[p.Partition], given[p.Partition])
						}
						given[p.Partition] = true
						loads[e.Subtask.Index]++
					}
				case Fail:
					t.Fatalf("seed %d: %s", seed, e)
				}
			}
		}
		for range 200 {
			now = now.Add(time.Duration(rng.IntN(500)) * time.Millisecond)
			switch n := rng.IntN(10); {
			case n == 0:
				fence.Attempt++
				clear(given)
				loads = [3]int{}
				splits := map[ident.Subtask][]manifest.Position{sub(0): nil, sub(1): nil, sub(2): nil}
				for p := range durable { // the next attempt is deployed with what is stored
					to := sub(int(p) % 3)
					splits[to] = append(splits[to], at(p, 0))
					given[p] = true
					loads[to.Index]++
				}
				do(Ended{Fence: ident.Fence{Epoch: 1, Attempt: fence.Attempt - 1}})
				do(Started{Fence: fence, Splits: splits})
			case n < 3 && partitions < 60:
				partitions++
			case n < 8 && len(waiting) > 0:
				i := rng.IntN(len(waiting))
				ev := waiting[i]
				waiting = append(waiting[:i], waiting[i+1:]...)
				if s, ok := ev.(Stored); ok {
					for _, p := range s.Positions {
						durable[p.Partition] = true
					}
				}
				do(ev)
			default:
				do(Tick{})
			}
		}
	}
}
