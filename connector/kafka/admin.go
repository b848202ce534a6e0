package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

const (
	// adminTimeout bounds each question about a job, so that a submission is answered within 10 s.
	adminTimeout = 8 * time.Second
	// leaderWait is how long a check waits for leaders that are just being elected, topicWait for topics
	// that were perhaps created a moment ago.
	leaderWait = 3 * time.Second
	topicWait  = time.Second
	// adminIdle closes what a burst of commits opened, such as after an outage.
	adminIdle = 15 * time.Second
	// maxPinned bounds the connections that are kept between calls.
	maxPinned = 64
)

// Admin asks Kafka on behalf of the job manager: whether a job can run, where it begins, and where its
// published offsets stand. It may be used from many goroutines.
type Admin struct {
	connections *Connections
	zooKeepers  *zooKeepers
	log         *slog.Logger

	mu     sync.Mutex
	pinned map[string]pin // by Config.connectionPlace
}

// NewAdmin connects to nothing yet. Close it.
func NewAdmin(log *slog.Logger) *Admin {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Admin{connections: NewConnections(log), zooKeepers: newZooKeepers(log), log: log, pinned: map[string]pin{}}
	a.connections.maxIdle = adminIdle
	return a
}

// Close closes the connections.
func (a *Admin) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pinned {
		p.release()
	}
	clear(a.pinned)
	return errors.Join(a.connections.Close(), a.zooKeepers.close())
}

// CheckProperties judges the properties of a source or sink; see the function of this name.
func (a *Admin) CheckProperties(kind graph.Kind, properties map[string]string) []error {
	return CheckProperties(kind, properties)
}

// Assign spreads the splits of one source over its subtasks; see the function of this name.
func (a *Admin) Assign(positions []manifest.Position, parallelism int) [][]manifest.Position {
	return Assign(positions, parallelism)
}

// acquire is Connections.acquire; the connections stay open until Close, for the next question, or until the
// credentials change: what has the old ones would go on logging in with them.
func (a *Admin) acquire(cfg *Config) (*wire.Cluster, func(), error) {
	cluster, release, err := a.connections.acquire(cfg)
	if err != nil {
		return nil, nil, err
	}
	var old []func()
	defer func() {
		for _, unpin := range old { // closes what nobody uses
			unpin()
		}
	}()
	place, key := cfg.connectionPlace(), cfg.connectionKey()
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.pinned[place]
	if ok && p.key == key || !ok && len(a.pinned) == maxPinned {
		return cluster, release, nil
	}
	if ok {
		old = append(old, p.release)
	}
	_, unpin, err := a.connections.acquire(cfg)
	if err != nil {
		delete(a.pinned, place)
		return cluster, release, nil // it can be used, only not be kept
	}
	a.pinned[place] = pin{key, unpin}
	return cluster, release, nil
}

// pin keeps connections open.
type pin struct {
	key     string
	release func()
}

// demand is what the parts of a job with the same connection need of a cluster.
type demand struct {
	cfg     *Config
	parts   []string // who, for messages
	topics  map[string][]string
	pattern []patternOf
	writes  bool
}

type patternOf struct {
	part    string
	pattern *regexp.Regexp
}

// Check asks the brokers whether the job can run: are they there, do they speak a Kafka that is new
// enough, do the topics exist with leaders, may we see them, and then whether its transactions may live long
// enough. It joins everything that is wrong.
func (a *Admin) Check(ctx context.Context, job *graph.Job) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	demands, faults := demandsOf(job)
	results := make([][]error, len(demands)+1)
	var wg sync.WaitGroup
	wg.Go(func() { results[len(demands)] = a.checkZooKeepers(ctx, job) })
	for i, d := range demands {
		wg.Go(func() { results[i] = a.check(ctx, d) })
	}
	wg.Wait()
	for _, r := range results {
		faults = append(faults, r...)
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	return a.CheckTransactions(ctx, job)
}

func demandsOf(job *graph.Job) ([]*demand, []error) {
	var order []*demand
	var faults []error
	byKey := map[string]*demand{}
	get := func(part string, kind graph.Kind, properties map[string]string) *demand {
		cfg, err := Resolve(kind, properties)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", part, err))
			return nil
		}
		d := byKey[cfg.connectionKey()]
		if d == nil {
			d = &demand{cfg: &cfg, topics: map[string][]string{}}
			byKey[cfg.connectionKey()] = d
			order = append(order, d)
		}
		d.parts = append(d.parts, part)
		return d
	}
	for i := range job.Sources {
		s := &job.Sources[i]
		if s.Kafka == nil {
			continue
		}
		part := "source " + s.Name
		if err := checkSource(s); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", part, err))
		}
		if d := get(part, graph.KindSource, s.Kafka.Properties); d != nil {
			faults = append(faults, d.read(part, s.Kafka)...)
		}
	}
	sinks := sinksOf(job)
	for i := range sinks {
		s := &sinks[i]
		if s.Kafka == nil {
			continue
		}
		part := sinkPart(s)
		if err := checkSink(s.Kafka); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", part, err))
		}
		if d := get(part, graph.KindSink, s.Kafka.Properties); d != nil {
			d.writes = d.writes || s.Kafka.Guarantee != graph.NoGuarantee
			if s.Kafka.Topic != "" {
				d.topics[s.Kafka.Topic] = append(d.topics[s.Kafka.Topic], part)
			}
		}
	}
	return order, faults
}

func checkSource(s *graph.Source) error {
	if s.Kafka.Startup.Mode == graph.StartCommitted && s.Kafka.Properties[propGroup] == "" {
		return &PropertyError{Name: propGroup, Reason: "startup: committed needs it", Hint: "add it, or set startup: earliest | latest"}
	}
	return checkLegacySource(s)
}

func (d *demand) read(part string, k *graph.KafkaSource) []error {
	for _, t := range topicsOfSource(k) {
		d.topics[t] = append(d.topics[t], part)
	}
	if k.TopicPattern == "" {
		return nil
	}
	p, err := wholePattern(k.TopicPattern)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", part, err)}
	}
	d.pattern = append(d.pattern, patternOf{part, p})
	return nil
}

func wholePattern(pattern string) (*regexp.Regexp, error) {
	p, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return nil, fmt.Errorf("topicPattern: %w", err)
	}
	return p, nil
}

func (d *demand) who() string { return strings.Join(d.parts, ", ") }

func (a *Admin) check(ctx context.Context, d *demand) []error {
	fail := func(err error) []error {
		var lost *wire.CallError
		if errors.As(err, &lost) && !strings.Contains(err.Error(), "check ") {
			return []error{fmt.Errorf("%s: %w; check %s and %s, and that the broker runs", d.who(), err, propBootstrap, propSecurityProtocol)}
		}
		return []error{fmt.Errorf("%s: %w", d.who(), err)}
	}
	cluster, release, err := a.acquire(d.cfg)
	if err != nil {
		return fail(err)
	}
	defer release()
	if err := cluster.CheckVersions(ctx); err != nil {
		return fail(err)
	}
	faults := d.checkTopics(ctx, cluster)
	if d.writes && len(faults) == 0 && !d.cfg.Legacy {
		if _, err := cluster.InitProducerID(ctx, "", 0); err != nil && !survivable(err) {
			faults = append(faults, fmt.Errorf("%s: %w", d.who(), err))
		}
	}
	return faults
}

// checkTopics repeats the question while what is missing may be about to come.
func (d *demand) checkTopics(ctx context.Context, cluster *wire.Cluster) []error {
	begin := time.Now()
	for {
		faults, wait := d.topicFaults(ctx, cluster)
		if len(faults) == 0 || time.Since(begin) > wait || sleep(ctx, 100*time.Millisecond) != nil {
			return faults
		}
	}
}

// topicFaults asks once; wait is how long it may be worth asking again.
func (d *demand) topicFaults(ctx context.Context, cluster *wire.Cluster) (faults []error, wait time.Duration) {
	var names []string
	for t := range d.topics {
		names = append(names, t)
	}
	slices.Sort(names)
	asked := append([]string{}, names...)
	if len(d.pattern) > 0 {
		asked = nil // all
	}
	md, err := cluster.Metadata(ctx, asked)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", d.who(), err)}, 0
	}
	for _, name := range names {
		err := topicFault(md, name, d.cfg.Servers())
		if err == nil {
			continue
		}
		faults = append(faults, fmt.Errorf("%s: %w", strings.Join(d.topics[name], ", "), err))
		switch {
		case wire.HasCode(err, wire.CodeUnknownTopicOrPartition):
			wait = max(wait, topicWait)
		case wire.Classify(err).Retriable():
			wait = max(wait, leaderWait)
		}
	}
	for _, p := range d.pattern {
		if len(matching(md, p.pattern)) == 0 {
			faults = append(faults, fmt.Errorf("%s: no topic on %s matches topicPattern %s: create one or correct the pattern (it has to match the whole name)", p.part, d.cfg.Servers(), p.pattern))
			wait = max(wait, topicWait)
		}
	}
	return faults, wait
}

func topicFault(md *wire.Metadata, name, servers string) error {
	t, ok := md.Topic(name)
	switch {
	case !ok || wire.HasCode(t.Err, wire.CodeUnknownTopicOrPartition):
		return &Error{Where: "topic " + name, Err: fmt.Errorf("it does not exist on %s: %w", servers,
			&wire.Error{Code: wire.CodeUnknownTopicOrPartition, API: "Metadata", Topic: name, Partition: -1}), Hint: "create it or correct the name", class: "user"}
	case t.Err != nil:
		return &Error{Where: "topic " + name, Err: t.Err}
	}
	for i := range t.Partitions {
		if err := t.Partitions[i].Err; err != nil {
			return &Error{Where: "topic " + name, Err: err, Hint: "check the brokers that hold its replicas"}
		}
	}
	return nil
}

func matching(md *wire.Metadata, pattern *regexp.Regexp) []string {
	var names []string
	for i := range md.Topics {
		if t := &md.Topics[i]; !t.Internal && t.Err == nil && pattern.MatchString(t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}
