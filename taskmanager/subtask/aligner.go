package subtask

import "github.com/sluice-stream/sluice/ident"

// Action is what a barrier asks for.
type Action int

// The actions.
const (
	// Obsolete: the barrier is passed over.
	Obsolete Action = iota + 1
	// Hold: the input waits until the barrier has come on all inputs.
	Hold
	// Snapshot: the barrier has come on all inputs; the state as it is now belongs to the checkpoint.
	Snapshot
)

// Decision is the aligner's answer.
type Decision struct {
	Action Action
	// Release says that all inputs that are held go on, before Action is applied.
	Release bool
	// Declined is the older checkpoint that can no longer complete here; 0: none.
	Declined ident.CheckpointID
}

// Aligner lines the barriers of several inputs up (DESIGN section 5). Its rules:
//
//   - newest only rises. A barrier below it is passed over, so is one equal to it unless that one is
//     pending.
//   - A newer barrier supersedes a pending one: the older is declined and its inputs go on.
//   - An abort is as good as a barrier that is over: checkpoints are drawn one after the other, so whatever is
//     pending up to it is over, too, and its inputs go on at once. The abort of the pending one itself may never have
//     come, and its inputs may be what holds the barriers of all later ones up.
//   - An input at the end of its data still carries barriers and is still waited for.
//
// It is pure: its owner holds and releases the inputs.
type Aligner struct {
	newest  ident.CheckpointID
	pending bool   // newest waits for the barriers of further inputs
	arrived []bool // per input, while pending
	waits   int    // inputs without the barrier, while pending
	ended   []bool
	open    int // inputs that have not ended
}

// NewAligner makes one for a number of inputs, at least 1.
func NewAligner(inputs int) *Aligner {
	return &Aligner{arrived: make([]bool, inputs), ended: make([]bool, inputs), open: inputs}
}

// Barrier takes the barrier of a checkpoint from an input.
func (a *Aligner) Barrier(input int, id ident.CheckpointID) Decision {
	if id < a.newest || id == a.newest && (!a.pending || a.arrived[input]) {
		return Decision{Action: Obsolete}
	}
	var d Decision
	if id > a.newest {
		if a.pending {
			d.Release, d.Declined = true, a.newest
		}
		a.newest, a.pending, a.waits = id, true, len(a.arrived)
		clear(a.arrived)
	}
	a.arrived[input] = true
	a.waits--
	if a.waits > 0 {
		d.Action = Hold
		return d
	}
	a.pending = false
	d.Action, d.Release = Snapshot, true
	return d
}

// Abort gives a checkpoint up, and all before it. release says that all inputs that are held go on.
func (a *Aligner) Abort(id ident.CheckpointID) (release bool) {
	if id < a.newest {
		return false
	}
	release = a.pending
	a.newest, a.pending = id, false
	return release
}

// End notes that an input is at the end of its data. all says that it was the last one.
func (a *Aligner) End(input int) (all bool) {
	if a.ended[input] {
		return false
	}
	a.ended[input] = true
	a.open--
	return a.open == 0
}

// Pending is the checkpoint that waits for further barriers, and whether there is one.
func (a *Aligner) Pending() (ident.CheckpointID, bool) { return a.newest, a.pending }
