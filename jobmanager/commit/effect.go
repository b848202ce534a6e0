package commit

import (
	"fmt"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Effect is what the shell has to do, in the order given.
type Effect interface {
	fmt.Stringer
	effect()
}

// Commit sends EndTxn(commit) with what the manifest recorded; answered by Committed. It is repeated until
// the answer is known, and never sent once the transaction is marked.
type Commit struct {
	Checkpoint  ident.CheckpointID
	Transaction manifest.Transaction
}

// Mark makes durable that transactions are committed; answered by Marked.
type Mark struct{ Keys []manifest.TransactionKey }

// Announce says that every transaction of this checkpoint, and of all before it, is durably marked: the
// sinks are told, the offsets are published, retention runs. In the order of checkpoints, once each.
type Announce struct{ Checkpoint ident.CheckpointID }

// Fence sends InitProducerId for one id, which aborts what a task manager left open under it; answered by
// Fenced. The commit of what a completed manifest names under the id is marked before.
type Fence struct {
	Handout Handout
	N       int
}

// Forget deletes hand-outs whose ids are all fenced for good; answered by Forgotten.
type Forget struct{ Handouts []HandoutKey }

// Lost says that the broker refused for good to commit transactions of a completed checkpoint (rule 14);
// all other transactions of it are committed and marked. Told once per checkpoint.
type Lost struct {
	Checkpoint   ident.CheckpointID
	Transactions []LostTransaction
}

// LostTransaction is one that was refused, and how.
type LostTransaction struct {
	Transaction manifest.Transaction
	Err         error
}

// CleanedUp answers CleanUp.
type CleanedUp struct{}

// Ignored is an event that had no effect, to be counted.
type Ignored struct{ What, Why string }

func (Commit) effect()    {}
func (Mark) effect()      {}
func (Announce) effect()  {}
func (Fence) effect()     {}
func (Forget) effect()    {}
func (Lost) effect()      {}
func (CleanedUp) effect() {}
func (Ignored) effect()   {}

// String names the checkpoint and the transaction.
func (e Commit) String() string {
	return fmt.Sprintf("commit %s of checkpoint %d", e.Transaction.Key(), e.Checkpoint)
}

// String names the transactions.
func (e Mark) String() string { return fmt.Sprintf("mark %v", e.Keys) }

// String names the checkpoint.
func (e Announce) String() string { return fmt.Sprintf("announce %d", e.Checkpoint) }

// String names the id.
func (e Fence) String() string { return "fence " + e.Handout.ID(e.N) }

// String names the hand-outs.
func (e Forget) String() string { return fmt.Sprintf("forget %v", e.Handouts) }

// String names the checkpoint and what is lost of it.
func (e Lost) String() string {
	s := fmt.Sprintf("lost of checkpoint %d:", e.Checkpoint)
	for i := range e.Transactions {
		s += fmt.Sprintf(" %s (%v)", e.Transactions[i].Transaction.Key(), e.Transactions[i].Err)
	}
	return s
}

// String is cleaned up.
func (CleanedUp) String() string { return "cleaned up" }

// String names the event and why it had no effect.
func (e Ignored) String() string { return fmt.Sprintf("ignored %s: %s", e.What, e.Why) }
