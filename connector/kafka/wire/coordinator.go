package wire

import (
	"context"
	"errors"
	"net"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
)

// coordinatorKey is what a coordinator is for; the kind is Kafka's key type.
type coordinatorKey struct {
	kind int8
	name string
}

const (
	groupCoordinator       int8 = 0
	transactionCoordinator int8 = 1
	// maxCoordinators bounds the cache: transactional ids are new in every attempt.
	maxCoordinators = 4096
)

// FindGroupCoordinator gives the broker that keeps a group's offsets; it is cached until an answer
// says that it moved.
func (c *Cluster) FindGroupCoordinator(ctx context.Context, group string) (int32, error) {
	return c.coordinator(ctx, coordinatorKey{groupCoordinator, group})
}

// FindTransactionCoordinator gives the broker of a transactional id; it is cached until an answer
// says that it moved.
func (c *Cluster) FindTransactionCoordinator(ctx context.Context, transactionalID string) (int32, error) {
	return c.coordinator(ctx, coordinatorKey{transactionCoordinator, transactionalID})
}

func (c *Cluster) coordinator(ctx context.Context, k coordinatorKey) (int32, error) {
	c.mu.Lock()
	id, ok := c.coordinators[k]
	c.mu.Unlock()
	if ok {
		return id, nil
	}
	var found *findcoordinator.Response
	err := c.anyBroker(ctx, func(ctx context.Context, a net.Addr) error {
		res, err := ask[*findcoordinator.Response](ctx, c, a, &findcoordinator.Request{Key: k.name, KeyType: k.kind}, true)
		if err != nil {
			return err
		}
		if res.ErrorCode != 0 {
			return &Error{Code: res.ErrorCode, API: "FindCoordinator", Address: a.String(), Partition: -1, Detail: k.name}
		}
		found = res
		return nil
	})
	if err != nil {
		return -1, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.coordinators) >= maxCoordinators {
		clear(c.coordinators)
	}
	c.coordinators[k] = found.NodeID
	c.brokers[found.NodeID] = brokerAddr(found.Host, found.Port)
	return found.NodeID, nil
}

// forgetCoordinator has the coordinator looked for again, at another broker.
func (c *Cluster) forgetCoordinator(k coordinatorKey) {
	c.Doubt()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.coordinators, k)
}

// askCoordinator sends a message to a coordinator. The cache forgets one that does not answer; noted
// is to be called with the codes of the answer.
func askCoordinator[T protocol.Message](ctx context.Context, c *Cluster, k coordinatorKey, req protocol.Message, repeat bool) (res T, address string, err error) {
	id, err := c.coordinator(ctx, k)
	if err != nil {
		return res, "", err
	}
	to, err := c.broker(ctx, id)
	if err != nil {
		c.forgetCoordinator(k)
		return res, "", err
	}
	res, err = ask[T](ctx, c, to, req, repeat)
	var lost *CallError
	if errors.As(err, &lost) && Classify(err) != ClassCanceled {
		c.forgetCoordinator(k)
	}
	return res, to.String(), err
}

// noteCode forgets a coordinator that says it is none.
func (c *Cluster) noteCode(k coordinatorKey, code int16) {
	if codeInfo(code).class == ClassCoordinator {
		c.forgetCoordinator(k)
	}
}
