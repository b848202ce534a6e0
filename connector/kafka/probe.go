package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

const (
	// transactionMargin is what has to be left of a transaction's life when the second of two checkpoints
	// in a row runs out of time (DESIGN rule 12), or a fifth of it if that is more: a checkpoint that finds less left
	// fails its attempt.
	transactionMargin = 30 * time.Second
	// probeID, behind the sink's prefix, is the transactional id by which brokers are asked for their limit.
	// It is the same for all jobs, as brokers remember every id for days. No sink's id looks like it: those
	// hold slashes.
	probeID = "sluice-probe"
	// brokerLimit is the broker's name of the limit.
	brokerLimit = "transaction.max.timeout.ms"
)

// CheckTransactions asks the brokers whether the exactly-once sinks of a job may have transactions that live
// as long as the job wants and its checkpoints need. It joins everything that is wrong.
func (a *Admin) CheckTransactions(ctx context.Context, job *graph.Job) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	probes, faults := probesOf(job)
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	results := make([]error, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() { results[i] = a.probe(ctx, p) })
	}
	wg.Wait()
	return errors.Join(results...)
}

// probe is a question that sinks have in common.
type probe struct {
	cfg   Config
	id    string
	parts []string // who, for messages
}

// probesOf finds what has to be asked, and what is wrong without asking.
func probesOf(job *graph.Job) ([]*probe, []error) {
	var order []*probe
	var faults []error
	byKey := map[string]*probe{}
	sinks := sinksOf(job)
	for i := range sinks {
		s := &sinks[i]
		if s.Kafka == nil || s.Kafka.Guarantee != graph.ExactlyOnce {
			continue
		}
		part := sinkPart(s)
		cfg, err := Resolve(graph.KindSink, s.Kafka.Properties)
		if err == nil {
			err = checkTransactionTimeout(cfg.Produce.TransactionTimeout, job.Checkpoint)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", part, err))
			continue
		}
		id := s.Kafka.TransactionalIDPrefix + probeID
		key := fmt.Sprintf("%d %s %s", cfg.Produce.TransactionTimeout, id, cfg.connectionKey())
		p := byKey[key]
		if p == nil {
			p = &probe{cfg: cfg, id: id}
			byKey[key] = p
			order = append(order, p)
		}
		p.parts = append(p.parts, part)
	}
	return order, faults
}

// checkTransactionTimeout: a transaction may begin just after a checkpoint was triggered that fails at its
// timeout, and be sealed by the next, which needs its whole timeout too.
func checkTransactionTimeout(timeout time.Duration, c graph.Checkpointing) error {
	apart, name := c.Interval, "checkpoint.interval"
	if c.MinPause > apart {
		apart, name = c.MinPause, "checkpoint.minPause"
	}
	used := apart + 2*c.Timeout
	need := max(used+transactionMargin, used*5/4)
	if need <= timeout {
		return nil
	}
	return &PropertyError{
		Name: propTransactionTimeout,
		Reason: fmt.Sprintf("%d is too short: %s %v + 2 × checkpoint.timeout %v, and %v or a fifth of it that must be left, make %d ms",
			timeout.Milliseconds(), name, apart, c.Timeout, transactionMargin, need.Milliseconds()),
		Hint: fmt.Sprintf("raise it to %d or more (the brokers' %s allowing), or shorten checkpoint.timeout or %s", need.Milliseconds(), brokerLimit, name),
	}
}

// probe asks for a producer id with the timeout, again while the coordinators of a fresh cluster are being
// made.
func (a *Admin) probe(ctx context.Context, p *probe) error {
	who := strings.Join(p.parts, ", ")
	cluster, release, err := a.acquire(&p.cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	defer release()
	timeout := p.cfg.Produce.TransactionTimeout
	for try := 1; ; try++ {
		_, err := cluster.InitProducerID(ctx, p.id, timeout)
		switch {
		case err == nil:
			return nil
		case wire.HasCode(err, wire.CodeInvalidTransactionTimeout):
			return fmt.Errorf("%s: %w", who, overLimit(timeout, brokersLimit(ctx, cluster, p.id), err))
		case !wire.Classify(err).Retriable() || sleep(ctx, p.cfg.pauseAfter(err, try)) != nil:
			return fmt.Errorf("%s: ask for a transaction under the id %s: %w", who, p.id, err)
		}
	}
}

// overLimit names the configured value and, if it is known, the limit.
func overLimit(timeout time.Duration, limit string, err error) error {
	if limit == "" {
		limit = "which it does not tell"
	}
	return fmt.Errorf("%w (%w)", &PropertyError{
		Name:   propTransactionTimeout,
		Reason: fmt.Sprintf("%d is above the broker's %s (%s)", timeout.Milliseconds(), brokerLimit, limit),
		Hint:   "lower it, or raise " + brokerLimit + " on all brokers",
	}, err)
}

// brokersLimit is the limit in milliseconds as the coordinator of the id has it; empty if it does not say:
// reading settings may be forbidden.
func brokersLimit(ctx context.Context, cluster *wire.Cluster, id string) string {
	broker, err := cluster.FindTransactionCoordinator(ctx, id)
	if err != nil {
		return ""
	}
	settings, err := cluster.BrokerConfig(ctx, broker, brokerLimit)
	if err != nil {
		return ""
	}
	return settings[brokerLimit]
}

// SinkPartitions counts the partitions of the topics that the exactly-once sinks of a job write to, for
// graph.MarkerWarnings. A sink is left out if its topic is an expression or does not answer.
func (a *Admin) SinkPartitions(ctx context.Context, job *graph.Job) map[string]int {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	counts := map[string]int{}
	for i := range job.Sinks {
		s := &job.Sinks[i]
		if s.Kafka == nil || s.Kafka.Guarantee != graph.ExactlyOnce || s.Kafka.Topic == "" {
			continue
		}
		n, err := a.partitions(ctx, s)
		if err != nil {
			a.log.Debug("count the partitions of a sink", "sink", s.Name, "reason", err)
			continue
		}
		counts[s.Name] = n
	}
	return counts
}

func (a *Admin) partitions(ctx context.Context, s *graph.Sink) (int, error) {
	cfg, err := Resolve(graph.KindSink, s.Kafka.Properties)
	if err != nil {
		return 0, err
	}
	cluster, release, err := a.acquire(&cfg)
	if err != nil {
		return 0, err
	}
	defer release()
	md, err := cluster.Metadata(ctx, []string{s.Kafka.Topic})
	if err != nil {
		return 0, err
	}
	if err := topicFault(md, s.Kafka.Topic, cfg.Servers()); err != nil {
		return 0, err
	}
	t, _ := md.Topic(s.Kafka.Topic)
	return len(t.Partitions), nil
}
