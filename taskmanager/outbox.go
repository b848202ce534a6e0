package taskmanager

import (
	"sync"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// SubtaskState is the state of a subtask as the job manager is told; it only rises.
type SubtaskState string

// The states of a subtask, in order.
const (
	Deploying SubtaskState = "DEPLOYING"
	Running   SubtaskState = "RUNNING"
	AtEnd     SubtaskState = "AT_END"
	Canceled  SubtaskState = "CANCELED"
	Failed    SubtaskState = "FAILED"
)

// Failure says why a subtask failed. Class is user, external or internal.
type Failure struct {
	Class, Message string
}

// report is the newest state of one subtask.
type report struct {
	attempt attemptID
	subtask ident.Subtask
	state   SubtaskState
	failure Failure
}

type attemptID struct {
	job   ident.JobID
	fence ident.Fence
}

type reportKey struct {
	attempt attemptID
	subtask ident.Subtask
}

type ackKey struct {
	reportKey
	checkpoint ident.CheckpointID
}

// decline says that a subtask cannot take part in a checkpoint.
type decline struct {
	attempt    attemptID
	subtask    ident.Subtask
	checkpoint ident.CheckpointID
	reason     string
}

// outbox holds what the job manager has to know as levels, not as a queue: per subtask the newest
// state, per pending checkpoint the ack. So it is bounded by what runs here, a lost stream loses
// nothing, and a resumed session repeats it all (the receiver is idempotent).
type outbox struct {
	mu       sync.Mutex
	reports  map[reportKey]report
	acks     map[ackKey]*manifest.Ack
	declines map[ackKey]decline
	// unsent holds what has changed since the current stream began or was last drained.
	unsentReports  []report
	unsentAcks     []*manifest.Ack
	unsentDeclines []decline
	wake           chan struct{}
}

func newOutbox() *outbox {
	return &outbox{
		reports: map[reportKey]report{}, acks: map[ackKey]*manifest.Ack{}, declines: map[ackKey]decline{},
		wake: make(chan struct{}, 1),
	}
}

func (o *outbox) report(r report) {
	o.mu.Lock()
	o.reports[reportKey{r.attempt, r.subtask}] = r
	o.unsentReports = append(o.unsentReports, r)
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) ack(a *manifest.Ack) {
	key := ackKey{reportKey{attemptID{a.Job, a.Fence}, a.Subtask}, a.Checkpoint}
	o.mu.Lock()
	o.acks[key] = a
	o.unsentAcks = append(o.unsentAcks, a)
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) decline(d decline) {
	o.mu.Lock()
	o.declines[ackKey{reportKey{d.attempt, d.subtask}, d.checkpoint}] = d
	o.unsentDeclines = append(o.unsentDeclines, d)
	o.mu.Unlock()
	o.signal()
}

// settled forgets the acks of an attempt up to a checkpoint whose outcome is known.
func (o *outbox) settled(a attemptID, upTo ident.CheckpointID) {
	o.forget(func(k ackKey) bool { return k.attempt == a && k.checkpoint <= upTo }, func(reportKey) bool { return false })
}

// forgetAttempt forgets everything about an attempt that the job manager has cancelled. Its last
// reports that are still unsent go out all the same.
func (o *outbox) forgetAttempt(a attemptID) {
	o.forget(func(k ackKey) bool { return k.attempt == a }, func(k reportKey) bool { return k.attempt == a })
}

func (o *outbox) forget(ack func(ackKey) bool, rep func(reportKey) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.acks {
		if ack(k) {
			delete(o.acks, k)
		}
	}
	for k := range o.declines {
		if ack(k) {
			delete(o.declines, k)
		}
	}
	for k := range o.reports {
		if rep(k) {
			delete(o.reports, k)
		}
	}
}

// repeatAll makes everything that is still held unsent again, for a new stream of the same session.
func (o *outbox) repeatAll() {
	o.mu.Lock()
	o.unsentReports, o.unsentAcks, o.unsentDeclines = nil, nil, nil
	for _, r := range o.reports {
		o.unsentReports = append(o.unsentReports, r)
	}
	for _, a := range o.acks {
		o.unsentAcks = append(o.unsentAcks, a)
	}
	for _, d := range o.declines {
		o.unsentDeclines = append(o.unsentDeclines, d)
	}
	o.mu.Unlock()
	o.signal()
}

// clear forgets everything, for a new session.
func (o *outbox) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.reports)
	clear(o.acks)
	clear(o.declines)
	o.unsentReports, o.unsentAcks, o.unsentDeclines = nil, nil, nil
}

func (o *outbox) take() ([]report, []*manifest.Ack, []decline) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, a, d := o.unsentReports, o.unsentAcks, o.unsentDeclines
	o.unsentReports, o.unsentAcks, o.unsentDeclines = nil, nil, nil
	return r, a, d
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
