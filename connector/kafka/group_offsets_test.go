package kafka

import (
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// TestGroupOffsets: what is committed never runs ahead of what the sinks have acknowledged, and never goes back.
func TestGroupOffsets(t *testing.T) {
	o := newGroupOffsets()
	take := func(next int64) {
		o.take(&operator.SourceBatch{Split: position("t", 0, 0, -1).Split, Next: next, LeaderEpoch: 3})
	}
	expect := func(what string, want int64) {
		t.Helper()
		due := o.due()
		if want < 0 && len(due) > 0 || want >= 0 && (len(due) != 1 || due[0].Offset != want) {
			t.Errorf("%s: due %+v, want %d", what, due, want)
		}
		o.commit("s", due)
	}
	o.hold([]manifest.Position{position("t", 0, 10, -1)}, false)
	expect("the start is committed, whatever is there", 10)
	take(15)
	expect("nothing is acknowledged", -1)
	o.barrier(1)
	take(20)
	o.barrier(2)
	o.completed(1)
	expect("checkpoint 1", 15)
	if o.settled([]operator.SplitLag{{Split: position("t", 0, 0, -1).Split, Next: 20}}) {
		t.Error("20 is not acknowledged, and all is settled")
	}
	take(18) // late, from before
	o.completed(4)
	expect("checkpoint 2 was covered by a later one", 20)
	o.completed(2)
	expect("a repeat", -1)
	// Through the next generation it goes on where it was; the barrier of before still counts.
	take(30)
	o.barrier(5)
	if got := o.hold([]manifest.Position{position("t", 0, 20, -1)}, true); got[0].Next != 30 || got[0].LeaderEpoch != 3 {
		t.Errorf("it goes on at %+v, want 30", got[0])
	}
	expect("what the group knows", 20)
	o.completed(5)
	expect("checkpoint 5", 30)
	// After a generation without it, the group counts.
	take(40)
	if got := o.hold([]manifest.Position{position("t", 0, 35, -1)}, false); got[0].Next != 35 {
		t.Errorf("it goes on at %+v, want 35", got[0])
	}
	expect("the new start", 35)
	o.hold(nil, true)
	take(50)
	expect("it was given up", -1)
	for id := range ident.CheckpointID(3 * maxBarriers) {
		o.barrier(10 + id)
	}
	if len(o.barriers) != maxBarriers {
		t.Errorf("%d barriers wait, at most %d may", len(o.barriers), maxBarriers)
	}
}

// TestGroupKeeps: what the chain has taken counts if nobody else can have held the partitions since.
func TestGroupKeeps(t *testing.T) {
	at := func(id string, generation int32) wire.Member { return wire.Member{ID: id, Generation: generation} }
	for _, c := range []struct {
		last, now wire.Member
		want      bool
	}{
		{at("", -1), at("m", 0), false},
		{at("m", -1), at("m", 0), false},
		{at("m", 3), at("m", 4), true},
		{at("m", 3), at("m", 3), true},
		{at("m", 3), at("m", 5), false},
		{at("m", 3), at("m", 1), false},
		{at("m", 3), at("n", 4), false},
	} {
		if got := keeps(c.last, c.now); got != c.want {
			t.Errorf("%+v, then %+v: %v", c.last, c.now, got)
		}
	}
}

// TestGroupGrown: a partition without a committed offset is new if it came since the source began, or the group had read its
// topic before that. What another member commits meanwhile does not count.
func TestGroupGrown(t *testing.T) {
	g := &GroupSource{first: map[string]int32{"fresh": 2, "read": 2, "empty": 0}, known: map[string]bool{"read": true}}
	for tp, want := range map[wire.TopicPartition]bool{
		{Topic: "fresh", Partition: 1}: false,
		{Topic: "fresh", Partition: 2}: true,
		{Topic: "read", Partition: 1}:  true,
		{Topic: "empty", Partition: 0}: true,
		{Topic: "later", Partition: 0}: true,
	} {
		if got := g.grown(tp); got != want {
			t.Errorf("%s: %v", tp, got)
		}
	}
}

// TestGroupAcceptsNoGap: batches that were queued when a generation ended may be dropped in part, while the chain goes on
// taking: what it may take has to follow what it has.
func TestGroupAcceptsNoGap(t *testing.T) {
	o := newGroupOffsets()
	batch := func(from, next int64) *operator.SourceBatch {
		return &operator.SourceBatch{Split: position("t", 0, 0, -1).Split, From: from, Next: next, LeaderEpoch: 3}
	}
	o.hold([]manifest.Position{position("t", 0, 60, -1)}, false)
	if o.accepts(batch(70, 80)) {
		t.Error("a batch behind one that was dropped is taken")
	}
	o.take(batch(70, 80)) // and if it were
	if got := o.hold([]manifest.Position{position("t", 0, 60, -1)}, true); got[0].Next != 60 {
		t.Errorf("what was dropped is not read again: reading goes on at %d", got[0].Next)
	}
	if !o.accepts(batch(60, 75)) {
		t.Error("what was dropped is not taken when it comes again")
	}
	o.take(batch(60, 75))
	if o.accepts(batch(60, 70)) || !o.accepts(batch(70, 80)) || o.accepts(&operator.SourceBatch{Split: position("t", 1, 0, -1).Split, Next: 5}) {
		t.Error("taken twice, or not at all, or of a partition that others hold")
	}
}

// TestGroupCommitsOnlyWhatItHolds: a member that has joined anew holds nothing yet, and another may be further with what it
// held before. The group has no cluster here, which a commit would ask.
func TestGroupCommitsOnlyWhatItHolds(t *testing.T) {
	g := &GroupSource{name: "s", offsets: newGroupOffsets(), member: wire.Member{Group: "g", ID: "m", Generation: 4}, heldIn: 3}
	g.offsets.hold([]manifest.Position{position("t", 0, 10, -1)}, false)
	if err := g.commit(t.Context()); err != nil || len(g.offsets.due()) != 1 {
		t.Errorf("%v, due %v", err, g.offsets.due())
	}
	g.heldIn = 4
	defer func() {
		if recover() == nil {
			t.Error("what it holds is not committed either")
		}
	}()
	_ = g.commit(t.Context())
}

// TestGroupAnswerWithin: one heartbeat that is not answered leaves time in the session for another.
func TestGroupAnswerWithin(t *testing.T) {
	for _, c := range []struct{ session, heartbeat, want time.Duration }{
		{45 * time.Second, 3 * time.Second, 15 * time.Second},
		{6 * time.Second, 3 * time.Second, 3 * time.Second},
		{10 * time.Second, 9 * time.Second, 5 * time.Second},
	} {
		g := &GroupSource{session: c.session, heartbeat: c.heartbeat}
		if got := g.answerWithin(); got != c.want || 2*got > c.session {
			t.Errorf("session %s, heartbeat %s: %s, want %s", c.session, c.heartbeat, got, c.want)
		}
	}
}
