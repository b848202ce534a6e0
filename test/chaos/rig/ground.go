// Package rig runs the processes of the fault suite: a Kafka of three brokers that outlives the runs, and
// for each run a job manager and task managers. Every connection between them goes through a proxy.
package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/chaos/proxy"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/integration/process"
)

// Brokers is the number of brokers: replication 3, two in sync.
const Brokers = 3

// JobManager is the name of the job manager on the edges of the mesh; task managers are tm-1, tm-2, …
const JobManager = "jobmanager"

// healTimeout bounds the wait until every replica is in sync again.
const healTimeout = 2 * time.Minute

// BrokerName is the name of a broker, counted from 0, on the edges of the mesh.
func BrokerName(node int) string { return fmt.Sprintf("kafka-%d", node) }

// TaskManagerName is the id of a task manager, counted from 1, and its name on the edges of the mesh.
func TaskManagerName(number int) string { return fmt.Sprintf("tm-%d", number) }

// Ground is what many runs stand on: the brokers and the proxies.
type Ground struct {
	Kafka *kafkaenv.Cluster
	Mesh  *proxy.Mesh
	led   []string
	mu    sync.Mutex
	pids  map[string]int // by party, of what runs
	// secured is the second listener of each broker.
	secured   *secured
	zookeeper *zookeeper // nil until a run wants it
}

// brokerNiceness keeps three brokers, which take most of the processors, from starving the processes that are tested: in
// production they have machines of their own.
const brokerNiceness = 5

// OpenGround starts the brokers. Close ends them.
func OpenGround(ctx context.Context, kind kafkaenv.Kind) (*Ground, error) {
	secured, err := newSecured()
	if err != nil {
		return nil, err
	}
	g := &Ground{pids: map[string]int{}, secured: secured}
	g.Mesh = proxy.New(g.identify)
	g.Kafka, err = kafkaenv.Open(ctx, kafkaenv.Options{Kind: kind, Brokers: Brokers, Niceness: brokerNiceness, Advertise: g.advertise, PerNode: g.listen, Properties: map[string]string{
		"delete.topic.enable": "true", "log.segment.delete.delay.ms": "1000",
	}})
	if err != nil {
		g.Mesh.Close()
		return nil, errors.Join(err, os.RemoveAll(secured.dir))
	}
	return g, nil
}

// advertise puts a proxy before a broker.
func (g *Ground) advertise(node int, listens string) (string, error) {
	address, err := freeAddress()
	if err != nil {
		return "", err
	}
	g.led = append(g.led, address)
	g.Mesh.Add(BrokerName(node), address, listens)
	return address, g.Mesh.Up(BrokerName(node))
}

func freeAddress() (string, error) {
	port, err := process.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// Direct is the bootstrap list that no proxy stands before: for generator and oracle.
func (g *Ground) Direct() string { return g.Kafka.Addr() }

// Led is the bootstrap list that leads through the proxies: for the job.
func (g *Ground) Led() string { return strings.Join(g.led, ",") }

// identify names the process that holds the socket with this local address, "?" if none does any more.
func (g *Ground) identify(client *net.TCPAddr) string {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return "?"
	}
	socket := socketOf(client)
	if socket == "" {
		return "?"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, pid := range g.pids {
		p, err := proc.Proc(pid)
		if err != nil {
			continue // it ended a moment ago
		}
		targets, err := p.FileDescriptorTargets()
		if err != nil {
			continue
		}
		for _, target := range targets {
			if target == socket {
				return name
			}
		}
	}
	return "?"
}

// socketOf is the name under which the owner of a local address, of IPv4, has it among its open files; empty if
// there is none.
func socketOf(client *net.TCPAddr) string {
	table, err := os.ReadFile("/proc/net/tcp")
	ip := client.IP.To4()
	if err != nil || ip == nil {
		return ""
	}
	local := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], client.Port)
	for line := range strings.Lines(string(table)) {
		// number, local address, remote address, state, queues, timer, retransmissions, user, timeout, inode
		if fields := strings.Fields(line); len(fields) > 9 && fields[1] == local && fields[9] != "0" {
			return "socket:[" + fields[9] + "]"
		}
	}
	return ""
}

// watch makes a process a party of the mesh until it ends; then its proxy refuses, as its port does.
func (g *Ground) watch(name string, p *process.Process, running *sync.WaitGroup) error {
	g.mu.Lock()
	g.pids[name] = p.Pid()
	g.mu.Unlock()
	if err := g.Mesh.Up(name); err != nil {
		return err
	}
	running.Go(func() {
		<-p.Done()
		g.mu.Lock()
		current := g.pids[name] == p.Pid()
		if current {
			delete(g.pids, name)
		}
		g.mu.Unlock()
		if current {
			g.Mesh.Down(name)
		}
	})
	return nil
}

// Heal undoes what faults did to brokers and lines, and waits until every replica is in sync.
func (g *Ground) Heal(ctx context.Context) error {
	g.Mesh.Heal()
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	for i := range Brokers {
		node := g.Kafka.Node(i)
		if !node.Running() {
			continue
		}
		if err := node.Resume(); err != nil {
			return err
		}
	}
	if err := g.Kafka.StartAll(ctx); err != nil {
		return err
	}
	for i := range Brokers {
		if err := g.up(i); err != nil {
			return err
		}
	}
	if err := g.healZooKeeper(ctx); err != nil {
		return err
	}
	return g.waitInSync(ctx)
}

// StartBroker starts a broker that has ended.
func (g *Ground) StartBroker(ctx context.Context, node int) error {
	if err := g.Kafka.Node(node).Start(ctx); err != nil {
		return err
	}
	return g.up(node)
}

// up lets the proxies of a broker accept.
func (g *Ground) up(node int) error {
	return errors.Join(g.Mesh.Up(BrokerName(node)), g.Mesh.Up(SecuredName(node)))
}

// KillBroker ends a broker as kill -9 does; its proxies refuse until StartBroker.
func (g *Ground) KillBroker(node int) error {
	g.Mesh.Down(BrokerName(node))
	g.Mesh.Down(SecuredName(node))
	return g.Kafka.Node(node).Kill()
}

// Admin makes a client of the brokers that no proxy stands before. The caller closes it.
func (g *Ground) Admin() (*kadm.Client, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(g.Direct(), ",")...), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("making a client of the brokers: %w", err)
	}
	return kadm.NewClient(client), nil
}

func (g *Ground) waitInSync(ctx context.Context) error {
	admin, err := g.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		topics, err := admin.ListTopicsWithInternal(ctx)
		behind := ""
		topics.EachPartition(func(p kadm.PartitionDetail) {
			if len(p.ISR) < len(p.Replicas) || p.Leader < 0 {
				behind = fmt.Sprintf("%s[%d]: %d of %d replicas in sync", p.Topic, p.Partition, len(p.ISR), len(p.Replicas))
			}
		})
		if err == nil && behind == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the brokers: %s: %w", behind, errors.Join(err, ctx.Err()))
		}
	}
}

// DeleteTopics removes the topics of a run that is over.
func (g *Ground) DeleteTopics(ctx context.Context, topics ...string) error {
	admin, err := g.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	responses, err := admin.DeleteTopics(ctx, topics...)
	if err != nil {
		return fmt.Errorf("deleting the topics of a run: %w", err)
	}
	for _, r := range responses.Sorted() {
		if r.Err != nil && !strings.Contains(r.Err.Error(), "UNKNOWN_TOPIC") {
			return fmt.Errorf("deleting topic %s: %w", r.Topic, r.Err)
		}
	}
	return nil
}

// Close ends brokers, ZooKeeper and proxies.
func (g *Ground) Close() error {
	g.Mesh.Close()
	return errors.Join(g.Kafka.Close(), g.closeZooKeeper(), os.RemoveAll(g.secured.dir))
}
