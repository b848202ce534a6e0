package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	kafka "github.com/segmentio/kafka-go"
)

var errClosed = errors.New("the connection to the Kafka cluster is closed")

// Cluster is the connection to one Kafka cluster: one Transport for its whole life. All methods may
// be called from many goroutines.
type Cluster struct {
	cfg         Config
	transport   *kafka.Transport
	dialer      *dialer
	bootstrap   []net.Addr
	closed      atomic.Bool
	correlation atomic.Int32
	turn        atomic.Uint32 // see TopicIDs
	memory      memory
	decompress  *Decompressor
	compressors [LZ4 + 1]*Compressor // for legacy brokers

	mu           sync.Mutex
	brokers      map[int32]net.Addr // as the last metadata said
	topics       map[string]topicEntry
	fetchesByID  map[string]bool // by address: whether Fetch takes topic ids there
	coordinators map[coordinatorKey]int32
	// first is the address of the broker that is asked first for what any of them knows; empty: the first of all. trusted:
	// it has answered since it was put there. doubts counts how often another one was.
	first   string
	trusted bool
	doubts  int
}

type topicEntry struct {
	topic Topic
	at    time.Time
}

// Open checks the configuration; it does not connect. Close must be called.
func Open(cfg Config) (*Cluster, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	mechanism, err := cfg.SASL.mechanism()
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	c := &Cluster{
		cfg:          cfg,
		dialer:       newDialer(cfg),
		decompress:   NewDecompressor(),
		brokers:      map[int32]net.Addr{},
		topics:       map[string]topicEntry{},
		fetchesByID:  map[string]bool{},
		coordinators: map[coordinatorKey]int32{},
	}
	if cfg.legacy() {
		if c.compressors, err = legacyCompressors(); err != nil {
			return nil, err
		}
	}
	c.memory.init()
	for _, a := range cfg.Bootstrap {
		c.bootstrap = append(c.bootstrap, kafka.TCP(a))
	}
	c.transport = &kafka.Transport{
		Dial:        c.dialer.dial,
		DialTimeout: cfg.DialTimeout,
		IdleTimeout: cfg.IdleTimeout,
		ClientID:    cfg.ClientID,
		SASL:        mechanism,
		// Transport keeps asking for metadata which nobody here uses: ask for no topics, seldom.
		MetadataTopics: []string{},
		MetadataTTL:    maxMetadataRefresh,
	}
	return c, nil
}

// Close cuts all connections; calls in flight fail. It returns when the connections' goroutines have
// ended.
func (c *Cluster) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.transport.CloseIdleConnections()
	c.dialer.close()
	timer := time.NewTimer(transportGoneAfter)
	defer timer.Stop()
	select {
	case <-c.dialer.gone:
		return nil
	case <-timer.C:
		return fmt.Errorf("close connections to %v: still in use after %v", c.cfg.Bootstrap, transportGoneAfter)
	}
}

// String names the cluster by its bootstrap addresses.
func (c *Cluster) String() string { return fmt.Sprintf("kafka %v", c.cfg.Bootstrap) }

// broker gives the address of a broker of the last metadata.
func (c *Cluster) broker(ctx context.Context, id int32) (net.Addr, error) {
	if a := c.knownBroker(id); a != nil {
		return a, nil
	}
	if _, err := c.Metadata(ctx, []string{}); err != nil {
		return nil, err
	}
	if a := c.knownBroker(id); a != nil {
		return a, nil
	}
	return nil, &Error{Code: CodeBrokerNotAvailable, API: "Metadata", Partition: -1, Detail: fmt.Sprintf("broker %d", id)}
}

func (c *Cluster) knownBroker(id int32) net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.brokers[id]
}

// addresses are all brokers that may answer a question for anyone, the last one that did first, unless it is in doubt.
func (c *Cluster) addresses() []net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addressesLocked()
}

func (c *Cluster) addressesLocked() []net.Addr {
	seen := map[string]bool{}
	var all []net.Addr
	add := func(a net.Addr) {
		if !seen[a.String()] {
			seen[a.String()] = true
			all = append(all, a)
		}
	}
	for _, a := range c.bootstrap {
		add(a)
	}
	for _, id := range slices.Sorted(maps.Keys(c.brokers)) {
		add(c.brokers[id])
	}
	first := max(0, slices.IndexFunc(all, func(a net.Addr) bool { return a.String() == c.first }))
	return slices.Concat(all[first:], all[:first])
}

// Doubt lets the next question that any broker can answer go to another one than before. Who was wrong about a leader or
// a coordinator may be cut off from the other brokers, and would say the same again. Doubts about one answer, of several
// partitions say, count as one.
func (c *Cluster) Doubt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trusted {
		c.passOnLocked()
	}
}

// passOnLocked puts the next broker first.
func (c *Cluster) passOnLocked() {
	c.trusted = false
	c.doubts++
	if all := c.addressesLocked(); len(all) > 1 {
		c.first = all[1].String()
	}
}

// asked notes who answered a question that began after so many doubts; nil: nobody did in time, so the next question begins
// with another.
func (c *Cluster) asked(answered net.Addr, doubts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case doubts != c.doubts: // what was asked before a doubt does not remove it
	case answered == nil:
		c.passOnLocked()
	default:
		c.first, c.trusted = answered.String(), true
	}
}

// anyBroker asks one broker after the other until one answers. The time is shared, so that a hung
// broker leaves some for the next.
func (c *Cluster) anyBroker(ctx context.Context, ask func(context.Context, net.Addr) error) error {
	c.mu.Lock()
	all, doubts := c.addressesLocked(), c.doubts
	c.mu.Unlock()
	a, err := c.firstOf(ctx, all, ask)
	if err != nil {
		a = nil
	}
	c.asked(a, doubts)
	return err
}

// firstOf is anyBroker for these addresses; it says which one answered.
func (c *Cluster) firstOf(ctx context.Context, all []net.Addr, ask func(context.Context, net.Addr) error) (net.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.CallTimeout)
	defer cancel()
	var faults []error
	for i, a := range all {
		deadline, _ := ctx.Deadline()
		share := max(time.Until(deadline)/time.Duration(len(all)-i), c.cfg.DialTimeout)
		one, stop := context.WithTimeout(ctx, share)
		err := ask(one, a)
		stop()
		if err == nil {
			return a, nil
		}
		faults = append(faults, err)
		var answer *Error
		if ctx.Err() != nil || errors.As(err, &answer) && answer.Class() == ClassFatal {
			break // nobody else will say anything else
		}
	}
	if len(faults) == 1 {
		return nil, faults[0]
	}
	return nil, errors.Join(faults...)
}

func brokerAddr(host string, port int32) net.Addr {
	return tcpAddr(host, strconv.Itoa(int(port)))
}

func tcpAddr(host, port string) net.Addr { return kafka.TCP(net.JoinHostPort(host, port)) }

// closedByPeer says that a connection was cut, as brokers do with idle ones.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
