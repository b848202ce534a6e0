package kafka

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// find looks for the leaders of homeless splits and hands the splits to the leaders' fetchers.
func (s *Source) find(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-timer.C:
		}
		s.mu.Lock()
		ready, later, next := due(s.homeless, time.Now())
		s.homeless = later
		s.mu.Unlock()
		if len(ready) > 0 {
			if err := s.settle(ctx, ready); err != nil {
				return err
			}
			timer.Reset(0) // some may have failed
			continue
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// settle asks for the leaders of splits, all at once.
func (s *Source) settle(ctx context.Context, splits []*split) error {
	md, ids, err := s.lookUp(ctx, splits)
	if ctx.Err() != nil {
		return nil
	}
	for _, sp := range splits {
		if sp.ended() {
			s.worked(sp)
			continue
		}
		leader, fault := wire.Leader{}, err
		if fault == nil {
			leader, fault = leaderIn(md, sp.Topic, sp.Partition)
		}
		if fault == nil {
			fault = s.checkTopic(sp, ids[sp.Topic])
		} else { // what was told before the pause may have been told by a leader that is gone
			sp.strangeSince, sp.oldLeaderSince = time.Time{}, time.Time{}
		}
		if fault == nil {
			s.assign(ctx, sp, leader)
			continue
		}
		if !survivable(fault) {
			return &Error{Where: sp.name, Err: fault}
		}
		s.failed(sp, fault)
		s.orphan(sp)
	}
	return nil
}

func topicsOf(splits []*split) []string {
	var topics []string
	for _, sp := range splits {
		topics = append(topics, sp.Topic)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// leaderIn finds the leader of a partition in an answer.
func leaderIn(md *wire.Metadata, topic string, partition int32) (wire.Leader, error) {
	t, ok := md.Topic(topic)
	if ok && t.Err != nil {
		return wire.Leader{}, t.Err
	}
	if ok {
		for i := range t.Partitions {
			if p := &t.Partitions[i]; p.ID == partition {
				return wire.Leader{Broker: p.Leader, Epoch: p.LeaderEpoch}, p.Err
			}
		}
	}
	return wire.Leader{}, &wire.Error{Code: wire.CodeUnknownTopicOrPartition, API: "Metadata", Topic: topic, Partition: partition}
}

// orphan gives a split that has lost its leader to the finder, which asks another broker than before: who was wrong about
// the leader may be cut off from the others.
func (s *Source) orphan(splits ...*split) {
	s.cluster.Doubt()
	s.mu.Lock()
	s.homeless = append(s.homeless, splits...)
	s.mu.Unlock()
	signal(s.wake)
}

// doubt is a split whose leader has had nothing new for long.
type doubt struct {
	split  *split
	leader wire.Leader // as its owner knows it
}

// doubt has leaders looked up beside the fetching. While that goes on there is room for some more; what does not fit is
// doubted again later.
func (s *Source) doubt(quiet []doubt) {
	select {
	case s.doubts <- quiet:
	default:
	}
}

// askAgain looks up doubted leaders. No answer says nothing: who is doubted may be right.
func (s *Source) askAgain(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case quiet := <-s.doubts:
			s.cluster.Doubt()
			var splits []*split
			for _, d := range quiet {
				splits = append(splits, d.split)
			}
			md, err := s.cluster.Metadata(ctx, topicsOf(splits))
			if err != nil {
				s.log.Debug("leaders of quiet partitions are not known", "reason", err)
				continue
			}
			for _, d := range quiet {
				if now, err := leaderIn(md, d.split.Topic, d.split.Partition); err == nil && now != d.leader && (now.Epoch < 0 || now.Epoch > d.leader.Epoch) {
					d.split.replaced.Store(true)
				}
			}
		}
	}
}

// assign gives a split to the fetcher of its leader.
func (s *Source) assign(ctx context.Context, sp *split, leader wire.Leader) {
	sp.leader, sp.heardAt = leader, time.Now()
	sp.replaced.Store(false)
	s.move(ctx, sp, s.home(sp))
}

// signal wakes a sleeper; one that is awake sees the change by itself.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// shortReason is an error without the line breaks of joined ones.
func shortReason(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
