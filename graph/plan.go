package graph

// Plan turns a job into what is deployed. It is deterministic: job manager and task managers plan the
// same job for themselves and get the same.
//
// A part with exactly one input, no keyBy and its input's parallelism is chained to it: it runs in the
// same vertex, which so becomes a tree. Every other part heads a vertex of its own, named like it, and
// each of its inputs is an edge: Hash with keyBy, Forward between equal parallelism, else Rebalance.
//
// Formats follow the flow from the sources; a map, flatMap or count changes them by the static type of
// its result. A part whose inputs differ in a format sees bytes.
//
// A vertex in which records of a source with onError deadLetter can fail gets a sink for them, behind the
// nodes of the job.
//
// The result points into the job, which must not be changed any more. The error is an *InvalidError
// with everything that is wrong.
func Plan(job *Job, types Expressions) (*Physical, error) {
	if found := Validate(job); len(found) > 0 {
		return nil, &InvalidError{Job: job.Name, Problems: found}
	}
	net := newNetwork(job)
	f := newFlow(net, types)
	if found := f.problems.list; len(found) > 0 {
		return nil, &InvalidError{Job: job.Name, Problems: found}
	}
	p := &planner{net: net, flow: f, policyOf: map[int]SourcePolicy{}, at: make([]place, len(net.parts))}
	for i := range job.Sources {
		p.policyOf[i] = policyOf(&job.Sources[i])
	}
	for _, i := range net.order {
		if net.chained(i) {
			p.chain(i)
		} else {
			p.head(i)
		}
	}
	p.deadLetters()
	p.physical.MaxParallelism = job.MaxParallelism
	p.physical.Identity = identity(job)
	for i := range p.physical.Vertices {
		p.physical.Slots = max(p.physical.Slots, p.physical.Vertices[i].Parallelism)
	}
	return &p.physical, nil
}

// place is where a part ended up: an index of Vertices and one of its Nodes.
type place struct{ vertex, node int }

type planner struct {
	net      *network
	flow     *flow
	policyOf map[int]SourcePolicy // by the part of the source
	at       []place
	physical Physical
}

func (p *planner) node(i, parent int) Node {
	n := p.net.parts[i].node
	in := p.flow.in[i]
	n.Parent, n.KeyFormat, n.ValueFormat, n.OnError = parent, in.key, in.value, p.policies(i)
	return n
}

func (p *planner) chain(i int) {
	parent := p.at[p.net.inputs[i][0]]
	v := &p.physical.Vertices[parent.vertex]
	p.at[i] = place{parent.vertex, len(v.Nodes)}
	v.Nodes = append(v.Nodes, p.node(i, parent.node))
}

func (p *planner) head(i int) {
	part := &p.net.parts[i]
	p.at[i] = place{vertex: len(p.physical.Vertices)}
	p.physical.Vertices = append(p.physical.Vertices, Vertex{
		Name: part.node.Name, Parallelism: part.parallelism, Nodes: []Node{p.node(i, -1)},
	})
	for _, in := range p.net.inputs[i] {
		from, out := p.at[in], p.flow.out[in]
		p.physical.Edges = append(p.physical.Edges, Edge{
			ID: len(p.physical.Edges), From: p.physical.Vertices[from.vertex].Name, FromNode: from.node,
			To: part.node.Name, Partitioning: p.net.partitioning(in, i), KeyBy: part.keyBy,
			KeyFormat: out.key, ValueFormat: out.value, OnError: p.policies(in),
		})
	}
}
