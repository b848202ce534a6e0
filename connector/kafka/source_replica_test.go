package kafka

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// racks is a cluster whose leader names a follower to those who tell their rack, as a RackAwareReplicaSelector does.
type racks struct {
	f                *kfake.Cluster
	leader, follower int32

	mu sync.Mutex
	// served counts the fetches by the broker that they went to; toLeader those to the leader that told no rack.
	served   map[int32]int
	toLeader int
	// fault, if set, may answer a fetch at the follower.
	fault func(*kmsg.FetchRequest) kmsg.Response
	named int32
}

func newRacks(t *testing.T) *racks {
	f := startFake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "a"))
	r := &racks{f: f, leader: f.LeaderFor("a", 0), served: map[int32]int{}}
	r.follower = (r.leader + 1) % 3
	r.named = r.follower
	f.SetFollowers("a", 0, []int32{r.follower})
	f.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		res := r.answer(req.(*kmsg.FetchRequest))
		return res, nil, res != nil
	})
	return r
}

func (r *racks) answer(req *kmsg.FetchRequest) kmsg.Response {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.f.CurrentNode()
	r.served[at]++
	switch {
	case at == r.follower && r.fault != nil:
		return r.fault(req)
	case at == r.leader && req.Rack == "":
		r.toLeader++
	case at == r.leader:
		res := fetchError(req, 0).(*kmsg.FetchResponse)
		res.Topics[0].Partitions[0].PreferredReadReplica = r.named
		return res
	}
	return nil
}

func (r *racks) count(of int32) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.served[of]
}

// plain is how many fetches went to the leader without a rack.
func (r *racks) plain() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.toLeader
}

func (r *racks) setFault(fault func(*kmsg.FetchRequest) kmsg.Response) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

// TestFollowerIsRead: with a rack the follower is read that the leader names, without one the leader.
func TestFollowerIsRead(t *testing.T) {
	t.Parallel()
	c := newRacks(t)
	cl := franz(t, c.f)
	produce(t, cl, numbered("a", 0, 100)...)
	r := startSource(t, properties(c.f, propRack, "east"), position("a", 0, 0, -1))
	r.until("a", 0, 100)
	produce(t, cl, numbered("a", 0, 100)...)
	r.until("a", 0, 200)
	if c.count(c.leader) != 1 || c.count(c.follower) < 2 || c.plain() > 0 {
		t.Errorf("%d served by the leader, %d by the follower", c.count(c.leader), c.count(c.follower))
	}
	if heard, _ := r.reasons.heard(""); heard {
		t.Errorf("reasons %q", r.reasons.said)
	}
	plain := startSource(t, properties(c.f), position("a", 0, 0, -1))
	plain.until("a", 0, 200)
	if n := c.count(c.leader); n < 2 {
		t.Errorf("without a rack: %d served by the leader", n)
	}
}

// TestFollowerCannotServe: whatever a follower says against a position, the leader is asked, and nothing is lost.
func TestFollowerCannotServe(t *testing.T) {
	t.Parallel()
	failing := func(code int16) func(*kmsg.FetchRequest) kmsg.Response {
		return func(req *kmsg.FetchRequest) kmsg.Response { return fetchError(req, code) }
	}
	tests := map[string]func(*kmsg.FetchRequest) kmsg.Response{
		"it is no replica":            failing(kerr.NotLeaderForPartition.Code),
		"its log ends before":         failing(kerr.OffsetOutOfRange.Code),
		"it does not know its end":    failing(kerr.OffsetNotAvailable.Code),
		"it knows an older epoch":     failing(kerr.UnknownLeaderEpoch.Code),
		"it knows a newer epoch":      failing(kerr.FencedLeaderEpoch.Code),
		"its disk is broken":          failing(kerr.KafkaStorageError.Code),
		"it does not know the topic":  failing(kerr.UnknownTopicOrPartition.Code),
		"its high watermark is older": func(req *kmsg.FetchRequest) kmsg.Response { return endsAt(req, 40) },
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newRacks(t)
			cl := franz(t, c.f)
			produce(t, cl, numbered("a", 0, 50)...)
			r := startSource(t, properties(c.f, propRack, "east"), position("a", 0, 0, -1))
			r.until("a", 0, 50)
			c.setFault(fault)
			for end := int64(100); end <= 150; end += 50 { // the first may be served by a request that waits there already
				produce(t, cl, numbered("a", 0, 50)...)
				r.until("a", 0, end)
			}
			if c.plain() == 0 || len(r.records) != 150 {
				t.Errorf("%d served by the leader itself, %d records", c.plain(), len(r.records))
			}
			if heard, _ := r.reasons.heard(""); heard {
				t.Errorf("reasons %q", r.reasons.said)
			}
		})
	}
}

// endsAt is an answer without records whose high watermark is older than the position.
func endsAt(req *kmsg.FetchRequest, end int64) kmsg.Response {
	res := fetchError(req, 0).(*kmsg.FetchResponse)
	p := &res.Topics[0].Partitions[0]
	p.HighWatermark, p.LastStableOffset, p.PreferredReadReplica = end, end, -1
	return res
}

// TestUnknownFollower: a follower that is not there, or stopped answering, is given up for the leader.
func TestUnknownFollower(t *testing.T) {
	t.Parallel()
	c := newRacks(t)
	c.named = 77
	produce(t, franz(t, c.f), numbered("a", 0, 50)...)
	r := startSource(t, properties(c.f, propRack, "east", propReconnectBackoff, "10", propReconnectBackoffMax, "10"), position("a", 0, 0, -1))
	r.until("a", 0, 50)
	if c.plain() == 0 {
		t.Errorf("%d served by the leader, %d by the follower", c.count(c.leader), c.count(c.follower))
	}
}

// TestPlaces: the leader is asked anew for the nearest replica, after a while with a follower and after a while
// without one.
func TestPlaces(t *testing.T) {
	s := &Source{rack: "east", fetchers: map[place]*fetcher{}}
	now := time.Now()
	sp := &split{leader: wire.Leader{Broker: 1}}
	if at := s.home(sp); at != (place{1, true}) {
		t.Errorf("at first: %v", at)
	}
	sp.leaderUntil = now.Add(time.Hour)
	if at := s.home(sp); at != (place{1, false}) {
		t.Errorf("after a fault: %v", at)
	}
	sp.leaderUntil = now.Add(-time.Second)
	if at := s.home(sp); at != (place{1, true}) {
		t.Errorf("later: %v", at)
	}
	if at := (&Source{}).home(sp); at != (place{1, false}) {
		t.Errorf("without a rack: %v", at)
	}
	// Waiting fetchers take what is moved, so that no goroutine is started here.
	waiting := map[place]*fetcher{}
	for _, at := range []place{{1, true}, {1, false}, {2, true}} {
		waiting[at] = newFetcher(s, at)
	}
	s.fetchers = waiting
	answer := &wire.FetchedPartition{HighWatermark: 10, PreferredReplica: -1}
	for name, test := range map[string]struct {
		from place
		sp   *split
		to   place // zero: it stays
	}{
		"fresh on a follower":   {place{2, true}, &split{followerUntil: now.Add(time.Minute)}, place{}},
		"long on a follower":    {place{2, true}, &split{followerUntil: now.Add(-time.Minute)}, place{1, true}},
		"fresh on the leader":   {place{1, false}, &split{leaderUntil: now.Add(time.Minute)}, place{}},
		"long on the leader":    {place{1, false}, &split{leaderUntil: now.Add(-time.Minute)}, place{1, true}},
		"the leader is nearest": {place{1, true}, &split{}, place{}},
	} {
		f := newFetcher(s, test.from)
		sp := test.sp
		sp.leader = wire.Leader{Broker: 1}
		moved := f.relocate(t.Context(), sp, answer)
		if moved != (test.to != place{}) || moved && (len(waiting[test.to].inbox) != 1 || waiting[test.to].inbox[0] != sp) {
			t.Errorf("%s: moved %t", name, moved)
		}
		for _, w := range waiting {
			w.inbox = nil
		}
	}
}
