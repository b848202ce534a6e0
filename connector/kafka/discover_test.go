package kafka

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// recreate deletes a topic and makes it anew.
func recreate(t testing.TB, f *kfake.Cluster, topic string, partitions int32) {
	t.Helper()
	admin := kadm.NewClient(franz(t, f))
	if _, err := admin.DeleteTopics(testContext(t), topic); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(testContext(t), partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

func listed(positions []manifest.Position) string {
	var out []string
	for _, p := range positions {
		out = append(out, fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Next))
	}
	return strings.Join(out, " ")
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in", "in-2", "out"))
	a, cl := newAdmin(t), franz(t, f)
	job := jobOf(f, func(k *graph.KafkaSource) { k.Topics, k.TopicPattern = nil, "in.*" })
	source := &job.Sources[0]
	known, _, err := a.StartPositions(testContext(t), job)
	if err != nil || listed(known) != "in/0@0 in/1@0 in-2/0@0 in-2/1@0" {
		t.Fatalf("%s, %v", listed(known), err)
	}
	found, topics, err := a.Discover(testContext(t), source, known)
	if err != nil || len(found) > 0 || len(topics) != 2 || topics["in"] != known[0].TopicID || topics["in"] == (manifest.TopicID{}) || topics["in"] == topics["in-2"] {
		t.Fatalf("%s, %v, %v", listed(found), topics, err)
	}
	// More partitions, of which one begins later, and one more topic.
	admin := kadm.NewClient(cl)
	if _, err := admin.UpdatePartitions(testContext(t), 4, "in"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(testContext(t), 1, 1, nil, "in-3"); err != nil {
		t.Fatal(err)
	}
	produce(t, franz(t, f), numbered("in", 3, 9)...)
	if _, err := admin.DeleteRecords(testContext(t), kadm.Offsets{"in": {3: {Topic: "in", Partition: 3, At: 4}}}); err != nil {
		t.Fatal(err)
	}
	found, topics, err = a.Discover(testContext(t), source, known)
	if err != nil || listed(found) != "in/2@0 in/3@4 in-3/0@0" || len(topics) != 3 || found[0].TopicID != topics["in"] || found[2].TopicID != topics["in-3"] || found[0].Stop != -1 {
		t.Fatalf("%s, %v, %v", listed(found), topics, err)
	}
	// What a leader does not tell is left for the next time; the rest is found.
	f.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		res := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, topic := range req.(*kmsg.ListOffsetsRequest).Topics {
			out := kmsg.NewListOffsetsResponseTopic()
			out.Topic = topic.Topic
			for _, p := range topic.Partitions {
				part := kmsg.NewListOffsetsResponseTopicPartition()
				part.Partition, part.Offset = p.Partition, 0
				if topic.Topic == "in" && p.Partition == 2 {
					part.ErrorCode, part.Offset = kerr.NotLeaderForPartition.Code, -1
				}
				out.Partitions = append(out.Partitions, part)
			}
			res.Topics = append(res.Topics, out)
		}
		return res, nil, true
	})
	found, topics, err = a.Discover(testContext(t), source, known)
	if err == nil || !strings.Contains(err.Error(), "in/2") || listed(found) != "in/3@0 in-3/0@0" || len(topics) != 3 {
		t.Fatalf("%s, %v, %v", listed(found), topics, err)
	}
	// A topic that is gone is not among the topics, one that was created again has another id.
	if _, err := admin.DeleteTopics(testContext(t), "in-2"); err != nil {
		t.Fatal(err)
	}
	recreate(t, f, "in", 2)
	found, again, err := a.Discover(testContext(t), source, known)
	if _, ok := again["in-2"]; err != nil || ok || again["in"] == topics["in"] || again["in-3"] != topics["in-3"] {
		t.Errorf("%s, %v, %v", listed(found), again, err)
	}
}

// TestIDOfANewTopic: a broker that has not heard of a topic yet tells no id; a position must not stay without.
func TestIDOfANewTopic(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	var late atomic.Int32 // answers that do not know the topic
	f.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		if req.GetVersion() != 10 || late.Add(-1) < 0 {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.MetadataResponse)
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic, topic.ErrorCode = kmsg.StringPtr("in"), kerr.UnknownTopicOrPartition.Code
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	a, job := newAdmin(t), jobOf(f, func(k *graph.KafkaSource) { k.Topics = []string{"in"} })
	late.Store(2)
	known, _, err := a.StartPositions(testContext(t), job)
	if err != nil || len(known) != 1 || known[0].TopicID == (manifest.TopicID{}) {
		t.Fatalf("%v, %v", known, err)
	}
	late.Store(1)
	if found, topics, err := a.Discover(testContext(t), &job.Sources[0], nil); err == nil || len(found) > 0 || topics != nil {
		t.Errorf("found without an id: %v, %v, %v", found, topics, err)
	}
	if found, _, err := a.Discover(testContext(t), &job.Sources[0], nil); err != nil || len(found) != 1 || found[0].TopicID != known[0].TopicID {
		t.Errorf("%v, %v", found, err)
	}
}

func TestDiscoverWithoutABroker(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	job := jobOf(f, func(*graph.KafkaSource) {})
	job.Sources[0].Kafka.Properties[propBootstrap] = "127.0.0.1:1"
	if _, topics, err := newAdmin(t).Discover(testContext(t), &job.Sources[0], nil); err == nil || topics != nil {
		t.Errorf("%v, %v", topics, err)
	}
}

func TestDiscoveryInterval(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*graph.KafkaSource)
		want   time.Duration
		wanted bool
	}{
		{"default", func(*graph.KafkaSource) {}, 5 * time.Minute, true},
		{"off", func(k *graph.KafkaSource) { k.Properties[propDiscovery] = "0" }, 0, true},
		{"given", func(k *graph.KafkaSource) { k.Properties[propDiscovery] = "100" }, 100 * time.Millisecond, true},
		{"bounded", func(k *graph.KafkaSource) { k.Bounded.Mode = graph.BoundLatest }, 0, false},
		{"group", func(k *graph.KafkaSource) { k.Mode = graph.ModeGroup }, 0, false},
		{"fixed", func(k *graph.KafkaSource) { k.Topics, k.Partitions = nil, map[string][]int32{"in": {0}} }, 5 * time.Minute, true},
	} {
		k := &graph.KafkaSource{Topics: []string{"in"}, Properties: map[string]string{propBootstrap: "b:1"}}
		test.change(k)
		if every, wanted := (&Admin{}).DiscoveryInterval(k); every != test.want || wanted != test.wanted {
			t.Errorf("%s: %s, %t", test.name, every, wanted)
		}
	}
}

func TestFixedSet(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(4, "in", "in-2"))
	job := jobOf(f, func(k *graph.KafkaSource) {
		k.Topics, k.Partitions = nil, map[string][]int32{"in-2": {3}, "in": {2, 0}}
	})
	a := newAdmin(t)
	known, _, err := a.StartPositions(testContext(t), job)
	if err != nil || listed(known) != "in/0@0 in/2@0 in-2/3@0" {
		t.Fatalf("%s, %v", listed(known), err)
	}
	if found, topics, err := a.Discover(testContext(t), &job.Sources[0], known); err != nil || len(found) > 0 || len(topics) != 2 {
		t.Errorf("%s, %v, %v", listed(found), topics, err)
	}
	job.Sources[0].Kafka.Partitions["in"] = []int32{0, 4}
	if _, _, err := a.StartPositions(testContext(t), job); err == nil || !strings.Contains(err.Error(), "in/4: partitions names it, and the topic has only 4 partitions; name some of 0 to 3") {
		t.Error(err)
	}
}

// TestAddedSplits gives a source more to read before it runs, while it runs, and while another broker leads.
func TestAddedSplits(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.NumBrokers(2), kfake.SeedTopics(3, "a", "b"))
	cl := franz(t, f)
	for _, topic := range []string{"a", "b"} {
		for p := range int32(3) {
			produce(t, cl, numbered(topic, p, 50)...)
		}
	}
	r := startSource(t, properties(f), position("a", 0, 0, -1))
	r.until("a", 0, 50)
	r.source.AddSplits([]manifest.Position{position("a", 1, 10, -1), position("b", 2, 0, -1), position("b", 1, 0, 20)})
	r.until("a", 1, 50)
	r.until("b", 2, 50)
	r.until("b", 1, 20)
	produce(t, cl, numbered("b", 2, 5)...)
	r.until("b", 2, 55)
	if len(r.records) != 50+40+50+20+5 {
		t.Errorf("%d records", len(r.records))
	}
	if lag := r.source.Lag(); len(lag) != 4 || lag[2].Lag != 0 || lag[3].Lag != 0 {
		t.Errorf("lag %v", lag)
	}
}

// TestRecreatedTopicIsNotRead deletes a topic and makes it anew, with more records than before: nothing of it is read
// at the old position, and the failure names both topics.
func TestRecreatedTopicIsNotRead(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "a"))
	job := jobOf(f, func(k *graph.KafkaSource) { k.Topics = []string{"a"} })
	produce(t, franz(t, f), numbered("a", 0, 10)...)
	at, _, err := newAdmin(t).StartPositions(testContext(t), job)
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"while it is read", "before it is read"} {
		t.Run(when, func(t *testing.T) {
			positions := []manifest.Position{at[0]}
			var r *reading
			if when == "while it is read" {
				r = startSource(t, properties(f), positions...)
				r.until("a", 0, 10)
				recreate(t, f, "a", 1)
				produce(t, franz(t, f), numbered("a", 0, 500)...)
			} else {
				positions[0].Next = 10
				r = startSource(t, properties(f), positions...)
			}
			deadline := time.Now().Add(20 * time.Second)
			for heard := false; !heard; heard, _ = r.reasons.heard("the topic was deleted and created again: its id was " + positions[0].TopicID.String() + " and is ") {
				if r.take(50*time.Millisecond) || time.Now().After(deadline) {
					t.Fatalf("it is at %v, reasons %q", r.next, r.reasons.said)
				}
			}
			if err := r.stop(); err != nil {
				t.Errorf("within the grace it failed: %v", err)
			}
		})
	}
}

func TestCheckTopic(t *testing.T) {
	s := &Source{staleGrace: time.Hour}
	a, b := manifest.TopicID{1}, manifest.TopicID{2}
	sp := &split{Position: manifest.Position{TopicID: a}}
	for _, is := range []manifest.TopicID{a, {}} {
		if err := s.checkTopic(sp, is); err != nil {
			t.Errorf("%s: %v", is, err)
		}
	}
	if err := s.checkTopic(sp, b); err == nil || !survivable(err) {
		t.Errorf("at first: %v", err)
	}
	sp.strangeSince = time.Now().Add(-2 * time.Hour)
	if err := s.checkTopic(sp, b); err == nil || survivable(err) {
		t.Errorf("for long: %v", err)
	}
	if err := s.checkTopic(sp, a); err != nil || !sp.strangeSince.IsZero() {
		t.Errorf("it was a lagging broker: %v", err)
	}
	if err := s.checkTopic(&split{}, b); err != nil {
		t.Errorf("without an id: %v", err)
	}
}

// TestStalledFetchDoesNotReadAnotherTopic: a request that is on its way while the topic is replaced by a longer one
// meets the new topic without any error of the old one before.
func TestStalledFetchDoesNotReadAnotherTopic(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "a"))
	job := jobOf(f, func(k *graph.KafkaSource) { k.Topics = []string{"a"} })
	cl := franz(t, f)
	produce(t, cl, numbered("a", 0, 10)...)
	at, _, err := newAdmin(t).StartPositions(testContext(t), job)
	if err != nil {
		t.Fatal(err)
	}
	r := startSource(t, properties(f, propFetchMaxWait, "20"), at...)
	r.until("a", 0, 10)
	stalled, replaced := make(chan struct{}, 100), make(chan struct{})
	f.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		f.SleepControl(func() {
			stalled <- struct{}{}
			<-replaced
		})
		return nil, nil, false
	})
	<-stalled
	recreate(t, f, "a", 1)
	produce(t, franz(t, f), numbered("a", 0, 500)...)
	close(replaced)
	deadline := time.Now().Add(20 * time.Second)
	for heard := false; !heard; heard, _ = r.reasons.heard("the topic was deleted and created again") {
		if r.take(50*time.Millisecond) || time.Now().After(deadline) {
			t.Fatalf("it is at %v, reasons %q", r.next, r.reasons.said)
		}
	}
}

// TestRemovedSplit: a split whose topic is gone is let go of, with its trouble, and may come back as that of a new topic.
func TestRemovedSplit(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a", "b"))
	cl := franz(t, f)
	produce(t, cl, numbered("a", 0, 10)...)
	produce(t, cl, numbered("b", 0, 10)...)
	r := startSource(t, properties(f), position("a", 0, 0, -1), position("b", 0, 0, -1))
	r.until("a", 0, 10)
	r.until("b", 0, 10)
	b := position("b", 0, 0, -1).Split
	if r.source.RemoveSplit(b, 9) || r.source.RemoveSplit(position("c", 0, 0, -1).Split, 0) {
		t.Error("let go of what was read further, or is not there")
	}
	admin := kadm.NewClient(franz(t, f))
	if _, err := admin.DeleteTopics(testContext(t), "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the topic is missed", func() bool { heard, _ := r.reasons.heard("b/0: "); return heard })
	if !r.source.RemoveSplit(b, 10) || r.source.RemoveSplit(b, 10) {
		t.Error("want one removal")
	}
	eventually(t, "its trouble is over", func() bool { _, well := r.reasons.heard(""); return well })
	if lag := r.source.Lag(); len(lag) != 1 || lag[0].Split.Topic != "a" {
		t.Errorf("lag %v", lag)
	}
	produce(t, franz(t, f), numbered("a", 0, 5)...)
	r.until("a", 0, 15)
	if _, err := admin.CreateTopic(testContext(t), 1, 1, nil, "b"); err != nil {
		t.Fatal(err)
	}
	produce(t, franz(t, f), numbered("b", 0, 20)...)
	if r.take(200 * time.Millisecond) {
		t.Errorf("something was read: %v", r.next)
	}
	delete(r.next, b)
	r.source.AddSplits([]manifest.Position{position("b", 0, 0, -1)})
	r.until("b", 0, 20)
	produce(t, franz(t, f), numbered("a", 0, 5)...)
	r.until("a", 0, 20)
}

// TestRemovedAndAddedAgain many times while it is read: each record comes once, whatever was on its way.
func TestRemovedAndAddedAgain(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a", "b"))
	cl := franz(t, f)
	r := startSource(t, properties(f, propFetchMaxWait, "5"), position("a", 0, 0, -1), position("b", 0, 0, -1))
	b, times, written := position("b", 0, 0, -1).Split, 0, int64(0)
	for range 60 {
		produce(t, cl, numbered("b", 0, 7)...)
		written += 7
		for r.take(2 * time.Millisecond) {
		}
		if r.source.RemoveSplit(b, r.next[b]) {
			times++
			if r.take(2 * time.Millisecond) {
				t.Fatal("a batch came after the split was let go of")
			}
			at := position("b", 0, r.next[b], -1)
			r.source.AddSplits([]manifest.Position{at})
		}
	}
	r.until("b", 0, written)
	if times == 0 || int64(len(r.records)) != written {
		t.Errorf("removed %d times, %d of %d records came", times, len(r.records), written)
	}
}

// TestNothingOfARemovedSplitIsHandedOut: what its fetcher has read already is dropped, and the fetcher does not take it for
// the one that is added in its place.
func TestNothingOfARemovedSplitIsHandedOut(t *testing.T) {
	at := position("a", 0, 3, -1)
	s, err := NewSource(SourceConfig{Kafka: &graph.KafkaSource{Properties: map[string]string{propBootstrap: "b:1"}}, Positions: []manifest.Position{at}, Connections: newConnections(t)})
	if err != nil {
		t.Fatal(err)
	}
	f, old, released := newFetcher(s, place{}), s.splits[0], 0
	batch := operator.SourceBatch{Release: func() { released++ }}
	f.inbox = []*split{old}
	if n := f.takeNew(); n != 1 {
		t.Fatalf("%d splits", n)
	}
	old.Next = 5
	if !s.RemoveSplit(at.Split, 3) {
		t.Fatal("it is kept")
	}
	if err := f.send(t.Context(), old, batch); err != nil || len(s.out) > 0 || released != 1 {
		t.Errorf("%d batches were handed out, %d released, %v", len(s.out), released, err)
	}
	s.AddSplits([]manifest.Position{at})
	fresh := s.splits[0]
	f.inbox = []*split{fresh, old} // the finder was late
	if n := f.takeNew(); n != 1 || f.splits[0] != fresh || f.byName[wire.TopicPartition{Topic: "a"}] != fresh {
		t.Errorf("%d splits, byName %v", n, f.byName)
	}
	// What is handed out, or just being handed out, keeps it.
	fresh.Next = 5
	if err := f.send(t.Context(), fresh, batch); err != nil || len(s.out) != 1 || s.RemoveSplit(at.Split, 3) {
		t.Errorf("%d batches, %v", len(s.out), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.out, fresh.Next = make(chan operator.SourceBatch), 9
	if err := f.send(ended, fresh, batch); err == nil || fresh.handedOut.Load() != 5 {
		t.Errorf("%v, handed out to %d", err, fresh.handedOut.Load())
	}
}
