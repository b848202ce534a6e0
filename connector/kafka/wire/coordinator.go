package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

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
	// everyBrokerTimeout bounds a question to all brokers, of which some may hang.
	everyBrokerTimeout = 2 * time.Second
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
	err := c.anyBroker(ctx, func(ctx context.Context, a net.Addr) (err error) {
		found, err = c.coordinatorAccordingTo(ctx, a, k)
		return err
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

func (c *Cluster) coordinatorAccordingTo(ctx context.Context, a net.Addr, k coordinatorKey) (*findcoordinator.Response, error) {
	res, err := ask[*findcoordinator.Response](ctx, c, a, &findcoordinator.Request{Key: k.name, KeyType: k.kind}, true)
	if err != nil {
		return nil, err
	}
	if res.ErrorCode != 0 {
		return nil, &Error{Code: res.ErrorCode, API: "FindCoordinator", Address: a.String(), Partition: -1, Detail: k.name}
	}
	return res, nil
}

// TransactionCoordinators asks all brokers who coordinates a transactional id, and gives all that are named, each once. A
// broker that is cut off from the others may name itself long after another has taken over; so it is an error if no more
// than half of the brokers answer. The cache forgets the id.
func (c *Cluster) TransactionCoordinators(ctx context.Context, transactionalID string) ([]int32, error) {
	k := coordinatorKey{transactionCoordinator, transactionalID}
	c.forgetCoordinator(k)
	md, err := c.Metadata(ctx, []string{})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, everyBrokerTimeout)
	defer cancel()
	answers, faults := make([]*findcoordinator.Response, len(md.Brokers)), make([]error, len(md.Brokers))
	var asking sync.WaitGroup
	for i, b := range md.Brokers {
		asking.Go(func() {
			to, err := c.broker(ctx, b.ID)
			if err == nil {
				answers[i], err = c.coordinatorAccordingTo(ctx, to, k)
			}
			faults[i] = err
		})
	}
	asking.Wait()
	answers = slices.DeleteFunc(answers, func(a *findcoordinator.Response) bool { return a == nil })
	if 2*len(answers) <= len(md.Brokers) {
		return nil, fmt.Errorf("only %d of %d brokers say who coordinates %s: %w", len(answers), len(md.Brokers), transactionalID, errors.Join(faults...))
	}
	var out []int32
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range answers {
		if !slices.Contains(out, a.NodeID) {
			out = append(out, a.NodeID)
			c.brokers[a.NodeID] = brokerAddr(a.Host, a.Port)
		}
	}
	return out, nil
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
