package kafkaenv

import (
	"context"
	"fmt"
	"time"
)

// Node is one broker of a cluster, for programs that are no tests. Its address and its data stay.
type Node struct {
	cluster *Cluster
	server  server
}

// Node is the broker with this number, from 0.
func (c *Cluster) Node(number int) Node { return Node{c, c.servers[number]} }

// Kill ends the broker as kill -9 does.
func (n Node) Kill() error { return n.server.kill() }

// Stop ends the broker in an orderly way.
func (n Node) Stop() error { return n.server.stop() }

// Pause makes the broker stand still with open connections; Resume ends that.
func (n Node) Pause() error { return n.server.pause() }

// Resume ends Pause.
func (n Node) Resume() error { return n.server.resume() }

// Running tells whether the broker has not ended.
func (n Node) Running() bool { return n.server.running() }

// Start starts a broker that has ended and waits until the metadata lists every broker that runs.
func (n Node) Start(ctx context.Context) error {
	if n.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := n.server.start(ctx); err != nil {
		return fmt.Errorf("starting a broker of %s: %w", n.cluster.kind, err)
	}
	return n.cluster.waitForMetadata(ctx)
}

// StartAll starts every broker that has ended, all at once, as one alone is no quorum, and waits for them.
func (c *Cluster) StartAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for _, s := range c.servers {
		if s.running() {
			continue
		}
		if err := s.start(ctx); err != nil {
			return fmt.Errorf("starting a broker of %s: %w", c.kind, err)
		}
	}
	return c.waitForMetadata(ctx)
}
