package jobmanager

import (
	"context"
	"maps"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/jobmanager/publish"
	"github.com/sluice-stream/sluice/slots"
)

// past is what the store holds of a job beside its record.
type past struct {
	checkpoints checkpoint.Start
	commits     commit.Start
	// recovered says that the job is from an earlier start of the job manager.
	recovered bool
	// damage is what of the job cannot be read: it is shown and not run; empty: all can.
	damage string
	// committed: all that the newest checkpoint of a damaged job names is.
	committed bool
	// overdue: more checkpoints are stored than are to be kept.
	overdue bool
}

// newRunner makes the loop of a job, not running yet.
func (m *Manager) newRunner(id ident.JobID, j *graph.Job, plan *graph.Physical, stored *storedJob, before past) *runner {
	start, commits := before.checkpoints, before.commits
	r := &runner{
		m: m, id: id, name: j.Name, submitOrder: stored.SubmitOrder, submittedAt: stored.SubmittedAt, endedAt: stored.EndedAt,
		log: m.log.With("job", string(id), "name", j.Name), decisions: m.decisions.of(id), graph: j, plan: plan, stored: stored,
		inbox: make(chan any, max(inboxSize, reportsPerSubtask*len(plan.Subtasks()))), grants: make(chan slots.Grant, grantRoom), over: make(chan struct{}), changed: make(chan struct{}),
		subtasks: map[ident.Subtask]subtaskView{}, stateSince: time.Now(), startedAt: time.Now(), overdue: before.overdue,
	}
	if stored.Record.State.Terminal() {
		r.stateSince = stored.EndedAt
	}
	r.coord = checkpoint.NewCoordinator(checkpointConfig(j), start)
	r.publisher = publish.New(j.Publications(), publishedAnew(before))
	r.committer = commit.New(commit.Config{MarkDelay: markDelay}, commits)
	r.discovery, r.listing = newDiscovery(m.connector, j), map[string]context.CancelFunc{}
	if start.Latest != nil && (before.damage == "" || before.committed) {
		r.announced = start.Latest.Checkpoint
	}
	if len(commits.Unmarked) > 0 {
		r.announced, r.unannounced = commits.Unmarked[0].Checkpoint-1, []*manifest.Manifest{start.Latest}
	}
	r.machine = job.New(job.Config{
		Epoch: m.epoch, Slots: plan.Slots, Subtasks: plan.Subtasks(), Sources: sourceSubtasks(plan), Restart: j.Restart, Lease: m.cfg.HeartbeatTimeout + time.Second, Rand: rand.Float64,
	}, stored.Record)
	if before.recovered {
		r.earlier = start.Latest
		r.enqueue(commit.Tick{}) // what the last start left to commit and to fence
		r.enqueue(job.Recovered{Final: start.Latest != nil && start.Latest.Final})
		r.enqueue(publish.Tick{})
	} else {
		r.enqueue(job.Submitted{})
	}
	if before.damage != "" {
		r.setDamage(before.damage)
	}
	if r.isEnded.Store(stored.Record.State.Terminal()); !r.runs() {
		r.queue = nil
		close(r.over)
	}
	r.publish()
	return r
}

func sourceSubtasks(plan *graph.Physical) []ident.Subtask {
	var out []ident.Subtask
	for i := range plan.Vertices {
		v := &plan.Vertices[i]
		if v.Nodes[0].Kind != graph.KindSource {
			continue
		}
		for k := range v.Parallelism {
			out = append(out, ident.Subtask{Vertex: v.Name, Index: k})
		}
	}
	return out
}

// viewShare is how many times as long as it takes to make a view the loop does other things before it makes the
// next one: a view of a large job costs as much as a thousand acks, and one per ack would be quadratic.
const viewShare = 10

// viewDelay is the longest that a view is held back, also when the machine is so busy that making one takes long.
const viewDelay = 100 * time.Millisecond

// pace says when the next view of a job may be made.
type pace struct{ due time.Time }

// made notes that a view took from began to ended.
func (p *pace) made(began, ended time.Time) {
	p.due = ended.Add(min(viewShare*ended.Sub(began), viewDelay))
}

// wait is when the next view may be made; zero: now.
func (p *pace) wait(now time.Time) time.Time {
	if now.Before(p.due) {
		return p.due
	}
	return time.Time{}
}

// show makes the state of now visible, unless the last view was made too short a time ago; then it says when it
// will. A change of the job's state is never held back.
func (r *runner) show(now time.Time) (later time.Time) {
	if at := r.pace.wait(now); !at.IsZero() && !r.moved && !r.machine.State().Terminal() {
		return at
	}
	r.publish()
	r.pace.made(now, time.Now())
	return time.Time{}
}

// publish makes the state of now visible.
func (r *runner) publish() {
	r.moved = false
	rec, endedAt := r.machine.Record(), r.stored.EndedAt
	if r.storeError != "" && rec.State.Terminal() { // a job has ended when that is durable
		rec, endedAt = r.current.record, time.Time{}
	}
	v := &jobView{
		id: r.id, name: r.name, state: rec.State, attempt: rec.Attempt, parallelism: r.graph.Parallelism, restarts: rec.Restarts, plan: r.plan,
		slots: r.m.scheduler.held(r.id), subtasks: maps.Clone(r.subtasks), checkpoints: r.coord.Status(), restored: r.restored,
		submittedAt: r.submittedAt, stateSince: r.stateSince, endedAt: endedAt,
		committed: r.announced, commits: r.committer.Status(), discovery: r.discovery.Status(),
		publications: r.publisher.Status(), publicationsFrom: r.startedAt,
	}
	v.record, v.restartAt, v.waitsFor, v.held, v.storeError = rec, r.machine.RestartAt(), r.machine.Waiting(time.Now()), r.heldDeploy != nil, r.storeError
	if f := rec.Failure; f != nil {
		v.failure = &failureView{at: f.At, class: string(f.Class), message: f.Message, subtask: f.Subtask}
	}
	if v.damage = r.damage; !v.state.Terminal() {
		v.broken = r.damage
	}
	for _, why := range []string{r.damage, r.storeError, r.publisher.Waiting(), r.committing(time.Now())} {
		if why != "" {
			v.waiting = append(v.waiting, why)
		}
	}
	v.waiting = append(v.waiting, v.discovery.Waiting...)
	if v.waitsFor != "" {
		v.waiting = append(v.waiting, v.waitsFor)
	}
	if p := v.pending(); p != "" {
		v.waiting = append(v.waiting, p)
	}
	r.viewMu.Lock()
	old := r.changed
	r.current, r.changed = v, make(chan struct{})
	r.viewMu.Unlock()
	close(old)
	if v.state.Terminal() {
		r.isEnded.Store(true)
	}
}

// onTransition notes a change of state, for people and programs.
func (r *runner) onTransition(now time.Time, t job.Transition) {
	r.stateSince, r.moved = now, true
	r.decisions.note("state", "from", string(t.From), "to", string(t.To), "attempt", uint64(r.machine.Record().Attempt))
	args := []any{"from", t.From, "to", t.To, "event", t.Event, "attempt", r.machine.Record().Attempt}
	if f := r.machine.Record().Failure; f != nil && (t.To == job.Restarting || t.To == job.Failing || t.To == job.Failed) {
		args = append(args, "class", f.Class, "reason", f.Message)
	}
	r.log.Info("job state", args...)
}

// granted hands slots to a job.
func (m *Manager) granted(g slots.Grant) {
	m.mu.Lock()
	r := m.runners[g.Job]
	m.mu.Unlock()
	if r == nil || r.ended() {
		m.scheduler.release(g.Job)
		return
	}
	r.grants <- g // has room: a job has one request open, and at most the grant of a withdrawn one is still in it
}

// ask hands a user's request to a job and waits until it is durable.
func (m *Manager) ask(ctx context.Context, r *runner, ev job.Event) error {
	if r.ended() {
		return status.Errorf(codes.FailedPrecondition, "job %s (%s) is %s already", r.name, r.id, r.view().state)
	}
	if broken := r.view().broken; broken != "" {
		return status.Errorf(codes.FailedPrecondition, "job %s (%s) takes no requests: %s", r.name, r.id, broken)
	}
	answer := make(chan error, 1)
	r.post(ctx, asked{ev, answer})
	select {
	case err := <-answer:
		return err
	case <-r.over:
		if r.ended() {
			return nil
		}
		return status.Error(codes.Unavailable, "the job manager is ending; ask again when it is back")
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// isCurrent says whether an attempt is the one that is deployed.
func (m *Manager) isCurrent(id ident.JobID, fence ident.Fence) bool {
	m.mu.Lock()
	r := m.runners[id]
	m.mu.Unlock()
	return r != nil && fence.Epoch == m.epoch && r.view().attempt == fence.Attempt
}
