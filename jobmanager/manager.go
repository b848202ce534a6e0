package jobmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/sluice-stream/sluice/checkpoint/blob"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/proto/wire"
)

const (
	controlMessageBytes = 1 << 20
	windowBytes         = 1 << 20
	keepaliveMinTime    = 5 * time.Second
	keepaliveTime       = 10 * time.Second
	keepaliveExpiry     = 5 * time.Second
	// greetTimeout is how long a new connection may say nothing; the end of the server waits for it.
	greetTimeout = 4 * time.Second
	stopTimeout  = 5 * time.Second
)

// Connector is what the job manager needs of the outside systems of a job. Every call ends by the
// deadline of its ctx.
type Connector interface {
	// CheckProperties judges the properties of a source or sink.
	CheckProperties(kind graph.Kind, properties map[string]string) []error
	// Check asks the brokers of a job whether it can run; it joins everything that is wrong.
	Check(ctx context.Context, job *graph.Job) error
	// StartPositions resolves where every split begins and ends: checkpoint 0.
	StartPositions(ctx context.Context, job *graph.Job) (positions []manifest.Position, warnings []string, err error)
	// DiscoveryInterval is how often the partitions of a source are looked for while the job runs; 0: once, each
	// time that an attempt begins to run. They are not wanted of sources whose partitions are fixed.
	DiscoveryInterval(source *graph.KafkaSource) (every time.Duration, wanted bool)
	// Discover lists the topics of a source that exist now, with their ids, and the splits that are not known,
	// each where it begins. Even with an error found may hold a part of them, and topics, unless nil, is complete.
	Discover(ctx context.Context, source *graph.Source, known []manifest.Position) (found []manifest.Position, topics map[string]manifest.TopicID, err error)
	// Commit commits one transaction that a completed checkpoint names. refused: the broker's answer is a
	// verdict, it can never be committed (DESIGN rule 14); any other error may be tried again.
	Commit(ctx context.Context, job *graph.Job, t *manifest.Transaction) (refused bool, err error)
	// Fence aborts whatever is open under a transactional id and refuses its users from now on.
	Fence(ctx context.Context, job *graph.Job, sink, cluster, id string) error
	// PublishOffsets writes the positions of a source from a completed checkpoint to one of Job.Publications.
	PublishOffsets(ctx context.Context, job *graph.Job, to graph.Publication, m *manifest.Manifest) error
	// ReadCommitted gives the highest checkpoint of a job that its published offsets name.
	ReadCommitted(ctx context.Context, job *graph.Job, id ident.JobID, positions []manifest.Position) (highest ident.CheckpointID, found bool, err error)
	// LogEnds asks where the logs of splits end now and what the groups of their sources have committed, until
	// ctx ends. The answers stand in the order of the splits.
	LogEnds(ctx context.Context, job *graph.Job, splits []manifest.Split) []operator.LogEnd
	// SinkPartitions counts the output partitions of exactly-once sinks, as far as they can be known.
	SinkPartitions(ctx context.Context, job *graph.Job) map[string]int
	// Assign spreads the splits of one source over its subtasks.
	Assign(positions []manifest.Position, parallelism int) [][]manifest.Position
}

// Manager is a job manager.
type Manager struct {
	cfg         Config
	log         *slog.Logger
	connector   Connector
	expressions graph.Expressions
	store       *boltstore.Store
	blobs       *blob.Store
	epoch       ident.LeaderEpoch
	sessions    *sessions
	scheduler   *scheduler
	metrics     *metrics
	decisions   *decisions
	ids         *idCounter
	// retirements says that a job has ended and its loop is over.
	retirements chan struct{}
	// ending is closed when Run's ctx has ended.
	ending chan struct{}
	// doubt takes the error of a write outside of the job loops whose outcome is unknown: it ends Run.
	doubt chan error

	mu      sync.Mutex
	runners map[ident.JobID]*runner
	order   []ident.JobID // by submission
	// heirs counts the submissions that take over checkpoints of a job, so that it is not dropped meanwhile; dropping is
	// the job that is being dropped.
	heirs    map[ident.JobID]int
	dropping ident.JobID
	// lastEnd is when the last job ended.
	lastEnd time.Time
	// lastOrder is the highest place in the order of submissions that was given to a job.
	lastOrder uint64
	// submitting holds the names of jobs whose submission is under way.
	submitting map[string]bool
	// start runs a job loop; it is set while Run runs.
	start func(*runner)
}

// Open opens the data directory and reads the jobs; nothing runs before Run. The caller closes it.
func Open(cfg Config, connector Connector, expressions graph.Expressions) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	store, err := boltstore.Open(cfg.DataDir, boltstore.Options{Logger: cfg.Logger, Hook: cfg.StoreHook})
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	blobs, err := blob.Open(filepath.Join(cfg.DataDir, "blobs"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open state files: %w", err), store.Close())
	}
	m := &Manager{
		cfg: cfg, log: cfg.Logger, connector: connector, expressions: expressions, store: store, blobs: blobs, epoch: store.LeaderEpoch(),
		retirements: make(chan struct{}, 1), ending: make(chan struct{}), doubt: make(chan error, 1), runners: map[ident.JobID]*runner{}, submitting: map[string]bool{}, heirs: map[ident.JobID]int{},
		decisions: newDecisions(cfg.DecisionLog), ids: newIDCounter(),
	}
	m.decisions.note("start", "epoch", uint64(m.epoch))
	m.scheduler = newScheduler(m)
	m.sessions = newSessions(&m.cfg, m.epoch, m)
	if m.sessions.dial == nil {
		m.sessions.dial = dialTCP
	}
	m.metrics = newMetrics(m)
	if err := m.recover(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// Close gives the data directory back.
func (m *Manager) Close() error { return errors.Join(m.store.Close(), m.blobs.Close()) }

// Run serves on l until ctx ends, or until the state on disk is in doubt (an error then; the next start
// reads the truth from disk).
func (m *Manager) Run(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer(
		grpc.Creds(orInsecure(m.cfg.TLS)), grpc.MaxRecvMsgSize(wire.MaxReportBytes), grpc.MaxConcurrentStreams(4096),
		grpc.StaticStreamWindowSize(windowBytes), grpc.StaticConnWindowSize(windowBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveExpiry}), // else a cut-off peer's connection stays
		grpc.WaitForHandlers(true), // they use the store
		grpc.ConnectionTimeout(greetTimeout),
	)
	registerServices(server, m)
	g, gctx := errgroup.WithContext(ctx)
	m.mu.Lock()
	m.start = func(r *runner) { g.Go(func() error { return m.runJob(gctx, r) }) }
	for _, id := range m.order {
		if r := m.runners[id]; r.runs() {
			m.start(r)
		}
	}
	m.mu.Unlock()
	g.Go(func() error { return m.scheduler.run(gctx) })
	g.Go(func() error { return m.sessions.run(gctx) })
	g.Go(func() error { return m.dropEnded(gctx) })
	g.Go(func() error { return m.serve(gctx, server, l) })
	g.Go(func() error {
		select {
		case err := <-m.doubt:
			return fmt.Errorf("what is durable is in doubt: %w", err)
		case <-gctx.Done():
			return context.Cause(gctx)
		}
	})
	err := g.Wait()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

func (m *Manager) serve(ctx context.Context, server *grpc.Server, l net.Listener) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		close(m.ending)
		server.Stop() // streams of sessions never end by themselves
	}()
	err := server.Serve(l)
	if ctx.Err() == nil {
		return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	}
	<-stopped
	return context.Cause(ctx)
}

func orInsecure(c credentials.TransportCredentials) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	return c
}

var (
	errUnknownJob        = errors.New("no such job; `sluice jobs` lists them, of those that ended the latest")
	errNameInUse         = errors.New("its name is in use")
	errCheckFailed       = errors.New("the job cannot run now")
	errUnknownCheckpoint = errors.New("no such checkpoint")
	errNotRestorable     = errors.New("the checkpoint cannot be restored")
)

// find is the job of that id, or the newest of that name.
func (m *Manager) find(nameOrID string) (*runner, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.runners[ident.JobID(nameOrID)]; ok {
		return r, nil
	}
	for _, id := range slices.Backward(m.order) {
		if m.runners[id].name == nameOrID {
			return m.runners[id], nil
		}
	}
	return nil, fmt.Errorf("job %q: %w", nameOrID, errUnknownJob)
}

// jobs lists all jobs, newest first.
func (m *Manager) jobs() []*runner {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*runner, 0, len(m.order))
	for _, id := range slices.Backward(m.order) {
		out = append(out, m.runners[id])
	}
	return out
}

// add makes a job known; it runs at once when the manager runs. The caller holds mu.
func (m *Manager) add(r *runner) {
	m.runners[r.id] = r
	m.order = append(m.order, r.id)
	slices.SortStableFunc(m.order, func(a, b ident.JobID) int {
		return cmp.Compare(m.runners[a].submitOrder, m.runners[b].submitOrder)
	})
	m.lastOrder = max(m.lastOrder, r.submitOrder)
	if r.endedAt.After(m.lastEnd) {
		m.lastEnd = r.endedAt
	}
	if m.start != nil && r.runs() {
		m.start(r)
	}
}

// nextOrder is the place of a new job in the order of submissions.
func (m *Manager) nextOrder() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastOrder++
	return m.lastOrder
}

// endNow is when a job ends: later than any other has, whatever became of the clock, so that the newest end is told.
func (m *Manager) endNow() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().Round(0) // wall time, as it is stored: the monotonic clock would hide a step back
	if !now.After(m.lastEnd) {
		now = m.lastEnd.Add(time.Millisecond)
	}
	m.lastEnd = now
	return now
}

// post hands a message to the loop of a job; what is for a job that has ended is dropped.
func (m *Manager) post(ctx context.Context, id ident.JobID, msg any) {
	m.mu.Lock()
	r := m.runners[id]
	m.mu.Unlock()
	if r == nil || !r.runs() {
		m.metrics.dropped("unknown job")
		return
	}
	r.post(ctx, msg)
}

// broadcast hands a message to the loops of all jobs.
func (m *Manager) broadcast(msg any) {
	for _, r := range m.jobs() {
		if r.runs() {
			r.deliver(msg)
		}
	}
}

func (m *Manager) registered(worker ident.WorkerID, slots int) {
	m.scheduler.workerRegistered(worker, slots)
	m.broadcast(workerRegistered{})
}

func (m *Manager) resumed(worker ident.WorkerID) { m.broadcast(workerResumed{worker}) }

func (m *Manager) lost(l workerLost) {
	m.log.Warn("task manager lost", "worker", l.worker, "reason", l.reason, "certain", l.certain)
	m.scheduler.workerLost(l.worker)
	m.broadcast(l)
}
