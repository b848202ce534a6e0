package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// After an unclean election the log of the new leader ends before what was read, and then grows: others stand where
// records were read. The offsets do not show it, but the leader knows where each epoch ends in its log. So each new
// leader of a split, the first one too, is asked where the epoch of the last batch read ends, before it is read from
// (KIP-320). That it is still the leader of that epoch, fetches ask by themselves.

// uncompared are the splits of which the position has not been compared with the log of their leader.
func uncompared(splits []*split) []*split {
	var out []*split
	for _, sp := range splits {
		switch {
		case sp.comparedEpoch == sp.leader.Epoch || sp.ended():
		case sp.LeaderEpoch < 0: // nothing is known of what was read
			sp.comparedEpoch = sp.leader.Epoch
		default:
			out = append(out, sp)
		}
	}
	return out
}

// compare asks the leader of splits whether what was read of them is still in its log.
func (f *fetcher) compare(ctx context.Context, splits []*split) error {
	queries := make([]wire.EpochQuery, len(splits))
	for i, sp := range splits {
		queries[i] = wire.EpochQuery{Topic: sp.Topic, Partition: sp.Partition, LeaderEpoch: sp.LeaderEpoch, Current: sp.leader.Epoch}
	}
	ends, err := f.source.cluster.EpochEnds(ctx, f.at.broker, queries)
	if wire.HasCode(err, wire.CodeUnsupportedVersion) { // Kafka before 2.3: nobody can tell
		for _, sp := range splits {
			sp.comparedEpoch = sp.leader.Epoch
		}
		return nil
	}
	if err != nil {
		return f.roundFailed(ctx, splits, err)
	}
	for i, sp := range splits {
		err := ends[i].Err
		if err == nil {
			err = f.source.checkEpoch(sp, ends[i])
		}
		if err == nil {
			sp.comparedEpoch, sp.oldLeaderSince = sp.leader.Epoch, time.Time{}
			continue
		}
		if err := f.partitionFailed(ctx, sp, err); err != nil {
			return err
		}
	}
	return nil
}

// checkEpoch compares the position of a split with where its epoch ends in the log of the leader.
func (s *Source) checkEpoch(sp *split, end wire.EpochEnd) error {
	switch {
	case end.EndOffset < 0 && sp.leader.Epoch < sp.LeaderEpoch:
		now := time.Now()
		if sp.oldLeaderSince.IsZero() {
			sp.oldLeaderSince = now
		}
		return &oldLeaderError{sp.leader.Epoch, sp.LeaderEpoch, now.Sub(sp.oldLeaderSince) > s.staleGrace}
	case end.EndOffset < 0 || end.LeaderEpoch > sp.LeaderEpoch:
		s.log.Info("a leader keeps no record of the epoch of a position, so they cannot be compared", "partition", sp.name, "offset", sp.Next,
			"epoch", sp.LeaderEpoch, "leader", sp.leader.Broker, "leaderEpoch", sp.leader.Epoch)
		return nil
	case end.EndOffset < sp.Next:
		return &truncatedError{sp.Next, sp.LeaderEpoch, sp.leader, end}
	}
	return nil
}

// truncatedError says that the log of a leader lacks what was read from another one.
type truncatedError struct {
	position int64
	epoch    int32 // of the last batch before the position
	leader   wire.Leader
	end      wire.EpochEnd
}

// Error names the position, where its epoch ends, and the ways out.
func (e *truncatedError) Error() string {
	return fmt.Sprintf("the position %d (leader epoch %d) is behind the end of that epoch in the log of its leader (broker %d, epoch %d), which is %d (epoch %d): "+
		"the log was truncated by an unclean leader election; the %d offsets read from %d on are gone, and others may stand in their place; "+
		"to go on, resubmit the job with startup: {offsets: …}: %d reads what took their place, the end of the log passes it over; to prevent it, set unclean.leader.election.enable: false on the topic",
		e.position, e.epoch, e.leader.Broker, e.leader.Epoch, e.end.EndOffset, e.end.LeaderEpoch, e.position-e.end.EndOffset, e.end.EndOffset, e.end.EndOffset)
}

// oldLeaderError says that the leader is of an epoch before that of what was read. For a while that may be a broker
// that does not know the newest leader; nothing is read meanwhile.
type oldLeaderError struct {
	leader, epoch int32
	// final: it has been so for long enough to be believed.
	final bool
}

// Error names both epochs.
func (e *oldLeaderError) Error() string {
	return fmt.Sprintf("the epoch of the leader is %d, and the position is of epoch %d: either the brokers do not know the newest leader yet, or the topic was deleted and created again; "+
		"to read it from where it is now, resubmit the job with a new startup", e.leader, e.epoch)
}
