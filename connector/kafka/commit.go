package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

// Commit commits one transaction that a completed checkpoint names. refused: the broker's answer is a
// verdict, it can never be committed (DESIGN rule 14); any other error may be tried again.
func (a *Admin) Commit(ctx context.Context, job *graph.Job, t *manifest.Transaction) (refused bool, err error) {
	cluster, release, err := a.sinkCluster(job, t.Sink, t.Cluster)
	if err != nil {
		return false, err
	}
	defer release()
	err = cluster.EndTxn(ctx, t.TransactionalID, wire.Producer{ID: t.ProducerID, Epoch: t.ProducerEpoch}, true)
	return wire.HasCode(err, wire.CodeProducerFenced, wire.CodeInvalidProducerEpoch, wire.CodeInvalidProducerIDMapping, wire.CodeInvalidTxnState), err
}

// Fence aborts whatever is open under a transactional id and refuses its users from now on.
func (a *Admin) Fence(ctx context.Context, job *graph.Job, sink, cluster, id string) error {
	c, release, err := a.sinkCluster(job, sink, cluster)
	if err != nil {
		return err
	}
	defer release()
	if _, err := c.InitProducerID(ctx, id, time.Minute); err != nil {
		return fmt.Errorf("fence %s: %w", id, err)
	}
	return nil
}

func (a *Admin) sinkCluster(job *graph.Job, sink, bootstrap string) (*wire.Cluster, func(), error) {
	properties := map[string]string{propBootstrap: bootstrap}
	for i := range job.Sinks {
		if s := &job.Sinks[i]; s.Name == sink && s.Kafka != nil {
			properties = s.Kafka.Properties
		}
	}
	cfg, err := Resolve(graph.KindSink, properties)
	if err != nil {
		return nil, nil, err
	}
	return a.acquire(&cfg)
}
