package graph

import (
	"cmp"
	"errors"
)

// Use says where an expression stands, which decides the type that it must have.
type Use int

// The places of expressions.
const (
	// UseFilter wants a bool.
	UseFilter Use = iota + 1
	// UseKeyBy wants what can be a key: string, bytes, number, bool.
	UseKeyBy
	// UseKey and UseValue take whatever a map makes of a key or value.
	UseKey
	UseValue
	// UseHeaders wants a list of {key, value}.
	UseHeaders
	// UseTimestamp wants a timestamp.
	UseTimestamp
	// UseFlatMap wants a list; the format in question is that of its elements.
	UseFlatMap
	// UseTopic wants a string.
	UseTopic
	// UsePartition wants an int.
	UsePartition
	// UseUntil wants a bool.
	UseUntil
)

// String names the use as the job file does.
func (u Use) String() string {
	names := [...]string{"", "filter", "keyBy", "key", "value", "headers", "timestamp", "flatMap", "topicExpression", "partitioner", "until"}
	if u < UseFilter || int(u) >= len(names) {
		return "unknown use"
	}
	return names[u]
}

// Expressions judges expressions without running them.
type Expressions interface {
	// ResultFormat compiles an expression that sees key and value in these formats, and returns the
	// format of its result by its static type. The format means something for UseKeyBy, UseKey,
	// UseValue and UseFlatMap only. An error may have Position() (line, column int), from 1, the place
	// in the expression, and Hint() string; errors.Join reports several.
	ResultFormat(expression string, use Use, key, value Format) (Format, error)
}

// view is how records look at a point of the graph. An empty format is unknown: the job is wrong above.
type view struct {
	key, value Format
	mixed      bool // inputs of different formats met
}

// flow infers the views of a job, in topological order.
type flow struct {
	net      *network
	types    Expressions
	in, out  []view
	problems problems
	path     Path
	// seen has the problems of the part at hand: an expression that is checked for several inputs
	// may say the same again.
	seen map[string]bool
}

func newFlow(net *network, types Expressions) *flow {
	f := &flow{net: net, types: types, in: make([]view, len(net.parts)), out: make([]view, len(net.parts))}
	for _, i := range net.order {
		f.visit(i)
	}
	return f
}

func (f *flow) visit(i int) {
	p := &f.net.parts[i]
	f.path, f.seen = p.path, map[string]bool{}
	if p.node.Kind == KindSource {
		f.out[i] = sourceView(p.node.Source)
		f.in[i] = f.out[i]
		if k := p.node.Source.Kafka; k != nil && k.Until != "" {
			f.check(k.Until, UseUntil, f.out[i], "kafka", "until")
		}
		return
	}
	in := f.merge(i)
	f.in[i] = in
	streamKey := f.keyBy(i)
	if p.node.Kind == KindSink {
		f.sink(p.node.Sink, in)
		return
	}
	f.out[i] = f.operator(p.node.Operator, in, streamKey)
}

func sourceView(s *Source) view {
	if s.Kafka == nil {
		return view{}
	}
	return view{key: s.Kafka.KeyFormat, value: s.Kafka.Format}
}

// merge joins the inputs of a part: formats that differ are seen as bytes.
func (f *flow) merge(i int) view {
	var v view
	for n, in := range f.net.inputs[i] {
		out := f.out[in]
		if n == 0 {
			v = out
			continue
		}
		mixed := v.mixed || out.mixed || v.key != out.key || v.value != out.value
		v = view{key: commonFormat(v.key, out.key), value: commonFormat(v.value, out.value), mixed: mixed}
	}
	return v
}

func commonFormat(a, b Format) Format {
	switch {
	case a == "" || b == "":
		return ""
	case a != b:
		return Bytes
	}
	return a
}

// keyBy checks a part's keyBy for each of its inputs, as each sender evaluates it for itself, and
// returns the format of the stream key.
func (f *flow) keyBy(i int) Format {
	expression := f.net.parts[i].keyBy
	if expression == "" {
		return ""
	}
	if len(f.net.inputs[i]) == 0 {
		f.check(expression, UseKeyBy, view{}, "keyBy")
		return ""
	}
	var key Format
	for n, in := range f.net.inputs[i] {
		format := streamKeyFormat(f.check(expression, UseKeyBy, f.out[in], "keyBy"))
		if n == 0 {
			key = format
		}
		key = commonFormat(key, format)
	}
	return key
}

// streamKeyFormat: a key of a dynamic type turns out as text, whatever it is.
func streamKeyFormat(f Format) Format {
	if f == JSON {
		return String
	}
	return f
}

func (f *flow) operator(o *Operator, in view, streamKey Format) view {
	out := in
	if o.Filter != "" {
		f.check(o.Filter, UseFilter, in, "filter")
	}
	if o.FlatMap != "" {
		out.value = f.check(o.FlatMap, UseFlatMap, in, "flatMap")
	}
	if m := o.Map; m != nil {
		if m.Key != "" {
			out.key = f.check(m.Key, UseKey, in, "map", "key")
		}
		if m.Value != "" {
			out.value = f.check(m.Value, UseValue, in, "map", "value")
		}
		if m.Headers != "" {
			f.check(m.Headers, UseHeaders, in, "map", "headers")
		}
		if m.Timestamp != "" {
			f.check(m.Timestamp, UseTimestamp, in, "map", "timestamp")
		}
	}
	if o.Count {
		out.key, out.value = streamKey, String
	}
	return out
}

func (f *flow) sink(s *Sink, in view) {
	if s.Kafka == nil {
		return
	}
	if s.Kafka.TopicExpression != "" {
		f.check(s.Kafka.TopicExpression, UseTopic, in, "kafka", "topicExpression")
	}
	if s.Kafka.PartitionerExpression != "" {
		f.check(s.Kafka.PartitionerExpression, UsePartition, in, "kafka", "partitioner", "expression")
	}
}

// check asks for the type of one expression. Where the formats are unknown it is checked against JSON,
// which allows most: what it reports then is wrong anyway.
func (f *flow) check(expression string, use Use, in view, field ...string) Format {
	if f.types == nil || f.problems.full() {
		return ""
	}
	result, err := f.types.ResultFormat(expression, use, cmp.Or(in.key, JSON), cmp.Or(in.value, JSON))
	for _, e := range flatten(err) {
		p := describe(e, f.path.With(field...))
		if in.mixed && p.Hint == "" {
			p.Hint = "its inputs have different formats, so key and value are seen as " +
				string(cmp.Or(in.key, JSON)) + " and " + string(cmp.Or(in.value, JSON))
		}
		if !f.seen[p.String()] && !f.problems.full() {
			f.seen[p.String()] = true
			f.problems.list = append(f.problems.list, p)
		}
	}
	if err != nil {
		return ""
	}
	return result
}

// describe makes a problem of what a neighbour reports about the text at a path.
func describe(err error, path Path) Problem {
	p := Problem{Path: path, Message: err.Error()}
	var placed interface{ Position() (line, column int) }
	if errors.As(err, &placed) {
		p.Line, p.Column = placed.Position()
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		p.Hint = hinted.Hint()
	}
	return p
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}
