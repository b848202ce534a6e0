package jobmanager

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/discovery"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

// discoverTimeout bounds one listing.
const discoverTimeout = 10 * time.Second

// newDiscovery makes the search for the partitions of a job's sources.
func newDiscovery(c Connector, j *graph.Job) *discovery.Machine {
	var sources []discovery.Source
	for i := range j.Sources {
		s := &j.Sources[i]
		if s.Kafka == nil {
			continue
		}
		if every, wanted := c.DiscoveryInterval(s.Kafka); wanted {
			sources = append(sources, discovery.Source{Name: s.Name, Interval: every, Pattern: s.Kafka.TopicPattern != ""})
		}
	}
	return discovery.New(sources)
}

// stepDiscovery applies an event to the search for partitions and carries out what it says.
func (r *runner) stepDiscovery(ctx context.Context, now time.Time, ev discovery.Event) {
	if _, over := ev.(discovery.Ended); over {
		for _, cancel := range r.listing {
			cancel()
		}
		clear(r.listing)
	}
	for _, eff := range r.discovery.Step(now, ev) {
		switch e := eff.(type) {
		case discovery.List:
			r.listSplits(ctx, e)
		case discovery.Store:
			r.storeSplits(ctx, e)
		case discovery.Add:
			r.addSplits(e)
		case discovery.SetAside:
			r.setAside(ctx, e)
		case discovery.Remove:
			r.removeSplits(e)
		case discovery.Fail:
			r.log.Error("a source cannot be read on", "attempt", e.Fence.Attempt, "reason", e.Why)
			r.enqueue(job.SourceFailing{Fence: e.Fence, Why: e.Why})
		case discovery.Ignored:
			r.m.metrics.dropped("discovery")
			r.log.Debug("ignored", "what", e.What, "reason", e.Why)
		}
	}
}

// listSplits asks Kafka beside the loop; the end of the attempt ends the question.
func (r *runner) listSplits(ctx context.Context, e discovery.List) {
	i := slices.IndexFunc(r.graph.Sources, func(s graph.Source) bool { return s.Name == e.Source })
	if i < 0 {
		return // the machine has its sources from this graph
	}
	answer := discovery.Listed{Fence: e.Fence, Source: e.Source}
	asking, cancel := context.WithTimeout(ctx, discoverTimeout)
	r.listing[e.Source] = cancel
	r.beside(ctx, func(context.Context) error { // the answer is handed over also when asking is over
		defer cancel()
		answer.Found, answer.Topics, answer.Err = r.m.connector.Discover(asking, &r.graph.Sources[i], e.Known)
		return nil
	}, func(time.Time, error) {
		if answer.Err != nil {
			r.log.Warn("look for partitions", "source", e.Source, "reason", answer.Err)
		}
		r.enqueue(answer)
	})
}

// storeSplits makes found splits durable. One that an earlier attempt has stored stays as it is: it may have been
// read from there, without a checkpoint since.
func (r *runner) storeSplits(ctx context.Context, e discovery.Store) {
	answer := discovery.Stored{Fence: e.Fence, Source: e.Source}
	r.beside(ctx, func(ctx context.Context) error {
		if err := r.roomFor(e.Positions); err != nil {
			return err
		}
		return r.m.store.Update(ctx, func(tx *boltstore.Tx) error {
			answer.Positions, answer.Unread = nil, nil
			for _, p := range e.Positions {
				at, err := putSplit(tx, r.id, p)
				if errors.Is(err, errBackWithoutID) {
					answer.Unread = err
					continue
				}
				if err != nil {
					return err
				}
				answer.Positions = append(answer.Positions, at)
			}
			return nil
		})
	}, func(_ time.Time, err error) {
		r.doubtful(err)
		if answer.Err = err; err != nil {
			r.log.Warn("store found partitions", "source", e.Source, "reason", err)
		} else if answer.Unread != nil {
			r.log.Warn("a found partition is not read yet", "source", e.Source, "reason", answer.Unread)
		}
		r.enqueue(answer)
	})
}

// roomFor refuses splits with which the job could not be deployed any more.
func (r *runner) roomFor(found []manifest.Position) error {
	return r.m.store.View(func(tx *boltstore.Tx) error {
		newest, err := tx.Newest(r.id)
		if err != nil {
			return err
		}
		m, err := tx.Manifest(r.id, newest)
		if err != nil {
			return err
		}
		all, _, err := withFound(tx, r.id, m)
		if err != nil {
			return err
		}
		all.Positions = append(slices.Clone(all.Positions), found...)
		return checkSize(r.m.connector, r.graph, r.plan, all)
	})
}

// addSplits gives durable splits to a subtask of the attempt that runs.
func (r *runner) addSplits(e discovery.Add) {
	d := r.deployed
	if d == nil || d.fence != e.Fence {
		return // the next attempt is deployed with them
	}
	d.added[e.Subtask] = append(d.added[e.Subtask], e.Positions...)
	again := splitsOf(e.Positions)
	d.removed[e.Subtask] = slices.DeleteFunc(d.removed[e.Subtask], func(s removedSplit) bool { return again[s.Split] })
	for _, p := range e.Positions {
		r.log.Info("partition found", "source", p.Source, "topic", p.Topic, "partition", p.Partition, "offset", p.Next, "subtask", e.Subtask.String(), "attempt", e.Fence.Attempt)
		r.decisions.fenced("splitAdded", e.Fence, "topic", p.Topic, "partition", p.Partition, "offset", p.Next, "subtask", e.Subtask.String())
	}
	for _, m := range addSplitsMessages(r.id, e.Fence, e.Subtask, e.Positions) {
		r.m.sessions.send(d.placement[e.Subtask], m)
	}
}

// setAside stores where splits stand whose topic is gone.
func (r *runner) setAside(ctx context.Context, e discovery.SetAside) {
	answer := discovery.AsideSet{Fence: e.Fence, Source: e.Source}
	r.beside(ctx, func(ctx context.Context) error {
		return r.m.store.Update(ctx, func(tx *boltstore.Tx) (err error) {
			answer.Positions, err = setAside(tx, r.id, e.Positions)
			return err
		})
	}, func(_ time.Time, err error) {
		r.doubtful(err)
		if answer.Err = err; err != nil {
			answer.Positions = nil
			r.log.Warn("set positions aside of topics that are gone", "source", e.Source, "reason", err)
		}
		for _, p := range answer.Positions {
			r.log.Info("topic is gone, its position is set aside", "source", p.Source, "topic", p.Topic, "partition", p.Partition, "offset", p.Next, "topicId", p.TopicID.String())
		}
		r.enqueue(answer)
	})
}

// removeSplits takes splits that are set aside from a subtask of the attempt that runs.
func (r *runner) removeSplits(e discovery.Remove) {
	d := r.deployed
	if d == nil || d.fence != e.Fence {
		return // the next attempt is deployed without them
	}
	gone := splitsOf(e.Positions)
	d.added[e.Subtask] = slices.DeleteFunc(d.added[e.Subtask], func(p manifest.Position) bool { return gone[p.Split] })
	after := r.newestTriggered()
	for _, p := range e.Positions {
		d.removed[e.Subtask] = append(d.removed[e.Subtask], removedSplit{p, after})
	}
	for _, m := range removeSplitsMessages(r.id, e.Fence, e.Subtask, e.Positions) {
		r.m.sessions.send(d.placement[e.Subtask], m)
	}
}

func splitsOf(positions []manifest.Position) map[manifest.Split]bool {
	out := make(map[manifest.Split]bool, len(positions))
	for _, p := range positions {
		out[p.Split] = true
	}
	return out
}

// removedSplit was taken from a subtask when this was the newest checkpoint that had been triggered.
type removedSplit struct {
	manifest.Position
	after ident.CheckpointID
}

func (r *runner) newestTriggered() (n ident.CheckpointID) {
	s := r.coord.Status()
	if s.Latest != nil {
		n = s.Latest.Checkpoint
	}
	if s.InFlight != nil {
		n = max(n, s.InFlight.Checkpoint)
	}
	return n
}

func positionsOf(list []removedSplit) []manifest.Position {
	out := make([]manifest.Position, len(list))
	for i := range list {
		out[i] = list[i].Position
	}
	return out
}

// settleRemoved forgets what a checkpoint shows to be settled that was triggered since: its subtask has let go of the
// split, or has read on, so that the message fits no more.
func (r *runner) settleRemoved(m *manifest.Manifest) {
	d := r.deployed
	if d == nil || d.fence != m.Fence || len(d.removed) == 0 {
		return
	}
	held := map[manifest.Split]int64{}
	for _, p := range m.Positions {
		held[p.Split] = p.Next
	}
	for subtask, list := range d.removed {
		d.removed[subtask] = slices.DeleteFunc(list, func(s removedSplit) bool {
			at, ok := held[s.Split]
			return m.Checkpoint > s.after && (!ok || at != s.Next)
		})
		if len(d.removed[subtask]) == 0 {
			delete(d.removed, subtask)
		}
	}
}

// repeatSplits sends a task manager again what its subtasks were given since the deployment, and what was taken from them.
func (r *runner) repeatSplits(worker ident.WorkerID) {
	d := r.deployed
	var all []message
	for subtask, list := range d.removed {
		if d.placement[subtask] == worker {
			all = append(all, removeSplitsMessages(r.id, d.fence, subtask, positionsOf(list))...)
		}
	}
	for subtask, list := range d.added {
		if d.placement[subtask] == worker {
			all = append(all, addSplitsMessages(r.id, d.fence, subtask, list)...)
		}
	}
	for _, m := range all {
		r.m.sessions.send(worker, m)
	}
}
