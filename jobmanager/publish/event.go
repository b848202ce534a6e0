package publish

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// Event is what the publishing reacts to.
type Event interface {
	fmt.Stringer
	event()
}

// Announced says that a checkpoint is durable and all of its transactions are committed: its offsets may be
// published.
type Announced struct{ Manifest *manifest.Manifest }

// Published answers Publish. With Err it is tried again.
type Published struct {
	To         graph.Publication
	Checkpoint ident.CheckpointID
	Err        error
}

// Ending says that the job ends when its last offsets are published, or cannot be in time; answered by Ended.
type Ending struct{}

// Tick says that the deadline has come.
type Tick struct{}

func (Announced) event() {}
func (Published) event() {}
func (Ending) event()    {}
func (Tick) event()      {}

// String names the checkpoint.
func (e Announced) String() string { return fmt.Sprintf("announced %d", e.Manifest.Checkpoint) }

// String names checkpoint, place and failure.
func (e Published) String() string {
	return fmt.Sprintf("published %d of %s%s", e.Checkpoint, e.To, reason(errText(e.Err)))
}

// String names the event.
func (e Ending) String() string { return "ending" }

// String names the event.
func (e Tick) String() string { return "tick" }

// Effect is what the shell has to do, in the order given.
type Effect interface {
	fmt.Stringer
	effect()
}

// Publish writes the offsets of a source from a checkpoint to a place, within Timeout; answered by Published,
// whatever happens. At most one is on its way to a place.
type Publish struct {
	To       graph.Publication
	Manifest *manifest.Manifest
	Timeout  time.Duration
}

// Ended answers Ending: nothing is on its way any more, and nothing will be.
type Ended struct{}

func (Publish) effect() {}
func (Ended) effect()   {}

// String names checkpoint and place.
func (e Publish) String() string { return fmt.Sprintf("publish %d of %s", e.Manifest.Checkpoint, e.To) }

// String names the effect.
func (e Ended) String() string { return "ended" }

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
