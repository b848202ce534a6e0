package graph

import "testing"

func TestPassedOn(t *testing.T) {
	source := Node{Kind: KindSource}
	sink := func(change func(*KafkaSink)) Node {
		k := &KafkaSink{Topic: "out", Partitioner: Preserve}
		if change != nil {
			change(k)
		}
		return Node{Kind: KindSink, Sink: &Sink{Kafka: k}}
	}
	away := []Edge{{From: "in"}}
	for name, c := range map[string]struct {
		nodes []Node
		edges []Edge
		want  bool
	}{
		"one sink":              {[]Node{source, sink(nil)}, nil, true},
		"two sinks":             {[]Node{source, sink(nil), sink(nil)}, nil, true},
		"edges of others":       {[]Node{source, sink(nil)}, []Edge{{From: "other"}}, true},
		"an operator":           {[]Node{source, {Kind: KindOperator}, sink(nil)}, nil, false},
		"an edge":               {[]Node{source, sink(nil)}, away, false},
		"by key":                {[]Node{source, sink(nil), sink(func(k *KafkaSink) { k.Partitioner = ByKey })}, nil, false},
		"the topic by contents": {[]Node{source, sink(func(k *KafkaSink) { k.Topic, k.TopicExpression = "", "value" })}, nil, false},
		"no guarantee":          {[]Node{source, sink(func(k *KafkaSink) { k.Guarantee = NoGuarantee })}, nil, false},
		"another compression":   {[]Node{source, sink(func(k *KafkaSink) { k.Properties = map[string]string{"compression.type": "lz4"} })}, nil, false},
		"printed":               {[]Node{source, {Kind: KindSink, Sink: &Sink{Print: &PrintSink{}}}}, nil, false},
		"no source":             {[]Node{{Kind: KindOperator}, sink(nil)}, nil, false},
	} {
		p := Physical{Vertices: []Vertex{{Name: "in", Nodes: c.nodes}}, Edges: c.edges}
		if got := p.PassedOn(&p.Vertices[0]); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
