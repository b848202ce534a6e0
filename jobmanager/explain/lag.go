package explain

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// Told is what a running subtask said of a split in its last heartbeat.
type Told struct {
	Split   manifest.Split
	Subtask ident.Subtask
	Worker  ident.WorkerID
	// Next is the offset to read next, Lag how many records follow; -1 while unknown.
	Next, Lag int64
	// Waiting says that the subtask makes no progress, so that what it knows of the log's end is old.
	Waiting bool
}

// The sources of a position.
const (
	FromSubtask    = "subtask"
	FromCheckpoint = "checkpoint"
	FromStart      = "start"
	FromGroup      = "group"
)

// Partition is where a source stands in one partition. Offsets and lag are -1 while unknown; Note says why.
type Partition struct {
	Split manifest.Split
	// Position is the next offset to read, From what says so.
	Position int64
	From     string
	// End is the high watermark, Stable the last stable offset, Stop where a bounded source ends.
	End, Stable, Stop int64
	Lag               int64
	// Subtask and Worker read it; zero while nobody does.
	Subtask   ident.Subtask
	Worker    ident.WorkerID
	Published []operator.PublishedOffset
	Note      string
}

// String names topic and partition, and the source.
func (p *Partition) String() string {
	return fmt.Sprintf("%s/%d of source %s", p.Split.Topic, p.Split.Partition, p.Split.Source)
}

// Held says that the source has read all that it may: what follows waits for open transactions.
func (p *Partition) Held() bool {
	return p.Lag > 0 && p.Stable >= 0 && p.Position >= p.Stable && p.Stable < p.End
}

// Lag is how far a job is behind.
type Lag struct {
	// Partitions has the furthest behind first, those whose lag is not known last.
	Partitions []Partition
	// Total is the lag of the partitions where it is known, Unknown how many the others are.
	Total   int64
	Unknown int
}

// LagOf puts together what is known: durable positions (of checkpoint at; 0: the start offsets), what running
// subtasks tell, and what the brokers answered.
func LagOf(at ident.CheckpointID, positions []manifest.Position, told []Told, ends []operator.LogEnd) Lag {
	parts := map[manifest.Split]*Partition{}
	get := func(s manifest.Split) *Partition {
		if parts[s] == nil {
			parts[s] = &Partition{Split: s, Position: -1, End: -1, Stable: -1, Stop: -1, Lag: -1}
		}
		return parts[s]
	}
	for _, p := range positions {
		part := get(p.Split)
		part.Position, part.Stop, part.From = p.Next, p.Stop, FromCheckpoint
		if at == 0 {
			part.From = FromStart
		}
	}
	byTold := map[manifest.Split]Told{}
	for _, t := range told {
		part := get(t.Split)
		part.Subtask, part.Worker = t.Subtask, t.Worker
		if t.Next >= 0 {
			part.Position, part.From = t.Next, FromSubtask
			byTold[t.Split] = t
		}
	}
	for i := range ends {
		part := get(ends[i].Split)
		part.fromBroker(&ends[i])
	}
	var out Lag
	for s, part := range parts {
		part.measure(byTold[s])
		if part.Lag < 0 {
			out.Unknown++
		} else {
			out.Total += part.Lag
		}
		out.Partitions = append(out.Partitions, *part)
	}
	slices.SortFunc(out.Partitions, func(a, b Partition) int { return cmp.Or(cmp.Compare(b.Lag, a.Lag), a.Split.Compare(b.Split)) })
	return out
}

func (p *Partition) fromBroker(e *operator.LogEnd) {
	p.End, p.Stable, p.Published = e.High, e.Stable, e.Published
	if e.Err != nil {
		p.Note = fmt.Sprintf("the end of its log is not known: %v", e.Err)
	}
	for _, o := range e.Published {
		if p.Position < 0 && o.Storage == graph.OffsetsKafka && o.Next >= 0 {
			p.Position, p.From = o.Next, FromGroup
		}
	}
}

// measure finds the lag. A subtask that reads knows position and end of the same moment, which is better than
// an end that the broker tells a moment later.
func (p *Partition) measure(t Told) {
	if p.From == FromSubtask && t.Lag >= 0 && (!t.Waiting || p.End < 0) {
		if t.Waiting {
			p.Note += "; the lag is that of the last answer to its subtask"
		} else {
			p.Note = ""
		}
		p.Lag = t.Lag
		if p.Stop < 0 {
			p.End = p.Position + t.Lag
		}
		return
	}
	switch {
	case p.Position < 0 && p.Note == "":
		p.Note = "its position is not known: nobody reads it, and no checkpoint or group has one"
	case p.Position < 0 || p.End < 0:
	case p.Position > p.End:
		p.Lag = 0
		p.Note = fmt.Sprintf("its log ends at %d, before the position: it was cut short or made anew", p.End)
	default:
		end := p.End
		if p.Stop >= 0 {
			end = min(end, p.Stop)
		}
		p.Lag = max(0, end-p.Position)
	}
}
