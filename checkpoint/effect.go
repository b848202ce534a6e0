package checkpoint

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Effect is what the shell has to do, in the order given.
type Effect interface {
	fmt.Stringer
	effect()
}

// Trigger tells the sources of an attempt to emit the barrier of a checkpoint.
type Trigger struct {
	Checkpoint ident.CheckpointID
	Fence      ident.Fence
	Kind       Kind
	Sources    []ident.Subtask
}

// ReserveIDs makes durable that ids up to Through may have been used; answered by IDsReserved.
type ReserveIDs struct{ Through ident.CheckpointID }

// Persist makes the manifest durable together with the reservation, in one write; answered by
// Persisted. The coordinator does not touch the manifest any more.
type Persist struct {
	Manifest       *manifest.Manifest
	ReserveThrough ident.CheckpointID
}

// Completed says that a checkpoint is durable: its transactions are to be committed, then it is
// announced to the subtasks, its offsets are published, and retention runs.
type Completed struct {
	Manifest *manifest.Manifest
	// Duration is from the trigger to durability.
	Duration time.Duration
}

// Abort tells the subtasks that a checkpoint will not complete; what they sealed for it travels with
// their next acks.
type Abort struct {
	Checkpoint ident.CheckpointID
	Fence      ident.Fence
	Why        string
}

// Discard deletes every state file that was uploaded for a checkpoint that did not complete. No
// manifest names one: ids are never reused.
type Discard struct{ Checkpoint ident.CheckpointID }

// FailAttempt ends the attempt; the job restarts it from the latest checkpoint.
type FailAttempt struct {
	Fence ident.Fence
	Why   string
}

// Ignored is an event that had no effect, to be counted.
type Ignored struct{ What, Why string }

// Die ends the process: nobody can tell whether a checkpoint is durable. The next start reads it from
// the disk (DESIGN rule 4).
type Die struct{ Why string }

func (Trigger) effect()     {}
func (ReserveIDs) effect()  {}
func (Persist) effect()     {}
func (Completed) effect()   {}
func (Abort) effect()       {}
func (Discard) effect()     {}
func (FailAttempt) effect() {}
func (Ignored) effect()     {}
func (Die) effect()         {}

// String names checkpoint, attempt and kind.
func (e Trigger) String() string {
	return fmt.Sprintf("trigger %d of %s (%s) at %v", e.Checkpoint, e.Fence, e.Kind, e.Sources)
}

// String names the last id of the reservation.
func (e ReserveIDs) String() string { return fmt.Sprintf("reserve ids through %d", e.Through) }

// String names what the manifest holds.
func (e Persist) String() string {
	m := e.Manifest
	s := fmt.Sprintf("persist %d of %s: %d positions, %d states, %d transactions", m.Checkpoint, m.Fence,
		len(m.Positions), len(m.State), len(m.Transactions))
	if m.Final {
		s += ", final"
	}
	return s
}

// String names the checkpoint and its duration.
func (e Completed) String() string {
	s := fmt.Sprintf("completed %d of %s in %s", e.Manifest.Checkpoint, e.Manifest.Fence, e.Duration)
	if e.Manifest.Final {
		s += ", final"
	}
	return s
}

// String names checkpoint, attempt and reason.
func (e Abort) String() string {
	return fmt.Sprintf("abort %d of %s: %s", e.Checkpoint, e.Fence, e.Why)
}

// String names the checkpoint.
func (e Discard) String() string { return fmt.Sprintf("discard files of %d", e.Checkpoint) }

// String names attempt and reason.
func (e FailAttempt) String() string { return fmt.Sprintf("fail attempt %s: %s", e.Fence, e.Why) }

// String names the event and why it had no effect.
func (e Ignored) String() string { return fmt.Sprintf("ignored %s: %s", e.What, e.Why) }

// String gives the reason.
func (e Die) String() string { return "die: " + e.Why }
