package kafka

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

const (
	// commitTimeout bounds each commit and fence; the caller repeats them.
	commitTimeout = 8 * time.Second
	// fenceTransactionTimeout is what a fence gives as transaction timeout: nobody opens a transaction under
	// the id any more, and the least that a sink may have is within the limit of every broker that took the sink's.
	fenceTransactionTimeout = minTransactionTimeout
)

// Commit commits one transaction that a completed checkpoint names, with what the manifest recorded; the
// job says only how to connect. It may be repeated, from any process. refused: the broker's answer is a
// verdict, it can never be committed (DESIGN rule 14); any other error may be tried again.
func (a *Admin) Commit(ctx context.Context, job *graph.Job, t *manifest.Transaction) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	cluster, release, err := a.sinkCluster(job, t.Sink, t.Cluster)
	if err != nil {
		return false, fmt.Errorf("commit %s of sink %s: %w", t.Key(), t.Sink, err)
	}
	defer release()
	p := wire.Producer{ID: t.ProducerID, Epoch: t.ProducerEpoch}
	if err = cluster.EndTxn(ctx, t.TransactionalID, p, true); isVerdict(err) {
		refused, err = confirm(ctx, cluster, t.TransactionalID, p, err)
	}
	if err != nil {
		return refused, fmt.Errorf("commit %s of sink %s on %s: %w", t.Key(), t.Sink, t.Cluster, err)
	}
	return false, nil
}

// confirm asks every broker that another one takes for the coordinator to commit what one of them refused. A broker that is
// cut off from the others, or has stood still, goes on believing that it is the coordinator, and answers from its memory that
// there is no such transaction, while its successor has it. refused: all of them say so.
func confirm(ctx context.Context, cluster *wire.Cluster, id string, p wire.Producer, verdict error) (refused bool, err error) {
	coordinators, err := cluster.TransactionCoordinators(ctx, id)
	if err != nil {
		return false, fmt.Errorf("%w; it is not taken for final, as another broker may be the coordinator: %w", verdict, err)
	}
	for _, broker := range coordinators {
		if err := cluster.EndTxnAt(ctx, broker, id, p, true); !isVerdict(err) {
			return false, err
		}
	}
	return true, verdict
}

// isVerdict says that a transaction is not there to be committed: aborted, expired, or its id taken over.
func isVerdict(err error) bool {
	return wire.HasCode(err, wire.CodeProducerFenced, wire.CodeInvalidProducerEpoch, wire.CodeInvalidProducerIDMapping, wire.CodeInvalidTxnState)
}

// Fence aborts whatever is open under a transactional id and refuses its users from now on. Nil only when
// the broker said so; any error may be tried again.
func (a *Admin) Fence(ctx context.Context, job *graph.Job, sink, cluster, id string) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	c, release, err := a.sinkCluster(job, sink, cluster)
	if err != nil {
		return fmt.Errorf("fence %s of sink %s: %w", id, sink, err)
	}
	defer release()
	if _, err := c.InitProducerID(ctx, id, fenceTransactionTimeout); err != nil {
		return fmt.Errorf("fence %s of sink %s on %s: %w", id, sink, cluster, err)
	}
	return nil
}

// sinkCluster connects to the cluster that a manifest or a hand-out names.
func (a *Admin) sinkCluster(job *graph.Job, sink, servers string) (*wire.Cluster, func(), error) {
	cfg, err := sinkConnection(job, sink, servers)
	if err != nil {
		return nil, nil, err
	}
	return a.acquire(&cfg)
}

// sinkConnection finds how to connect to a cluster, which is that of a sink that the job may have no more
// (DESIGN rule 8): as the sink of this name does, as any part of the job does, or with nothing but the
// servers.
func sinkConnection(job *graph.Job, sink, servers string) (Config, error) {
	want := splitServers(servers)
	found, kind := map[string]string{propBootstrap: servers}, graph.KindSink
	consider := func(k graph.Kind, properties map[string]string) {
		if slices.Equal(splitServers(properties[propBootstrap]), want) {
			found, kind = properties, k
		}
	}
	// the best comes last
	for i := range job.Sources {
		if k := job.Sources[i].Kafka; k != nil {
			consider(graph.KindSource, k.Properties)
		}
	}
	for i := range job.Sinks {
		if k := job.Sinks[i].Kafka; k != nil {
			consider(graph.KindSink, k.Properties)
		}
	}
	sinks := job.Sinks
	if source, ok := graph.DeadLetterSource(sink); ok { // in all vertices alike
		sinks, sink = sinksOf(job), graph.DeadLetterName(source, source)
	}
	for i := range sinks {
		if s := &sinks[i]; s.Name == sink && s.Kafka != nil {
			consider(graph.KindSink, s.Kafka.Properties)
		}
	}
	return Resolve(kind, found)
}
