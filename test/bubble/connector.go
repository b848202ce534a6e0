package bubble

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// Admin is the jobmanager.Connector of a Log.
type Admin struct {
	Log *Log

	// crashed says that the job manager does nothing any more, whatever its goroutines still do.
	crashed atomic.Bool
	// calls counts those on their way.
	calls atomic.Int32

	// Discovery is how often the partitions of sources are looked for; 0: never.
	Discovery time.Duration

	mu        sync.Mutex
	published []ident.CheckpointID
	publish   func(context.Context, graph.Publication) error // as OnPublish
	// listingFault is why partitions cannot be listed; nil: they can. Those that are found begin at begin.
	listingFault error
	begin        int64
	hidden       bool // listings have no topics
}

// OnPublish has f decide how the publications of offsets end; nil: all succeed.
func (a *Admin) OnPublish(f func(context.Context, graph.Publication) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.publish = f
}

// CheckProperties finds nothing wrong.
func (a *Admin) CheckProperties(graph.Kind, map[string]string) []error { return nil }

// Check refuses sources whose topics are not there.
func (a *Admin) Check(_ context.Context, job *graph.Job) error {
	for i := range job.Sources {
		for _, topic := range job.Sources[i].Kafka.Topics {
			if a.Log.partitions(topic) == 0 {
				return errors.New("topic " + topic + " does not exist")
			}
		}
	}
	return nil
}

// StartPositions begins at offset 0, or where the log ends now; a source that is bounded ends there.
func (a *Admin) StartPositions(_ context.Context, job *graph.Job) ([]manifest.Position, []string, error) {
	var out []manifest.Position
	for i := range job.Sources {
		s := &job.Sources[i]
		for _, topic := range a.Log.topicsOf(s) {
			for p := range int32(a.Log.partitions(topic)) {
				pos := manifest.Position{Split: manifest.Split{Source: s.Name, Topic: topic, Partition: p}, TopicID: idOf(s), LeaderEpoch: -1, Stop: -1}
				if s.Kafka.Startup.Mode == graph.StartLatest {
					pos.Next = a.Log.End(topic, p)
				}
				if s.Kafka.Bounded.Mode == graph.BoundLatest {
					pos.Stop = a.Log.End(topic, p)
				}
				out = append(out, pos)
			}
		}
	}
	return out, nil, nil
}

// DiscoveryInterval is Discovery.
func (a *Admin) DiscoveryInterval(*graph.KafkaSource) (time.Duration, bool) {
	return a.Discovery, a.Discovery > 0
}

// Discover finds the partitions that were added, each where retention has come to.
func (a *Admin) Discover(ctx context.Context, s *graph.Source, known []manifest.Position) ([]manifest.Position, map[string]manifest.TopicID, error) {
	var found []manifest.Position
	topics := map[string]manifest.TopicID{}
	err := a.call(ctx, Call{API: ListTopics}, func() error {
		if fault := a.listingFailure(); fault != nil {
			return fault
		}
		for _, topic := range a.Log.topicsOf(s) {
			n := a.Log.partitions(topic)
			if n == 0 || a.isHidden() {
				continue
			}
			topics[topic] = idOf(s)
			for p := range int32(n) {
				split := manifest.Split{Source: s.Name, Topic: topic, Partition: p}
				if !slices.ContainsFunc(known, func(k manifest.Position) bool { return k.Split == split }) {
					found = append(found, manifest.Position{Split: split, TopicID: idOf(s), Next: a.beginning(), LeaderEpoch: -1, Stop: -1})
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return found, topics, nil
}

// idOf is the id of all topics of a source: known if it has a pattern.
func idOf(s *graph.Source) manifest.TopicID {
	if s.Kafka.TopicPattern == "" {
		return manifest.TopicID{}
	}
	return manifest.TopicID{1}
}

// HideTopics leaves all topics out of listings, as a broker does that does not know them; they can be read all the same.
func (a *Admin) HideTopics(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hidden = on
}

func (a *Admin) isHidden() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hidden
}

// FailListings lets listings of partitions fail; nil: not any more.
func (a *Admin) FailListings(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listingFault = why
}

// Retain lets partitions that are found from now on begin at an offset. The log keeps what is before.
func (a *Admin) Retain(from int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin = from
}

func (a *Admin) beginning() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.begin
}

func (a *Admin) listingFailure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.listingFault
}

// errCrashed is what a job manager hears that is dead already.
var errCrashed = errors.New("the process is dead")

// Commit is jobmanager.Connector's.
func (a *Admin) Commit(ctx context.Context, _ *graph.Job, t *manifest.Transaction) (refused bool, err error) {
	err = a.call(ctx, Call{API: EndTxn, ID: t.TransactionalID}, func() error {
		return a.Log.commit(t.TransactionalID, producer{t.ProducerID, t.ProducerEpoch})
	})
	return isVerdict(err), err
}

// Fence is jobmanager.Connector's.
func (a *Admin) Fence(ctx context.Context, _ *graph.Job, _, _, id string) error {
	return a.call(ctx, Call{API: InitProducerID, ID: id}, func() error {
		_, err := a.Log.initProducerID(id, time.Minute)
		return err
	})
}

func (a *Admin) call(ctx context.Context, c Call, do func() error) error {
	if a.crashed.Load() {
		return errCrashed
	}
	a.calls.Add(1)
	defer a.calls.Add(-1)
	c.Host = jmHost
	err := a.Log.call(ctx, c, callDelay, do)
	if a.crashed.Load() {
		return errCrashed
	}
	return err
}

// PublishOffsets notes the checkpoint.
func (a *Admin) PublishOffsets(ctx context.Context, _ *graph.Job, to graph.Publication, m *manifest.Manifest) error {
	a.mu.Lock()
	publish := a.publish
	a.mu.Unlock()
	if publish != nil {
		if err := publish(ctx, to); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.published = append(a.published, m.Checkpoint)
	return nil
}

// ReadCommitted finds nothing: the log keeps no offsets.
func (a *Admin) ReadCommitted(context.Context, *graph.Job, ident.JobID, []manifest.Position) (ident.CheckpointID, bool, error) {
	return 0, false, nil
}

// SinkPartitions counts nothing: the log suffers no markers.
func (a *Admin) SinkPartitions(context.Context, *graph.Job) map[string]int { return nil }

// LogEnds is the job manager's: nobody knows them here.
func (a *Admin) LogEnds(context.Context, *graph.Job, []manifest.Split) []operator.LogEnd { return nil }

// Published are the checkpoints whose offsets were published.
func (a *Admin) Published() []ident.CheckpointID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.published)
}

// Assign deals the splits out in turn.
func (a *Admin) Assign(positions []manifest.Position, parallelism int) [][]manifest.Position {
	out := make([][]manifest.Position, parallelism)
	for i, p := range positions {
		out[i%parallelism] = append(out[i%parallelism], p)
	}
	return out
}

// Connectors makes sources and sinks of a Log.
type Connectors struct {
	Log *Log
	// BatchRecords are read from each split every Pace.
	BatchRecords int
	Pace         time.Duration
	// AckDelay is how long the log takes to acknowledge a write.
	AckDelay time.Duration

	mu      sync.Mutex
	running map[string]int
	alone   map[string]int // by source: the sinks that alone take what it reads
}

// Alone is how many sinks a source of this name was told that alone take what it reads; -1: it was not made.
func (c *Connectors) Alone(source string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, made := c.alone[source]; made {
		return n
	}
	return -1
}

// Running is how many sources and sinks run on a host.
func (c *Connectors) Running(host string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[host]
}

func (c *Connectors) count(host string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		c.running = map[string]int{}
	}
	c.running[host] += n
}

func (c *Connectors) on(host string) hostConnectors { return hostConnectors{c, host} }

// hostConnectors are the connectors of one host.
type hostConnectors struct {
	*Connectors
	host string
}

// NewSource is taskmanager.Connectors'.
func (c hostConnectors) NewSource(node *graph.Node, sc operator.SourceContext) (operator.Source, error) {
	c.mu.Lock()
	if c.alone == nil {
		c.alone = map[string]int{}
	}
	c.alone[node.Name] = len(sc.Sinks)
	c.mu.Unlock()
	s := &source{c: c, out: make(chan operator.SourceBatch, 4)}
	s.AddSplits(sc.Positions)
	return s, nil
}

// NewSink is taskmanager.Connectors'.
func (c hostConnectors) NewSink(node *graph.Node, sc operator.SinkContext) (operator.Sink, error) {
	if sc.Transactions != nil {
		return newTransactional(c, node, sc), nil
	}
	return &sink{c: c, topic: node.Sink.Kafka.Topic, in: make(chan written, 64), sealed: make(chan operator.SealedEpoch, 16)}, nil
}

// written is what a sink has to send: records, or the seal behind them.
type written struct {
	messages []Message
	seal     ident.CheckpointID
}

type sink struct {
	c      hostConnectors
	topic  string
	in     chan written
	sealed chan operator.SealedEpoch
}

// Run is operator.Sink's.
func (s *sink) Run(ctx context.Context) error {
	s.c.count(s.c.host, 1)
	defer s.c.count(s.c.host, -1)
	for {
		var batch []written
		select {
		case <-ctx.Done():
			return nil
		case w := <-s.in:
			batch = append(batch, w)
		}
		for more := true; more; {
			select {
			case w := <-s.in:
				batch = append(batch, w)
			default:
				more = false
			}
		}
		sleep(ctx, s.c.AckDelay)
		if err := s.acknowledge(ctx, batch); err != nil {
			return nil // only the end of ctx
		}
	}
}

func (s *sink) acknowledge(ctx context.Context, batch []written) error {
	if err := s.c.awaitAcks(ctx); err != nil {
		return err
	}
	for _, w := range batch {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if w.seal == 0 {
			s.c.Log.Append(s.topic, w.messages...)
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s.sealed <- operator.SealedEpoch{Checkpoint: w.seal}:
		}
	}
	return nil
}

// awaitAcks waits while acknowledgements are held back.
func (c *Connectors) awaitAcks(ctx context.Context) error {
	for {
		held, changed := c.Log.acks()
		if !held {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Write is operator.Sink's.
func (s *sink) Write(ctx context.Context, b *operator.Batch) error {
	if err := b.Open(); err != nil {
		return err
	}
	w := written{messages: make([]Message, 0, len(b.Records))}
	for i := range b.Records {
		w.messages = append(w.messages, Message{Key: string(b.Bytes(b.Records[i].Key)), Value: string(b.Bytes(b.Records[i].Value))})
	}
	return s.put(ctx, w)
}

// Seal is operator.Sink's.
func (s *sink) Seal(ctx context.Context, id ident.CheckpointID) error {
	return s.put(ctx, written{seal: id})
}

func (s *sink) put(ctx context.Context, w written) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case s.in <- w:
		return nil
	}
}

// Sealed is operator.Sink's.
func (s *sink) Sealed() <-chan operator.SealedEpoch { return s.sealed }

// Completed is operator.Sink's.
func (s *sink) Completed(ident.CheckpointID) {}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
