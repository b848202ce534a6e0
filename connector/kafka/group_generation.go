package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

// errGathers ends a generation: the group is gathering again.
var errGathers = errors.New("the group gathers again")

// generation joins the group, reads what it is given, and gives it up when the group gathers again.
func (g *GroupSource) generation(ctx context.Context) error {
	last := g.member
	counts, err := g.partitionCounts(ctx, nil)
	if err != nil {
		return err
	}
	if g.first == nil {
		if g.known, err = g.committedTopics(ctx, counts); err != nil {
			return err
		}
		g.first = maps.Clone(counts)
	}
	joined, err := g.join(ctx, slices.Sorted(maps.Keys(counts)))
	if err != nil {
		return err
	}
	var all map[string][]wire.TopicPartition
	if joined.Subscriptions != nil {
		if counts, err = g.partitionCounts(ctx, joined.Subscriptions); err != nil {
			return err
		}
		all = assignGroup(joined.Strategy, joined.Subscriptions, counts)
	}
	parts, err := g.cluster.SyncGroup(ctx, g.member, all)
	if err != nil {
		return gathering(err)
	}
	g.trouble.set("group "+g.cfg.GroupID, "")
	g.log.Info("the group has gathered", "generation", g.member.Generation, "partitions", fmt.Sprint(parts), "leads", all != nil)
	err = gathering(g.hold(ctx, joined, counts, parts, keeps(last, g.member)))
	g.giveUp(ctx, errors.Is(err, errGathers))
	return err
}

// keeps says whether nobody else can have held a member's partitions since its last generation: that was the one before, or it
// joins the same one a second time.
func keeps(last, now wire.Member) bool {
	since := now.Generation - last.Generation
	return last.ID == now.ID && last.Generation >= 0 && (since == 0 || since == 1)
}

// gathering is the error of a generation that ends in good order.
func gathering(err error) error {
	if wire.HasCode(err, wire.CodeRebalanceInProgress) {
		return errGathers
	}
	return err
}

// join waits for a place in the group.
func (g *GroupSource) join(ctx context.Context, topics []string) (*wire.JoinedGroup, error) {
	g.trouble.set("group "+g.cfg.GroupID, "waiting until all members of the group have joined again")
	join := wire.GroupJoin{
		Member: g.member, SessionTimeout: g.session, RebalanceTimeout: groupRebalance, Strategies: groupStrategies, Topics: topics,
	}
	joined, err := g.cluster.JoinGroup(ctx, &join)
	if wire.HasCode(err, wire.CodeMemberIDRequired) && joined.Member.ID != "" {
		g.member.ID = joined.Member.ID // known to the coordinator from now on: leave
		join.Member = g.member
		joined, err = g.cluster.JoinGroup(ctx, &join)
	}
	if err != nil {
		return nil, err
	}
	g.member = joined.Member
	return joined, nil
}

// partitionCounts are the partitions of the topics of all members, or of the source's own without subscriptions.
func (g *GroupSource) partitionCounts(ctx context.Context, subscriptions map[string][]string) (map[string]int32, error) {
	topics := topicsOfSource(g.kafka)
	if subscriptions != nil {
		topics = []string{} // nil is all
		for _, more := range subscriptions {
			topics = append(topics, more...)
		}
		slices.Sort(topics)
		topics = slices.Compact(topics)
	}
	md, err := g.cluster.Metadata(ctx, topics)
	if err != nil {
		return nil, err
	}
	if topics == nil {
		pattern, err := wholePattern(g.kafka.TopicPattern)
		if err != nil {
			return nil, err
		}
		topics = matching(md, pattern)
	}
	counts := make(map[string]int32, len(topics))
	for _, name := range topics {
		t, ok := md.Topic(name)
		if ok && t.Err != nil && !wire.HasCode(t.Err, wire.CodeUnknownTopicOrPartition) {
			return nil, t.Err
		}
		counts[name] = 0
		if ok {
			counts[name] = int32(len(t.Partitions))
		}
	}
	return counts, nil
}

// hold reads the partitions until the generation ends; it never returns nil.
func (g *GroupSource) hold(ctx context.Context, joined *wire.JoinedGroup, counts map[string]int32, parts []wire.TopicPartition, kept bool) error {
	e, inner := errgroup.WithContext(ctx)
	e.Go(func() error { return g.beat(inner) })
	e.Go(func() error { return g.watch(inner, joined, counts) })
	e.Go(func() error {
		positions, err := g.positions(inner, parts)
		if err != nil {
			return err
		}
		held := g.offsets.hold(positions, kept)
		g.heldIn = g.member.Generation
		reader, err := g.open(held)
		if err != nil {
			return err
		}
		// first of all where it begins, so that a start at the end of the log is not forgotten
		if err := g.commit(inner); err != nil {
			return err
		}
		e.Go(func() error { return g.commitAll(inner) })
		if err := reader.Run(inner); err != nil {
			return err
		}
		return inner.Err()
	})
	return e.Wait()
}

// open makes the reader of the generation.
func (g *GroupSource) open(positions []manifest.Position) (*Source, error) {
	reader, err := NewSource(SourceConfig{
		Kafka: g.kafka, Positions: positions, Connections: g.connections, Logger: g.log,
		Status: func(reason string) { g.trouble.set("partitions", reason) },
	})
	if err != nil {
		return nil, err
	}
	reader.out = g.out
	g.mu.Lock()
	g.reader = reader
	g.mu.Unlock()
	return reader, nil
}

// committedTopics are those of which the group has committed an offset.
func (g *GroupSource) committedTopics(ctx context.Context, counts map[string]int32) (map[string]bool, error) {
	var all []wire.TopicPartition
	for topic, n := range counts {
		for p := range n {
			all = append(all, wire.TopicPartition{Topic: topic, Partition: p})
		}
	}
	known := map[string]bool{}
	if len(all) == 0 {
		return known, nil
	}
	stored, err := g.cluster.OffsetFetch(ctx, g.cfg.GroupID, all)
	if err != nil {
		return nil, err
	}
	for i := range stored {
		if stored[i].Err != nil { // it might be what tells that the topic is known
			return nil, stored[i].Err
		}
		if stored[i].Offset >= 0 {
			known[stored[i].Topic] = true
		}
	}
	return known, nil
}

// grown says whether a partition of which there is no committed offset is new, and to be read from its beginning, whatever
// auto.offset.reset says of a start: it came since this source began, or since the group did that had read the topic before.
// What the group committed since does not count: its members begin at the same time.
func (g *GroupSource) grown(tp wire.TopicPartition) bool {
	partitions, was := g.first[tp.Topic]
	return !was || tp.Partition >= partitions || g.known[tp.Topic]
}

// positions are where the group stands with partitions: what it has committed, else auto.offset.reset.
func (g *GroupSource) positions(ctx context.Context, parts []wire.TopicPartition) ([]manifest.Position, error) {
	if len(parts) == 0 {
		return nil, nil
	}
	st := &starting{source: &graph.Source{Name: g.name, Kafka: g.kafka}, cfg: &g.cfg, cluster: g.cluster, parts: parts, grown: g.grown,
		waits: func(why string) { g.trouble.set("partitions", why) }}
	var topics []string
	for _, tp := range parts {
		topics = append(topics, tp.Topic)
	}
	slices.Sort(topics)
	var err error
	if st.ids, err = idsOf(ctx, g.cluster, slices.Compact(topics)); err != nil {
		return nil, err
	}
	begin, err := st.committed(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range st.warnings {
		g.log.Warn(w)
	}
	out := make([]manifest.Position, len(parts))
	for i, tp := range parts {
		out[i] = st.position(tp, begin[i], -1)
	}
	return out, nil
}

// beat keeps the member alive until the group gathers again or has given it up.
func (g *GroupSource) beat(ctx context.Context) error {
	heard := time.Now()
	for sleep(ctx, g.heartbeat) == nil {
		err := g.heartbeatOnce(ctx)
		var answer *wire.Error
		switch {
		case err == nil:
			heard = time.Now()
		case errors.As(err, &answer) && !wire.Classify(err).Retriable(), wire.HasCode(err, wire.CodeRebalanceInProgress):
			return err
		case time.Since(heard) > g.session: // others have the partitions by now
			return err
		}
	}
	return ctx.Err()
}

// heartbeatOnce gives one sign of life. A coordinator that does not answer must not use up the session: the call is given up so
// that the next one finds another.
func (g *GroupSource) heartbeatOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.answerWithin())
	defer cancel()
	return g.cluster.Heartbeat(ctx, g.member)
}

// answerWithin is how long a heartbeat is waited for: so long that two fit into a session.
func (g *GroupSource) answerWithin() time.Duration {
	return min(max(g.heartbeat, g.session/3), g.session/2)
}

// watch ends the generation when there is something else to subscribe to or, for the leader, to assign.
func (g *GroupSource) watch(ctx context.Context, joined *wire.JoinedGroup, counts map[string]int32) error {
	leads := joined.Subscriptions != nil
	own := slices.Sorted(maps.Keys(counts))
	if leads {
		own = slices.Sorted(slices.Values(joined.Subscriptions[g.member.ID]))
	}
	for sleep(ctx, g.watchEvery) == nil {
		now, err := g.partitionCounts(ctx, nil)
		if err == nil && !slices.Equal(own, slices.Sorted(maps.Keys(now))) {
			return errGathers
		}
		if err == nil && leads {
			now, err = g.partitionCounts(ctx, joined.Subscriptions)
		}
		if err != nil {
			g.log.Warn("new partitions are not looked for", "reason", err) // the next time will do
		} else if leads && !maps.Equal(counts, now) {
			return errGathers
		}
	}
	return ctx.Err()
}

// commitAll stores offsets as the sinks acknowledge them.
func (g *GroupSource) commitAll(ctx context.Context) error {
	for tries := 0; ; {
		err := g.commit(ctx)
		switch {
		case err == nil:
			tries = 0
			g.trouble.set("offsets", "")
		case ctx.Err() != nil:
			return ctx.Err()
		case !survivable(err), wire.HasCode(err, wire.CodeRebalanceInProgress):
			return err
		default:
			tries++
			g.trouble.set("offsets", shortReason(err))
			if err := sleep(ctx, g.cfg.pauseAfter(err, tries)); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.offsets.acknowledged:
		}
	}
}

// giveUp ends the generation, of which nothing is read any more. If the group only gathers again, the chain may take
// what was read and the sinks may acknowledge it, for a while, and it is committed. What is left over is read again by
// whoever holds it next.
func (g *GroupSource) giveUp(ctx context.Context, orderly bool) {
	g.mu.Lock()
	reader := g.reader
	g.reader = nil
	g.mu.Unlock()
	g.trouble.set("partitions", "")
	g.trouble.set("offsets", "")
	if reader == nil {
		return
	}
	if orderly {
		g.settle(ctx, reader)
	}
	g.drain()
	if !orderly || ctx.Err() != nil { // Run commits and leaves
		return
	}
	if err := g.commit(ctx); err != nil {
		g.log.Warn("offsets are not committed, what came after them is read again", "reason", err)
	}
}

// settle waits until all that was read is acknowledged, but not so long that the group takes this member for dead.
func (g *GroupSource) settle(ctx context.Context, reader *Source) {
	timer := time.NewTimer(min(groupHandover, g.session/2))
	defer timer.Stop()
	for !g.offsets.settled(reader.Lag()) {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-g.offsets.moved:
		}
	}
}

// drain drops what the chain has not taken. The chain may take one of the batches meanwhile, which it does not accept if
// one before it is gone.
func (g *GroupSource) drain() {
	for {
		select {
		case b := <-g.out:
			b.Release()
		default:
			return
		}
	}
}
