package subtask

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// emit hands a borrowed batch on; it is the collector between two nodes.
type emit func(*operator.Batch) error

// Emit is operator.Collector's.
func (e emit) Emit(b *operator.Batch) error { return e(b) }

// namedSink is a sink with its name.
type namedSink struct {
	name string
	sink operator.Sink
}

// chain is the tree of nodes as nested calls, made for the ctx of one run.
type chain struct {
	cfg      *Config
	counters *Counters
	// head takes what the source or the inputs deliver.
	head    emit
	sinks   []namedSink
	outputs []Output
	// buried hands on the dead letters that have gathered.
	buried func() error
}

func newChain(ctx context.Context, cfg *Config, counters *Counters) *chain {
	c := &chain{cfg: cfg, counters: counters}
	for i := range cfg.Vertex.Nodes {
		if n := &cfg.Vertex.Nodes[i]; n.Kind == graph.KindSink {
			c.sinks = append(c.sinks, namedSink{n.Name, cfg.Sinks[n.Name]})
		}
	}
	for _, o := range cfg.Outputs {
		c.outputs = append(c.outputs, o.Output)
	}
	if cfg.Source != nil {
		c.head = c.opened(c.from(ctx, 0))
	} else {
		c.head = c.into(ctx, 0)
	}
	c.bury(ctx)
	return c
}

// opened is the way out of the source if no sink is next to it, which may pass batches on unopened: they are opened piece by
// piece then.
func (c *chain) opened(out emit) emit {
	nodes := c.cfg.Vertex.Nodes
	if slices.ContainsFunc(nodes[1:], func(n graph.Node) bool { return n.Parent == 0 && n.Kind == graph.KindSink }) {
		return out
	}
	return func(b *operator.Batch) error { return c.named(nodes[0].Name, b.InPieces(out)) }
}

// bury leads dead letters to their sinks.
func (c *chain) bury(ctx context.Context) {
	sinks := map[string]emit{} // by source
	for i := range c.cfg.Vertex.Nodes {
		if source := c.cfg.Vertex.Nodes[i].DeadLettersOf; source != "" {
			sinks[source] = c.into(ctx, i)
		}
	}
	if len(sinks) == 0 {
		c.buried = func() error { return nil }
		return
	}
	c.cfg.DeadLetters.Bind(func(source string, b *operator.Batch) error {
		to, ok := sinks[source]
		if !ok {
			return fmt.Errorf("vertex %s takes no dead letters of source %s", c.cfg.Vertex.Name, source)
		}
		return to(b)
	})
	c.buried = c.cfg.DeadLetters.Flush
}

// into is the way into a node.
func (c *chain) into(ctx context.Context, node int) emit {
	n := &c.cfg.Vertex.Nodes[node]
	if n.Kind == graph.KindSink {
		sink := c.cfg.Sinks[n.Name]
		return func(b *operator.Batch) error {
			c.counters.out(b)
			return c.named(n.Name, sink.Write(ctx, b))
		}
	}
	op, last := c.fused(node)
	out := c.from(ctx, last)
	return func(b *operator.Batch) error { return c.named(n.Name, op.Process(b, out)) }
}

// fused is the operator of a node, which may do the work of the one behind it, too; last is the node that its output is of.
func (c *chain) fused(node int) (op operator.Operator, last int) {
	op = c.cfg.Operators[c.cfg.Vertex.Nodes[node].Name]
	next, only := c.behind(node)
	if f, ok := op.(operator.Fuser); ok && only {
		name := c.cfg.Vertex.Nodes[next].Name
		if both, ok := f.Fuse(c.cfg.Operators[name], func(err error) error { return c.named(name, err) }); ok {
			return both, next
		}
	}
	return op, node
}

// behind is the operator that gets what comes out of a node, if nobody else does.
func (c *chain) behind(node int) (next int, only bool) {
	receivers := 0
	for i := range c.cfg.Vertex.Nodes {
		if n := &c.cfg.Vertex.Nodes[i]; i > 0 && n.Parent == node {
			next, only = i, n.Kind == graph.KindOperator
			receivers++
		}
	}
	for _, o := range c.cfg.Outputs {
		if o.Node == node {
			receivers++
		}
	}
	return next, only && receivers == 1
}

// from is the way out of a node: to its children and outputs, each of which borrows the batch in turn.
func (c *chain) from(ctx context.Context, node int) emit {
	name := c.cfg.Vertex.Nodes[node].Name
	var to []emit
	for i := range c.cfg.Vertex.Nodes {
		if i > 0 && c.cfg.Vertex.Nodes[i].Parent == node {
			to = append(to, c.into(ctx, i))
		}
	}
	for _, o := range c.cfg.Outputs {
		if o.Node == node {
			to = append(to, func(b *operator.Batch) error {
				if err := c.named(name, b.Open()); err != nil {
					return err
				}
				c.counters.out(b)
				return c.named(name, o.Output.Emit(ctx, b))
			})
		}
	}
	if len(to) == 1 {
		return to[0]
	}
	return func(b *operator.Batch) error {
		for _, next := range to {
			if err := next(b); err != nil {
				return err
			}
		}
		return nil
	}
}

// named says where an error arose, unless a node further down has done so.
func (c *chain) named(node string, err error) error {
	if err == nil { // what follows allocates, and a fused operator comes here with every record
		return nil
	}
	if named := (*Error)(nil); errors.As(err, &named) {
		return err
	}
	return &Error{c.cfg.Subtask, node, err}
}

func (c *chain) flush(ctx context.Context) error {
	for _, o := range c.outputs {
		if err := o.Flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *chain) barrier(ctx context.Context, id ident.CheckpointID) error {
	for _, o := range c.outputs {
		if err := o.Barrier(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (c *chain) end(ctx context.Context) error {
	for _, o := range c.outputs {
		if err := o.End(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *chain) seal(ctx context.Context, id ident.CheckpointID) error {
	for _, s := range c.sinks {
		if err := s.sink.Seal(ctx, id); err != nil {
			return c.named(s.name, err)
		}
	}
	return nil
}
