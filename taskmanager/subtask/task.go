package subtask

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/taskmanager/exchange"
)

// Reporter takes what a subtask has to tell the job manager. Its methods are called from any goroutine of
// the subtask and must not wait.
type Reporter interface {
	// Running is called once, when the state is restored and the loop begins.
	Running()
	// AtEnd is called once, when a bounded source has sent all its data.
	AtEnd()
	// Ack hands an ack over; state is inline, whatever its size.
	Ack(*manifest.Ack)
	// Decline says that the subtask cannot take part in a checkpoint.
	Decline(id ident.CheckpointID, reason string)
}

// Inputs is what a subtask without a source reads; *exchange.Inputs.
type Inputs interface {
	Count() int
	Ready() <-chan struct{}
	Next() (exchange.Element, bool, error)
	Release(exchange.Element)
	Block(input int)
	UnblockAll()
}

// Output is where a node's records leave the subtask; *exchange.Output.
type Output interface {
	Emit(context.Context, *operator.Batch) error
	Flush(context.Context) error
	Barrier(context.Context, ident.CheckpointID) error
	End(context.Context) error
	Waiting() string
}

// DeadLetters gathers the records that the nodes cannot handle; *builtin.Failures.
type DeadLetters interface {
	// Bind says where they go; write borrows the batch.
	Bind(write func(source string, b *operator.Batch) error)
	// Flush hands on what has gathered since the last call.
	Flush() error
	// Stop has operators that are busy with a record that takes long give up. Any goroutine may call it.
	Stop()
}

// Until finds the record at which a split ends; *builtin.Until.
type Until interface {
	// Cut returns what stands before the end, and its offset; -1: the batch holds no end. The result is good
	// until the next call.
	Cut(b *operator.Batch) (rest *operator.Batch, end int64, err error)
}

// NodeOutput is an output with the index of its node in Vertex.Nodes.
type NodeOutput struct {
	Node   int
	Output Output
}

// Piece is a piece of restored state of one operator.
type Piece struct {
	Operator string
	Data     []byte
}

// Config is a subtask, built and ready to run.
type Config struct {
	Job            ident.JobID
	Fence          ident.Fence
	Subtask        ident.Subtask
	Vertex         graph.Vertex
	MaxParallelism int

	// Source is that of Vertex.Nodes[0]; nil: the subtask reads Inputs.
	Source operator.Source
	// Until ends splits of the source; nil: their bounds alone do.
	Until  Until
	Inputs Inputs
	// Operators and Sinks are by the names of their nodes.
	Operators map[string]operator.Operator
	Sinks     map[string]operator.Sink
	Outputs   []NodeOutput
	// DeadLetters is wanted if the vertex has sinks for them.
	DeadLetters DeadLetters

	// State holds the pieces to restore, perhaps several per operator.
	State []Piece
	// Positions are the splits of the source, all of them.
	Positions []manifest.Position

	Reporter Reporter
	Logger   *slog.Logger
}

// Task is one subtask of one attempt.
type Task struct {
	cfg      Config
	counters Counters
	mailbox  *mailbox
}

// New checks the configuration. Nothing runs before Run.
func New(cfg Config) (*Task, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("build subtask %s: %w", cfg.Subtask, err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Logger = cfg.Logger.With("job", cfg.Job, "attempt", cfg.Fence.Attempt, "subtask", cfg.Subtask.String())
	return &Task{cfg: cfg, mailbox: newMailbox()}, nil
}

func (c *Config) validate() error {
	if len(c.Vertex.Nodes) == 0 {
		return errors.New("the vertex has no nodes")
	}
	if c.Reporter == nil {
		return errors.New("no reporter")
	}
	isSource := c.Vertex.Nodes[0].Kind == graph.KindSource
	if isSource != (c.Source != nil) || isSource == (c.Inputs != nil && c.Inputs.Count() > 0) {
		return errors.New("want a source at the head, or inputs, not both")
	}
	for i := range c.Vertex.Nodes {
		n := &c.Vertex.Nodes[i]
		switch {
		case n.DeadLettersOf != "" && (n.Parent != -1 || c.DeadLetters == nil):
			return fmt.Errorf("%s has the parent %d, or nobody gathers dead letters", n.Name, n.Parent)
		case i > 0 && n.DeadLettersOf == "" && (n.Parent < 0 || n.Parent >= i):
			return fmt.Errorf("node %s has the parent %d", n.Name, n.Parent)
		case i > 0 && n.Kind == graph.KindSource:
			return fmt.Errorf("source %s is not the head", n.Name)
		case n.Kind == graph.KindOperator && c.Operators[n.Name] == nil:
			return fmt.Errorf("operator %s is missing", n.Name)
		case n.Kind == graph.KindSink && c.Sinks[n.Name] == nil:
			return fmt.Errorf("sink %s is missing", n.Name)
		}
	}
	for _, o := range c.Outputs {
		if o.Node < 0 || o.Node >= len(c.Vertex.Nodes) || o.Output == nil {
			return fmt.Errorf("an output of node %d, which does not exist", o.Node)
		}
	}
	return nil
}

// Counters may be read at any time.
func (t *Task) Counters() *Counters { return &t.counters }

// Subtask is which one this is.
func (t *Task) Subtask() ident.Subtask { return t.cfg.Subtask }

// Trigger starts a checkpoint in a source; a subtask with inputs waits for the barriers instead and
// passes it over.
func (t *Task) Trigger(id ident.CheckpointID, kind Kind) {
	t.mailbox.put(func(m *mail) { m.addTrigger(trigger{id, kind}) })
}

// AddSplits gives the source more splits; those that it has are passed over, in a subtask without a source all.
func (t *Task) AddSplits(splits []manifest.Position) {
	if len(splits) > 0 {
		t.mailbox.put(func(m *mail) { m.addSplits(splits) })
	}
}

// RemoveSplits has the source let go of splits that stand just where these positions say; the others stay.
func (t *Task) RemoveSplits(splits []manifest.Position) {
	if len(splits) > 0 {
		t.mailbox.put(func(m *mail) { m.removeSplits(splits) })
	}
}

// Abort gives a checkpoint up.
func (t *Task) Abort(id ident.CheckpointID) {
	t.mailbox.put(func(m *mail) { m.addAbort(id) })
}

// Completed tells that a checkpoint is durable and committed. Source and sinks hear of it at once: the loop may be
// waiting in one of them for just this. Sinks hear in the order of the graph, so that a run can be repeated.
func (t *Task) Completed(id ident.CheckpointID) {
	if keeper, ok := t.cfg.Source.(operator.OffsetKeeper); ok {
		keeper.Completed(id)
	}
	for i := range t.cfg.Vertex.Nodes {
		if s := t.cfg.Sinks[t.cfg.Vertex.Nodes[i].Name]; s != nil {
			s.Completed(id)
		}
	}
}

// Lag is how far the splits of the source are behind; nil without a source.
func (t *Task) Lag() []operator.SplitLag {
	if t.cfg.Source == nil {
		return nil
	}
	return t.cfg.Source.Lag()
}

// Waiting says why the subtask makes no progress because of those that it sends to; empty when it does.
func (t *Task) Waiting() string {
	for _, o := range t.cfg.Outputs {
		if text := o.Output.Waiting(); text != "" {
			return text
		}
	}
	return ""
}

// Run restores the state and runs the subtask until ctx ends (nil) or it fails (an Error). It returns
// when the source, the sinks and all else that it started have ended.
func (t *Task) Run(parent context.Context) error {
	g, ctx := errgroup.WithContext(parent)
	if t.cfg.DeadLetters != nil {
		defer context.AfterFunc(ctx, t.cfg.DeadLetters.Stop)()
	}
	g.Go(func() error { return t.guard(parent, "", func() error { return t.run(ctx, parent, g) }) })
	return g.Wait()
}

// guard names the failing part, and turns a panic into a failure of this subtask alone. What fails once
// parent has ended is no failure.
func (t *Task) guard(parent context.Context, node string, run func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Error{t.cfg.Subtask, node, fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	err = run()
	var named *Error
	switch {
	case err == nil || parent.Err() != nil:
		return nil
	case errors.As(err, &named):
		return err
	default:
		return &Error{t.cfg.Subtask, node, err}
	}
}
