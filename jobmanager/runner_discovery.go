package jobmanager

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/discovery"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

const (
	// discoverTimeout bounds one listing.
	discoverTimeout = 10 * time.Second
	// splitPrefix begins the names of the small values that hold splits which were found while the job ran. They
	// stay as long as the job: an older checkpoint may be taken over that does not hold them.
	splitPrefix = "split/"
)

// newDiscovery makes the search for the partitions of a job's sources.
func newDiscovery(c Connector, j *graph.Job) *discovery.Machine {
	var sources []discovery.Source
	for i := range j.Sources {
		s := &j.Sources[i]
		if s.Kafka == nil {
			continue
		}
		if every, wanted := c.DiscoveryInterval(s.Kafka); wanted {
			sources = append(sources, discovery.Source{Name: s.Name, Interval: every})
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
			answer.Positions = nil
			for _, p := range e.Positions {
				at, err := putSplit(tx, r.id, p)
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
		all, err := withFound(tx, r.id, m)
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
	for _, p := range e.Positions {
		r.log.Info("partition found", "source", p.Source, "topic", p.Topic, "partition", p.Partition, "offset", p.Next, "subtask", e.Subtask.String(), "attempt", e.Fence.Attempt)
		r.decisions.fenced("splitAdded", e.Fence, "topic", p.Topic, "partition", p.Partition, "offset", p.Next, "subtask", e.Subtask.String())
	}
	for _, m := range addSplitsMessages(r.id, e.Fence, e.Subtask, e.Positions) {
		r.m.sessions.send(d.placement[e.Subtask], m)
	}
}

// repeatSplits sends a task manager again what its subtasks were given since the deployment.
func (r *runner) repeatSplits(worker ident.WorkerID) {
	d := r.deployed
	for subtask, list := range d.added {
		if d.placement[subtask] != worker {
			continue
		}
		for _, m := range addSplitsMessages(r.id, d.fence, subtask, list) {
			r.m.sessions.send(worker, m)
		}
	}
}

// restorePoint is a manifest with the splits that were found and do not stand in it: they begin where they were
// stored.
func (m *Manager) restorePoint(id ident.JobID, at *manifest.Manifest) (out *manifest.Manifest, err error) {
	err = m.store.View(func(tx *boltstore.Tx) error {
		out, err = withFound(tx, id, at)
		return err
	})
	return out, err
}

// withFound adds the found splits of a job to a copy of one of its manifests.
func withFound(tx *boltstore.Tx, id ident.JobID, m *manifest.Manifest) (*manifest.Manifest, error) {
	known := make(map[manifest.Split]bool, len(m.Positions))
	for _, p := range m.Positions {
		known[p.Split] = true
	}
	out := *m
	out.Positions = slices.Clone(m.Positions)
	err := tx.Values(id, splitPrefix, func(name string, value []byte) error {
		p, err := readSplit(name, value)
		if err != nil {
			return fmt.Errorf("split %q of job %s: %w: %w", name, id, boltstore.ErrDamaged, err)
		}
		if !known[p.Split] {
			out.Positions = append(out.Positions, p)
		}
		return nil
	})
	slices.SortFunc(out.Positions, func(a, b manifest.Position) int { return a.Compare(b.Split) })
	return &out, err
}

// storedSplit is a found split in the store, as JSON under its name.
type storedSplit struct {
	Next        int64  `json:"next"`
	LeaderEpoch int32  `json:"leaderEpoch"`
	TopicID     string `json:"topicId,omitempty"`
}

func splitName(s manifest.Split) string {
	return fmt.Sprintf("%s%s/%s/%d", splitPrefix, s.Source, s.Topic, s.Partition)
}

// putSplit stores a split unless it is there, and gives what is stored.
func putSplit(tx *boltstore.Tx, id ident.JobID, p manifest.Position) (manifest.Position, error) {
	name := splitName(p.Split)
	old, err := tx.Value(id, name)
	if err == nil {
		return readSplit(name, old)
	}
	if !errors.Is(err, boltstore.ErrNotFound) {
		return p, err
	}
	data, err := json.Marshal(storedSplit{Next: p.Next, LeaderEpoch: p.LeaderEpoch, TopicID: p.TopicID.String()})
	if err != nil {
		return p, fmt.Errorf("encode split %s: %w", name, err)
	}
	return p, tx.PutValue(id, name, data)
}

// readSplit reads split/SOURCE/TOPIC/PARTITION and its value. Found splits are never bounded.
func readSplit(name string, value []byte) (manifest.Position, error) {
	p := manifest.Position{Stop: -1}
	parts := strings.Split(strings.TrimPrefix(name, splitPrefix), "/")
	if len(parts) != 3 {
		return p, fmt.Errorf("want SOURCE/TOPIC/PARTITION, got %q", name)
	}
	partition, err := strconv.ParseInt(parts[2], 10, 32)
	p.Split = manifest.Split{Source: parts[0], Topic: parts[1], Partition: int32(partition)}
	var s storedSplit
	err = errors.Join(err, json.Unmarshal(value, &s))
	id, err2 := base64.RawURLEncoding.DecodeString(s.TopicID)
	copy(p.TopicID[:], id)
	p.Next, p.LeaderEpoch = s.Next, s.LeaderEpoch
	return p, errors.Join(err, err2)
}
