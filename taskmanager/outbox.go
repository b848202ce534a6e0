package taskmanager

import (
	"maps"
	"sync"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
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

// Failure says why a subtask failed. Class is user, external, fenced or internal.
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

// sinkKey names a sink of one subtask of an attempt.
type sinkKey struct {
	subtask ident.Subtask
	sink    string
}

// sinkLevel is the newest level of a transactional sink.
type sinkLevel struct {
	attempt attemptID
	sinkKey
	operator.TransactionLevel
	sequence uint64 // given by the outbox
}

type levelKey struct {
	attempt attemptID
	sinkKey
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
	levels   map[levelKey]sinkLevel
	sequence uint64 // of the newest level
	// unsent is what has changed since the current stream began or was last drained.
	unsent unsent
	wake   chan struct{}
}

// unsent is what the stream has to carry next. Of levels only the newest of a sink is sent.
type unsent struct {
	reports  []report
	acks     []*manifest.Ack
	declines []decline
	levels   map[levelKey]sinkLevel
}

func newOutbox() *outbox {
	return &outbox{
		reports: map[reportKey]report{}, acks: map[ackKey]*manifest.Ack{}, declines: map[ackKey]decline{}, levels: map[levelKey]sinkLevel{},
		wake: make(chan struct{}, 1),
	}
}

func (o *outbox) report(r report) {
	o.mu.Lock()
	o.reports[reportKey{r.attempt, r.subtask}] = r
	o.unsent.reports = append(o.unsent.reports, r)
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) level(l sinkLevel) {
	key := levelKey{l.attempt, l.sinkKey}
	o.mu.Lock()
	o.sequence++
	l.sequence = o.sequence
	o.levels[key] = l
	o.unsent.level(key, l)
	o.mu.Unlock()
	o.signal()
}

func (u *unsent) level(key levelKey, l sinkLevel) {
	if u.levels == nil {
		u.levels = map[levelKey]sinkLevel{}
	}
	u.levels[key] = l
}

func (o *outbox) ack(a *manifest.Ack) {
	key := ackKey{reportKey{attemptID{a.Job, a.Fence}, a.Subtask}, a.Checkpoint}
	o.mu.Lock()
	o.acks[key] = a
	o.unsent.acks = append(o.unsent.acks, a)
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) decline(d decline) {
	o.mu.Lock()
	o.declines[ackKey{reportKey{d.attempt, d.subtask}, d.checkpoint}] = d
	o.unsent.declines = append(o.unsent.declines, d)
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
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.levels {
		if k.attempt == a {
			delete(o.levels, k)
		}
	}
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
	o.unsent = unsent{levels: maps.Clone(o.levels)}
	for _, r := range o.reports {
		o.unsent.reports = append(o.unsent.reports, r)
	}
	for _, a := range o.acks {
		o.unsent.acks = append(o.unsent.acks, a)
	}
	for _, d := range o.declines {
		o.unsent.declines = append(o.unsent.declines, d)
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
	clear(o.levels)
	o.unsent = unsent{}
}

func (o *outbox) take() unsent {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.unsent
	o.unsent = unsent{}
	return u
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
