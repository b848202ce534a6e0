package graph

import "testing"

func TestOnlySinks(t *testing.T) {
	source, sink := Node{Kind: KindSource}, Node{Kind: KindSink, Sink: &Sink{Kafka: &KafkaSink{}}}
	for name, c := range map[string]struct {
		nodes []Node
		edges []Edge
		want  int
	}{
		"one sink":        {[]Node{source, sink}, nil, 1},
		"two sinks":       {[]Node{source, sink, sink}, nil, 2},
		"edges of others": {[]Node{source, sink}, []Edge{{From: "other"}}, 1},
		"an operator":     {[]Node{source, {Kind: KindOperator}, sink}, nil, 0},
		"an edge":         {[]Node{source, sink}, []Edge{{From: "in"}}, 0},
		"printed, too":    {[]Node{source, sink, {Kind: KindSink, Sink: &Sink{Print: &PrintSink{}}}}, nil, 0},
		"no source":       {[]Node{{Kind: KindOperator}, sink}, nil, 0},
	} {
		p := Physical{Vertices: []Vertex{{Name: "in", Nodes: c.nodes}}, Edges: c.edges}
		if got := p.OnlySinks(&p.Vertices[0]); len(got) != c.want {
			t.Errorf("%s: %d sinks, want %d", name, len(got), c.want)
		}
	}
}
