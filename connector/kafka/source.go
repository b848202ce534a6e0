package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

const (
	// One source subtask reads answersAhead full answers of each split ahead, within these bounds: one that is
	// written, one that waits, one on its way, and as much room to ask for the next. More would only wait, and
	// leave the processor's caches.
	maxInFlightBytes = 32 << 20
	minInFlightBytes = 4 << 20
	answersAhead     = 4
	// batchQueue is how many batches may wait for the subtask; bytes are what really bounds them.
	batchQueue = 256
)

// SourceConfig is one subtask of a Kafka source.
type SourceConfig struct {
	// Kafka is the source as the job has it.
	Kafka *graph.KafkaSource
	// Positions are the splits of the subtask.
	Positions   []manifest.Position
	Connections *Connections
	// Status is told why the source makes no progress, "" when it does again. It must not wait.
	Status func(reason string)
	Logger *slog.Logger
	// InFlightBytes bounds what is read ahead; default four times max.partition.fetch.bytes for each split, 4 to 32 MiB.
	InFlightBytes int64
	// PassedOn: sinks pass batches of these codecs on as they are, and their brokers check the checksums.
	PassedOn wire.CodecSet
}

// Source reads splits of Kafka topics. It implements operator.Source.
//
// One fetcher runs per leader and owns the splits that it fetches; a split whose leader is not known
// belongs to the finder. So each split has one owner at any time, who alone moves its position.
type Source struct {
	cfg         Config
	rack        string // in which we are; empty: not told
	connections *Connections
	log         *slog.Logger
	out         chan operator.SourceBatch
	budget      *budget
	ahead       int64 // bytes to read ahead, 0: as the splits want it
	passedOn    wire.CodecSet
	trouble     *trouble
	parcels     sync.Pool // of *parcel
	staleGrace  time.Duration
	quietAge    time.Duration

	cluster *wire.Cluster // while Run runs
	group   *errgroup.Group

	mu       sync.Mutex
	splits   []*split
	homeless []*split
	fetchers map[place]*fetcher
	wake     chan struct{} // something became homeless

	doubts chan []doubt
}

var (
	_ operator.SplitAdder   = (*Source)(nil)
	_ operator.SplitEnder   = (*Source)(nil)
	_ operator.SplitRemover = (*Source)(nil)
)

// split is a partition that is being read.
type split struct {
	manifest.Position
	name   string // topic/partition
	leader wire.Leader
	// tries counts failures in a row; notBefore is when the next try is due.
	tries     int
	notBefore time.Time
	// badBatches counts answers in a row whose first batch was broken.
	badBatches int
	// starved counts the answers in a row that had nothing of it though there is something. A broker fills an answer in the
	// order of the request, and only what comes first may be larger than was asked for.
	starved int
	// heardAt is when the leader had something of it last, or was found.
	heardAt time.Time
	// replaced: somebody else said so of the leader; its owner lets go of the split.
	replaced atomic.Bool
	// strangeSince is when the topic was first seen to be another one.
	strangeSince time.Time
	// leaderUntil is up to when the leader itself is read, followerUntil a follower, lagsSince since when that one
	// knows less of the log than the position; see relocate.
	leaderUntil, followerUntil, lagsSince time.Time
	// comparedEpoch is the epoch of the leader whose log was compared with the position, -1 not yet; oldLeaderSince is
	// when a leader was first seen to be older than the position.
	comparedEpoch  int32
	oldLeaderSince time.Time
	// end is the high watermark as this broker told it last; -1: not yet.
	end int64

	handedOut     atomic.Int64 // next offset behind what the subtask was given, or is just being given; removed: nothing more is
	highWatermark atomic.Int64 // -1 unknown
	endedAt       atomic.Int64 // where the subtask ended the split, -1 not yet
}

// removed stands in split.handedOut.
const removed = -1

// ended says that the subtask takes nothing more of the split.
func (sp *split) ended() bool { return sp.endedAt.Load() >= 0 }

// NewSource checks the properties. It connects in Run.
func NewSource(cfg SourceConfig) (*Source, error) {
	resolved, err := Resolve(graph.KindSource, cfg.Kafka.Properties)
	if err != nil {
		return nil, fmt.Errorf("read the properties: %w", err)
	}
	if cfg.Connections == nil {
		return nil, errors.New("no connections")
	}
	rack, err := resolveSecret(propRack, resolved.Rack)
	if err != nil {
		return nil, fmt.Errorf("read the properties: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Source{
		cfg: resolved, rack: rack, connections: cfg.Connections, log: cfg.Logger, out: make(chan operator.SourceBatch, batchQueue),
		budget: newBudget(cfg.InFlightBytes), ahead: cfg.InFlightBytes, passedOn: cfg.PassedOn, trouble: newTrouble(cfg.Status), fetchers: map[place]*fetcher{}, wake: make(chan struct{}, 1),
		doubts:     make(chan []doubt, doubtQueue),
		staleGrace: staleGrace, quietAge: quietAge,
	}
	s.parcels.New = func() any { return newParcel(s) }
	s.AddSplits(cfg.Positions)
	return s, nil
}

// AddSplits gives the source more to read; see operator.SplitAdder.
func (s *Source) AddSplits(positions []manifest.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range positions {
		sp := &split{Position: p, name: fmt.Sprintf("%s/%d", p.Topic, p.Partition), comparedEpoch: -1}
		sp.handedOut.Store(p.Next)
		sp.highWatermark.Store(-1)
		sp.endedAt.Store(-1)
		s.splits = append(s.splits, sp)
		if !p.AtEnd() {
			s.homeless = append(s.homeless, sp)
		}
	}
	if s.ahead == 0 {
		perSplit := answersAhead * int64(s.cfg.Fetch.PartitionMaxBytes)
		s.budget.allow(min(max(perSplit*int64(len(s.splits)), minInFlightBytes), maxInFlightBytes))
	}
	signal(s.wake)
}

// EndSplit stops the fetching of a split; see operator.SplitEnder. Whoever owns it lets go of it.
func (s *Source) EndSplit(ended manifest.Split, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.splits {
		if sp.Split == ended {
			sp.endedAt.Store(at)
		}
	}
}

// RemoveSplit lets go of a split, of which nothing is on its way then; see operator.SplitRemover.
func (s *Source) RemoveSplit(gone manifest.Split, at int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.splits, func(sp *split) bool { return sp.Split == gone })
	if i < 0 || !s.splits[i].handedOut.CompareAndSwap(at, removed) {
		return false
	}
	sp := s.splits[i]
	sp.endedAt.Store(at)
	s.splits = slices.Delete(s.splits, i, i+1)
	// Whoever owns it lets go of it. The finder may have put it off for long.
	s.homeless = slices.DeleteFunc(s.homeless, func(o *split) bool { return o == sp })
	s.trouble.set(sp.name, "")
	return true
}

// Batches is what was fetched, in order within each split.
func (s *Source) Batches() <-chan operator.SourceBatch { return s.out }

// Lag is how far the subtask is behind the high watermarks, or behind the ends of bounded splits.
func (s *Source) Lag() []operator.SplitLag {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]operator.SplitLag, len(s.splits))
	for i, sp := range s.splits {
		next := sp.handedOut.Load()
		out[i] = operator.SplitLag{Split: sp.Split, Next: next, Lag: -1}
		if at := sp.endedAt.Load(); at >= 0 {
			out[i].Next, out[i].Lag = at, 0
		} else if sp.Stop >= 0 && next >= sp.Stop { // it is not fetched, so nobody tells a high watermark
			out[i].Lag = 0
		} else if end := sp.highWatermark.Load(); end >= 0 {
			if sp.Stop >= 0 {
				end = min(end, sp.Stop)
			}
			out[i].Lag = max(0, end-next)
		}
	}
	return out
}

// Run fetches until ctx ends. Brokers that cannot be reached, moving leaders and the like are waited for
// without limit; the reason is reported meanwhile.
func (s *Source) Run(ctx context.Context) error {
	cluster, release, err := s.connections.acquire(&s.cfg)
	if err != nil {
		return err
	}
	defer release()
	g, inner := errgroup.WithContext(ctx)
	s.cluster, s.group = cluster, g
	g.Go(func() error { return s.find(inner) })
	g.Go(func() error { return s.askAgain(inner) })
	err = g.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// failed notes a failure of a split that can be tried again.
func (s *Source) failed(sp *split, err error) {
	sp.tries++
	sp.notBefore = time.Now().Add(s.cfg.pauseAfter(err, sp.tries))
	s.trouble.set(sp.name, shortReason(err))
}

// worked ends what failed began.
func (s *Source) worked(sp *split) {
	if sp.tries > 0 {
		sp.tries, sp.notBefore = 0, time.Time{}
		s.trouble.set(sp.name, "")
	}
}

// due takes out of splits those whose time has come; next is when the first of the others comes, zero if
// there is none.
func due(splits []*split, now time.Time) (ready, later []*split, next time.Time) {
	for _, sp := range splits {
		if !sp.notBefore.After(now) {
			ready = append(ready, sp)
			continue
		}
		later = append(later, sp)
		if next.IsZero() || sp.notBefore.Before(next) {
			next = sp.notBefore
		}
	}
	return ready, later, next
}
