package exchange

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// Defaults of Config.
const (
	DefaultBatchBytes  = 32 << 10
	DefaultQueueBytes  = 256 << 10
	DefaultInputsBytes = 16 << 20
	DefaultOpenWait    = 2 * time.Minute // long enough for a peer to restore its state first
)

// maxWaiting bounds the streams that wait for their attempt.
const maxWaiting = 1024

// Config is what all exchanges of a task manager share. Zero values mean the defaults.
type Config struct {
	// Worker is this task manager; a stream that was meant for another one is refused.
	Worker ident.WorkerID
	// Credentials are those of the client side; nil: plaintext.
	Credentials credentials.TransportCredentials
	// Dial replaces TCP, for tests; nil: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// BatchBytes is the size at which a batch is sent without waiting for Flush.
	BatchBytes int
	// QueueBytes is the credit of a channel; with very many channels it is less, so that the queues of
	// one subtask stay within InputsBytes.
	QueueBytes  int
	InputsBytes int
	// OpenWait is how long a stream waits for its attempt, and an attempt for the streams of its peers.
	// The job manager notices lost peers much sooner; this only bounds what is held.
	OpenWait time.Duration
}

func (c *Config) setDefaults() {
	if c.BatchBytes <= 0 {
		c.BatchBytes = DefaultBatchBytes
	}
	if c.QueueBytes <= 0 {
		c.QueueBytes = DefaultQueueBytes
	}
	if c.InputsBytes <= 0 {
		c.InputsBytes = DefaultInputsBytes
	}
	if c.OpenWait <= 0 {
		c.OpenWait = DefaultOpenWait
	}
}

// queueBytes is the credit of each of n channels into one subtask.
func (c *Config) queueBytes(n int) int {
	return max(min(c.QueueBytes, c.InputsBytes/max(n, 1)), min(c.QueueBytes, 2*c.BatchBytes))
}

type attemptKey struct {
	job   ident.JobID
	fence ident.Fence
}

// Network is the exchange side of a task manager: the server of incoming streams and the maker of
// attempts. It starts no goroutine of its own.
type Network struct {
	cfg     Config
	codec   *codec
	buffers *buffers
	batches *batches

	mu       sync.Mutex
	attempts map[attemptKey]*Attempt
	changed  chan struct{} // closed and replaced when an attempt begins to run
	waiting  int
}

// NewNetwork makes the network of a task manager. Its server is to be made with ServerOptions and to be
// registered by Register.
func NewNetwork(cfg Config) *Network {
	cfg.setDefaults()
	n := &Network{
		cfg: cfg, buffers: &buffers{}, batches: &batches{},
		attempts: map[attemptKey]*Attempt{}, changed: make(chan struct{}),
	}
	n.codec = newCodec(n.buffers)
	return n
}

// ErrAttemptRuns is returned by Run for an attempt that already runs here.
var ErrAttemptRuns = errors.New("the attempt already runs here")

// enter makes an attempt visible to incoming streams.
func (n *Network) enter(a *Attempt) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.attempts[a.key]; ok {
		return fmt.Errorf("job %s attempt %s: %w", a.key.job, a.key.fence, ErrAttemptRuns)
	}
	n.attempts[a.key] = a
	close(n.changed)
	n.changed = make(chan struct{})
	return nil
}

func (n *Network) leave(a *Attempt) {
	n.mu.Lock()
	delete(n.attempts, a.key)
	n.mu.Unlock()
}

var (
	errNewerAttempt = errors.New("a newer attempt of the job runs here")
	errNoAttempt    = errors.New("the attempt has not been deployed here")
	errCrowded      = errors.New("too many streams wait for their attempt")
)

// await finds the attempt of an incoming stream; it waits for one that is still being deployed.
func (n *Network) await(ctx context.Context, key attemptKey) (*Attempt, error) {
	timer := time.NewTimer(n.cfg.OpenWait)
	defer timer.Stop()
	for waits := false; ; waits = true {
		a, changed, err := n.find(key, waits)
		if a != nil || err != nil {
			return a, err
		}
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-timer.C:
			err = fmt.Errorf("%w within %s", errNoAttempt, n.cfg.OpenWait)
		case <-changed:
		}
		if err != nil {
			n.mu.Lock()
			n.waiting--
			n.mu.Unlock()
			return nil, err
		}
	}
}

// find looks an attempt up; without it the caller is counted as waiting (it already was if waits) and
// told when to look again.
func (n *Network) find(key attemptKey, waits bool) (*Attempt, <-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if waits {
		n.waiting--
	}
	if a, ok := n.attempts[key]; ok {
		return a, nil, nil
	}
	for other := range n.attempts {
		if other.job == key.job && newer(other.fence, key.fence) {
			return nil, nil, fmt.Errorf("%w: %s", errNewerAttempt, other.fence)
		}
	}
	if n.waiting >= maxWaiting {
		return nil, nil, errCrowded
	}
	n.waiting++
	return nil, n.changed, nil
}

func newer(a, b ident.Fence) bool {
	return a.Epoch > b.Epoch || a.Epoch == b.Epoch && a.Attempt > b.Attempt
}

// AttemptConfig says what runs where in one attempt.
type AttemptConfig struct {
	Job   ident.JobID
	Fence ident.Fence
	Graph *graph.Physical
	// Placements holds every subtask of the attempt; those of this task manager are known by its id.
	Placements map[ident.Subtask]Peer
}

// NewAttempt prepares the exchange of an attempt: queues for the subtasks that run here, nothing open
// yet. Take Inputs and Outputs, then call Run.
func (n *Network) NewAttempt(cfg AttemptConfig) (*Attempt, error) {
	a := &Attempt{
		network: n, key: attemptKey{cfg.Job, cfg.Fence}, graph: cfg.Graph, placements: cfg.Placements,
		inputs: map[ident.Subtask]*Inputs{}, channels: map[Channel]*inChannel{},
		links: map[ident.WorkerID]*link{}, awaited: map[ident.WorkerID]Peer{},
		failed: make(chan error, 1),
	}
	for _, s := range cfg.Graph.Subtasks() {
		if _, ok := cfg.Placements[s]; !ok {
			return nil, fmt.Errorf("job %s attempt %s: no task manager for subtask %s", cfg.Job, cfg.Fence, s)
		}
	}
	for s, peer := range cfg.Placements {
		if peer.Worker == n.cfg.Worker {
			if err := a.addLocal(s); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}
