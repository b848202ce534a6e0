package kafkaenv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// Kind names what a cluster is made of.
type Kind string

// The kinds of clusters. Fake is kfake of franz-go, inside of the test process.
const (
	Fake        Kind = "kfake"
	Kafka39     Kind = "kafka-3.9.2"
	Kafka43     Kind = "kafka-4.3.1"
	zookeeper39 Kind = "zookeeper-3.9.5"
	kafka08     Kind = "kafka-0.8.2.2" // this and the next two: see Kafka08
	Kafka09     Kind = "kafka-0.9.0.1"
	Kafka010    Kind = "kafka-0.10.2.2"
)

// Kinds lists every kind that a suite should run on, the fastest first.
func Kinds() []Kind { return []Kind{Fake, Kafka39, Kafka43} }

// openTimeout bounds the start of a cluster, fetching the jars included.
const openTimeout = 10 * time.Minute

// Options say what to open.
type Options struct {
	Kind Kind
	// Brokers is 1 if zero. With three or more, topics have three replicas and need two in sync.
	Brokers int
	// Benchmark compiles like a broker in production. Otherwise start-up counts: a class-data archive and
	// only the first compiler.
	Benchmark bool
	// HeapMiB is the largest heap of a broker, 512 if zero.
	HeapMiB int
	// Niceness is added to that of the brokers (nice): where they share processors with what is tested, that does not
	// wait for them more than it would on machines of its own.
	Niceness int
	// Properties override the broker's settings, by Kafka's names.
	Properties map[string]string
	// Advertise, if set, gives each real broker one more listener, through which clients can be led over a
	// proxy. It is called with the node, from 0, and the address that the broker listens on there; clients
	// that ask there are told to find the broker at the answer.
	Advertise func(node int, listens string) (advertised string, err error)
	// PerNode, if set beside Advertise, may change the settings of one broker, from 0, such as its listeners.
	PerNode func(node int, properties map[string]string) error
}

// server is one broker: a process, or kfake. Its address and its data survive stop and start.
type server interface {
	start(ctx context.Context) error
	stop() error // orderly
	kill() error // as kill -9 does
	pause() error
	resume() error
	running() bool
	bootstrap() string
	log() string
}

// Cluster is one or more brokers that belong together. Methods with a node count from 0.
type Cluster struct {
	kind    Kind
	dir     string
	servers []server
}

// Open starts a cluster and waits until its metadata lists every broker. Close ends it.
func Open(ctx context.Context, options Options) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "sluice-"+string(options.Kind)+"-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for %s: %w", options.Kind, err)
	}
	options.Brokers = max(options.Brokers, 1)
	options.Properties = maps.Clone(options.Properties)
	c := &Cluster{kind: options.Kind, dir: dir}
	if options.Kind == Fake {
		c.servers, err = newFake(dir, options)
	} else {
		c.servers, err = newBrokers(ctx, dir, options)
	}
	if err == nil {
		err = c.startAll(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", options.Kind, err), c.Close())
	}
	return c, nil
}

// Start opens a cluster for one test: skipped where it cannot run, closed at its end, the logs shown
// when it failed.
func Start(tb testing.TB, options Options) *Cluster {
	tb.Helper()
	Require(tb, options.Kind)
	c, err := Open(tb.Context(), options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Log(c.Logs())
		}
		if err := c.Close(); err != nil {
			tb.Errorf("closing %s: %v", options.Kind, err)
		}
	})
	return c
}

func (c *Cluster) startAll(ctx context.Context) error {
	for _, s := range c.servers {
		if err := s.start(ctx); err != nil {
			return err
		}
	}
	return c.waitForMetadata(ctx)
}

// Kind is what the cluster is made of.
func (c *Cluster) Kind() Kind { return c.kind }

// Addr is the bootstrap list, HOST:PORT separated by commas.
func (c *Cluster) Addr() string {
	var list []string
	for _, s := range c.servers {
		if a := s.bootstrap(); a != "" {
			list = append(list, a)
		}
	}
	return strings.Join(list, ",")
}

// Brokers is the number of brokers, running or not.
func (c *Cluster) Brokers() int { return len(c.servers) }

// Stop ends one broker in an orderly way.
func (c *Cluster) Stop(tb testing.TB, node int) {
	tb.Helper()
	c.do(tb, node, "stopping", server.stop)
}

// Kill ends one broker as kill -9 does.
func (c *Cluster) Kill(tb testing.TB, node int) {
	tb.Helper()
	c.do(tb, node, "killing", server.kill)
}

// Pause makes one broker stand still with open connections. kfake cannot do that: the test fails.
func (c *Cluster) Pause(tb testing.TB, node int) {
	tb.Helper()
	c.do(tb, node, "pausing", server.pause)
}

// Resume ends Pause.
func (c *Cluster) Resume(tb testing.TB, node int) {
	tb.Helper()
	c.do(tb, node, "resuming", server.resume)
}

// Restart starts a broker that was stopped or killed, at the same address with the same data, and waits
// for it.
func (c *Cluster) Restart(tb testing.TB, node int) {
	tb.Helper()
	c.do(tb, node, "restarting", func(s server) error {
		ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
		defer cancel()
		if err := s.start(ctx); err != nil {
			return err
		}
		return c.waitForMetadata(ctx)
	})
}

func (c *Cluster) do(tb testing.TB, node int, verb string, act func(server) error) {
	tb.Helper()
	if err := act(c.servers[node]); err != nil {
		tb.Fatalf("%s node %d of %s: %v", verb, node, c.kind, err)
	}
}

// Logs is the end of every broker's log.
func (c *Cluster) Logs() string {
	var b strings.Builder
	for i, s := range c.servers {
		fmt.Fprintf(&b, "--- %s node %d ---\n%s\n", c.kind, i, s.log())
	}
	return b.String()
}

// Close ends every broker and removes the data.
func (c *Cluster) Close() error {
	var errs []error
	for _, s := range c.servers {
		if s.running() {
			errs = append(errs, s.kill()) // nobody reads the data again, so an orderly end is lost time
		}
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}
