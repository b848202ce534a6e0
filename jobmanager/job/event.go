package job

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// SubtaskState is the state of one subtask as its task manager reports it. It only rises; of the last two
// the first report stands.
type SubtaskState string

// The states of subtasks.
const (
	SubtaskDeploying SubtaskState = "DEPLOYING"
	SubtaskRunning   SubtaskState = "RUNNING"
	// SubtaskAtEnd: a bounded source has sent everything and goes on forwarding barriers.
	SubtaskAtEnd    SubtaskState = "AT_END"
	SubtaskCanceled SubtaskState = "CANCELED"
	SubtaskFailed   SubtaskState = "FAILED"
)

// rank orders the states; 0: unknown.
func (s SubtaskState) rank() int {
	switch s {
	case SubtaskDeploying:
		return 1
	case SubtaskRunning:
		return 2
	case SubtaskAtEnd:
		return 3
	case SubtaskCanceled, SubtaskFailed:
		return 4
	default:
		return 0
	}
}

func (s SubtaskState) over() bool { return s == SubtaskCanceled || s == SubtaskFailed }

// Event is what the machine reacts to.
type Event interface {
	fmt.Stringer
	event()
}

// Submitted is the first event of a new job.
type Submitted struct{}

// Recovered is the first event after a start of the job manager: no attempt is current any more.
type Recovered struct {
	// Final says that the newest completed checkpoint is a final one.
	Final bool
}

// SlotsGranted answers RequestSlots.
type SlotsGranted struct {
	Attempt ident.Attempt
	Slots   []ident.Slot
}

// WorkerLost says that a task manager is gone. Certain: its process is known to be dead; otherwise it may
// run on until its lease is over (Config.Lease).
type WorkerLost struct {
	Worker  ident.WorkerID
	Reason  string
	Certain bool
	// LastContact is when it was last heard of, from which its lease counts; zero: now.
	LastContact time.Time
}

// WorkerResumed says that a task manager resumed its session; what it may have missed is repeated.
type WorkerResumed struct{ Worker ident.WorkerID }

// SubtaskStatus is a report of a task manager. Failure belongs to FAILED.
type SubtaskStatus struct {
	Fence   ident.Fence
	Subtask ident.Subtask
	State   SubtaskState
	Failure *Failure
}

// DeployFailed says that Deploy could not be carried out, in whole or in part.
type DeployFailed struct {
	Fence   ident.Fence
	Failure Failure
	// Gone are the workers of the attempt that have no session: nothing was or will be sent to them.
	Gone []ident.WorkerID
	// Refused says that no other deployment would fare better, such as when the checkpoint must not be
	// restored: the job fails.
	Refused bool
}

// DeployHeld says that a deployment waits for the commits of completed checkpoints, however long that takes.
type DeployHeld struct{ Fence ident.Fence }

// DeploySent says that a deployment was sent out, and how long its subtasks may take to read their state before they run:
// the time that it has begins anew.
type DeploySent struct {
	Fence   ident.Fence
	Restore time.Duration
}

// CheckpointCompleted says that a checkpoint is durable.
type CheckpointCompleted struct {
	Fence      ident.Fence
	Checkpoint ident.CheckpointID
	Final      bool
}

// CheckpointSettled answers StopCheckpoints, exactly once: no write of a manifest is on its way any more,
// and CheckpointCompleted was told if one succeeded.
type CheckpointSettled struct{ Fence ident.Fence }

// CheckpointsFailing says that the coordinator gave up the attempt.
type CheckpointsFailing struct {
	Fence ident.Fence
	Why   string
}

// SourceFailing says that a source of a running attempt cannot be read on from where it is, and that no other
// attempt would fare better.
type SourceFailing struct {
	Fence ident.Fence
	Why   string
}

// DataLost says that what a completed checkpoint promised cannot be kept (DESIGN rule 14).
type DataLost struct{ Failure Failure }

// Cancel ends the job without a final checkpoint.
type Cancel struct{}

// Stop ends the job with a final checkpoint; Drain sends the end of data through the job first.
type Stop struct{ Drain bool }

// CleanedUp answers CleanUp: all that completed checkpoints name is committed, all else is fenced.
type CleanedUp struct{}

// Tick says that Deadline has passed.
type Tick struct{}

func (Submitted) event()           {}
func (Recovered) event()           {}
func (SlotsGranted) event()        {}
func (WorkerLost) event()          {}
func (WorkerResumed) event()       {}
func (SubtaskStatus) event()       {}
func (DeployFailed) event()        {}
func (DeployHeld) event()          {}
func (DeploySent) event()          {}
func (CheckpointCompleted) event() {}
func (CheckpointSettled) event()   {}
func (CheckpointsFailing) event()  {}
func (SourceFailing) event()       {}
func (DataLost) event()            {}
func (Cancel) event()              {}
func (Stop) event()                {}
func (CleanedUp) event()           {}
func (Tick) event()                {}

// String is submitted.
func (Submitted) String() string { return "submitted" }

// String says whether the newest checkpoint is final.
func (e Recovered) String() string {
	if e.Final {
		return "recovered after a final checkpoint"
	}
	return "recovered"
}

// String names attempt and slots.
func (e SlotsGranted) String() string {
	return fmt.Sprintf("slots %v granted for attempt %d", e.Slots, e.Attempt)
}

// String names the worker and why.
func (e WorkerLost) String() string {
	if e.Certain {
		return fmt.Sprintf("%s is dead: %s", e.Worker, e.Reason)
	}
	return fmt.Sprintf("%s lost: %s", e.Worker, e.Reason)
}

// String names the worker.
func (e WorkerResumed) String() string { return fmt.Sprintf("%s resumed", e.Worker) }

// String names attempt, subtask and state.
func (e SubtaskStatus) String() string {
	s := fmt.Sprintf("%s of %s is %s", e.Subtask, e.Fence, e.State)
	if e.Failure != nil {
		s += fmt.Sprintf(" (%s)", e.Failure)
	}
	return s
}

// String names the attempt and why.
func (e DeployFailed) String() string {
	return fmt.Sprintf("deployment of %s failed: %s", e.Fence, e.Failure)
}

// String names the attempt.
func (e DeployHeld) String() string {
	return fmt.Sprintf("deployment of %s waits for commits", e.Fence)
}

// String names the attempt and the time.
func (e DeploySent) String() string {
	return fmt.Sprintf("deployment of %s is out, its state may take %s", e.Fence, e.Restore)
}

// String names the checkpoint.
func (e CheckpointCompleted) String() string {
	if e.Final {
		return fmt.Sprintf("final checkpoint %d of %s completed", e.Checkpoint, e.Fence)
	}
	return fmt.Sprintf("checkpoint %d of %s completed", e.Checkpoint, e.Fence)
}

// String names the attempt.
func (e CheckpointSettled) String() string { return fmt.Sprintf("checkpoints of %s settled", e.Fence) }

// String names the attempt and why.
func (e CheckpointsFailing) String() string {
	return fmt.Sprintf("checkpoints of %s fail: %s", e.Fence, e.Why)
}

// String names the attempt and why.
func (e SourceFailing) String() string {
	return fmt.Sprintf("a source of %s fails: %s", e.Fence, e.Why)
}

// String gives the failure.
func (e DataLost) String() string { return fmt.Sprintf("data lost: %s", e.Failure) }

// String is cancel.
func (Cancel) String() string { return "cancel" }

// String is stop, with the way.
func (e Stop) String() string {
	if e.Drain {
		return "stop --drain"
	}
	return "stop"
}

// String is cleaned up.
func (CleanedUp) String() string { return "cleaned up" }

// String is tick.
func (Tick) String() string { return "tick" }
