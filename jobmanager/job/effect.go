package job

import (
	"fmt"

	"github.com/sluice-stream/sluice/ident"
)

// Effect is what the shell has to do, in the order given.
type Effect interface {
	fmt.Stringer
	effect()
}

// Persist makes the record durable; what follows is done only after that.
type Persist struct{ Record Record }

// RequestSlots enters the job in the line for slots; answered by SlotsGranted, perhaps much later.
type RequestSlots struct {
	Attempt ident.Attempt
	Slots   int
	// Restarting says that the job ran before.
	Restarting bool
}

// WithdrawRequest takes the job out of the line: it will not ask again.
type WithdrawRequest struct{}

// VacateSlots frees the slots of one worker that an attempt held: its subtasks there have ended.
type VacateSlots struct {
	Attempt ident.Attempt
	Worker  ident.WorkerID
}

// ReleaseSlots ends the job's part in the slot pool.
type ReleaseSlots struct{}

// Deploy restores the newest completed checkpoint and starts the attempt. Slots[i] runs subtask i of every
// vertex whose parallelism is above i. Answered by SubtaskStatus events or DeployFailed.
type Deploy struct {
	Fence ident.Fence
	Slots []ident.Slot
}

// RepeatDeploy sends a worker again what belongs to the current attempt: it may have missed it.
type RepeatDeploy struct {
	Fence  ident.Fence
	Worker ident.WorkerID
}

// CancelAttempt ends the subtasks of an attempt on one worker; answered by a SubtaskStatus for each.
type CancelAttempt struct {
	Fence    ident.Fence
	Worker   ident.WorkerID
	Subtasks []ident.Subtask
}

// StartCheckpoints says that all subtasks of the attempt run.
type StartCheckpoints struct{ Fence ident.Fence }

// StopCheckpoints says that the attempt is over for the coordinator; answered by CheckpointSettled.
type StopCheckpoints struct {
	Fence ident.Fence
	Why   string
}

// FinalCheckpoint asks for the last checkpoint of the job; answered by CheckpointCompleted with Final.
type FinalCheckpoint struct {
	Fence ident.Fence
	Drain bool
}

// AttemptGone says that nothing of this attempt, nor of an older one, can run any more: its task managers
// confirmed it, their processes are known to be dead, or their leases have run out (DESIGN rule 13).
type AttemptGone struct{ Attempt ident.Attempt }

// CleanUp commits what the newest completed checkpoint names and fences all else, repeating until it is
// done; answered by CleanedUp.
type CleanUp struct{}

// Transition reports a move, for the log and the metrics.
type Transition struct {
	From, To State
	Event    Trigger
}

// Ignored is an event that had no effect, to be counted. Refused: it is a request, and the user is to hear why; one that
// repeats what was asked for before is ignored without.
type Ignored struct {
	What, Why string
	Refused   bool
}

func (Persist) effect()          {}
func (RequestSlots) effect()     {}
func (WithdrawRequest) effect()  {}
func (VacateSlots) effect()      {}
func (ReleaseSlots) effect()     {}
func (Deploy) effect()           {}
func (RepeatDeploy) effect()     {}
func (CancelAttempt) effect()    {}
func (StartCheckpoints) effect() {}
func (StopCheckpoints) effect()  {}
func (FinalCheckpoint) effect()  {}
func (AttemptGone) effect()      {}
func (CleanUp) effect()          {}
func (Transition) effect()       {}
func (Ignored) effect()          {}

// String prints the record.
func (e Persist) String() string { return "persist " + e.Record.String() }

// String names attempt and count.
func (e RequestSlots) String() string {
	if e.Restarting {
		return fmt.Sprintf("request %d slots for attempt %d, restarting", e.Slots, e.Attempt)
	}
	return fmt.Sprintf("request %d slots for attempt %d", e.Slots, e.Attempt)
}

// String is withdraw request.
func (WithdrawRequest) String() string { return "withdraw request" }

// String names attempt and worker.
func (e VacateSlots) String() string {
	return fmt.Sprintf("vacate slots of attempt %d on %s", e.Attempt, e.Worker)
}

// String is release slots.
func (ReleaseSlots) String() string { return "release slots" }

// String names attempt and slots.
func (e Deploy) String() string { return fmt.Sprintf("deploy %s on %v", e.Fence, e.Slots) }

// String names attempt and worker.
func (e RepeatDeploy) String() string { return fmt.Sprintf("repeat %s to %s", e.Fence, e.Worker) }

// String names attempt, worker and subtasks.
func (e CancelAttempt) String() string {
	return fmt.Sprintf("cancel %s on %s: %v", e.Fence, e.Worker, e.Subtasks)
}

// String names the attempt.
func (e StartCheckpoints) String() string { return fmt.Sprintf("start checkpoints of %s", e.Fence) }

// String names the attempt and why.
func (e StopCheckpoints) String() string {
	return fmt.Sprintf("stop checkpoints of %s: %s", e.Fence, e.Why)
}

// String names the attempt and the kind.
func (e FinalCheckpoint) String() string {
	if e.Drain {
		return fmt.Sprintf("final checkpoint of %s, drain", e.Fence)
	}
	return fmt.Sprintf("final checkpoint of %s", e.Fence)
}

// String names the attempt.
func (e AttemptGone) String() string { return fmt.Sprintf("attempt %d is gone", e.Attempt) }

// String is clean up.
func (CleanUp) String() string { return "clean up" }

// String prints from, to and event.
func (e Transition) String() string { return fmt.Sprintf("%s → %s (%s)", e.From, e.To, e.Event) }

// String names the event and why it had no effect.
func (e Ignored) String() string { return fmt.Sprintf("ignored %s: %s", e.What, e.Why) }
