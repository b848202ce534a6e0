package kafka

import (
	"context"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

const (
	// replicaAge is how long a split is read from a follower before the leader is asked again for the nearest one.
	replicaAge = 5 * time.Minute
	// leaderAge is how long a split is read from the leader after a follower could not serve it: the leader would
	// name that follower again as long as it counts as in sync.
	leaderAge = 30 * time.Second
	// followerLag is how long a follower may know less of the log than the position; followers learn the high
	// watermark a fetch later than it moves.
	followerLag = time.Second
	// followerPause is the pause between two looks meanwhile.
	followerPause = 50 * time.Millisecond
)

// place is where a split is fetched: at which broker, and by requests that name our rack or by others. A leader that
// is told the rack answers with the follower to read from instead of with records, if one is nearer (KIP-392).
type place struct {
	broker int32
	rack   bool
}

// home is where a split is fetched of which the leader is known.
func (s *Source) home(sp *split) place {
	return place{sp.leader.Broker, s.rack != "" && !time.Now().Before(sp.leaderUntil)}
}

// move gives a split to the fetcher of a place, which is started if there is none.
func (s *Source) move(ctx context.Context, sp *split, to place) {
	sp.end, sp.lagsSince = -1, time.Time{}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fetchers[to]
	if f == nil {
		f = newFetcher(s, to)
		s.fetchers[to] = f
		s.group.Go(func() error { return f.run(ctx) })
	}
	f.inbox = append(f.inbox, sp)
	signal(f.wake)
}

// onFollower says that a split is fetched from another broker than its leader.
func (f *fetcher) onFollower(sp *split) bool { return f.at.broker != sp.leader.Broker }

// relocate moves a split to where it is to be read; what came of it with this answer comes again from there. What a
// follower says against a position is never final: it may know less of the log than the leader, who is asked.
func (f *fetcher) relocate(ctx context.Context, sp *split, p *wire.FetchedPartition) bool {
	if f.source.rack == "" {
		return false
	}
	now := time.Now()
	var to place
	switch follower := f.onFollower(sp); {
	case follower && (p.Err != nil || f.lags(sp, p, now)):
		sp.leaderUntil = now.Add(leaderAge)
		to = f.source.home(sp)
		f.source.log.Info("a follower cannot serve a partition, its leader does", "partition", sp.name, "follower", f.at.broker, "leader", to.broker, "offset", sp.Next, "reason", p.Err)
	case follower && now.After(sp.followerUntil):
		to = f.source.home(sp)
	case p.Err == nil && p.PreferredReplica >= 0 && p.PreferredReplica != f.at.broker:
		sp.followerUntil = now.Add(replicaAge)
		to = place{p.PreferredReplica, true}
		f.source.log.Debug("a follower in our rack is read", "partition", sp.name, "follower", to.broker, "leader", sp.leader.Broker)
	case !follower && p.Err == nil && f.at != f.source.home(sp):
		to = f.source.home(sp)
	default:
		return false
	}
	f.drop(sp)
	f.source.move(ctx, sp, to)
	return true
}

// lags says that the log of a follower has ended before the position for too long.
func (f *fetcher) lags(sp *split, p *wire.FetchedPartition, now time.Time) bool {
	if p.HighWatermark < 0 || p.HighWatermark >= sp.Next {
		sp.lagsSince = time.Time{}
		return false
	}
	if sp.lagsSince.IsZero() {
		sp.lagsSince = now
	}
	sp.notBefore = now.Add(followerPause)
	return now.Sub(sp.lagsSince) > followerLag
}

// lost notes that a broker did not answer: if it is a follower of a split, the leader is read next.
func (f *fetcher) lost(sp *split) {
	if f.onFollower(sp) {
		sp.leaderUntil = time.Now().Add(leaderAge)
	}
}
