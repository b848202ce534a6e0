package jobmanager

import (
	"context"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/explain"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

// lagTimeout bounds what Lag and Explain ask of brokers; what is not answered by then is unknown.
const lagTimeout = 4 * time.Second

// facts gathers what is known of a job now, its lag included.
func (m *Manager) facts(ctx context.Context, r *runner) *explain.Facts {
	v := r.view()
	now := time.Now()
	f := &explain.Facts{
		Now: now, ID: v.id, Graph: r.graph, Record: v.record, Since: v.stateSince, RestartAt: v.restartAt, WaitsFor: v.waitsFor, HeldByCommits: v.held,
		SlotsNeeded: v.plan.Slots, StoreError: v.storeError, Broken: v.broken, Damage: v.damage, Checkpoints: v.checkpoints, Commits: v.commits, Offsets: v.publications,
		Discovery: v.discovery.Waiting,
	}
	if v.state.Terminal() {
		f.Since = v.endedAt
	}
	if e, waits := m.scheduler.explain(v.id); waits {
		f.Slots = &e
	}
	for s, sub := range v.subtasks {
		f.Subtasks = append(f.Subtasks, explain.Subtask{ID: s, Worker: sub.worker, State: sub.state})
	}
	slices.SortFunc(f.Subtasks, func(a, b explain.Subtask) int { return a.ID.Compare(b.ID) })
	for _, s := range f.Subtasks {
		c, live := m.live(v, s.ID)
		if !live {
			continue
		}
		f.Skipped, f.DeadLettered, f.Failed = f.Skipped+c.recordsSkipped, f.DeadLettered+c.recordsDeadLettered, f.Failed+c.recordsFailed
		if c.waiting != "" {
			f.Waits = append(f.Waits, explain.Wait{Subtask: s.ID, Worker: s.Worker, Reason: c.waiting, Since: c.since})
		}
	}
	f.Lag = m.lag(ctx, r, v)
	return f
}

// live is what a subtask that runs told last; false: it does not run, or its task manager is lost.
func (m *Manager) live(v *jobView, s ident.Subtask) (subtaskMetrics, bool) {
	sub := v.subtasks[s]
	switch job.SubtaskState(sub.state) {
	case job.SubtaskRunning, job.SubtaskAtEnd:
		return m.sessions.metricsOf(sub.worker, metricKey{v.id, v.attempt, s}), true
	default:
		return subtaskMetrics{}, false
	}
}

// lag is how far each partition of a job is behind. It asks the brokers for at most lagTimeout.
func (m *Manager) lag(ctx context.Context, r *runner, v *jobView) explain.Lag {
	var at ident.CheckpointID
	var positions []manifest.Position
	if l := v.checkpoints.Latest; l != nil {
		at, positions = l.Checkpoint, l.Positions
	}
	told := m.told(v)
	var splits []manifest.Split
	for _, p := range positions {
		splits = append(splits, p.Split)
	}
	for _, t := range told {
		splits = append(splits, t.Split)
	}
	slices.SortFunc(splits, manifest.Split.Compare)
	splits = slices.Compact(splits)
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	return explain.LagOf(at, positions, told, m.connector.LogEnds(ctx, r.graph, splits))
}

// told lists what the running subtasks said of their splits.
func (m *Manager) told(v *jobView) []explain.Told {
	var out []explain.Told
	for i := range v.plan.Vertices {
		vertex := &v.plan.Vertices[i]
		if vertex.Nodes[0].Kind != graph.KindSource {
			continue
		}
		for index := range vertex.Parallelism {
			s := ident.Subtask{Vertex: vertex.Name, Index: index}
			c, live := m.live(v, s)
			if !live {
				continue
			}
			for _, l := range c.lag {
				out = append(out, explain.Told{
					Split:   manifest.Split{Source: vertex.Nodes[0].Name, Topic: l.topic, Partition: l.partition},
					Subtask: s, Worker: v.subtasks[s].worker, Next: l.next, Lag: l.records, Waiting: c.waiting != "",
				})
			}
		}
	}
	return out
}
