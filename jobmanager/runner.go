package jobmanager

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/discovery"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/jobmanager/publish"
	"github.com/sluice-stream/sluice/slots"
)

// The messages that wait for a job loop are bounded by so many, and so many for each subtask. A full inbox holds up the streams
// of task managers, heartbeats of other jobs included: while the loop waits for its disk, each subtask may run, fail and end, and
// acknowledge or decline a checkpoint or two.
const (
	inboxSize         = 4096
	reportsPerSubtask = 8
)

// grantRoom is more than the grants that can wait for one job.
const grantRoom = 16

// The messages to a job loop.
type (
	// jobEvent and checkpointEvent go to the cores as they are.
	jobEvent        struct{ event job.Event }
	checkpointEvent struct{ event checkpoint.Event }
	// subtaskReport is a status of a task manager.
	subtaskReport struct {
		fence   ident.Fence
		subtask ident.Subtask
		state   job.SubtaskState
		failure *job.Failure
	}
	// workerLost says that a task manager is gone; certain: its process is known to be dead. Its lease
	// counts from the last contact at the latest.
	workerLost struct {
		worker      ident.WorkerID
		reason      string
		certain     bool
		lastContact time.Time
	}
	workerResumed struct{ worker ident.WorkerID }
	// workerRegistered says that a task manager began a new session: a process that was thought lost may
	// be back.
	workerRegistered struct{}
	// sinkLevel is what a transactional sink tells of its ids.
	sinkLevel struct {
		fence ident.Fence
		sinkRef
		sequence      uint64 // rises with every change
		ready, wanted int
	}
	// asked is a request of a user; the answer says when it is durable or why it is refused.
	asked struct {
		event  job.Event
		answer chan<- error
	}
	// done runs the rest of something that was carried out beside the loop.
	done struct{ then func(now time.Time) }
)

// runner owns one job: its cores, its place in the cluster, its view. Everything but what is atomic or
// behind viewMu belongs to the loop.
type runner struct {
	m           *Manager
	id          ident.JobID
	name        string
	stored      *storedJob
	stateSince  time.Time
	answers     []chan<- error
	submitOrder uint64
	submittedAt time.Time
	log         *slog.Logger
	graph       *graph.Job
	plan        *graph.Physical

	inbox     chan any
	grants    chan slots.Grant
	over      chan struct{} // closed when the loop has ended
	machine   *job.Machine
	coord     *checkpoint.Coordinator
	committer *commit.Machine
	discovery *discovery.Machine
	// listing ends the questions for partitions that are on their way, by source.
	listing   map[string]context.CancelFunc
	decisions *decisions
	// postponed are messages that came while the loop waited for its disk.
	postponed []any
	// queue holds events for the cores that effects have produced, in order.
	queue []any
	// children are writes and calls beside the loop.
	children *errgroup.Group

	// deployed is the attempt that was sent out last; nil: none since the start.
	deployed       *deployment
	deployMessages map[ident.WorkerID]message
	// settling is the attempt that has ended for the coordinator while a manifest may still be written;
	// zero: none.
	settling ident.Fence
	subtasks map[ident.Subtask]subtaskView
	// trigger is the checkpoint that is being drawn, aborted the one that failed last: for task managers that resume. One
	// that missed the end of a checkpoint holds back an input, and with it maybe the barriers of all later ones.
	trigger, aborted message
	restored         ident.CheckpointID
	// heldDeploy waits until all that completed checkpoints name is committed; nil: none.
	heldDeploy *job.Deploy
	// levels are what the transactional sinks of the deployed attempt told last; growing are those whose next
	// hand-out is being stored.
	levels  map[sinkRef]sinkLevel
	growing map[sinkRef]bool
	// unannounced are completed checkpoints whose transactions are not all marked, oldest first; announced is
	// the newest that is.
	unannounced []*manifest.Manifest
	announced   ident.CheckpointID
	// earlier is the newest manifest of an earlier start of the job manager; nil: the job is new.
	earlier *manifest.Manifest
	// losses are what Kafka refused to commit since the job manager started, as it was found out.
	losses []commit.Lost
	// doubt is why nobody can tell what is durable; nil: all is well.
	doubt     error
	publisher *publish.Machine
	retention retention
	// startedAt is when this start of the job manager took the job up.
	startedAt time.Time
	// storeError is why the record of the machine is not durable, or why the loop has ended.
	storeError string
	// damage is what of the job cannot be read, in a sentence; empty: all can.
	damage string

	// moved: the job has changed its state since the view was made.
	moved bool
	pace  pace

	viewMu  sync.Mutex
	current *jobView
	changed chan struct{}
	endedAt time.Time
	isEnded atomic.Bool
	// overdue: more checkpoints of a job that has ended are kept than are to be.
	overdue bool
	// isRetired: of a job that has ended only this is left; see retired.
	isRetired bool
}

// subtaskView is what is shown of one subtask.
type subtaskView struct {
	state  string
	worker ident.WorkerID
}

// jobView is a snapshot of a job; it is never changed after it was published.
type jobView struct {
	id                               ident.JobID
	name                             string
	state                            job.State
	attempt                          ident.Attempt
	parallelism, restarts            int
	plan                             *graph.Physical
	slots                            []ident.Slot
	subtasks                         map[ident.Subtask]subtaskView
	checkpoints                      checkpoint.Status
	restored                         ident.CheckpointID
	submittedAt, stateSince, endedAt time.Time
	failure                          *failureView
	waiting                          []string
	// committed is the newest checkpoint whose transactions, and those of all before it, are marked.
	committed ident.CheckpointID
	commits   commit.Status
	discovery discovery.Status
	// publications are the places where offsets are published, since when this start of the job manager does it.
	publications     []publish.Status
	publicationsFrom time.Time
	// For Explain: what is durable, when the delay that runs is over, what the state waits for, whether commits
	// hold the deployment, why nothing can be stored.
	record               job.Record
	restartAt            time.Time
	waitsFor, storeError string
	held                 bool
	// broken is why the job manager does not run the job: a bug that it met, or damage.
	broken string
	// damage is what of the job cannot be read, in a sentence.
	damage string
}

type failureView struct {
	at                      time.Time
	class, message, subtask string
}

// pending says why the checkpoint in flight, or the next one, is late.
func (v *jobView) pending() string {
	f := v.checkpoints.InFlight
	if f == nil {
		return v.checkpoints.Waiting
	}
	if f.Reason != "" {
		return f.Reason
	}
	if !f.Writing && time.Since(f.TriggeredAt) > time.Second && len(f.Missing) > 0 {
		return fmt.Sprintf("checkpoint %d waits for %d of %d acks, first %s", f.Checkpoint, len(f.Missing), f.Expected, f.Missing[0])
	}
	return ""
}

// run is the loop of the job until ctx ends or the job has. An error ends the job manager: the state on
// disk is in doubt.
func (r *runner) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	r.children = &errgroup.Group{}
	defer func() {
		cancel()
		_ = r.children.Wait() // what they would have told concerns the next start, which reads the disk
	}()
	defer close(r.over) // before: children post to the loop
	defer r.contain()
	if err := r.checkRollback(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := r.drain(ctx); err != nil {
			return err
		}
		if waited := r.postponed; len(waited) > 0 {
			r.postponed = nil
			for _, msg := range waited {
				r.receive(time.Now(), msg)
			}
			continue
		}
		publishAt := r.show(time.Now())
		if r.machine.State().Terminal() {
			if err := r.children.Wait(); err != nil {
				return fmt.Errorf("job %s: what is durable is in doubt: %w", r.id, err)
			}
			return r.retainLast(ctx)
		}
		due := earliest(earliest(r.machine.Deadline(), r.coord.Deadline()), earliest(r.committer.Deadline(), r.discovery.Deadline()))
		due = earliest(due, r.publisher.Deadline())
		arm(timer, earliest(due, publishAt))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case msg := <-r.inbox:
			r.receive(time.Now(), msg)
		case g := <-r.grants:
			r.onGrant(g)
		case now := <-timer.C:
			if due.IsZero() || now.Before(due) {
				continue // only the view is due
			}
			r.queue = append(r.queue, job.Tick{}, checkpoint.Tick{}, commit.Tick{}, discovery.Tick{}, publish.Tick{})
		}
	}
}

// onGrant takes what was posted before the grant first: the loss of an older session of a task manager must
// not be taken for that of the session whose slots these are.
func (r *runner) onGrant(g slots.Grant) {
	for range len(r.inbox) {
		r.receive(time.Now(), <-r.inbox)
	}
	r.enqueue(job.SlotsGranted{Attempt: g.Attempt, Slots: g.Slots})
}

// contain keeps a bug that one job meets from ending all of them: its subtasks are cancelled, and what is
// durable of it is left for the next start of the job manager. Its slots stay held, as nobody takes note of
// the end of its subtasks.
func (r *runner) contain() {
	p := recover()
	if p == nil {
		return
	}
	r.log.Error("the job loop broke", "panic", p, "stack", string(debug.Stack()))
	r.storeError = fmt.Sprintf("the job manager met a bug in this job and no longer runs it: %v; please report it with the log, and restart the job manager", p)
	if d := r.deployed; d != nil {
		for w := range d.targets {
			r.m.sessions.send(w, cancelMessage(r.id, d.fence, d.subtasksOn(w)))
		}
	}
	r.viewMu.Lock()
	defer r.viewMu.Unlock()
	v := *r.current
	v.waiting, v.broken = []string{r.storeError}, r.storeError
	r.current = &v
	close(r.changed)
	r.changed = make(chan struct{})
}

// arm makes timer fire at t, or never when t is zero.
func arm(timer *time.Timer, t time.Time) {
	if t.IsZero() {
		timer.Stop()
		return
	}
	timer.Reset(time.Until(t))
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// post hands a message to the loop; while the inbox is full it waits, until ctx ends.
func (r *runner) post(ctx context.Context, msg any) {
	select {
	case r.inbox <- msg: // first, so that what has room is never dropped
		return
	default:
	}
	select {
	case r.inbox <- msg:
	case <-r.over:
	case <-ctx.Done():
	}
}

// deliver hands over a message that is told only once; it waits as long as the job manager lives.
func (r *runner) deliver(msg any) {
	select {
	case r.inbox <- msg:
	case <-r.over:
	case <-r.m.ending:
	}
}

// beside runs f in a child; then runs in the loop with its outcome.
func (r *runner) beside(ctx context.Context, f func(context.Context) error, then func(now time.Time, err error)) {
	r.children.Go(func() error {
		err := f(ctx)
		r.post(ctx, done{func(now time.Time) { then(now, err) }})
		if inDoubt(err) { // for a loop that has ended, and asks nobody else
			return err
		}
		return nil
	})
}

// ended says that the job is in a terminal state.
func (r *runner) ended() bool { return r.isEnded.Load() }

// runs says that the job has a loop, or will have one when the manager runs.
func (r *runner) runs() bool { return !r.ended() && r.damage == "" }

// view is the newest snapshot.
func (r *runner) view() *jobView {
	v, _ := r.watch()
	return v
}

// watch is the newest snapshot and a channel that is closed when there is a newer one.
func (r *runner) watch() (*jobView, <-chan struct{}) {
	r.viewMu.Lock()
	defer r.viewMu.Unlock()
	return r.current, r.changed
}
