package checkpoint

import (
	"fmt"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Kind says what the sources do at the barrier of a checkpoint.
type Kind int

// The kinds of checkpoints.
const (
	// KindPeriodic: the sources go on after the barrier.
	KindPeriodic Kind = iota + 1
	// KindFinal: after the barrier the sources emit nothing more.
	KindFinal
	// KindDrain: the sources end their data first, then as KindFinal.
	KindDrain
)

// String names the kind in messages and transcripts.
func (k Kind) String() string {
	switch k {
	case KindPeriodic:
		return "periodic"
	case KindFinal:
		return "final"
	case KindDrain:
		return "drain"
	default:
		return fmt.Sprintf("kind(%d)", int(k))
	}
}

// Event is what the coordinator reacts to.
type Event interface {
	fmt.Stringer
	event()
}

// AttemptStarted says that all subtasks of an attempt run.
type AttemptStarted struct {
	Fence ident.Fence
	// Subtasks are those whose acks complete a checkpoint; Sources are those that are triggered.
	Subtasks, Sources []ident.Subtask
	// Gated are the sinks that must have reported at least one prepared transactional id before a
	// checkpoint is triggered (DESIGN rule 11). Other sinks are always ready.
	Gated []ident.Subtask
}

// AttemptEnded says that nothing of this attempt, and none before it, is to be checkpointed any more.
type AttemptEnded struct {
	Fence ident.Fence
	Why   string
}

// Ack is the acknowledgement of one subtask.
type Ack struct{ manifest.Ack }

// Decline says that a subtask cannot take part in a checkpoint.
type Decline struct {
	Fence      ident.Fence
	Checkpoint ident.CheckpointID
	Subtask    ident.Subtask
	Reason     string
}

// HeldUp says that state of a subtask finds no room where it is stored. It comes again with each try.
type HeldUp struct {
	Fence      ident.Fence
	Checkpoint ident.CheckpointID
	Subtask    ident.Subtask
	Reason     string
}

// IDsReserved answers ReserveIDs. With Err nothing was reserved; it is asked for again.
type IDsReserved struct {
	Through ident.CheckpointID
	Err     error
}

// Persisted answers Persist. With Err and not Unknown the manifest is certainly not durable and is
// written again. Unknown means that nobody can tell (an fsync failed): the process has to end.
type Persisted struct {
	Checkpoint ident.CheckpointID
	Err        error
	Unknown    bool
}

// FinalRequested asks for a last checkpoint of the attempt; when it fails another one is drawn.
type FinalRequested struct {
	Fence ident.Fence
	// Drain lets the sources end their data before the barrier.
	Drain bool
}

// SinkReadiness is the number of transactional ids that a sink has ready: a level, not a change.
type SinkReadiness struct {
	Fence   ident.Fence
	Subtask ident.Subtask
	Ready   int
}

// Tick says that Deadline has passed.
type Tick struct{}

func (AttemptStarted) event() {}
func (AttemptEnded) event()   {}
func (Ack) event()            {}
func (Decline) event()        {}
func (HeldUp) event()         {}
func (IDsReserved) event()    {}
func (Persisted) event()      {}
func (FinalRequested) event() {}
func (SinkReadiness) event()  {}
func (Tick) event()           {}

// String names the attempt and its size.
func (e AttemptStarted) String() string {
	return fmt.Sprintf("attempt %s started with %d subtasks", e.Fence, len(e.Subtasks))
}

// String names the attempt and the reason.
func (e AttemptEnded) String() string { return fmt.Sprintf("attempt %s ended: %s", e.Fence, e.Why) }

// String names checkpoint, attempt and subtask.
func (e Ack) String() string {
	return fmt.Sprintf("ack %d of %s by %s", e.Checkpoint, e.Fence, e.Subtask)
}

// String names checkpoint, attempt, subtask and reason.
func (e Decline) String() string {
	return fmt.Sprintf("decline %d of %s by %s: %s", e.Checkpoint, e.Fence, e.Subtask, e.Reason)
}

// String names checkpoint, attempt, subtask and reason.
func (e HeldUp) String() string {
	return fmt.Sprintf("%d of %s is held up by %s: %s", e.Checkpoint, e.Fence, e.Subtask, e.Reason)
}

// String names the last id that may be used, or what went wrong.
func (e IDsReserved) String() string {
	if e.Err != nil {
		return fmt.Sprintf("ids through %d not reserved: %v", e.Through, e.Err)
	}
	return fmt.Sprintf("ids reserved through %d", e.Through)
}

// String names the checkpoint and the outcome.
func (e Persisted) String() string {
	switch {
	case e.Unknown:
		return fmt.Sprintf("persist %d: outcome unknown: %v", e.Checkpoint, e.Err)
	case e.Err != nil:
		return fmt.Sprintf("persist %d: %v", e.Checkpoint, e.Err)
	default:
		return fmt.Sprintf("persisted %d", e.Checkpoint)
	}
}

// String names the attempt and the kind.
func (e FinalRequested) String() string {
	return fmt.Sprintf("%s checkpoint of %s requested", e.kind(), e.Fence)
}

func (e FinalRequested) kind() Kind {
	if e.Drain {
		return KindDrain
	}
	return KindFinal
}

// String names the sink and its level.
func (e SinkReadiness) String() string { return fmt.Sprintf("%s has %d ids ready", e.Subtask, e.Ready) }

// String is tick.
func (Tick) String() string { return "tick" }
