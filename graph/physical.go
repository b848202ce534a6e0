package graph

import (
	"slices"

	"github.com/sluice-stream/sluice/ident"
)

// Kind is what a node of a chain does.
type Kind int

// The kinds of nodes.
const (
	KindSource Kind = iota + 1
	KindOperator
	KindSink
)

// Node is one source, operator or sink in a chain. Exactly one of the pointers is set, by Kind.
type Node struct {
	Name     string
	Kind     Kind
	Source   *Source
	Operator *Operator
	Sink     *Sink
	// Parent is the index in Vertex.Nodes of the node that feeds this one; -1 for the head, and for the
	// sinks of dead letters, which stand behind all others.
	Parent int
	// KeyFormat and ValueFormat are how expressions of this node see its input records; they follow
	// from the sources' formats and the static types of maps upstream.
	KeyFormat, ValueFormat Format
	// OnError holds the policies of the sources that feed this node.
	OnError ErrorPolicies
	// DeadLettersOf names the source whose dead letters the node takes: a sink that is not in the job. It
	// has no parent; what fails in its vertex goes there. Empty: any other node.
	DeadLettersOf string
}

// Vertex is a chain of nodes that runs in one goroutine: a tree, parents before children. Its name is
// that of its head.
type Vertex struct {
	Name        string
	Parallelism int
	Nodes       []Node
}

// Partitioning says which subtask of the receiving vertex a record goes to.
type Partitioning int

// The partitionings of an edge between vertices.
const (
	// Forward: subtask i to subtask i (equal parallelism).
	Forward Partitioning = iota + 1
	// Hash: by the key group of KeyBy's result.
	Hash
	// Rebalance: round robin by batch.
	Rebalance
)

// Edge carries the output of node FromNode (an index in the vertex From) to the head of vertex To.
type Edge struct {
	// ID is the edge's index in Physical.Edges; channels are named by (edge, sender, receiver).
	ID           int
	From         string
	FromNode     int
	To           string
	Partitioning Partitioning
	// KeyBy is the expression whose result becomes the record's StreamKey; empty unless Hash.
	KeyBy string
	// KeyFormat and ValueFormat are those of the records at FromNode's output.
	KeyFormat, ValueFormat Format
	OnError                ErrorPolicies
}

// Physical is what is deployed. Vertices are in topological order.
type Physical struct {
	Vertices       []Vertex
	Edges          []Edge
	MaxParallelism int
	// Slots is how many slots the job needs: its largest parallelism, as a slot runs one subtask of
	// every vertex.
	Slots int
	// Identity names the state-relevant graph; a manifest of another identity is refused.
	Identity string
}

// Subtasks lists all subtasks in the order of the vertices.
func (p *Physical) Subtasks() []ident.Subtask {
	var all []ident.Subtask
	for _, v := range p.Vertices {
		for i := range v.Parallelism {
			all = append(all, ident.Subtask{Vertex: v.Name, Index: i})
		}
	}
	return all
}

// OnlySinks are the sinks to Kafka of a source's vertex if they alone take what the source reads, nil if anybody else does.
func (p *Physical) OnlySinks(v *Vertex) []*KafkaSink {
	if v.Nodes[0].Kind != KindSource || slices.ContainsFunc(p.Edges, func(e Edge) bool { return e.From == v.Name }) {
		return nil
	}
	var sinks []*KafkaSink
	for i := range v.Nodes[1:] {
		n := &v.Nodes[i+1]
		if n.Kind != KindSink || n.Sink.Kafka == nil {
			return nil
		}
		sinks = append(sinks, n.Sink.Kafka)
	}
	return sinks
}

// ReadsStreamKeysOnly says that the head of a vertex looks at no key or value of its records: it counts their stream keys.
func (v *Vertex) ReadsStreamKeysOnly() bool {
	return len(v.Nodes) > 0 && v.Nodes[0].Operator != nil && v.Nodes[0].Operator.Count
}

// Vertex finds a vertex by name.
func (p *Physical) Vertex(name string) (*Vertex, bool) {
	for i := range p.Vertices {
		if p.Vertices[i].Name == name {
			return &p.Vertices[i], true
		}
	}
	return nil, false
}
