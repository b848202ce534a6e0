package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// Connections shares the connections to Kafka clusters among the parts of a process: parts with the same
// connection properties use the same ones. It may be used from many goroutines.
type Connections struct {
	log *slog.Logger
	// maxIdle closes unused connections sooner than the properties say; 0: it does not.
	maxIdle time.Duration

	mu     sync.Mutex
	open   map[string]*sharedCluster
	closed bool
}

type sharedCluster struct {
	cluster *wire.Cluster
	users   int
}

var errConnectionsClosed = errors.New("the connections to Kafka are closed")

// NewConnections connects to nothing yet. Close it after its users.
func NewConnections(log *slog.Logger) *Connections {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Connections{log: log, open: map[string]*sharedCluster{}}
}

// acquire gives the cluster of a configuration until release is called, once. Secrets are read here.
func (c *Connections) acquire(cfg *Config) (cluster *wire.Cluster, release func(), err error) {
	key := cfg.connectionKey()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, errConnectionsClosed
	}
	s := c.open[key]
	if s == nil {
		w, err := cfg.wireConfig()
		if err != nil {
			return nil, nil, fmt.Errorf("connect to %s: %w", cfg.Servers(), err)
		}
		if c.maxIdle > 0 {
			w.IdleTimeout = min(w.IdleTimeout, c.maxIdle)
		}
		s = &sharedCluster{}
		if s.cluster, err = wire.Open(w); err != nil {
			return nil, nil, fmt.Errorf("connect to %s: %w", cfg.Servers(), err)
		}
		c.open[key] = s
	}
	s.users++
	return s.cluster, sync.OnceFunc(func() { c.release(key, s) }), nil
}

func (c *Connections) release(key string, s *sharedCluster) {
	c.mu.Lock()
	s.users--
	last := s.users == 0
	if last && c.open[key] == s {
		delete(c.open, key)
	}
	c.mu.Unlock()
	if !last {
		return
	}
	if err := s.cluster.Close(); err != nil {
		c.log.Warn("close the connections to a Kafka cluster", "reason", err)
	}
}

// Close cuts what is still open; calls in flight fail.
func (c *Connections) Close() error {
	c.mu.Lock()
	c.closed = true
	open := c.open
	c.open = map[string]*sharedCluster{}
	c.mu.Unlock()
	var faults []error
	for _, s := range open {
		faults = append(faults, s.cluster.Close())
	}
	return errors.Join(faults...)
}
