package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

const (
	// groupRebalance is how long the group waits for a member that has to join again.
	groupRebalance = time.Minute
	// groupHandover bounds the wait for the sinks to acknowledge what was read before partitions are given up: what
	// is committed then is not read again by their next holder.
	groupHandover = 3 * time.Second
	// groupLeave bounds the last commit and the good-bye of a source that ends.
	groupLeave = 3 * time.Second
	// groupWatch is how often the topics are looked at for new ones and for new partitions.
	groupWatch = 10 * time.Second
)

// GroupSource is a source of mode group: a member of a Kafka consumer group, which assigns the partitions and keeps
// the offsets. It implements operator.OffsetKeeper.
//
// Each generation of the group has a Source of its own for the partitions that the group gave; it ends when the group
// gathers again. Offsets are committed when a checkpoint has shown that the sinks acknowledged what stands before
// them; the checkpoint itself holds none.
type GroupSource struct {
	kafka       *graph.KafkaSource
	name        string
	cfg         Config
	connections *Connections
	log         *slog.Logger
	trouble     *trouble
	out         chan operator.SourceBatch
	offsets     *groupOffsets
	// session is how long the group waits for a heartbeat.
	session, heartbeat, watchEvery time.Duration

	cluster *wire.Cluster // while Run runs
	member  wire.Member   // of Run
	// heldIn is the generation in which offsets holds its partitions; a member that has joined anew has none of them yet.
	heldIn int32
	// first are the topics, with their partitions, that there were when Run began, known those of which the group had
	// committed an offset then.
	first map[string]int32
	known map[string]bool

	mu     sync.Mutex
	reader *Source // of the generation; nil between two
}

var _ operator.OffsetKeeper = (*GroupSource)(nil)

// NewGroupSource checks the properties. It connects in Run. The positions of cfg are not used.
func NewGroupSource(name string, cfg SourceConfig) (*GroupSource, error) {
	resolved, err := Resolve(graph.KindSource, cfg.Kafka.Properties)
	if err != nil {
		return nil, fmt.Errorf("read the properties: %w", err)
	}
	if resolved.GroupID == "" {
		return nil, &PropertyError{Name: propGroup, Reason: "mode: group needs it", Hint: "add it"}
	}
	if cfg.Connections == nil {
		return nil, errors.New("no connections")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	millis := func(name string) time.Duration {
		return time.Duration(numberOf(cfg.Kafka.Properties, name)) * time.Millisecond
	}
	return &GroupSource{
		kafka: cfg.Kafka, name: name, cfg: resolved, connections: cfg.Connections, log: cfg.Logger.With("source", name, "group", resolved.GroupID),
		trouble: newTrouble(cfg.Status), out: make(chan operator.SourceBatch, batchQueue), offsets: newGroupOffsets(),
		session: millis(propSessionTimeout), heartbeat: millis(propHeartbeat), watchEvery: groupWatch,
	}, nil
}

// Batches is what was fetched, in order within each split while the source holds it.
func (g *GroupSource) Batches() <-chan operator.SourceBatch { return g.out }

// Accept refuses what is not for this generation.
func (g *GroupSource) Accept(b *operator.SourceBatch) bool { return g.offsets.accepts(b) }

// Taken notes how far the chain is.
func (g *GroupSource) Taken(b *operator.SourceBatch) { g.offsets.take(b) }

// Barrier notes what a checkpoint is about.
func (g *GroupSource) Barrier(id ident.CheckpointID) { g.offsets.barrier(id) }

// Completed lets what stands before a barrier be committed.
func (g *GroupSource) Completed(id ident.CheckpointID) { g.offsets.completed(id) }

// Lag is how far the partitions that the source holds now are behind.
func (g *GroupSource) Lag() []operator.SplitLag {
	g.mu.Lock()
	reader := g.reader
	g.mu.Unlock()
	if reader == nil {
		return nil
	}
	return reader.Lag()
}

// Run takes part in the group until ctx ends, and leaves it then. Coordinators that cannot be reached are waited for
// without limit; the reason is reported meanwhile.
func (g *GroupSource) Run(ctx context.Context) error {
	cluster, release, err := g.connections.acquire(&g.cfg)
	if err != nil {
		return err
	}
	defer release()
	g.cluster, g.first, g.heldIn = cluster, nil, -1
	g.member = wire.Member{Group: g.cfg.GroupID, Generation: -1}
	defer g.leave(ctx)
	for tries := 0; ctx.Err() == nil; {
		err := g.generation(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errGathers):
			tries = 0
		case !g.again(err):
			return g.explain(err)
		default:
			tries++
			g.trouble.set("group "+g.cfg.GroupID, whyAgain(err))
			if sleep(ctx, g.cfg.pauseAfter(err, tries)) != nil {
				return nil
			}
		}
	}
	return nil
}

// again says whether a generation that ended with err is followed by another. What the group says against the member
// is no fault of the job.
func (g *GroupSource) again(err error) bool {
	var property *PropertyError
	var fault *Error
	switch {
	case wire.HasCode(err, wire.CodeUnknownMemberID):
		g.member.ID, g.member.Generation = "", -1
		return true
	case wire.HasCode(err, wire.CodeIllegalGeneration):
		g.member.Generation = -1
		return true
	case errors.As(err, &property), errors.As(err, &fault):
		return false
	default:
		return survivable(err)
	}
}

// whyAgain words what is waited for.
func whyAgain(err error) string {
	if wire.HasCode(err, wire.CodeUnknownMemberID, wire.CodeIllegalGeneration) {
		return "the group has given this member up, and it joins anew"
	}
	return shortReason(err)
}

// explain words what ends the source.
func (g *GroupSource) explain(err error) error {
	var fault *Error
	hint := ""
	switch {
	case errors.As(err, &fault):
		return err
	case wire.HasCode(err, wire.CodeInconsistentProtocol):
		hint = "use another " + propGroup + ", or stop its other members: they share no assignment strategy with this source, which knows roundrobin and range"
	case wire.HasCode(err, wire.CodeInvalidSessionTimeout):
		hint = "set " + propSessionTimeout + " between the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms"
	}
	return &Error{Where: "group " + g.cfg.GroupID, Err: err, Hint: hint}
}

// leave tells the group, so that the others need not wait until the session has run out. ctx has ended or Run failed:
// this has its own time.
func (g *GroupSource) leave(ctx context.Context) {
	if g.member.ID == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupLeave)
	defer cancel()
	if g.member.Generation >= 0 {
		if err := g.commit(ctx); err != nil {
			g.log.Warn("the last offsets are not committed, what came after them is read again", "reason", err)
		}
	}
	if err := g.cluster.LeaveGroup(ctx, g.member); err != nil {
		g.log.Warn("the group waits for the session of this member to run out", "reason", err)
	}
}

// commit stores what the sinks have acknowledged. Of a generation before nothing can be stored: another member may hold its
// partitions by now, and be further.
func (g *GroupSource) commit(ctx context.Context) error {
	if g.heldIn != g.member.Generation {
		return nil
	}
	due := g.offsets.due()
	if err := g.cluster.OffsetCommitAs(ctx, g.member, due); err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	g.offsets.commit(g.name, due)
	return nil
}
