package graph

import "slices"

// part is a source, operator or sink, with what they have in common.
type part struct {
	node        Node // Parent and the formats are not set here
	path        Path
	parallelism int // the effective one
	from        []string
	keyBy       string
}

// network is the job as a graph of parts. It can be made of any job, also of a wrong one: names that
// are not known are left out, of equal names the first counts.
type network struct {
	parts  []part
	byName map[string]int
	// inputs are the parts that a part reads from, without unknown ones and sinks.
	inputs [][]int
	// sources are those above a part, in the order of the job; of a source, itself.
	sources [][]int
	// order is topological and otherwise as declared: sources, operators, sinks. Parts of a cycle stand
	// in it, too. Cutting each of cycles leaves none, unless there are maxCycles.
	order  []int
	cycles [][]int
}

func newNetwork(job *Job) *network {
	n := &network{byName: map[string]int{}}
	for i := range job.Sources {
		s := &job.Sources[i]
		n.add(job, part{
			node: Node{Name: s.Name, Kind: KindSource, Source: s},
			path: Path{"sources", s.Name}, parallelism: s.Parallelism,
		})
	}
	for i := range job.Operators {
		o := &job.Operators[i]
		n.add(job, part{
			node: Node{Name: o.Name, Kind: KindOperator, Operator: o},
			path: Path{"operators", o.Name}, parallelism: o.Parallelism, from: o.From, keyBy: o.KeyBy,
		})
	}
	for i := range job.Sinks {
		s := &job.Sinks[i]
		n.add(job, part{
			node: Node{Name: s.Name, Kind: KindSink, Sink: s},
			path: Path{"sinks", s.Name}, parallelism: s.Parallelism, from: s.From, keyBy: s.KeyBy,
		})
	}
	n.connect()
	n.sort()
	n.descend()
	return n
}

func (n *network) add(job *Job, p part) {
	fill(&p.parallelism, job.Parallelism)
	if _, taken := n.byName[p.node.Name]; !taken {
		n.byName[p.node.Name] = len(n.parts)
	}
	n.parts = append(n.parts, p)
}

func (n *network) connect() {
	n.inputs = make([][]int, len(n.parts))
	for i := range n.parts {
		for _, name := range n.parts[i].from {
			if in, ok := n.byName[name]; ok && n.parts[in].node.Kind != KindSink {
				n.inputs[i] = append(n.inputs[i], in)
			}
		}
	}
}

// descend fills sources.
func (n *network) descend() {
	n.sources = make([][]int, len(n.parts))
	for _, i := range n.order {
		if n.parts[i].node.Kind == KindSource {
			n.sources[i] = []int{i}
			continue
		}
		for _, in := range n.inputs[i] {
			n.sources[i] = append(n.sources[i], n.sources[in]...)
		}
		slices.Sort(n.sources[i])
		n.sources[i] = slices.Compact(n.sources[i])
	}
}

// maxCycles bounds how many cycles are described; each can be as long as the job.
const maxCycles = 20

// sort fills order and cycles by a depth-first walk against the flow. Its depth is bounded by the
// number of parts.
func (n *network) sort() {
	const entered, done = 1, 2
	state := make([]int, len(n.parts))
	var trail []int
	var visit func(i int)
	visit = func(i int) {
		state[i], trail = entered, append(trail, i)
		for _, in := range n.inputs[i] {
			if state[in] == entered && len(n.cycles) < maxCycles {
				cycle := slices.Clone(trail[slices.Index(trail, in):])
				slices.Reverse(cycle)
				n.cycles = append(n.cycles, fromSmallest(cycle))
			}
			if state[in] == 0 {
				visit(in)
			}
		}
		trail = trail[:len(trail)-1]
		state[i], n.order = done, append(n.order, i)
	}
	for i := range n.parts {
		if state[i] == 0 {
			visit(i)
		}
	}
}

// fromSmallest turns a cycle so that its first declared part leads.
func fromSmallest(cycle []int) []int {
	at := slices.Index(cycle, slices.Min(cycle))
	return slices.Concat(cycle[at:], cycle[:at])
}

// chained says whether a part runs in its parent's goroutine: one input, no keyBy, same parallelism.
func (n *network) chained(i int) bool {
	p := &n.parts[i]
	return p.keyBy == "" && len(n.inputs[i]) == 1 && n.parts[n.inputs[i][0]].parallelism == p.parallelism
}

// partitioning is that of the edge between two parts that are not chained.
func (n *network) partitioning(from, to int) Partitioning {
	switch {
	case n.parts[to].keyBy != "":
		return Hash
	case n.parts[from].parallelism == n.parts[to].parallelism:
		return Forward
	default:
		return Rebalance
	}
}
