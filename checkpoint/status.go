package checkpoint

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Counts are the job's counters.
type Counts struct {
	// Completed and Failed: every triggered checkpoint ends in one of them.
	Completed, Failed uint64
	// Ignored counts late, repeated and foreign events.
	Ignored uint64
}

// Failure is why a checkpoint failed.
type Failure struct {
	Checkpoint ident.CheckpointID
	At         time.Time
	Why        string
}

// InFlight is the checkpoint that is being drawn.
type InFlight struct {
	Checkpoint      ident.CheckpointID
	Kind            Kind
	TriggeredAt     time.Time
	Acked, Expected int
	// Missing are the subtasks whose ack is awaited.
	Missing []ident.Subtask
	// Writing says that all acks are in and that the manifest is being made durable.
	Writing bool
	// Reason is why it takes so long, for people: empty if nothing is wrong.
	Reason string
}

// Status is what is shown of a job's checkpoints.
type Status struct {
	Counts
	// Latest is the newest completed checkpoint; nil: none. It is not to be changed.
	Latest *manifest.Manifest
	// LatestDuration is from the trigger of Latest to its durability; after a start of the job manager
	// to the last ack, which is what the manifest tells.
	LatestDuration time.Duration
	InFlight       *InFlight
	LastFailure    *Failure
	// FailuresInRow is how many failed since the last success in this attempt.
	FailuresInRow int
	// Waiting is why a checkpoint that is due is not triggered, for people: empty if none is.
	Waiting string
}

// Status is a snapshot for display.
func (c *Coordinator) Status() Status {
	s := Status{Counts: c.counts, Latest: c.latest, LatestDuration: c.latestDuration, LastFailure: c.lastFailure, Waiting: c.waiting()}
	if c.attempt != nil {
		s.FailuresInRow = c.attempt.failures
	}
	if p := c.pending; p != nil {
		f := &InFlight{
			Checkpoint: p.id, Kind: p.kind, TriggeredAt: p.triggered, Acked: len(p.acks),
			Writing: p.phase != phaseCollecting, Reason: p.reason,
		}
		if !f.Writing {
			f.Missing = p.missing(c.attempt)
		}
		f.Expected = f.Acked + len(f.Missing)
		s.InFlight = f
	}
	return s
}

func (c *Coordinator) waiting() string {
	a := c.attempt
	if a == nil || a.failed || c.done || c.pending != nil || (c.cfg.Interval == 0 && a.final == 0) {
		return ""
	}
	if sink := a.firstUnready(); sink != nil {
		return fmt.Sprintf("sink %s has no transaction ready: it waits for commits or for a producer id", sink)
	}
	if c.next > c.reserved && c.reserve.err != nil {
		return fmt.Sprintf("reserve checkpoint ids: %v", c.reserve.err)
	}
	return ""
}
