package kafka

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// TestStarvedComeFirst: a broker gives only the first partition of a request a batch that is larger than was asked for, so
// who got nothing though there is something comes first the next time.
func TestStarvedComeFirst(t *testing.T) {
	for _, c := range []struct {
		name      string
		partition wire.FetchedPartition
		isolation wire.Isolation
		want      bool
	}{
		{"at the end", wire.FetchedPartition{Offset: 5, HighWatermark: 5, LastStable: 5}, wire.ReadUncommitted, false},
		{"more to read", wire.FetchedPartition{Offset: 5, HighWatermark: 6, LastStable: 6}, wire.ReadCommitted, true},
		{"an open transaction", wire.FetchedPartition{Offset: 5, HighWatermark: 9, LastStable: 5}, wire.ReadCommitted, false},
		{"an open transaction, all is read", wire.FetchedPartition{Offset: 5, HighWatermark: 9, LastStable: 5}, wire.ReadUncommitted, true},
		{"an old broker", wire.FetchedPartition{Offset: 5, HighWatermark: 9, LastStable: -1}, wire.ReadCommitted, true},
	} {
		if got := starves(&c.partition, c.isolation); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	f := newFetcher(&Source{}, place{})
	var splits []*split
	for i, topic := range []string{"a", "a", "b", "c"} {
		splits = append(splits, &split{Position: manifest.Position{Split: manifest.Split{Topic: topic, Partition: int32(i)}}, starved: map[string]int{"b": 1}[topic]})
	}
	req, asked := f.request(splits, 1<<20)
	order := ""
	for i, p := range req.Partitions {
		if asked[i].Topic != p.Topic || asked[i].Partition != p.Partition {
			t.Errorf("asked %d is %s/%d, the request has %s/%d", i, asked[i].Topic, asked[i].Partition, p.Topic, p.Partition)
		}
		order += p.Topic
	}
	if order != "baac" {
		t.Errorf("asked in the order %s, want baac", order)
	}
}

// TestNobodyStarves: of four partitions that each fill an answer, each is served in four rounds.
func TestNobodyStarves(t *testing.T) {
	f := newFetcher(&Source{}, place{})
	for i := range 4 {
		sp := &split{Position: manifest.Position{Split: manifest.Split{Topic: string(rune('a' + i))}}}
		f.splits = append(f.splits, sp)
		f.byName[wire.TopicPartition{Topic: sp.Topic}] = sp
	}
	served := map[string]int{}
	for range 12 {
		_, asked := f.request(f.splits, 1<<20)
		served[asked[0].Topic]++
		clear(f.fed)
		f.fed[asked[0]] = true // a full answer, see noteFed
		asked[0].starved = 0
		for _, sp := range asked[1:] {
			sp.starved++
		}
	}
	for _, sp := range f.splits {
		if served[sp.Topic] < 2 {
			t.Errorf("in 12 rounds served %v", served)
		}
	}
}

// TestQuietLeaderIsDoubted: a leader that was replaced behind its back says that there is nothing new; when it has said so
// for a while, the others are asked who leads.
func TestQuietLeaderIsDoubted(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "in"))
	cl := franz(t, f)
	produce(t, cl, numbered("in", 0, 10)...)
	old := f.LeaderFor("in", 0)
	var cutOff atomic.Bool
	f.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		if !cutOff.Load() || f.CurrentNode() != old {
			return nil, nil, false
		}
		return fetchError(req.(*kmsg.FetchRequest), 0), nil, true
	})
	r := startChangedSource(t, func(s *Source) { s.quietAge = 200 * time.Millisecond }, properties(f), position("in", 0, 0, -1))
	r.until("in", 0, 10)
	cutOff.Store(true)
	if err := f.MoveTopicPartition("in", 0, (old+1)%3); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, numbered("in", 0, 10)...)
	r.until("in", 0, 20)
}
