package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	jobstate "github.com/sluice-stream/sluice/jobmanager/job"
)

// maxNamedSplits bounds the partitions that a warning names.
const maxNamedSplits = 5

// adopt is checkpoint 0 of a job that takes over a checkpoint, and what was set aside of that, which the job reads if its
// topic is back.
func (m *Manager) adopt(id ident.JobID, plan *graph.Physical, s submission) (zero *manifest.Manifest, aside []manifest.Position, err error) {
	job, n, err := ident.ParseCheckpoint(s.fromCheckpoint)
	if err != nil {
		return nil, nil, err
	}
	old, err := m.find(job)
	if err != nil {
		return nil, nil, err
	}
	if !old.ended() {
		if broken := old.view().broken; broken != "" {
			return nil, nil, fmt.Errorf("job %s is %s, and %s", old.id, old.view().state, broken)
		}
		return nil, nil, fmt.Errorf("job %s is %s; stop or cancel it first", old.id, old.view().state)
	}
	from, err := m.takenFrom(old.id, n)
	if errors.Is(err, boltstore.ErrNotFound) && old.view().damage != "" {
		return nil, nil, fmt.Errorf("%w: %s: %s", errUnknownCheckpoint, s.fromCheckpoint, old.view().damage)
	}
	if errors.Is(err, boltstore.ErrNotFound) {
		return nil, nil, fmt.Errorf("%w: job %s keeps no checkpoint %d; `sluice checkpoints %s` lists those that it keeps", errUnknownCheckpoint, old.id, n, old.id)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint %s is damaged, or of a newer release, and nothing can go on from it: %w", s.fromCheckpoint, err)
	}
	if !from.committed && old.view().state != jobstate.FailedDataLoss { // a loss was told, with what this costs
		return nil, nil, fmt.Errorf("checkpoint %s is not committed: its output is not visible", s.fromCheckpoint)
	}
	heir := checkpoint.Heir{
		Job: id, Identity: plan.Identity, AllowDropped: s.allowDroppedState, MaxParallelism: s.job.MaxParallelism,
		Stateful: func(name string) bool { return hasCount(s.job, name) },
		Reads:    func(split manifest.Split) bool { return reads(s.job, split) },
	}
	if zero, err = checkpoint.Adopt(from.held, heir, time.Now()); err == nil {
		forgetBounds(zero.Positions, old.graph)
	}
	return zero, slices.DeleteFunc(from.aside, func(p manifest.Position) bool { return !reads(s.job, p.Split) }), err
}

// forgetBounds takes ends away that a bound of the predecessor set: an until of the heir looks further. Those that its own
// until found stay, with those that a bound beside it set, as which of them came first is not known; so do all of a job whose
// graph cannot be read.
func forgetBounds(positions []manifest.Position, predecessor *graph.Job) {
	if len(predecessor.Sources) == 0 { // it could not be read: every job has some
		return
	}
	for i := range positions {
		if p := &positions[i]; !hasUntil(predecessor, p.Source) {
			p.Stop = -1
		}
	}
}

func hasUntil(job *graph.Job, source string) bool {
	return slices.ContainsFunc(job.Sources, func(s graph.Source) bool { return s.Name == source && s.Kafka != nil && s.Kafka.Until != "" })
}

func hasCount(job *graph.Job, name string) bool {
	for i := range job.Operators {
		if job.Operators[i].Name == name {
			return job.Operators[i].Count
		}
	}
	return false
}

// reads says whether a source begins with a position of a split. One that shares its topics with a group begins where
// that stands.
func reads(job *graph.Job, split manifest.Split) bool {
	for i := range job.Sources {
		s := &job.Sources[i]
		if s.Name != split.Source || s.Kafka == nil {
			continue
		}
		if set := s.Kafka.Partitions; len(set) > 0 {
			return slices.Contains(set[split.Topic], split.Partition)
		}
		return s.Kafka.Mode != graph.ModeGroup && s.ReadsTopic(split.Topic)
	}
	return false
}

// awaited says that a source goes on with a position of a topic that is not listed: Kafka leaves those out that we may not
// describe just now, and a pattern that finds it again later would read it from its beginning.
func awaited(job *graph.Job, source string) bool {
	i := slices.IndexFunc(job.Sources, func(s graph.Source) bool { return s.Name == source })
	if i < 0 || job.Sources[i].Kafka == nil {
		return false
	}
	k := job.Sources[i].Kafka
	return k.TopicPattern != "" && (k.Bounded.Mode == graph.BoundNone || k.Bounded.Mode == "")
}

// takenOver are the positions of a job that goes on where another one ended.
type takenOver struct {
	positions []manifest.Position
	// aside are those that are not read until their topics are back.
	aside    []manifest.Position
	warnings []string
}

// startsOf is the job as its sources have to be resolved beside a checkpoint: where the checkpoint says where to read, the
// startup does not count, and must not be refused for what has become of its offsets. A fixed set of partitions may hold
// some that the checkpoint does not, which begin as the startup says.
func startsOf(job *graph.Job, from, aside []manifest.Position) *graph.Job {
	known := map[string]bool{}
	held := map[manifest.Split]bool{} // what is set aside may be of a topic that was made anew since
	for _, p := range from {
		known[p.Source], held[p.Split] = true, true
	}
	for _, p := range aside {
		known[p.Source] = true
	}
	out := *job
	out.Sources = slices.Clone(job.Sources)
	for i := range out.Sources {
		s := &out.Sources[i]
		if s.Kafka == nil || !known[s.Name] || startsMore(s, held) {
			continue
		}
		k := *s.Kafka
		k.Startup = graph.Startup{Mode: graph.StartEarliest}
		s.Kafka = &k
	}
	return &out
}

// startsMore says that a source with a fixed set of partitions names some that are not held.
func startsMore(s *graph.Source, held map[manifest.Split]bool) bool {
	for topic, partitions := range s.Kafka.Partitions {
		for _, p := range partitions {
			if !held[manifest.Split{Source: s.Name, Topic: topic, Partition: p}] {
				return true
			}
		}
	}
	return false
}

// continued takes the next offsets of a checkpoint, and the ends of bounded sources from what was resolved now. A
// split that the checkpoint does not know of a source that it knows is new: it was added since, and begins at its
// beginning, whatever the startup says. A source that the checkpoint does not know begins as resolved. What is set aside
// goes on where it stands if its topic is there again.
func (m *Manager) continued(ctx context.Context, job *graph.Job, from, aside, resolved []manifest.Position) (out takenOver, err error) {
	at := map[manifest.Split]manifest.Position{}
	bySource := map[string][]manifest.Position{}
	aside = superseded(aside, resolved)
	apart := map[manifest.Split]bool{}
	for _, p := range aside {
		apart[p.Split] = true
	}
	for _, p := range slices.Concat(from, aside) {
		at[p.Split] = p
		bySource[p.Source] = append(bySource[p.Source], p)
	}
	fresh := map[string][]manifest.Position{}
	for _, p := range resolved {
		old, ok := at[p.Split]
		delete(at, p.Split)
		switch {
		case ok && old.TopicID != p.TopicID && old.TopicID != (manifest.TopicID{}) && p.TopicID != (manifest.TopicID{}):
			return out, fmt.Errorf("%w: source %s: topic %s was deleted and created again (its id was %s and is %s): the offsets of the checkpoint are of the old one; submit the job without --from-checkpoint",
				errNotRestorable, p.Source, p.Topic, old.TopicID, p.TopicID)
		case ok:
			p.Next, p.LeaderEpoch = old.Next, old.LeaderEpoch
			if p.Stop < 0 && old.AtEnd() && hasUntil(job, p.Source) { // a record ended it: nothing more is looked for
				p.Stop = old.Stop
			}
			if p.TopicID == (manifest.TopicID{}) {
				p.TopicID = old.TopicID
			}
			out.positions = append(out.positions, p)
		case len(bySource[p.Source]) > 0:
			fresh[p.Source] = append(fresh[p.Source], p)
		default:
			out.positions = append(out.positions, p)
		}
	}
	for i := range job.Sources {
		if err := m.begin(ctx, &job.Sources[i], bySource, fresh, &out); err != nil {
			return out, err
		}
	}
	for p, old := range at {
		out.unlisted(old, awaited(job, p.Source), apart[p])
	}
	slices.SortFunc(out.positions, func(a, b manifest.Position) int { return a.Compare(b.Split) })
	slices.Sort(out.warnings)
	return out, nil
}

// unlisted decides over a position of a topic that is not there now. What was apart stays so, and was told before.
func (t *takenOver) unlisted(p manifest.Position, awaited, apart bool) {
	switch {
	case apart && awaited:
		t.aside = append(t.aside, p)
	case apart:
	case awaited:
		t.positions = append(t.positions, p)
		t.warnings = append(t.warnings, fmt.Sprintf("source %s: the checkpoint holds a position of %s/%d, which Kafka does not list now; it is kept, and nothing is read from there meanwhile", p.Source, p.Topic, p.Partition))
	default:
		t.warnings = append(t.warnings, fmt.Sprintf("source %s: the checkpoint holds a position of %s/%d, which does not exist any more", p.Source, p.Topic, p.Partition))
	}
}

// superseded leaves out what is set aside of topics that others have replaced.
func superseded(aside, resolved []manifest.Position) []manifest.Position {
	now := map[manifest.Split]manifest.Position{}
	for _, p := range resolved {
		now[p.Split] = p
	}
	return slices.DeleteFunc(slices.Clone(aside), func(p manifest.Position) bool { return otherTopic(p, now[p.Split]) })
}

// begin puts the new splits of a source where their logs begin. Those of a fixed set were named by somebody: they
// begin as the startup says.
func (m *Manager) begin(ctx context.Context, s *graph.Source, known, fresh map[string][]manifest.Position, out *takenOver) error {
	list := fresh[s.Name]
	if len(list) == 0 {
		return nil
	}
	if len(s.Kafka.Partitions) > 0 {
		out.positions = append(out.positions, list...)
		return nil
	}
	found, _, err := m.connector.Discover(ctx, s, known[s.Name])
	if err != nil {
		return fmt.Errorf("%w: source %s: partitions that the checkpoint does not hold: %w", errCheckFailed, s.Name, withCause(ctx, err))
	}
	var names []string
	for _, p := range list {
		i := slices.IndexFunc(found, func(f manifest.Position) bool { return f.Split == p.Split })
		if i < 0 {
			return fmt.Errorf("%w: source %s: %s/%d has just come or gone; submit the job again", errCheckFailed, s.Name, p.Topic, p.Partition)
		}
		p.Next, p.LeaderEpoch, p.TopicID = found[i].Next, found[i].LeaderEpoch, found[i].TopicID
		out.positions = append(out.positions, p)
		names = append(names, fmt.Sprintf("%s/%d", p.Topic, p.Partition))
	}
	if n := len(names); n > maxNamedSplits {
		names = append(names[:maxNamedSplits], fmt.Sprintf("%d more", n-maxNamedSplits))
	}
	out.warnings = append(out.warnings, fmt.Sprintf("source %s: the checkpoint does not hold %s: read from the beginning", s.Name, strings.Join(names, ", ")))
	return nil
}
