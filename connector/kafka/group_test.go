package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// groupMember is a source of mode group with a subtask that takes everything and completes a checkpoint after each
// batch, unless it is held.
type groupMember struct {
	t      *testing.T
	source *GroupSource
	cancel context.CancelFunc
	done   chan error // Run's answer, once

	mu     sync.Mutex
	seen   map[string]int // "topic/partition value" to how often
	held   bool           // no checkpoint completes
	number ident.CheckpointID
}

func startMember(t *testing.T, props map[string]string, kafka *graph.KafkaSource) *groupMember {
	t.Helper()
	kafka.Mode, kafka.Offsets, kafka.Properties = graph.ModeGroup, graph.OffsetsKafka, props
	source, err := NewGroupSource("s", SourceConfig{Kafka: kafka, Connections: newConnections(t), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	source.watchEvery = 100 * time.Millisecond
	m := &groupMember{t: t, source: source, done: make(chan error, 1), seen: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var taking sync.WaitGroup
	taking.Go(func() { m.take(ctx) })
	m.cancel = cancel
	go func() { m.done <- source.Run(ctx) }()
	t.Cleanup(func() { m.stop(); taking.Wait() })
	return m
}

// stop ends the source in good order and returns what Run returned.
func (m *groupMember) stop() error {
	m.cancel()
	err := <-m.done
	m.done <- err
	return err
}

func (m *groupMember) take(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-m.source.Batches():
			if !m.source.Accept(&b) {
				b.Release()
				continue
			}
			m.mu.Lock()
			if b.Batch != nil {
				if err := b.Batch.Open(); err != nil {
					m.t.Error(err)
				}
				for i := range b.Batch.Records {
					m.seen[fmt.Sprintf("%s/%d %s", b.Split.Topic, b.Split.Partition, b.Batch.Bytes(b.Batch.Records[i].Value))]++
				}
			}
			m.source.Taken(&b)
			b.Release()
			m.number++
			m.source.Barrier(m.number)
			if !m.held {
				m.source.Completed(m.number)
			}
			m.mu.Unlock()
		}
	}
}

func (m *groupMember) hold(held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held = held; !held {
		m.source.Completed(m.number)
	}
}

func (m *groupMember) copySeen() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.seen)
}

// partitions are those that the member holds now.
func (m *groupMember) partitions() (out []int32) {
	for _, l := range m.source.Lag() {
		out = append(out, l.Split.Partition)
	}
	slices.Sort(out)
	return out
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(25 * time.Second); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		if err := sleep(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// committedOf asks with another client what a group has committed; -1: nothing.
func committedOf(t *testing.T, cl *kgo.Client, group, topic string, partition int32) int64 {
	t.Helper()
	all, err := kadm.NewClient(cl).FetchOffsets(testContext(t), group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1
	} else if err != nil {
		t.Fatal(err)
	}
	if o, ok := all.Lookup(topic, partition); ok {
		return o.At
	}
	return -1
}

func groupProps(f *kfake.Cluster, pairs ...string) map[string]string {
	return properties(f, append([]string{propGroup, "g", propReset, "earliest", propHeartbeat, "100", propSessionTimeout, "6000"}, pairs...)...)
}

// TestGroupShares: two members have two partitions each, one leaves, the other has all four; nothing is lost, and as
// every move is orderly nothing comes twice.
func TestGroupShares(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(4, "t"))
	cl := franz(t, f)
	a := startMember(t, groupProps(f), &graph.KafkaSource{Topics: []string{"t"}})
	eventually(t, "one member has all", func() bool { return len(a.partitions()) == 4 })
	for p := range int32(4) {
		produce(t, cl, numbered("t", p, 10)...)
	}
	eventually(t, "all is read", func() bool { return len(a.copySeen()) == 40 })
	b := startMember(t, groupProps(f), &graph.KafkaSource{Topics: []string{"t"}})
	eventually(t, "two each", func() bool { return len(a.partitions()) == 2 && len(b.partitions()) == 2 })
	for p := range int32(4) {
		for i := range 10 {
			produce(t, cl, &kgo.Record{Topic: "t", Partition: p, Value: fmt.Appendf(nil, "w%d", i)})
		}
	}
	eventually(t, "all is read by both", func() bool { return len(a.copySeen())+len(b.copySeen()) == 80 })
	eventually(t, "it is committed", func() bool { return committedOf(t, cl, "g", "t", 0) == 20 && committedOf(t, cl, "g", "t", 3) == 20 })
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all come back, before the session of the other would run out", func() bool { return len(a.partitions()) == 4 })
	produce(t, cl, &kgo.Record{Topic: "t", Partition: 1, Value: []byte("x")}, &kgo.Record{Topic: "t", Partition: 2, Value: []byte("x")})
	eventually(t, "the rest is read", func() bool { return len(a.copySeen())+len(b.copySeen()) == 82 })
	for _, m := range []*groupMember{a, b} {
		for value, n := range m.copySeen() {
			if n != 1 {
				t.Errorf("%s came %d times", value, n)
			}
		}
	}
}

// TestGroupCommitsWhatIsAcknowledged: what the sinks have not acknowledged is not committed, and comes again.
func TestGroupCommitsWhatIsAcknowledged(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	cl := franz(t, f)
	produce(t, cl, numbered("t", 0, 5)...)
	a := startMember(t, groupProps(f), &graph.KafkaSource{Topics: []string{"t"}})
	eventually(t, "it is committed", func() bool { return committedOf(t, cl, "g", "t", 0) == 5 })
	a.hold(true)
	produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("late")})
	eventually(t, "it is read", func() bool { return a.copySeen()["t/0 late"] == 1 })
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if at := committedOf(t, cl, "g", "t", 0); at != 5 {
		t.Errorf("committed %d, want 5: nobody acknowledged more", at)
	}
	b := startMember(t, groupProps(f), &graph.KafkaSource{Topics: []string{"t"}})
	eventually(t, "it comes again", func() bool { return b.copySeen()["t/0 late"] == 1 })
	if n := len(b.copySeen()); n != 1 {
		t.Errorf("%d records came again, want 1", n)
	}
}

// TestGroupForeignMember shares the partitions with a consumer that is no Sluice, which knows only the range strategy.
func TestGroupForeignMember(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(4, "t"))
	a := startMember(t, groupProps(f), &graph.KafkaSource{Topics: []string{"t"}})
	eventually(t, "one member has all", func() bool { return len(a.partitions()) == 4 })
	foreign := franz(t, f, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.Balancers(kgo.RangeBalancer()), kgo.HeartbeatInterval(100*time.Millisecond))
	eventually(t, "two each", func() bool { return len(a.partitions()) == 2 })
	produce(t, franz(t, f), slices.Concat(numbered("t", 0, 1), numbered("t", 1, 1), numbered("t", 2, 1), numbered("t", 3, 1))...)
	theirs := 0
	for theirs < 2 {
		got := foreign.PollFetches(testContext(t))
		if err := got.Err(); err != nil {
			t.Fatal(err)
		}
		theirs += got.NumRecords()
	}
	eventually(t, "the other half is ours", func() bool { return len(a.copySeen()) == 2 })
	foreign.LeaveGroup()
	eventually(t, "all come back", func() bool { return len(a.partitions()) == 4 })
}

// TestGroupGrows: new topics that match and new partitions come without a restart.
func TestGroupGrows(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t1"))
	cl := franz(t, f)
	adm := kadm.NewClient(cl)
	a := startMember(t, groupProps(f, propMetadataMaxAge, "100"), &graph.KafkaSource{TopicPattern: "t[0-9]"})
	eventually(t, "one", func() bool { return len(a.partitions()) == 1 })
	if _, err := adm.CreateTopics(testContext(t), 2, 1, nil, "t2", "other"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new topic", func() bool { return len(a.partitions()) == 3 })
	if _, err := adm.CreatePartitions(testContext(t), 2, "t1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new partitions", func() bool { return len(a.partitions()) == 5 })
}

// TestGroupReadsWhatCame: partitions and topics that come while a group reads are read from their beginning, though its
// start was to be at the end of the log.
func TestGroupReadsWhatCame(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t1"))
	cl := franz(t, f)
	produce(t, cl, numbered("t1", 0, 3)...)
	adm := kadm.NewClient(cl)
	a := startMember(t, groupProps(f, propMetadataMaxAge, "100", propReset, "latest"), &graph.KafkaSource{TopicPattern: "t[0-9]"})
	eventually(t, "it begins at the end", func() bool { return committedOf(t, cl, "g", "t1", 0) == 3 })
	if _, err := adm.CreatePartitions(testContext(t), 1, "t1"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopics(testContext(t), 1, 1, nil, "t2"); err != nil {
		t.Fatal(err)
	}
	produce(t, franz(t, f), &kgo.Record{Topic: "t1", Partition: 1, Value: []byte("early")}, &kgo.Record{Topic: "t2", Value: []byte("early")})
	eventually(t, "what came before the group saw them", func() bool {
		seen := a.copySeen()
		return seen["t1/1 early"] == 1 && seen["t2/0 early"] == 1
	})
	if seen := a.copySeen(); len(seen) != 2 {
		t.Errorf("seen %v", seen)
	}
}

// TestGroupLost: a member that the coordinator has forgotten joins anew and goes on where it committed.
func TestGroupLost(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	cl := franz(t, f)
	produce(t, cl, numbered("t", 0, 3)...)
	a := startMember(t, groupProps(f), &graph.KafkaSource{Topics: []string{"t"}})
	eventually(t, "it is committed", func() bool { return committedOf(t, cl, "g", "t", 0) == 3 })
	described, err := kadm.NewClient(cl).DescribeGroups(testContext(t), "g")
	if err != nil {
		t.Fatal(err)
	}
	first := described["g"].Members[0].MemberID
	c := openWire(t, f)
	if err := c.LeaveGroup(testContext(t), wire.Member{Group: "g", ID: first}); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("later")})
	eventually(t, "it reads on", func() bool { return a.copySeen()["t/0 later"] > 0 && committedOf(t, cl, "g", "t", 0) == 4 })
}

// TestGroupHeartbeatHangs: a sign of life that is not answered is given up long before the session is, and another one given.
func TestGroupHeartbeatHangs(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	var beats atomic.Int32
	release := make(chan struct{})
	defer close(release)
	f.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		if beats.Add(1) == 1 {
			f.SleepControl(func() { <-release })
		}
		return nil, nil, false
	})
	startMember(t, groupProps(f), &graph.KafkaSource{Topics: []string{"t"}})
	eventually(t, "another heartbeat", func() bool { return beats.Load() > 1 })
}

func openWire(t *testing.T, f *kfake.Cluster) *wire.Cluster {
	t.Helper()
	c, err := wire.Open(wire.Config{Bootstrap: f.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestGroupRefused: faults that stay end the source with the way out.
func TestGroupRefused(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	for name, c := range map[string]struct {
		props []string
		want  string
	}{
		"nothing committed":   {[]string{propReset, "none", propGroup, "fresh"}, "set auto.offset.reset"},
		"session not allowed": {[]string{propSessionTimeout, "3600000", propGroup, "long"}, "group.max.session.timeout.ms"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMember(t, groupProps(f, c.props...), &graph.KafkaSource{Topics: []string{"t"}})
			select {
			case err := <-m.done:
				m.done <- err
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			case <-testContext(t).Done():
				t.Error("the source goes on")
			}
		})
	}
	if _, err := NewGroupSource("s", SourceConfig{Kafka: &graph.KafkaSource{Properties: properties(f)}, Connections: newConnections(t)}); err == nil || !strings.Contains(err.Error(), propGroup) {
		t.Errorf("no group.id: %v", err)
	}
}

func TestAssignGroup(t *testing.T) {
	counts := map[string]int32{"t": 5, "u": 2}
	both := map[string][]string{"a": {"t", "u"}, "b": {"t", "u"}}
	for _, c := range []struct {
		strategy      string
		subscriptions map[string][]string
		want          map[string]string
	}{
		{strategyRange, both, map[string]string{"a": "[t/0 t/1 t/2 u/0]", "b": "[t/3 t/4 u/1]"}},
		{strategyRoundRobin, both, map[string]string{"a": "[t/0 t/2 t/4 u/1]", "b": "[t/1 t/3 u/0]"}},
		{strategyRoundRobin, map[string][]string{"a": {"t"}, "b": {"u"}, "c": {"missing"}}, map[string]string{"a": "[t/0 t/1 t/2 t/3 t/4]", "b": "[u/0 u/1]", "c": "[]"}},
		{strategyRange, map[string][]string{"a": {"u"}, "b": {"u"}, "c": {"u"}}, map[string]string{"a": "[u/0]", "b": "[u/1]", "c": "[]"}},
	} {
		got := assignGroup(c.strategy, c.subscriptions, counts)
		for member, want := range c.want {
			if text := fmt.Sprint(got[member]); text != want {
				t.Errorf("%s %v: %s has %s, want %s", c.strategy, c.subscriptions, member, text, want)
			}
		}
	}
}
