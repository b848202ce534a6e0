package exchange

import (
	"fmt"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// Channel names one channel of an attempt: the id of the edge and the indices of the two subtasks.
type Channel struct {
	Edge, Sender, Receiver int
}

// String prints the channel as edge:sender>receiver.
func (c Channel) String() string { return fmt.Sprintf("%d:%d>%d", c.Edge, c.Sender, c.Receiver) }

// Peer is a task manager that takes part in an attempt.
type Peer struct {
	Worker ident.WorkerID
	// Address is the host:port of its data server.
	Address string
}

// String prints the peer for messages.
func (p Peer) String() string { return fmt.Sprintf("task manager %s (%s)", p.Worker, p.Address) }

// Keyer computes the stream keys of a Hash edge, a batch at a time.
type Keyer interface {
	// Keys appends one span per record of the opened, borrowed batch to spans, with the bytes of the
	// keys appended to arena; Skip stands for a record that is dropped by the error policy.
	Keys(b *operator.Batch, arena []byte, spans []operator.Span) ([]byte, []operator.Span, error)
}

// Skip is what a Keyer returns for a record that is not to be sent.
var Skip = operator.Span{Len: -2}

// channelsInto lists the channels that end in a subtask, in the order of its inputs: by edge, then by
// sender.
func channelsInto(p *graph.Physical, to ident.Subtask) []Channel {
	var all []Channel
	for i := range p.Edges {
		e := &p.Edges[i]
		if e.To != to.Vertex {
			continue
		}
		if e.Partitioning == graph.Forward {
			all = append(all, Channel{e.ID, to.Index, to.Index})
			continue
		}
		from, ok := p.Vertex(e.From)
		if !ok {
			continue
		}
		for s := range from.Parallelism {
			all = append(all, Channel{e.ID, s, to.Index})
		}
	}
	return all
}

// channelsOf lists the channels over which a subtask sends on an edge, by receiver.
func channelsOf(p *graph.Physical, e *graph.Edge, sender int) []Channel {
	if e.Partitioning == graph.Forward {
		return []Channel{{e.ID, sender, sender}}
	}
	to, ok := p.Vertex(e.To)
	if !ok {
		return nil
	}
	all := make([]Channel, to.Parallelism)
	for r := range all {
		all[r] = Channel{e.ID, sender, r}
	}
	return all
}
