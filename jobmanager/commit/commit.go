// Package commit decides when the transactions of completed checkpoints are committed and when the ids of
// attempts that are over are fenced (DESIGN rules 8, 13, 14). It is pure; package jobmanager performs the
// effects and brings the outcomes back as events.
package commit

import (
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Named is a transaction that a completed checkpoint names.
type Named struct {
	Checkpoint  ident.CheckpointID
	Transaction manifest.Transaction
}

// Start is what the store held when the job manager started.
type Start struct {
	// Unmarked are named by manifests and have no durable mark, oldest checkpoint first.
	Unmarked []Named
	// Handouts are of attempts before this start: all of them are over, none is known to be gone.
	Handouts []Handout
}

// Config bounds what is on its way at once.
type Config struct {
	// Parallel is how many commits and fences are on their way to one cluster at once; 0: 16. A cluster
	// that does not answer holds up no other one.
	Parallel int
	// MarkDelay is how long a mark waits for the answers to other commits, to become durable in one write with
	// theirs. A checkpoint is announced when all of its marks are there, so it delays nothing while they come in.
	MarkDelay time.Duration
}

// Status is what is shown of the committer.
type Status struct {
	// Uncommitted counts named transactions without a mark, lost ones left out; Since is when the oldest
	// of them was named, zero for none. After a start that is the time of the first event.
	Uncommitted int
	Since       time.Time
	// Unfenced counts ids of attempts that are over and not fenced for good.
	Unfenced int
	// Lost counts transactions that can never be committed (DESIGN rule 14).
	Lost int
	// Ignored counts events that had no effect.
	Ignored int
	// Reason is why a commit, a mark, a fence or a deletion last failed; empty when none of them waits for
	// another try.
	Reason string
}
