package exchange

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// endedGrace is how long an attempt goes on after a peer has ended it in good order: the cancel of the
// job manager, or the report of the subtask that failed there, says more than we could.
const endedGrace = 2 * time.Second

var errTaken = errors.New("its output has been taken already")

// PeerError says that the exchange with a peer broke; the attempt cannot go on.
type PeerError struct {
	Peer Peer
	// Ended is set when the peer ended its side of the attempt in good order; its own report says why.
	Ended bool
	Cause error
}

func (e *PeerError) Error() string {
	if e.Ended {
		return fmt.Sprintf("%s ended the attempt", e.Peer)
	}
	return fmt.Sprintf("exchange with %s: %v", e.Peer, e.Cause)
}

func (e *PeerError) Unwrap() error { return e.Cause }

// FailureClass says that neither the job nor Sluice is at fault.
func (e *PeerError) FailureClass() string { return "external" }

// Attempt is the exchange of one attempt on one task manager.
type Attempt struct {
	network    *Network
	key        attemptKey
	graph      *graph.Physical
	placements map[ident.Subtask]Peer

	inputs   map[ident.Subtask]*Inputs
	channels map[Channel]*inChannel // those that end here
	links    map[ident.WorkerID]*link
	// awaited holds the peers that send to us and have not opened their stream. Guarded by mu.
	awaited map[ident.WorkerID]Peer

	mu       sync.Mutex
	over     bool // no stream may join any more
	incoming sync.WaitGroup
	done     <-chan struct{} // closed when the attempt ends; set before it is visible
	failed   chan error
}

// addLocal makes the queues of a subtask that runs here and notes the peers it talks to.
func (a *Attempt) addLocal(s ident.Subtask) error {
	me := a.network.cfg.Worker
	names := channelsInto(a.graph, s)
	limit := a.network.cfg.queueBytes(len(names))
	in := newInputs(names, limit, a.network.batches)
	a.inputs[s] = in
	for i, name := range names {
		a.channels[name] = in.channels[i]
		if from := a.placements[a.senderOf(name)]; from.Worker != me {
			a.awaited[from.Worker] = from
		}
	}
	for i := range a.graph.Edges {
		e := &a.graph.Edges[i]
		if e.From != s.Vertex {
			continue
		}
		for _, name := range channelsOf(a.graph, e, s.Index) {
			to, ok := a.placements[ident.Subtask{Vertex: e.To, Index: name.Receiver}]
			if !ok {
				return fmt.Errorf("edge %d: no task manager for subtask %s/%d", e.ID, e.To, name.Receiver)
			}
			if to.Worker != me && a.links[to.Worker] == nil {
				a.links[to.Worker] = newLink(a, to)
			}
		}
	}
	return nil
}

func (a *Attempt) senderOf(c Channel) ident.Subtask {
	return ident.Subtask{Vertex: a.graph.Edges[c.Edge].From, Index: c.Sender}
}

// Inputs are those of a subtask that runs here; it has Count 0 for a source.
func (a *Attempt) Inputs(s ident.Subtask) (*Inputs, error) {
	in, ok := a.inputs[s]
	if !ok {
		return nil, fmt.Errorf("subtask %s does not run on task manager %s", s, a.network.cfg.Worker)
	}
	return in, nil
}

// Output is what a subtask that runs here sends on with edge (an id). keyer computes the stream keys of a
// Hash edge; nil: the records carry them. Each output is taken once, before Run.
func (a *Attempt) Output(s ident.Subtask, edge int, keyer Keyer) (*Output, error) {
	if edge < 0 || edge >= len(a.graph.Edges) || a.graph.Edges[edge].From != s.Vertex || a.inputs[s] == nil {
		return nil, fmt.Errorf("subtask %s of task manager %s does not send on edge %d", s, a.network.cfg.Worker, edge)
	}
	o := &Output{edge: a.graph.Edges[edge], keyer: keyer}
	if to, ok := a.graph.Vertex(o.edge.To); ok {
		o.bare = to.ReadsStreamKeysOnly()
	}
	for _, name := range channelsOf(a.graph, &o.edge, s.Index) {
		c, err := a.outChannel(name)
		if err != nil {
			return nil, err
		}
		c.waiting = &o.waiting
		o.channels = append(o.channels, c)
	}
	if o.edge.Partitioning == graph.Hash {
		o.owners = make([]int32, a.graph.MaxParallelism)
		for group := range o.owners {
			o.owners[group] = int32(graph.SubtaskOfKeyGroup(group, len(o.channels), len(o.owners)))
		}
	}
	if o.edge.Partitioning == graph.Rebalance {
		o.next = s.Index % len(o.channels) // so that not all begin with the same receiver
	}
	return o, nil
}

func (a *Attempt) outChannel(name Channel) (*outChannel, error) {
	n := a.network
	to := ident.Subtask{Vertex: a.graph.Edges[name.Edge].To, Index: name.Receiver}
	c := &outChannel{name: name, to: to, batchBytes: n.cfg.BatchBytes, batches: n.batches, buffers: n.buffers}
	if peer := a.placements[to]; peer.Worker != n.cfg.Worker {
		c.remote = a.links[peer.Worker]
		if c.remote.credits[name] != nil {
			return nil, fmt.Errorf("channel %s: %w", name, errTaken)
		}
		c.credit = newCredit(0)
		c.remote.credits[name] = c.credit
		return c, nil
	}
	c.local = a.channels[name]
	if c.local.credits != nil {
		return nil, fmt.Errorf("channel %s: %w", name, errTaken)
	}
	c.credit = newCredit(c.local.limitBytes)
	c.local.credits = c.credit
	return c, nil
}

// Run opens the streams to the peers, serves theirs, and returns when all of it has ended: nil when ctx
// ended, else a PeerError.
func (a *Attempt) Run(parent context.Context) error {
	g, ctx := errgroup.WithContext(parent)
	a.done = ctx.Done()
	if err := a.network.enter(a); err != nil {
		g.Go(func() error { return err })
		return g.Wait()
	}
	for _, l := range a.links {
		g.Go(func() error { return l.run(ctx) })
	}
	g.Go(func() error { return a.watch(ctx) })
	err := g.Wait()
	a.network.leave(a)
	a.mu.Lock()
	a.over = true
	a.mu.Unlock()
	a.incoming.Wait()
	return err
}

// watch waits for the failure of an incoming stream and for the peers that do not come.
func (a *Attempt) watch(ctx context.Context) error {
	timer := time.NewTimer(a.network.cfg.OpenWait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-a.failed:
			if ctx.Err() != nil {
				return nil
			}
			return patient(ctx, err)
		case <-timer.C:
			if err := a.missing(); err != nil {
				return err
			}
		}
	}
}

// patient returns err, after a while if all it says is that a peer has ended the attempt; nil if the
// attempt has ended here by then.
func patient(ctx context.Context, err error) error {
	var peer *PeerError
	if !errors.As(err, &peer) || !peer.Ended {
		return err
	}
	timer := time.NewTimer(endedGrace)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-timer.C:
		return err
	}
}

func (a *Attempt) missing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.awaited {
		return &PeerError{Peer: p, Cause: fmt.Errorf("it has not connected within %s", a.network.cfg.OpenWait)}
	}
	return nil
}

// fail ends the attempt; the first reason stands.
func (a *Attempt) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}
