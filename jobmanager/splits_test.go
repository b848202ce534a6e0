package jobmanager

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/discovery"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/proto/wire"
)

// of is a position of t/0 in a topic of this id; 0: unknown.
func of(id byte, next int64) manifest.Position {
	p := found(0, next)
	p.TopicID = manifest.TopicID{id}
	return p
}

// TestMerged is what a job is restored with, of what its checkpoint and its store say of one split.
func TestMerged(t *testing.T) {
	aside := func(p manifest.Position) *storedSplit { return &storedSplit{Position: p, aside: true} }
	read := func(p manifest.Position) *storedSplit { return &storedSplit{Position: p} }
	// since says that it is set aside from a checkpoint on, and where it began before.
	since := func(n ident.CheckpointID, p manifest.Position, earlier ...splitStart) *storedSplit {
		return &storedSplit{Position: p, aside: true, since: n, earlier: earlier}
	}
	begin, back := splitStart{Next: 2, LeaderEpoch: 3}, splitStart{Next: 4, LeaderEpoch: 3, Since: 3}
	for name, c := range map[string]struct {
		held              []manifest.Position
		stored            *storedSplit
		want, wantedAside []manifest.Position
	}{
		"nothing stored":                                {[]manifest.Position{of(1, 5)}, nil, []manifest.Position{of(1, 5)}, nil},
		"found, no checkpoint since":                    {nil, read(of(1, 5)), []manifest.Position{of(1, 5)}, nil},
		"found, read since":                             {[]manifest.Position{of(1, 9)}, read(of(1, 5)), []manifest.Position{of(1, 9)}, nil},
		"set aside":                                     {[]manifest.Position{of(1, 5)}, aside(of(1, 5)), nil, []manifest.Position{of(1, 5)}},
		"set aside, a checkpoint since":                 {nil, aside(of(1, 5)), nil, []manifest.Position{of(1, 5)}},
		"set aside, a subtask read on":                  {[]manifest.Position{of(1, 9)}, aside(of(1, 5)), []manifest.Position{of(1, 9)}, nil},
		"an older checkpoint":                           {[]manifest.Position{of(1, 3)}, aside(of(1, 5)), []manifest.Position{of(1, 3)}, nil},
		"found after this checkpoint, set aside since":  {nil, since(6, of(1, 8), begin), []manifest.Position{of(1, 2)}, nil},
		"set aside with this checkpoint":                {nil, since(5, of(1, 8), begin), nil, []manifest.Position{of(1, 8)}},
		"back before this checkpoint, set aside since":  {nil, since(6, of(1, 8), begin, back), []manifest.Position{of(1, 4)}, nil},
		"set aside before all that is stored":           {nil, since(9, of(1, 8)), nil, []manifest.Position{of(1, 8)}},
		"an older checkpoint, and set aside since":      {[]manifest.Position{of(1, 3)}, since(6, of(1, 8), begin), []manifest.Position{of(1, 3)}, nil},
		"a later topic, found and set aside since":      {[]manifest.Position{of(1, 5)}, since(6, of(2, 8), begin), []manifest.Position{of(2, 2)}, nil},
		"a later topic, set aside with this checkpoint": {[]manifest.Position{of(1, 5)}, since(5, of(2, 8), begin), nil, []manifest.Position{of(2, 8)}},
		"a later topic":                                 {[]manifest.Position{of(1, 5)}, read(of(2, 0)), []manifest.Position{of(2, 0)}, nil},
		"a later topic, read since":                     {[]manifest.Position{of(2, 4)}, read(of(2, 0)), []manifest.Position{of(2, 4)}, nil},
		"topics that cannot be told apart":              {[]manifest.Position{of(0, 5)}, read(of(2, 0)), []manifest.Position{of(0, 5)}, nil},
		"topics that cannot be told apart2":             {[]manifest.Position{of(1, 5)}, read(of(0, 0)), []manifest.Position{of(1, 5)}, nil},
	} {
		held := append([]manifest.Position{found(7, 1)}, c.held...)
		var stored []storedSplit
		if c.stored != nil {
			stored = append(stored, *c.stored)
		}
		before := slices.Clone(held)
		got, apart := merged(5, held, stored)
		if want := append(slices.Clone(c.want), found(7, 1)); !slices.Equal(got, want) || !slices.Equal(apart, c.wantedAside) || !slices.Equal(held, before) {
			t.Errorf("%s: reads %v, aside %v; want %v, %v", name, got, apart, want, c.wantedAside)
		}
	}
}

// complete stores a checkpoint.
func complete(t *testing.T, m *Manager, r *runner, n ident.CheckpointID, positions ...manifest.Position) {
	t.Helper()
	update(t, m, func(tx *boltstore.Tx) error {
		return tx.PutManifest(&manifest.Manifest{Job: r.id, Checkpoint: n, Identity: r.plan.Identity, Positions: positions})
	})
}

func restored(t *testing.T, m *Manager, r *runner) []manifest.Position {
	t.Helper()
	d, err := r.decide()
	if err != nil {
		t.Fatal(err)
	}
	at, err := m.restorePoint(r.id, d.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	return at.Positions
}

// TestSetAside follows a split through the store: aside where the newest checkpoint has it, back at the same place if
// it is the same topic, and from the beginning if it is another.
func TestSetAside(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(1))
	complete(t, m, r, 1, of(1, 5), found(1, 6), found(2, 7))
	var got []manifest.Position
	put := func(which ...manifest.Position) {
		t.Helper()
		update(t, m, func(tx *boltstore.Tx) (err error) {
			got, err = setAside(tx, r.id, which)
			return err
		})
	}
	unknown := found(2, 0)
	unknown.TopicID = manifest.TopicID{}
	put(of(1, 0), of(2, 0), unknown, found(9, 0)) // another topic, an unknown one, what is not there
	if !slices.Equal(got, []manifest.Position{of(1, 5)}) {
		t.Errorf("set aside %v", got)
	}
	if want := []manifest.Position{found(1, 6), found(2, 7)}; !slices.Equal(restored(t, m, r), want) {
		t.Errorf("restored %v", restored(t, m, r))
	}
	complete(t, m, r, 2, found(1, 8), found(2, 7))
	if put(of(1, 0)); !slices.Equal(got, []manifest.Position{of(1, 5)}) || len(restored(t, m, r)) != 2 {
		t.Errorf("for a later attempt: %v, restored %v", got, restored(t, m, r))
	}
	// A broker that tells no ids is not believed.
	err := m.store.Update(t.Context(), func(tx *boltstore.Tx) error {
		_, err := putSplit(tx, r.id, of(0, 0))
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "topic t is back") {
		t.Error(err)
	}
	if got := store(t, m, r.id, of(1, 0)); !slices.Equal(got, []manifest.Position{of(1, 5)}) {
		t.Errorf("the topic is back: %v", got)
	}
	if want := []manifest.Position{of(1, 5), found(1, 8), found(2, 7)}; !slices.Equal(restored(t, m, r), want) {
		t.Errorf("restored %v", restored(t, m, r))
	}
	put(of(1, 0)) // found, in no checkpoint since
	if got := store(t, m, r.id, of(2, 3)); !slices.Equal(got, []manifest.Position{of(2, 3)}) {
		t.Errorf("another topic: %v", got)
	}
	if got := store(t, m, r.id, of(3, 4)); !slices.Equal(got, []manifest.Position{of(2, 3)}) {
		t.Errorf("a split that is read was moved: %v", got)
	}
}

// TestNoRoomTakenBySplitsAside: topics that rotate for years leave no less room for new ones.
func TestNoRoomTakenBySplitsAside(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(1))
	var many []manifest.Position
	for p := range int32(40_000) {
		at := found(p+100, 1<<40)
		at.Topic = strings.Repeat("x", 20)
		many = append(many, at)
	}
	complete(t, m, r, 1, many...)
	if err := r.roomFor([]manifest.Position{found(0, 1)}); err == nil {
		t.Fatal("want no room")
	}
	update(t, m, func(tx *boltstore.Tx) error {
		_, err := setAside(tx, r.id, many)
		return err
	})
	if err := r.roomFor([]manifest.Position{found(0, 1)}); err != nil {
		t.Error(err)
	}
}

// TestRemovedSplitsAreRepeated: a task manager that resumes hears what was taken from its subtasks and not given back.
func TestRemovedSplitsAreRepeated(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(1))
	down, g := grantedTo(t, m, r)
	fence := ident.Fence{Epoch: m.epoch, Attempt: 1}
	at := &manifest.Manifest{Positions: []manifest.Position{found(0, 5), found(1, 6)}}
	r.deployed, _ = r.newDeployment(job.Deploy{Fence: fence, Slots: g.Slots}, at)
	subtask := r.sources()[0]
	r.addSplits(discovery.Add{Fence: fence, Subtask: subtask, Positions: []manifest.Position{found(2, 7)}})
	r.removeSplits(discovery.Remove{Fence: fence, Subtask: subtask, Positions: []manifest.Position{found(0, 5), found(1, 6), found(2, 7)}})
	r.removeSplits(discovery.Remove{Fence: ident.Fence{Epoch: m.epoch, Attempt: 9}, Subtask: subtask, Positions: []manifest.Position{found(3, 5)}})
	r.addSplits(discovery.Add{Fence: fence, Subtask: subtask, Positions: []manifest.Position{found(1, 6)}})
	next := func() (removed, added []manifest.Position) {
		t.Helper()
		sent := <-down.queue
		for _, p := range sent.GetRemoveSplits().GetPositions() {
			removed = append(removed, wire.PositionFromProto(p))
		}
		for _, p := range sent.GetAddSplits().GetPositions() {
			added = append(added, wire.PositionFromProto(p))
		}
		return removed, added
	}
	want := [][2][]manifest.Position{
		{nil, {found(2, 7)}}, {{found(0, 5), found(1, 6), found(2, 7)}, nil}, {nil, {found(1, 6)}},
		{{found(0, 5), found(2, 7)}, nil}, {nil, {found(1, 6)}}, // repeated
	}
	r.repeatSplits("w")
	for i := range want {
		removed, added := next()
		if diff := cmp.Diff(want[i], [2][]manifest.Position{removed, added}); diff != "" {
			t.Errorf("message %d: %s", i, diff)
		}
	}
	// What a later checkpoint holds just there may not have been looked at yet; the other one is settled.
	r.settleRemoved(&manifest.Manifest{Fence: fence, Positions: nil}) // its trigger was on its way before
	r.settleRemoved(&manifest.Manifest{Fence: ident.Fence{Epoch: m.epoch, Attempt: 9}, Checkpoint: 1})
	r.settleRemoved(&manifest.Manifest{Fence: fence, Checkpoint: 1, Positions: []manifest.Position{found(0, 5)}})
	r.repeatSplits("w")
	if removed, _ := next(); !slices.Equal(removed, []manifest.Position{found(0, 5)}) {
		t.Errorf("repeated %v", removed)
	}
	r.settleRemoved(&manifest.Manifest{Fence: fence, Checkpoint: 2, Positions: []manifest.Position{found(0, 6)}})
	if len(r.deployed.removed) != 0 {
		t.Errorf("left %v", r.deployed.removed)
	}
}

// TestOlderCheckpointOfASplitAside: who takes over a checkpoint from before a split was found reads it from where it was
// found, though it was read and set aside since, and was back in between.
func TestOlderCheckpointOfASplitAside(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(1))
	complete(t, m, r, 1)
	store(t, m, r.id, of(1, 2))
	aside := func() {
		update(t, m, func(tx *boltstore.Tx) error {
			got, err := setAside(tx, r.id, []manifest.Position{of(1, 0)})
			if len(got) != 1 {
				t.Errorf("set aside %v", got)
			}
			return err
		})
	}
	complete(t, m, r, 2, of(1, 5))
	aside()
	complete(t, m, r, 3)
	store(t, m, r.id, of(1, 0))
	complete(t, m, r, 4, of(1, 9))
	aside()
	complete(t, m, r, 5)
	for n, want := range map[ident.CheckpointID]struct {
		next  int64
		aside bool
	}{1: {2, false}, 2: {5, false}, 3: {5, false}, 4: {9, true}, 5: {9, true}} {
		from, err := m.checkpointOf(r.id, n)
		if err != nil {
			t.Fatal(err)
		}
		held, apart, err := m.heldBy(r.id, from.manifest)
		if err != nil {
			t.Fatal(err)
		}
		got := held.Positions
		if want.aside {
			got = apart
		}
		if at := of(1, want.next); len(held.Positions)+len(apart) != 1 || len(got) != 1 || got[0] != at {
			t.Errorf("checkpoint %d: reads %v, aside %v; want %v, aside %t", n, held.Positions, apart, at, want.aside)
		}
	}
}

// TestHeirOfSplitsAside: a job that takes over a checkpoint takes over what is set aside, and reads it if the topic is back.
func TestHeirOfSplitsAside(t *testing.T) {
	m := open(t)
	m.connector = growingConnector{}
	pattern := countJob(1)
	pattern.Sources[0].Kafka.Topics, pattern.Sources[0].Kafka.TopicPattern = nil, "t.*"
	gone, back, replaced := found(5, 50), found(1, 6), found(2, 7)
	replaced.TopicID = manifest.TopicID{9}
	resolved := []manifest.Position{found(0, 100), found(1, 100), found(2, 100)}
	out, err := m.continued(t.Context(), pattern, []manifest.Position{found(0, 5)}, []manifest.Position{gone, back, replaced}, resolved)
	if err != nil || !slices.Equal(out.positions, []manifest.Position{found(0, 5), found(1, 6), found(2, 22)}) || !slices.Equal(out.aside, []manifest.Position{gone}) || len(out.warnings) != 1 {
		t.Errorf("%v, aside %v, %q, %v", out.positions, out.aside, out.warnings, err)
	}
	pattern.Sources[0].Kafka.Bounded.Mode = graph.BoundLatest
	if out, err := m.continued(t.Context(), pattern, []manifest.Position{found(0, 5)}, []manifest.Position{gone}, resolved[:1]); err != nil || len(out.aside) > 0 || len(out.warnings) > 0 {
		t.Errorf("bounded: aside %v, %q, %v", out.aside, out.warnings, err)
	}
}

// TestSubmitWithSplitsAside has a job take over a checkpoint of another whose topic is gone.
func TestSubmitWithSplitsAside(t *testing.T) {
	m := open(t)
	pattern := func(name string) *graph.Job {
		j := renamed(countJob(1), name)
		j.Sources[0].Kafka.Topics, j.Sources[0].Kafka.TopicPattern = nil, "t.*"
		return j
	}
	old := submitted(t, m, pattern("old"))
	gone := found(5, 50)
	gone.Topic = "t-old"
	complete(t, m, old, 1, found(0, 5), found(1, 6), found(2, 7), gone)
	update(t, m, func(tx *boltstore.Tx) error {
		_, err := setAside(tx, old.id, []manifest.Position{gone})
		return err
	})
	old.isEnded.Store(true)
	id, warnings, err := m.submit(t.Context(), submission{job: pattern("heir"), fromCheckpoint: string(old.id) + "/1"})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%q, %v", warnings, err)
	}
	heir, err := m.find(string(id))
	if err != nil {
		t.Fatal(err)
	}
	if got := restored(t, m, heir); len(got) != 3 || got[0] != found(0, 5) {
		t.Errorf("it reads %v", got)
	}
	if got := store(t, m, id, func() manifest.Position { p := gone; p.Next = 0; return p }()); got[0] != gone {
		t.Errorf("when the topic is back it reads %v, want %v", got, gone)
	}
}
