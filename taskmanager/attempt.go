package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/builtin"
	"github.com/sluice-stream/sluice/taskmanager/exchange"
	"github.com/sluice-stream/sluice/taskmanager/subtask"
)

// firstEndsWithin is how long the failure of an exchange waits for the end of the subtask that it is told of.
const firstEndsWithin = 5 * time.Second

// errCanceled is the cause when the job manager has cancelled an attempt.
var errCanceled = errors.New("cancelled by the job manager")

// attempt is what runs of one attempt of a job on this task manager.
type attempt struct {
	tm     *TaskManager
	id     attemptID
	deploy *deployment
	cancel context.CancelCauseFunc
	done   chan struct{}

	mu     sync.Mutex
	tasks  map[ident.Subtask]*task // those that run
	failed map[ident.Subtask]bool
	// sinks are those with transactions; handedOut is below which number they own all ids, from messages that
	// may come before the sink is made.
	sinks     map[sinkKey]operator.Transactional
	handedOut map[sinkKey]int
	// added are the splits that came since the deployment, perhaps before their subtask was made.
	added map[ident.Subtask][]manifest.Position
	// uploads are those of acks; they tell their outcome themselves.
	uploads uploads
	// over is closed when the attempt is cancelled.
	over <-chan struct{}
}

// task is a built subtask with what the connectors say that it waits for.
type task struct {
	*subtask.Task
	cfg     subtask.Config
	waiting waitingReasons
	// failures decides over records that fail, and counts them.
	failures *builtin.Failures
	// recordsFailed counts what sinks with the guarantee none could not write.
	recordsFailed atomic.Int64
}

// start runs an attempt once older, still ending ones of the same job have ended.
func (tm *TaskManager) start(d *deployment, after []*attempt) *attempt {
	ctx, cancel := context.WithCancelCause(context.Background()) // ended by cancel: by the job manager, or by reset
	a := &attempt{
		tm: tm, id: d.id, deploy: d, cancel: cancel, done: make(chan struct{}), over: ctx.Done(), tasks: map[ident.Subtask]*task{},
		failed: map[ident.Subtask]bool{}, sinks: map[sinkKey]operator.Transactional{}, handedOut: map[sinkKey]int{},
		added: map[ident.Subtask][]manifest.Position{},
	}
	tm.running.Add(1)
	go func() {
		defer tm.running.Done()
		defer close(a.done)
		defer cancel(nil)
		for _, old := range after {
			<-old.done
		}
		a.run(ctx)
	}()
	return a
}

// run reports every subtask as DEPLOYING first and as CANCELED or FAILED last, whatever happens.
func (a *attempt) run(ctx context.Context) {
	for _, s := range a.deploy.subtasks {
		a.report(s, Deploying, nil)
	}
	a.runTasks(ctx)
	<-ctx.Done() // the job manager cancels the attempt; until then a failure can be repeated to it
	for _, s := range a.deploy.subtasks {
		if !a.failed[s] {
			a.report(s, Canceled, nil)
		}
	}
}

// fail reports the failure of a subtask, once. The failure of the attempt as a whole is that of its first.
func (a *attempt) fail(ctx context.Context, s ident.Subtask, err error) {
	a.mu.Lock()
	told := a.failed[s] || ctx.Err() != nil
	a.failed[s] = a.failed[s] || !told
	a.mu.Unlock()
	if !told {
		a.report(s, Failed, err)
	}
}

func (a *attempt) report(s ident.Subtask, state SubtaskState, err error) {
	r := report{attempt: a.id, subtask: s, state: state}
	if err != nil {
		r.failure = Failure{Class: subtask.Class(err), Message: err.Error()}
		a.tm.cfg.Logger.Error("subtask failed", "job", a.id.job, "attempt", a.id.fence.Attempt, "subtask", s.String(), "class", r.failure.Class, "reason", err)
	} else {
		a.tm.cfg.Logger.Debug("subtask", "job", a.id.job, "attempt", a.id.fence.Attempt, "subtask", s.String(), "state", state)
	}
	a.tm.outbox.report(r)
}

// runTasks builds and runs the subtasks until ctx ends. When one fails the others go on until the job
// manager cancels them, so that their peers see no broken streams before they hear of the failure.
func (a *attempt) runTasks(ctx context.Context) {
	first := a.deploy.subtasks[0]
	plan, err := graph.Plan(a.deploy.job, a.tm.expressions)
	if err != nil {
		a.fail(ctx, first, fmt.Errorf("plan the deployed job: %w", err))
		return
	}
	ex, err := a.tm.network.NewAttempt(exchange.AttemptConfig{Job: a.id.job, Fence: a.id.fence, Graph: plan, Placements: a.deploy.placements})
	if err != nil {
		a.fail(ctx, first, fmt.Errorf("prepare the exchange: %w", err))
		return
	}
	upload := func(id ident.CheckpointID, f func(context.Context)) { a.uploads.start(ctx, id, f) }
	b := &builder{attempt: a, plan: plan, exchange: ex, upload: upload}
	built, err := b.buildAll()
	if err != nil {
		a.fail(ctx, first, err)
		return
	}
	a.runAll(ctx, b, built)
	a.uploads.running.Wait()
}

// runAll runs the exchange and the subtasks. A broken exchange is told as the failure of the first subtask, which ends
// before: the slot of one that is reported as failed is free.
func (a *attempt) runAll(ctx context.Context, b *builder, built []*task) {
	first, firstEnded := a.deploy.subtasks[0], make(chan struct{})
	firstCtx, endFirst := context.WithCancel(ctx)
	defer endFirst()
	var wg sync.WaitGroup
	wg.Go(func() {
		err := b.exchange.Run(ctx)
		if err == nil {
			return
		}
		endFirst()
		select {
		case <-firstEnded:
		case <-time.After(firstEndsWithin): // stuck; whoever cancels the attempt will find that out
		}
		a.fail(ctx, first, err)
	})
	for _, t := range built {
		wg.Go(func() {
			ctx := ctx
			if t.cfg.Subtask == first {
				defer close(firstEnded)
				ctx = firstCtx // once it is over, what follows is told above, with the reason
			}
			if err := a.runTask(ctx, b, t); err != nil {
				a.fail(ctx, t.cfg.Subtask, err)
			}
		})
	}
	wg.Wait()
}

// lease says why this attempt may not begin or extend transactions any more, nil while it may (DESIGN rule
// 13). Every attempt of a session has ended before the next session's lease begins.
func (a *attempt) lease() error {
	select {
	case <-a.over:
		return errCanceled
	default:
	}
	if a.tm.lease.left() <= 0 {
		return errLeaseOver
	}
	return nil
}

func (a *attempt) addTransactional(key sinkKey, sink operator.Transactional) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sinks[key] = sink
	if below, ok := a.handedOut[key]; ok {
		sink.HandOut(below)
	}
}

// attemptOf is the attempt of this id if it is the newest of its job; nil: it is over, or was never deployed here.
func (tm *TaskManager) attemptOf(id attemptID) *attempt {
	tm.mu.Lock()
	defer tm.mu.Unlock()
	if a := tm.attempts[id.job]; a != nil && a.id == id {
		return a
	}
	return nil
}

// onHandOut gives a sink more ids; a repeat and a late one change nothing.
func (tm *TaskManager) onHandOut(id attemptID, key sinkKey, below int) {
	a := tm.attemptOf(id)
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handedOut[key] = max(a.handedOut[key], below)
	if sink := a.sinks[key]; sink != nil {
		sink.HandOut(a.handedOut[key])
	}
}

// onAddSplits gives a source subtask more splits; those that it has are passed over, so a repeat changes nothing.
func (tm *TaskManager) onAddSplits(id attemptID, to ident.Subtask, splits []manifest.Position) {
	a := tm.attemptOf(id)
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.tasks[to]; t != nil {
		t.AddSplits(splits)
		return
	}
	for _, p := range splits {
		if !slices.ContainsFunc(a.added[to], func(o manifest.Position) bool { return o.Split == p.Split }) {
			a.added[to] = append(a.added[to], p)
		}
	}
}

// onRemoveSplits has a source subtask let go of splits. They are taken only from one that runs, so it is made already.
func (tm *TaskManager) onRemoveSplits(id attemptID, from ident.Subtask, splits []manifest.Position) {
	a := tm.attemptOf(id)
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.tasks[from]; t != nil {
		t.RemoveSplits(splits)
	}
}

// runTask restores and runs a subtask. The exchange runs already, so peers do not wait for large state.
func (a *attempt) runTask(ctx context.Context, b *builder, t *task) error {
	var err error
	if t.cfg.State, err = b.restore(ctx, t.cfg.Subtask, &t.cfg.Vertex); err != nil {
		return fmt.Errorf("restore subtask %s: %w", t.cfg.Subtask, err)
	}
	made, err := subtask.New(t.cfg)
	if err != nil {
		return err
	}
	t.cfg.State = nil // the task has it; it is not kept twice
	t.Task = made
	a.mu.Lock()
	a.tasks[t.cfg.Subtask] = t
	made.AddSplits(a.added[t.cfg.Subtask])
	a.mu.Unlock()
	return made.Run(ctx)
}

// onDeploy starts an attempt; a repeat and a late one change nothing.
func (tm *TaskManager) onDeploy(d *deployment) {
	if len(d.subtasks) == 0 {
		return
	}
	job, fence := d.id.job, d.id.fence
	tm.mu.Lock()
	defer tm.mu.Unlock()
	var after []*attempt
	if old := tm.attempts[job]; old != nil {
		if !newerFence(fence, old.id.fence) {
			return // a repeat, or late
		}
		tm.cancelLocked(old, errors.New("a newer attempt is deployed"))
		after = append(after, old)
	}
	after = append(after, tm.ending[job]...)
	tm.cfg.Logger.Info("deploying", "job", job, "attempt", fence.Attempt, "subtasks", len(d.subtasks), "checkpoint", d.restored)
	tm.attempts[job] = tm.start(d, after)
}

func newerFence(a, b ident.Fence) bool {
	return a.Epoch > b.Epoch || a.Epoch == b.Epoch && a.Attempt > b.Attempt
}

// onCancel ends all attempts of a job up to this one; of one that does not run here it reports the end.
func (tm *TaskManager) onCancel(id attemptID, subtasks []ident.Subtask) {
	job, fence := id.job, id.fence
	tm.mu.Lock()
	defer tm.mu.Unlock()
	if a := tm.attempts[job]; a != nil && !newerFence(a.id.fence, fence) {
		tm.cancelLocked(a, errCanceled) // an older one, too, whose own cancellation was lost
	}
	for _, old := range tm.ending[job] {
		if old.id.fence == fence {
			return // its reports come when it has ended
		}
	}
	for _, s := range subtasks { // nothing of it runs here, and that is what is asked for
		tm.outbox.report(report{attempt: id, subtask: s, state: Canceled})
	}
	tm.outbox.forgetAttempt(id)
}

// cancelLocked ends an attempt. It leaves attempts at once and ending when it has ended; if that takes
// longer than the cancel timeout, the process ends instead: its slots must become free.
func (tm *TaskManager) cancelLocked(a *attempt, why error) {
	delete(tm.attempts, a.id.job)
	tm.ending[a.id.job] = append(tm.ending[a.id.job], a)
	a.cancel(why)
	tm.running.Add(1)
	go func() {
		defer tm.running.Done()
		if !endsWithin(tm.cfg.CancelTimeout, a.done) {
			select {
			case tm.fatal <- fmt.Errorf("attempt %s of job %s did not end within %s of its cancellation", a.id.fence, a.id.job, tm.cfg.CancelTimeout):
			default:
			}
			return
		}
		tm.mu.Lock()
		defer tm.mu.Unlock()
		tm.outbox.forgetAttempt(a.id) // with the lock: a repeated cancellation finds either the reports or nothing of the attempt
		rest := slices.DeleteFunc(tm.ending[a.id.job], func(o *attempt) bool { return o == a })
		if tm.ending[a.id.job] = rest; len(rest) == 0 {
			delete(tm.ending, a.id.job)
		}
	}()
}

// cancelBeats is in how many parts an attempt's time to end is counted.
const cancelBeats = 30

// endsWithin waits until done is closed, for so long at most. It counts beats of a ticker: while the process stood still its
// subtasks had no time to end either.
func endsWithin(timeout time.Duration, done <-chan struct{}) bool {
	beat := time.NewTicker(max(timeout/cancelBeats, 1))
	defer beat.Stop()
	for range cancelBeats {
		select {
		case <-done:
			return true
		case <-beat.C:
		}
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// each calls f for the tasks of exactly this attempt.
func (tm *TaskManager) each(id attemptID, f func(*task)) {
	a := tm.attemptOf(id)
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.tasks {
		f(t)
	}
}

// subtaskCounters are those of one running subtask.
type subtaskCounters struct {
	attempt                                                  attemptID
	subtask                                                  ident.Subtask
	recordsIn, recordsOut, bytesIn, bytesOut, recordsSkipped int64
	deadLettered, recordsFailed                              int64
	lag                                                      []operator.SplitLag
	waiting                                                  string
}

// counters are those of everything that runs.
func (tm *TaskManager) counters() []subtaskCounters {
	tm.mu.Lock()
	defer tm.mu.Unlock()
	var out []subtaskCounters
	for _, a := range tm.attempts {
		a.mu.Lock()
		for s, t := range a.tasks {
			c := t.Counters()
			out = append(out, subtaskCounters{
				attempt: a.id, subtask: s, recordsIn: c.RecordsIn.Load(), recordsOut: c.RecordsOut.Load(), bytesIn: c.BytesIn.Load(),
				bytesOut: c.BytesOut.Load(), recordsSkipped: t.failures.Skipped.Load(), deadLettered: t.failures.DeadLettered.Load(),
				recordsFailed: t.recordsFailed.Load(),
				lag:           t.Lag(), waiting: joinReasons(t.waiting.String(), t.Waiting()),
			})
		}
		a.mu.Unlock()
	}
	return out
}

// joinReasons joins what is not empty.
func joinReasons(reasons ...string) string {
	return strings.Join(slices.DeleteFunc(reasons, func(r string) bool { return r == "" }), "; ")
}

// reporter is the subtask.Reporter of one subtask.
type reporter struct {
	a       *attempt
	subtask ident.Subtask
	// upload runs what uploads the state of a checkpoint.
	upload func(ident.CheckpointID, func(context.Context))
}

// Running reports it.
func (r *reporter) Running() { r.a.report(r.subtask, Running, nil) }

// AtEnd reports it.
func (r *reporter) AtEnd() { r.a.report(r.subtask, AtEnd, nil) }

// Decline passes it on.
func (r *reporter) Decline(id ident.CheckpointID, reason string) {
	r.a.tm.outbox.decline(decline{r.a.id, r.subtask, id, reason})
}

// Ack sends the ack, unless a failpoint loses it; state beyond the inline limit is uploaded first, beside the flow.
func (r *reporter) Ack(ack *manifest.Ack) {
	if err := failpoint.Hit(failpoint.SendAck); err != nil {
		return
	}
	var total int64
	for i := range ack.State {
		total += int64(len(ack.State[i].Inline))
	}
	if total <= r.a.deploy.inlineBytes {
		r.a.tm.outbox.ack(ack)
		return
	}
	r.upload(ack.Checkpoint, func(ctx context.Context) {
		for i := range ack.State {
			s := &ack.State[i]
			blob, err := r.a.tm.transfer.put(ctx, ack, s.Operator, s.Inline)
			if err != nil {
				r.Decline(ack.Checkpoint, err.Error())
				return
			}
			s.Inline, s.Blob = nil, blob
		}
		r.a.tm.outbox.ack(ack)
	})
}

// nameOf is the name of a running job, for labels; its id when it is not known.
func (tm *TaskManager) nameOf(id ident.JobID) string {
	tm.mu.Lock()
	defer tm.mu.Unlock()
	if a := tm.attempts[id]; a != nil {
		return a.deploy.job.Name
	}
	return string(id)
}
