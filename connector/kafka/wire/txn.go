package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/segmentio/kafka-go/protocol/addpartitionstotxn"
	"github.com/segmentio/kafka-go/protocol/endtxn"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
)

// InitProducerID asks for a producer id and epoch, and ends whatever the transactional id had open.
// An empty id asks for idempotence only. It is sent at most once: after an error that is a CallError
// with Sent, a late copy may still bump the epoch (DESIGN 6.10).
func (c *Cluster) InitProducerID(ctx context.Context, transactionalID string, timeout time.Duration) (Producer, error) {
	// -1/-1: we claim no id; brokers take zeros for producer 0
	req := &initproducerid.Request{TransactionalID: transactionalID, TransactionTimeoutMs: int32(timeout.Milliseconds()), ProducerID: -1, ProducerEpoch: -1}
	if transactionalID == "" {
		req.TransactionTimeoutMs = 1<<31 - 1
		return c.idempotentProducer(ctx, req)
	}
	k := coordinatorKey{transactionCoordinator, transactionalID}
	res, address, err := askCoordinator[*initproducerid.Response](ctx, c, k, req, false)
	if err != nil {
		return NoProducer, err
	}
	c.noteCode(k, res.ErrorCode)
	return producerOf(res, address, transactionalID, true)
}

func (c *Cluster) idempotentProducer(ctx context.Context, req *initproducerid.Request) (Producer, error) {
	p := NoProducer
	err := c.anyBroker(ctx, func(ctx context.Context, a net.Addr) error {
		res, err := ask[*initproducerid.Response](ctx, c, a, req, false)
		if err == nil {
			p, err = producerOf(res, a.String(), "", false)
		}
		return err
	})
	return p, err
}

func producerOf(res *initproducerid.Response, address, transactionalID string, transactional bool) (Producer, error) {
	if res.ErrorCode != 0 {
		return NoProducer, &Error{Code: res.ErrorCode, API: "InitProducerId", Address: address, Partition: -1, Detail: transactionalID}
	}
	return Producer{ID: res.ProducerID, Epoch: res.ProducerEpoch, Transactional: transactional}, nil
}

// AddPartitionsToTxn puts partitions into the open transaction; it has to be answered OK before a
// batch is produced to them. A call that was cut off is not made again here: its copy may arrive later than the answer to
// another, and the caller has to know that. It may repeat the call. The error joins those of the partitions.
func (c *Cluster) AddPartitionsToTxn(ctx context.Context, transactionalID string, p Producer, parts []TopicPartition) error {
	if len(parts) == 0 {
		return nil
	}
	k := coordinatorKey{transactionCoordinator, transactionalID}
	req := &addpartitionstotxn.Request{TransactionalID: transactionalID, ProducerID: p.ID, ProducerEpoch: p.Epoch}
	for _, g := range groupByTopic(len(parts), func(i int) string { return parts[i].Topic }) {
		t := addpartitionstotxn.RequestTopic{Name: g.topic}
		for _, i := range g.index {
			t.Partitions = append(t.Partitions, parts[i].Partition)
		}
		req.Topics = append(req.Topics, t)
	}
	res, address, err := askCoordinator[*addpartitionstotxn.Response](ctx, c, k, req, false)
	if err != nil {
		return err
	}
	var faults []error
	missing := len(parts)
	for _, t := range res.Results {
		for _, r := range t.Results {
			missing--
			c.noteCode(k, r.ErrorCode)
			if r.ErrorCode != 0 {
				faults = append(faults, &Error{Code: r.ErrorCode, API: "AddPartitionsToTxn", Address: address, Topic: t.Name, Partition: r.PartitionIndex, Detail: transactionalID})
			}
		}
	}
	if missing != 0 {
		faults = append(faults, fmt.Errorf("AddPartitionsToTxn at %s: %d of %d partitions are not answered", address, missing, len(parts)))
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// EndTxn commits or aborts the transaction of a producer id and epoch, from any process. It is sent
// once: repeating the same verdict is safe, and the caller's decision.
func (c *Cluster) EndTxn(ctx context.Context, transactionalID string, p Producer, commit bool) error {
	k := coordinatorKey{transactionCoordinator, transactionalID}
	res, address, err := askCoordinator[*endtxn.Response](ctx, c, k, endOf(transactionalID, p, commit), false)
	if err != nil {
		return err
	}
	c.noteCode(k, res.ErrorCode)
	return endAnswer(res, address, transactionalID)
}

// EndTxnAt is EndTxn at a broker that may or may not be the coordinator.
func (c *Cluster) EndTxnAt(ctx context.Context, broker int32, transactionalID string, p Producer, commit bool) error {
	to, err := c.broker(ctx, broker)
	if err != nil {
		return err
	}
	res, err := ask[*endtxn.Response](ctx, c, to, endOf(transactionalID, p, commit), false)
	if err != nil {
		return err
	}
	return endAnswer(res, to.String(), transactionalID)
}

func endOf(transactionalID string, p Producer, commit bool) *endtxn.Request {
	return &endtxn.Request{TransactionalID: transactionalID, ProducerID: p.ID, ProducerEpoch: p.Epoch, Committed: commit}
}

func endAnswer(res *endtxn.Response, address, transactionalID string) error {
	if res.ErrorCode != 0 {
		return &Error{Code: res.ErrorCode, API: "EndTxn", Address: address, Partition: -1, Detail: transactionalID}
	}
	return nil
}
