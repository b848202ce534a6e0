package commit

import (
	"fmt"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Event is what the committer reacts to.
type Event interface {
	fmt.Stringer
	event()
}

// Completed says that a checkpoint of the running attempt is durable.
type Completed struct{ Manifest *manifest.Manifest }

// Committed answers Commit. Refused says that the broker's answer is a verdict (rule 14): the transaction
// can never be committed any more. Any other Err is tried again.
type Committed struct {
	Key     manifest.TransactionKey
	Err     error
	Refused bool
}

// Marked answers Mark. With Err nothing was written; it is tried again.
type Marked struct {
	Keys []manifest.TransactionKey
	Err  error
}

// HandedOut says that the count of ids of one sink subtask in one attempt is durable. It only rises.
type HandedOut struct{ Handout Handout }

// AttemptOver says that an attempt, and every older one, is given up and that no manifest of it is being
// written: the fencing of its ids begins, beside the next deployment.
type AttemptOver struct{ Attempt ident.Attempt }

// AttemptGone says that nothing of an attempt, or of an older one, can run any more: the task managers
// have confirmed it, their processes are known to be dead, or their leases have run out. A round of fencing
// that begins now is the last one.
type AttemptGone struct{ Attempt ident.Attempt }

// SignOfLife says that a task manager came back which may still run subtasks of attempts that are over: one
// more round for those that are not gone.
type SignOfLife struct{}

// Fenced answers Fence. With Err it is tried again.
type Fenced struct {
	Handout HandoutKey
	N       int
	Err     error
}

// Forgotten answers Forget. With Err nothing was deleted; it is tried again.
type Forgotten struct {
	Handouts []HandoutKey
	Err      error
}

// CleanUp asks for the end: answered by CleanedUp when every named transaction is committed or lost, and
// every id that was ever handed out is fenced for good. Every attempt is over and gone by then.
type CleanUp struct{}

// Tick says that Deadline has passed. The first event after New may be a Tick as well: it begins what Start
// left to do.
type Tick struct{}

func (Completed) event()   {}
func (Committed) event()   {}
func (Marked) event()      {}
func (HandedOut) event()   {}
func (AttemptOver) event() {}
func (AttemptGone) event() {}
func (SignOfLife) event()  {}
func (Fenced) event()      {}
func (Forgotten) event()   {}
func (CleanUp) event()     {}
func (Tick) event()        {}

// String names the checkpoint and the number of its transactions.
func (e Completed) String() string {
	return fmt.Sprintf("checkpoint %d completed with %d transactions", e.Manifest.Checkpoint, len(e.Manifest.Transactions))
}

// String names the transaction and the outcome.
func (e Committed) String() string {
	switch {
	case e.Refused:
		return fmt.Sprintf("commit of %s refused: %v", e.Key, e.Err)
	case e.Err != nil:
		return fmt.Sprintf("commit of %s failed: %v", e.Key, e.Err)
	default:
		return fmt.Sprintf("committed %s", e.Key)
	}
}

// String names the transactions and the outcome.
func (e Marked) String() string {
	if e.Err != nil {
		return fmt.Sprintf("marks of %v not written: %v", e.Keys, e.Err)
	}
	return fmt.Sprintf("marked %v", e.Keys)
}

// String names the sink and the count.
func (e HandedOut) String() string { return "handed out " + e.Handout.String() }

// String names the attempt.
func (e AttemptOver) String() string { return fmt.Sprintf("attempt %d is over", e.Attempt) }

// String names the attempt.
func (e AttemptGone) String() string { return fmt.Sprintf("attempt %d is gone", e.Attempt) }

// String is sign of life.
func (SignOfLife) String() string { return "sign of life" }

// String names the id and the outcome.
func (e Fenced) String() string {
	if e.Err != nil {
		return fmt.Sprintf("fence of %s/%d failed: %v", e.Handout, e.N, e.Err)
	}
	return fmt.Sprintf("fenced %s/%d", e.Handout, e.N)
}

// String names the hand-outs and the outcome.
func (e Forgotten) String() string {
	if e.Err != nil {
		return fmt.Sprintf("hand-outs %v not deleted: %v", e.Handouts, e.Err)
	}
	return fmt.Sprintf("forgot %v", e.Handouts)
}

// String is clean up.
func (CleanUp) String() string { return "clean up" }

// String is tick.
func (Tick) String() string { return "tick" }
