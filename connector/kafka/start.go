package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

// StartPositions resolves where every split of a job begins and, if its source is bounded, ends:
// checkpoint 0. The warnings say what may not be meant, such as a group without offsets.
func (a *Admin) StartPositions(ctx context.Context, job *graph.Job) ([]manifest.Position, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	var positions []manifest.Position
	var warnings []string
	var faults []error
	for i := range job.Sources {
		s := &job.Sources[i]
		if s.Kafka == nil || s.Kafka.Mode == graph.ModeGroup { // which partitions it reads, and from where, its group says
			continue
		}
		found, warned, err := a.startOf(ctx, s)
		if err != nil {
			faults = append(faults, fmt.Errorf("source %s: %w", s.Name, err))
		}
		positions = append(positions, found...)
		for _, w := range warned {
			warnings = append(warnings, fmt.Sprintf("source %s: %s", s.Name, w))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, nil, err
	}
	return positions, warnings, nil
}

// starting resolves the positions of one source.
type starting struct {
	admin   *Admin
	source  *graph.Source
	cfg     *Config
	cluster *wire.Cluster
	parts   []wire.TopicPartition
	ids     map[string]manifest.TopicID // of the topics
	// grown says of a partition without a committed offset that it came since the group began; nil: none did. waits is told
	// what is waited for, empty: nothing any more; nil: nobody asks.
	grown    func(wire.TopicPartition) bool
	waits    func(why string)
	warnings []string
}

// point is a place in a partition's log.
type point struct {
	offset int64
	epoch  int32
}

func (a *Admin) startOf(ctx context.Context, s *graph.Source) ([]manifest.Position, []string, error) {
	if err := checkSource(s); err != nil {
		return nil, nil, err
	}
	cfg, err := Resolve(graph.KindSource, s.Kafka.Properties)
	if err != nil {
		return nil, nil, err
	}
	cluster, release, err := a.acquire(&cfg)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	st := &starting{admin: a, source: s, cfg: &cfg, cluster: cluster}
	if st.parts, err = st.partitions(ctx); err != nil {
		return nil, nil, err
	}
	begin, err := st.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	end, err := st.end(ctx)
	if err != nil {
		return nil, nil, err
	}
	out := make([]manifest.Position, len(st.parts))
	for i, tp := range st.parts {
		out[i] = st.position(tp, begin[i], end[i])
	}
	if fixed := isBounded(s.Kafka) || len(s.Kafka.Partitions) > 0; fixed && s.Kafka.Properties[propDiscovery] != "" {
		st.warnings = append(st.warnings, propDiscovery+" has no effect: the partitions are those of the start, as the source is bounded or names them")
	}
	return out, st.warnings, nil
}

func (st *starting) position(tp wire.TopicPartition, at point, stop int64) manifest.Position {
	return manifest.Position{
		Split: manifest.Split{Source: st.source.Name, Topic: tp.Topic, Partition: tp.Partition}, TopicID: st.ids[tp.Topic],
		Next: at.offset, LeaderEpoch: at.epoch, Stop: stop,
	}
}

// partitions lists what the source reads, in order.
func (st *starting) partitions(ctx context.Context) ([]wire.TopicPartition, error) {
	var md *wire.Metadata
	var topics []string
	err := st.retry(ctx, func() error {
		var err error
		topics = topicsOfSource(st.source.Kafka)
		if md, err = st.cluster.Metadata(ctx, topics); err != nil {
			return err
		}
		if topics == nil {
			pattern, err := wholePattern(st.source.Kafka.TopicPattern)
			if err != nil {
				return err
			}
			topics = matching(md, pattern)
		}
		for _, t := range topics {
			if err := topicFault(md, t, st.cfg.Servers()); err != nil {
				return err
			}
		}
		st.ids, err = idsOf(ctx, st.cluster, topics)
		return err
	})
	if err != nil {
		return nil, err
	}
	if set := st.source.Kafka.Partitions; len(set) > 0 {
		return fixedSet(md, topics, set)
	}
	var parts []wire.TopicPartition
	topics = slices.Clone(topics)
	slices.Sort(topics)
	for _, name := range topics {
		if t, ok := md.Topic(name); ok {
			for i := range t.Partitions {
				parts = append(parts, wire.TopicPartition{Topic: name, Partition: t.Partitions[i].ID})
			}
		}
	}
	return parts, nil
}

// fixedSet takes the partitions that the job names, in order, and refuses those that do not exist.
func fixedSet(md *wire.Metadata, topics []string, set map[string][]int32) ([]wire.TopicPartition, error) {
	var parts []wire.TopicPartition
	for _, name := range topics {
		t, ok := md.Topic(name)
		if !ok {
			continue // topicFault has refused it
		}
		for _, id := range slices.Sorted(slices.Values(set[name])) {
			if !slices.ContainsFunc(t.Partitions, func(p wire.Partition) bool { return p.ID == id }) {
				return nil, &Error{Where: fmt.Sprintf("%s/%d", name, id), Err: fmt.Errorf("partitions names it, and the topic has only %d partitions", len(t.Partitions)),
					Hint: fmt.Sprintf("name some of 0 to %d", len(t.Partitions)-1), class: "user"}
			}
			parts = append(parts, wire.TopicPartition{Topic: name, Partition: id})
		}
	}
	return parts, nil
}

// retry repeats a question while its answer may change by itself. A topic that was there a moment ago, and that
// another broker does not know, was just made: a busy broker hears of it some time later.
func (st *starting) retry(ctx context.Context, ask func() error) error {
	begin := time.Now()
	tell := func(string) {}
	if st.waits != nil {
		tell = st.waits
		defer tell("")
	}
	for try := 1; ; try++ {
		err := ask()
		if err == nil || !wire.Classify(err).Retriable() || unreachable(err) || wire.HasCode(err, wire.CodeUnknownTopicOrPartition) && time.Since(begin) > leaderWait {
			return err
		}
		tell(shortReason(err))
		if sleep(ctx, st.cfg.Retry.pause(try)) != nil {
			return err
		}
	}
}

// list resolves one timestamp for all partitions.
func (st *starting) list(ctx context.Context, timestamp int64) ([]point, error) {
	queries := make([]wire.OffsetQuery, len(st.parts))
	for i, tp := range st.parts {
		queries[i] = wire.OffsetQuery{Topic: tp.Topic, Partition: tp.Partition, Timestamp: timestamp}
	}
	out := make([]point, len(st.parts))
	err := st.retry(ctx, func() error {
		answers, err := st.cluster.ListOffsets(ctx, queries, st.cfg.Isolation)
		if err != nil {
			return err
		}
		var faults []error
		for i := range answers {
			if answers[i].Err != nil {
				faults = append(faults, answers[i].Err)
			}
			out[i] = point{answers[i].Offset, answers[i].LeaderEpoch}
		}
		return errors.Join(faults...)
	})
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	return out, nil
}

// listTime is list for a point in time; where no record is that young, it is the end. The end is asked for first: a record
// that comes in between is then behind it, or found.
func (st *starting) listTime(ctx context.Context, at time.Time) ([]point, error) {
	end, err := st.list(ctx, wire.Latest)
	if err != nil {
		return nil, err
	}
	found, err := st.list(ctx, at.UnixMilli())
	if err != nil {
		return nil, err
	}
	for i := range found {
		if found[i].offset < 0 {
			found[i] = end[i]
		}
	}
	return found, nil
}

func (st *starting) begin(ctx context.Context) ([]point, error) {
	switch k := st.source.Kafka; k.Startup.Mode {
	case graph.StartEarliest:
		return st.list(ctx, wire.Earliest)
	case graph.StartLatest:
		return st.list(ctx, wire.Latest)
	case graph.StartTimestamp:
		return st.listTime(ctx, k.Startup.Timestamp)
	case graph.StartOffsets:
		return st.given(ctx, k.Startup.Offsets)
	default:
		return st.committed(ctx)
	}
}

// given takes the offsets of the job file; partitions that it does not name begin at earliest.
func (st *starting) given(ctx context.Context, table map[string]map[int32]int64) ([]point, error) {
	first, last, err := st.logRanges(ctx)
	if err != nil {
		return nil, err
	}
	if err := st.knows("startup", table); err != nil {
		return nil, err
	}
	out := slices.Clone(first)
	for i, tp := range st.parts {
		offset, ok := table[tp.Topic][tp.Partition]
		if !ok {
			continue
		}
		if offset < first[i].offset || offset > last[i].offset {
			return nil, &Error{Where: tp.String(), Err: fmt.Errorf("startup names offset %d, and the log has %d to %d", offset, first[i].offset, last[i].offset),
				Hint: "name an offset within", class: "user"}
		}
		out[i] = point{offset, -1}
	}
	return out, nil
}

// knows refuses partitions that do not exist.
func (st *starting) knows(what string, table map[string]map[int32]int64) error {
	for topic, offsets := range table {
		for p := range offsets {
			if !slices.Contains(st.parts, wire.TopicPartition{Topic: topic, Partition: p}) {
				return &Error{Where: fmt.Sprintf("%s/%d", topic, p), Err: fmt.Errorf("%s names an offset for it, and the source does not read it: the topic has no such partition", what), Hint: "remove it", class: "user"}
			}
		}
	}
	return nil
}

// logRanges are the first offset and the end of every log, whatever the isolation.
func (st *starting) logRanges(ctx context.Context) (first, last []point, err error) {
	if first, err = st.list(ctx, wire.Earliest); err != nil {
		return nil, nil, err
	}
	isolation := st.cfg.Isolation
	st.cfg.Isolation = wire.ReadUncommitted
	defer func() { st.cfg.Isolation = isolation }()
	last, err = st.list(ctx, wire.Latest)
	return first, last, err
}

// committed takes what the group has stored, and what auto.offset.reset says where there is nothing.
func (st *starting) committed(ctx context.Context) ([]point, error) {
	found, err := st.stored(ctx)
	if err != nil {
		return nil, err
	}
	first, last, err := st.logRanges(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]point, len(found))
	var since, none, outside []int
	for i, s := range found {
		out[i] = s.point
		switch {
		case s.offset < 0 && st.grown != nil && st.grown(st.parts[i]):
			out[i] = first[i]
			since = append(since, i)
		case s.offset < 0:
			none = append(none, i)
		case s.offset < first[i].offset || s.offset > last[i].offset:
			outside = append(outside, i)
		}
	}
	if len(since) > 0 {
		st.warnings = append(st.warnings, fmt.Sprintf("%s came since group %s began with the topic: reading from the beginning", st.names(since), st.cfg.GroupID))
	}
	if err := st.fallBack(ctx, out, none, fmt.Sprintf("group %s has no committed offset%s for", st.cfg.GroupID, st.place())); err != nil {
		return nil, err
	}
	if len(outside) > 0 && !st.cfg.ResetGiven {
		i := outside[0]
		return nil, &Error{Where: st.parts[i].String(), Err: fmt.Errorf("group %s committed offset %d%s, and the log has %d to %d (%d partitions are like that)",
			st.cfg.GroupID, out[i].offset, found[i].where, first[i].offset, last[i].offset, len(outside)), Hint: st.outsideHint(out, last, outside), class: "user"}
	}
	return out, st.fallBack(ctx, out, outside, fmt.Sprintf("group %s committed offsets outside of the log for", st.cfg.GroupID))
}

// fallBack puts partitions where auto.offset.reset says, with a warning.
func (st *starting) fallBack(ctx context.Context, out []point, which []int, why string) error {
	if len(which) == 0 {
		return nil
	}
	why += " " + st.names(which)
	at := wire.Latest
	switch st.cfg.Reset {
	case "none":
		return &Error{Err: errors.New(why), Hint: "set " + propReset + ": earliest | latest, or another startup", class: "user"}
	case "earliest":
		at = wire.Earliest
	}
	all, err := st.list(ctx, at)
	if err != nil {
		return err
	}
	for _, i := range which {
		out[i] = all[i]
	}
	by := propReset
	if !st.cfg.ResetGiven {
		by = "the default of " + by
	}
	st.warnings = append(st.warnings, fmt.Sprintf("%s: reading from %s, by %s", why, st.cfg.Reset, by))
	return nil
}

// names lists partitions, not too many.
func (st *starting) names(which []int) string {
	const most = 5
	var names []string
	for _, i := range which[:min(len(which), most)] {
		names = append(names, st.parts[i].String())
	}
	text := strings.Join(names, ", ")
	if more := len(which) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// end resolves where splits stop: -1 for never.
func (st *starting) end(ctx context.Context) ([]int64, error) {
	var points []point
	var err error
	switch k := st.source.Kafka; k.Bounded.Mode {
	case graph.BoundLatest: // under read_committed the last stable offset
		points, err = st.list(ctx, wire.Latest)
	case graph.BoundTimestamp:
		points, err = st.listTime(ctx, k.Bounded.Timestamp)
	case graph.BoundOffsets:
		return st.givenEnd(k.Bounded.Offsets)
	default:
		return slices.Repeat([]int64{-1}, len(st.parts)), nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(points))
	for i := range points {
		out[i] = points[i].offset
	}
	return out, nil
}

// givenEnd takes the offsets of the job file. Every partition needs one: a job with one that never ends
// would never finish.
func (st *starting) givenEnd(table map[string]map[int32]int64) ([]int64, error) {
	if err := st.knows("bounded", table); err != nil {
		return nil, err
	}
	out := make([]int64, len(st.parts))
	var missing []int
	for i, tp := range st.parts {
		offset, ok := table[tp.Topic][tp.Partition]
		if !ok {
			missing = append(missing, i)
		}
		out[i] = offset
	}
	if len(missing) > 0 {
		return nil, &Error{Err: fmt.Errorf("bounded names no offset for %s", st.names(missing)), Hint: "name one for every partition (0 reads nothing of it)", class: "user"}
	}
	return out, nil
}
