package jobmanager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/discovery"
	"github.com/sluice-stream/sluice/proto/wire"
)

func found(partition int32, next int64) manifest.Position {
	return manifest.Position{
		Split: manifest.Split{Source: "s", Topic: "t", Partition: partition}, TopicID: manifest.TopicID{7, 8}, Next: next, LeaderEpoch: 3, Stop: -1,
	}
}

// store puts splits and returns what is stored of them.
func store(t *testing.T, m *Manager, id ident.JobID, list ...manifest.Position) (out []manifest.Position) {
	t.Helper()
	err := m.store.Update(t.Context(), func(tx *boltstore.Tx) error {
		for _, p := range list {
			at, err := putSplit(tx, id, p)
			if err != nil {
				return err
			}
			out = append(out, at)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFoundSplitsAreRestored: what stands in a manifest counts, what does not begins where it was stored first.
func TestFoundSplitsAreRestored(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(2))
	other := submitted(t, m, renamed(countJob(2), "other"))
	if got := store(t, m, r.id, found(7, 70), found(3, 30)); !slices.Equal(got, []manifest.Position{found(7, 70), found(3, 30)}) {
		t.Errorf("stored %v", got)
	}
	if got := store(t, m, r.id, found(3, 99)); !slices.Equal(got, []manifest.Position{found(3, 30)}) {
		t.Errorf("a split was moved: %v", got)
	}
	at := &manifest.Manifest{Job: r.id, Checkpoint: 4, Positions: []manifest.Position{found(0, 5), found(7, 75)}}
	restored, err := m.restorePoint(r.id, at)
	if err != nil {
		t.Fatal(err)
	}
	want := &manifest.Manifest{Job: r.id, Checkpoint: 4, Positions: []manifest.Position{found(0, 5), found(3, 30), found(7, 75)}}
	if diff := cmp.Diff(want, restored); diff != "" || len(at.Positions) != 2 {
		t.Errorf("%s; the manifest itself has %d positions", diff, len(at.Positions))
	}
	if restored, err := m.restorePoint(other.id, at); err != nil || len(restored.Positions) != 2 {
		t.Errorf("of another job: %v, %v", restored, err)
	}
}

func renamed(j *graph.Job, name string) *graph.Job {
	j.Name = name
	return j
}

func TestDamagedSplits(t *testing.T) {
	for name, value := range map[string]string{
		"split/s/t/0": "{", "split/s/t/x": "{}", "split/s/t": "{}", "split/s/t/1": `{"next":1,"topicId":"!"}`,
	} {
		m := open(t)
		r := submitted(t, m, countJob(1))
		if err := m.store.Update(t.Context(), func(tx *boltstore.Tx) error { return tx.PutValue(r.id, name, []byte(value)) }); err != nil {
			t.Fatal(err)
		}
		if _, err := m.restorePoint(r.id, &manifest.Manifest{}); !errors.Is(err, boltstore.ErrDamaged) {
			t.Errorf("%s %s: %v", name, value, err)
		}
	}
}

// TestNoRoomForSplits: with more than a deployment can carry the job could never restart.
func TestNoRoomForSplits(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(1))
	var many []manifest.Position
	for p := range int32(40_000) {
		at := found(p+100, 1<<40)
		at.Topic = strings.Repeat("x", 100)
		many = append(many, at)
	}
	if err := r.roomFor(many[:10]); err != nil {
		t.Error(err)
	}
	if err := r.roomFor(many); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("for %d splits: %v", len(many), err)
	}
}

func TestAddSplitsMessages(t *testing.T) {
	var list []manifest.Position
	for p := range int32(maxAddedSplits + 1) {
		at := found(p, 1<<60)
		at.Source, at.Topic = strings.Repeat("s", 128), strings.Repeat("t", 249)
		list = append(list, at)
	}
	fence, to := ident.Fence{Epoch: 2, Attempt: 3}, ident.Subtask{Vertex: "s", Index: 1}
	var got []manifest.Position
	messages := addSplitsMessages("job", fence, to, list)
	for _, m := range messages {
		if size := proto.Size(m); size > controlMessageBytes {
			t.Errorf("a message of %d bytes, at most %d can be sent", size, controlMessageBytes)
		}
		job, f := wire.AttemptFromProto(m.GetAddSplits().GetAttempt())
		if job != "job" || f != fence || wire.SubtaskFromProto(m.GetAddSplits().GetSubtask()) != to {
			t.Errorf("%v", m.GetAddSplits().GetAttempt())
		}
		for _, p := range m.GetAddSplits().GetPositions() {
			got = append(got, wire.PositionFromProto(p))
		}
	}
	if len(messages) != 2 || !slices.Equal(got, list) {
		t.Errorf("%d messages, %d splits", len(messages), len(got))
	}
}

// growingConnector has partitions that the checkpoint does not hold.
type growingConnector struct {
	fakeConnector
	err error
}

func (c growingConnector) Discover(context.Context, *graph.Source, []manifest.Position) ([]manifest.Position, map[string]manifest.TopicID, error) {
	return []manifest.Position{found(1, 11), found(2, 22)}, nil, c.err
}

// TestListingWaitsForRoom: the answer of a listing is handed over also when the loop is busy; no other would come.
func TestListingWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{
			m: &Manager{connector: growingConnector{}}, graph: countJob(1), children: &errgroup.Group{},
			inbox: make(chan any), over: make(chan struct{}), listing: map[string]context.CancelFunc{},
		}
		r.listSplits(t.Context(), discovery.List{Source: "s"})
		synctest.Wait() // it is answered
		select {
		case <-r.inbox:
		default:
			t.Error("the answer is lost")
		}
		if err := r.children.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestReads: a source goes on with the positions of what it is to read itself.
func TestReads(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*graph.KafkaSource)
		want   bool
	}{
		"its topic":          {func(*graph.KafkaSource) {}, true},
		"another topic":      {func(k *graph.KafkaSource) { k.Topics = []string{"u"} }, false},
		"its pattern":        {func(k *graph.KafkaSource) { k.Topics, k.TopicPattern = nil, "t|u" }, true},
		"a narrower pattern": {func(k *graph.KafkaSource) { k.Topics, k.TopicPattern = nil, "tt" }, false},
		"a part of the name": {func(k *graph.KafkaSource) { k.Topics, k.TopicPattern = nil, "" }, false},
		"a group's":          {func(k *graph.KafkaSource) { k.Mode = graph.ModeGroup }, false},
	} {
		j := countJob(1)
		c.change(j.Sources[0].Kafka)
		if got := reads(j, found(0, 5).Split); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// TestStartsOf: beside a checkpoint the startup counts only where the checkpoint does not say where to read.
func TestStartsOf(t *testing.T) {
	given := graph.Startup{Mode: graph.StartOffsets, Offsets: map[string]map[int32]int64{"t": {0: 42}}}
	for name, c := range map[string]struct {
		from, aside []manifest.Position
		partitions  map[string][]int32
		want        graph.StartupMode
	}{
		"known":                      {[]manifest.Position{found(0, 5)}, nil, nil, graph.StartEarliest},
		"unknown":                    {nil, nil, nil, graph.StartOffsets},
		"a fixed set that has grown": {[]manifest.Position{found(0, 5)}, nil, map[string][]int32{"t": {0, 1}}, graph.StartOffsets},
		"a fixed set":                {[]manifest.Position{found(0, 5), found(1, 5)}, nil, map[string][]int32{"t": {0, 1}}, graph.StartEarliest},
		"a fixed set of which a part is set aside": {[]manifest.Position{found(0, 5)}, []manifest.Position{found(1, 5)}, map[string][]int32{"t": {0, 1}}, graph.StartOffsets},
	} {
		j := countJob(1)
		j.Sources[0].Kafka.Startup, j.Sources[0].Kafka.Partitions = given, c.partitions
		if got := startsOf(j, c.from, c.aside).Sources[0].Kafka.Startup.Mode; got != c.want {
			t.Errorf("%s: startup %s, want %s", name, got, c.want)
		}
		if j.Sources[0].Kafka.Startup.Mode != given.Mode {
			t.Errorf("%s: the job itself was changed", name)
		}
	}
}

// TestContinued is where a job begins that takes over a checkpoint.
func TestContinued(t *testing.T) {
	m := open(t)
	m.connector = growingConnector{}
	j := countJob(1)
	resolved := []manifest.Position{found(0, 100), found(1, 100), found(2, 100)}
	out, err := m.continued(t.Context(), j, []manifest.Position{found(0, 5), found(9, 9)}, nil, resolved)
	if err != nil || !slices.Equal(out.positions, []manifest.Position{found(0, 5), found(1, 11), found(2, 22)}) {
		t.Errorf("%v, %v", out.positions, err)
	}
	if want := []string{
		"source s: the checkpoint does not hold t/1, t/2: read from the beginning",
		"source s: the checkpoint holds a position of t/9, which does not exist any more",
	}; !slices.Equal(out.warnings, want) {
		t.Errorf("warnings %q", out.warnings)
	}
	// A source that the checkpoint does not know begins as resolved; so does what a fixed set names.
	if out, err := m.continued(t.Context(), j, nil, nil, resolved); err != nil || !slices.Equal(out.positions, resolved) {
		t.Errorf("unknown source: %v, %v", out.positions, err)
	}
	fixed := countJob(1)
	fixed.Sources[0].Kafka.Partitions = map[string][]int32{"t": {0, 1}}
	if out, err := m.continued(t.Context(), fixed, []manifest.Position{found(0, 5)}, nil, resolved[:2]); err != nil || !slices.Equal(out.positions, []manifest.Position{found(0, 5), found(1, 100)}) {
		t.Errorf("fixed set: %v, %v", out.positions, err)
	}
	// Another topic of the name is refused; an unknown id is not.
	old := found(0, 5)
	old.TopicID = manifest.TopicID{9}
	if _, err := m.continued(t.Context(), j, []manifest.Position{old}, nil, resolved); !errors.Is(err, errNotRestorable) || !strings.Contains(err.Error(), "deleted and created again") {
		t.Errorf("another topic: %v", err)
	}
	old.TopicID = manifest.TopicID{}
	if out, err := m.continued(t.Context(), j, []manifest.Position{old}, nil, resolved[:1]); err != nil || out.positions[0] != found(0, 5) {
		t.Errorf("unknown id: %v, %v", out.positions, err)
	}
	// A pattern goes on with what is not listed now: it would read it from the beginning when it is listed again.
	pattern := countJob(1)
	pattern.Sources[0].Kafka.Topics, pattern.Sources[0].Kafka.TopicPattern = nil, "t.*"
	if out, err := m.continued(t.Context(), pattern, []manifest.Position{found(0, 5), found(1, 6), found(2, 7), found(9, 9)}, nil, resolved); err != nil ||
		!slices.Equal(out.positions, []manifest.Position{found(0, 5), found(1, 6), found(2, 7), found(9, 9)}) || len(out.warnings) != 1 || !strings.Contains(out.warnings[0], "it is kept") {
		t.Errorf("a pattern: %v, warnings %q, %v", out.positions, out.warnings, err)
	}
	pattern.Sources[0].Kafka.Bounded.Mode = graph.BoundLatest
	if out, err := m.continued(t.Context(), pattern, []manifest.Position{found(0, 5), found(1, 6), found(2, 7), found(9, 9)}, nil, resolved); err != nil || len(out.positions) != 3 {
		t.Errorf("a bounded pattern: %v, %v", out.positions, err)
	}
	// A record ended a partition, which stays so, though nobody looks for that record again.
	ended := countJob(1)
	ended.Sources[0].Kafka.Until = "value == 'end'"
	last := found(0, 50)
	last.Stop = 50
	if out, err := m.continued(t.Context(), ended, []manifest.Position{last, found(1, 7), found(2, 7)}, nil, resolved); err != nil || out.positions[0] != last || out.positions[1] != found(1, 7) {
		t.Errorf("an ended partition: %v, %v", out.positions, err)
	}
	// A bound of now is one: what came since the bound of then is read.
	bounded := slices.Clone(resolved)
	bounded[0].Stop = 90
	if out, err := m.continued(t.Context(), ended, []manifest.Position{last, found(1, 7), found(2, 7)}, nil, bounded); err != nil || out.positions[0].Stop != 90 {
		t.Errorf("a bound of now: %v, %v", out.positions, err)
	}
	m.connector = growingConnector{err: errors.New("no broker")}
	if _, err := m.continued(t.Context(), j, []manifest.Position{found(0, 5)}, nil, resolved); !errors.Is(err, errCheckFailed) {
		t.Errorf("without a broker: %v", err)
	}
}

// TestForgetBounds: an end that bounded set is none for an until that the heir has; one that an until found is.
func TestForgetBounds(t *testing.T) {
	for until, want := range map[string]int64{"": -1, "value == 'end'": 50} {
		old := countJob(1)
		old.Sources[0].Kafka.Until = until
		ended := found(0, 50)
		ended.Stop = 50
		positions := []manifest.Position{ended}
		if forgetBounds(positions, old); positions[0].Stop != want {
			t.Errorf("until %q: stop %d, want %d", until, positions[0].Stop, want)
		}
		positions[0].Stop = 50
		if forgetBounds(positions, &graph.Job{Name: "j"}); positions[0].Stop != 50 {
			t.Errorf("of a job that cannot be read: stop %d", positions[0].Stop)
		}
	}
}
