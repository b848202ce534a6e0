package discovery

import (
	"fmt"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Event is what the machine reacts to.
type Event interface {
	fmt.Stringer
	event()
}

// Started says that all subtasks of an attempt run, with what each source subtask reads; a subtask without
// splits is listed too. The vertex of a source subtask has the name of the source.
type Started struct {
	Fence  ident.Fence
	Splits map[ident.Subtask][]manifest.Position
}

// Ended says that this attempt, and all before it, take no splits any more.
type Ended struct{ Fence ident.Fence }

// Listed answers List. Even with Err, Found may hold a part of what is new, and Topics, unless nil, is complete.
type Listed struct {
	Fence  ident.Fence
	Source string
	// Found are the splits that List did not name, each at the offset where it begins.
	Found []manifest.Position
	// Topics are those that exist of the source, with their ids.
	Topics map[string]manifest.TopicID
	Err    error
}

// Stored answers Store with the positions as they are durable now. With Err nothing was written. Unread is why one of them
// cannot be read yet, which is left out; it has to be found again.
type Stored struct {
	Fence       ident.Fence
	Source      string
	Positions   []manifest.Position
	Err, Unread error
}

// AsideSet answers SetAside with the positions that are durably set aside now, perhaps not all. With Err none is.
type AsideSet struct {
	Fence     ident.Fence
	Source    string
	Positions []manifest.Position
	Err       error
}

// Tick says that Deadline has passed.
type Tick struct{}

func (Started) event()  {}
func (Ended) event()    {}
func (Listed) event()   {}
func (Stored) event()   {}
func (AsideSet) event() {}
func (Tick) event()     {}

// String names the attempt.
func (e Started) String() string { return fmt.Sprintf("attempt %s runs", e.Fence) }

// String names the attempt.
func (e Ended) String() string { return fmt.Sprintf("attempt %s ended", e.Fence) }

// String names the source and what was found.
func (e Listed) String() string {
	text := fmt.Sprintf("listed %s for %s: %d topics, %d new splits", e.Source, e.Fence, len(e.Topics), len(e.Found))
	if e.Err != nil {
		text += fmt.Sprintf(" (%v)", e.Err)
	}
	return text
}

// String names the source and how many splits are durable.
func (e Stored) String() string {
	if e.Err != nil {
		return fmt.Sprintf("splits of %s not stored: %v", e.Source, e.Err)
	}
	return fmt.Sprintf("stored %d splits of %s", len(e.Positions), e.Source)
}

// String names the source and how many splits are set aside.
func (e AsideSet) String() string {
	if e.Err != nil {
		return fmt.Sprintf("splits of %s not set aside: %v", e.Source, e.Err)
	}
	return fmt.Sprintf("set aside %d splits of %s", len(e.Positions), e.Source)
}

// String is tick.
func (Tick) String() string { return "tick" }

// Effect is what the shell has to do, in the order given.
type Effect interface {
	fmt.Stringer
	effect()
}

// List asks Kafka for the topics and partitions of a source; answered by Listed.
type List struct {
	Fence  ident.Fence
	Source string
	// Known are the splits that the source reads already.
	Known []manifest.Position
}

// Store makes found splits durable; one that is stored already keeps its place, one that is set aside goes on from there
// unless it is of another topic. Answered by Stored.
type Store struct {
	Fence     ident.Fence
	Source    string
	Positions []manifest.Position
}

// Add gives splits to a subtask of the attempt that runs.
type Add struct {
	Fence     ident.Fence
	Subtask   ident.Subtask
	Positions []manifest.Position
}

// SetAside takes splits whose topic has been gone for long out of what attempts are deployed with, and keeps where they
// stand in the newest checkpoint. Answered by AsideSet.
type SetAside struct {
	Fence     ident.Fence
	Source    string
	Positions []manifest.Position
}

// Remove takes splits that are set aside from a subtask of the attempt that runs. It keeps those that it has read
// further than these positions say.
type Remove struct {
	Fence     ident.Fence
	Subtask   ident.Subtask
	Positions []manifest.Position
}

// Fail ends the attempt: going on would read another topic at the offsets of this one.
type Fail struct {
	Fence ident.Fence
	Why   string
}

// Ignored is an event that had no effect, to be counted.
type Ignored struct{ What, Why string }

func (List) effect()     {}
func (Store) effect()    {}
func (Add) effect()      {}
func (SetAside) effect() {}
func (Remove) effect()   {}
func (Fail) effect()     {}
func (Ignored) effect()  {}

// String names the source and how much of it is known.
func (e List) String() string {
	return fmt.Sprintf("list %s for %s, %d splits are known", e.Source, e.Fence, len(e.Known))
}

// String names the splits.
func (e Store) String() string { return fmt.Sprintf("store %s", names(e.Positions)) }

// String names the subtask and the splits.
func (e Add) String() string {
	return fmt.Sprintf("add %s to %s of %s", names(e.Positions), e.Subtask, e.Fence)
}

// String names the splits.
func (e SetAside) String() string { return fmt.Sprintf("set aside %s", names(e.Positions)) }

// String names the subtask and the splits.
func (e Remove) String() string {
	return fmt.Sprintf("remove %s from %s of %s", names(e.Positions), e.Subtask, e.Fence)
}

// String names attempt and reason.
func (e Fail) String() string { return fmt.Sprintf("fail %s: %s", e.Fence, e.Why) }

// String names the event and why it had no effect.
func (e Ignored) String() string { return fmt.Sprintf("ignored %s: %s", e.What, e.Why) }

// names lists splits with where they begin.
func names(positions []manifest.Position) string {
	text := ""
	for i, p := range positions {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s/%d at %d", p.Topic, p.Partition, p.Next)
	}
	return text
}
