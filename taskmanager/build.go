package taskmanager

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/builtin"
	"github.com/sluice-stream/sluice/taskmanager/exchange"
	"github.com/sluice-stream/sluice/taskmanager/subtask"
)

// Connectors makes the sources and sinks that talk to the outside. Run of what they make returns when
// everything that it started has ended.
type Connectors interface {
	// NewSource makes the source of a node for one of its vertex's subtasks.
	NewSource(node *graph.Node, sc operator.SourceContext) (operator.Source, error)
	// NewSink makes the sink of a node for one of its vertex's subtasks.
	NewSink(node *graph.Node, sc operator.SinkContext) (operator.Sink, error)
}

// builder makes the subtasks of an attempt: operators, connectors, outputs, restored state.
type builder struct {
	attempt  *attempt
	plan     *graph.Physical
	exchange *exchange.Attempt
	upload   func(ident.CheckpointID, func(context.Context))
}

// buildAll prepares every subtask of the deployment; none runs yet.
func (b *builder) buildAll() ([]*task, error) {
	var out []*task
	for _, s := range b.attempt.deploy.subtasks {
		t, err := b.build(s)
		if err != nil {
			return nil, fmt.Errorf("build subtask %s: %w", s, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func (b *builder) build(s ident.Subtask) (*task, error) {
	vertex, ok := b.plan.Vertex(s.Vertex)
	if !ok || s.Index >= vertex.Parallelism {
		return nil, errors.New("the job has no such subtask")
	}
	failures := builtin.NewFailures(builtin.Site{
		Job: b.attempt.deploy.job.Name, JobID: b.attempt.id.job, Attempt: b.attempt.id.fence.Attempt, Subtask: s,
	})
	t := &task{failures: failures, cfg: subtask.Config{
		Job: b.attempt.id.job, Fence: b.attempt.id.fence, Subtask: s, Vertex: *vertex, MaxParallelism: b.plan.MaxParallelism,
		Operators: map[string]operator.Operator{}, Sinks: map[string]operator.Sink{}, DeadLetters: failures, Positions: b.attempt.deploy.splits[s],
		Reporter: &reporter{a: b.attempt, subtask: s, upload: b.upload}, Logger: b.attempt.tm.cfg.Logger,
	}}
	inputs, err := b.exchange.Inputs(s)
	if err != nil {
		return nil, err
	}
	if vertex.Nodes[0].Kind != graph.KindSource {
		t.cfg.Inputs = inputs
	}
	for i := range vertex.Nodes {
		if err := b.node(&t.cfg, t, &vertex.Nodes[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", vertex.Nodes[i].Name, err)
		}
	}
	return t, b.outputs(&t.cfg, s, t)
}

// restore reads the pieces of state whose key groups the subtask owns.
func (b *builder) restore(ctx context.Context, s ident.Subtask, vertex *graph.Vertex) ([]subtask.Piece, error) {
	first, last := graph.KeyGroupsOf(s.Index, vertex.Parallelism, b.plan.MaxParallelism)
	var out []subtask.Piece
	for _, ref := range b.attempt.deploy.state {
		if ref.firstKeyGroup > last || first > ref.lastKeyGroup || !hasNode(vertex, ref.operator) {
			continue
		}
		data, err := b.attempt.tm.transfer.get(ctx, b.attempt.id.job, b.attempt.deploy.restored, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, subtask.Piece{Operator: ref.operator, Data: data})
	}
	return out, nil
}

func hasNode(v *graph.Vertex, name string) bool {
	for i := range v.Nodes {
		if v.Nodes[i].Name == name {
			return true
		}
	}
	return false
}

// node makes the source, operator or sink of one node.
func (b *builder) node(cfg *subtask.Config, t *task, n *graph.Node) (err error) {
	waiting := func(reason string) { t.waiting.set(n.Name, reason) }
	switch n.Kind {
	case graph.KindSource:
		if n.Source.Kafka != nil && n.Source.Kafka.Until != "" {
			if cfg.Until, err = builtin.NewUntil(n, t.failures); err != nil {
				return err
			}
		}
		sc := operator.SourceContext{Positions: cfg.Positions, Waiting: waiting}
		if cfg.Until == nil { // else the end is looked for in the records
			sc.Sinks = b.plan.OnlySinks(&cfg.Vertex)
		}
		cfg.Source, err = b.attempt.tm.connectors.NewSource(n, sc)
	case graph.KindOperator:
		cfg.Operators[n.Name], err = builtin.New(n, builtin.Context{
			Subtask: cfg.Subtask.Index, Parallelism: cfg.Vertex.Parallelism, MaxParallelism: b.plan.MaxParallelism, Failures: t.failures,
		})
	case graph.KindSink:
		if n.Sink.Print != nil {
			cfg.Sinks[n.Name] = builtin.NewPrint(b.attempt.tm.cfg.Output, n.Name, cfg.Subtask.Index)
			return nil
		}
		return b.sink(cfg, t, n, waiting)
	}
	return err
}

// sink makes a sink of the connector, with its transactional ids if it is to have some.
func (b *builder) sink(cfg *subtask.Config, t *task, n *graph.Node, waiting func(string)) error {
	a, key := b.attempt, sinkKey{cfg.Subtask, n.Name}
	sc := operator.SinkContext{Subtask: cfg.Subtask.Index, Failed: t.failures.Of(n.Name, n.OnError), Lost: &t.recordsFailed, Waiting: waiting}
	if ids, ok := a.deploy.transactions[key]; ok {
		sc.Transactions = &operator.TransactionContext{
			Prefix: ids.prefix, Owned: ids.owned, Cap: ids.cap, Lease: a.lease,
			Level: func(l operator.TransactionLevel) {
				a.tm.outbox.level(sinkLevel{attempt: a.id, sinkKey: key, TransactionLevel: l})
			},
		}
	}
	sink, err := a.tm.connectors.NewSink(n, sc)
	if err != nil {
		return err
	}
	if tx, ok := sink.(operator.Transactional); ok && sc.Transactions != nil {
		a.addTransactional(key, tx)
	}
	cfg.Sinks[n.Name] = sink
	return nil
}

// outputs takes the outgoing edges of the subtask.
func (b *builder) outputs(cfg *subtask.Config, s ident.Subtask, t *task) error {
	for i := range b.plan.Edges {
		e := &b.plan.Edges[i]
		if e.From != s.Vertex {
			continue
		}
		var keyer exchange.Keyer
		if e.Partitioning == graph.Hash {
			k, err := builtin.NewKeyer(e, t.failures)
			if err != nil {
				return err
			}
			keyer = k
		}
		out, err := b.exchange.Output(s, e.ID, keyer)
		if err != nil {
			return err
		}
		cfg.Outputs = append(cfg.Outputs, subtask.NodeOutput{Node: e.FromNode, Output: out})
	}
	return nil
}
