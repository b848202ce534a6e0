package taskmanager

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/taskmanager/exchange"
)

const (
	// controlMessageBytes bounds a control message (DESIGN section 9); state goes in chunks.
	controlMessageBytes = 1 << 20
	// Static windows: grpc's estimator would grow them to 16 MiB per connection.
	windowBytes     = 1 << 20
	keepaliveTime   = 10 * time.Second
	keepaliveExpiry = 5 * time.Second
	connectTimeout  = 5 * time.Second
	// greetTimeout is how long a new connection may say nothing; the end of the server waits for it.
	greetTimeout = 4 * time.Second
	stopTimeout  = 5 * time.Second
)

// TaskManager runs the subtasks of jobs in its slots.
type TaskManager struct {
	cfg         Config
	incarnation ident.Incarnation
	httpAddress string
	metrics     *metrics
	outbox      *outbox
	lease       *lease
	network     *exchange.Network
	transfer    *stateTransfer
	connectors  Connectors
	expressions graph.Expressions

	mu       sync.Mutex
	attempts map[ident.JobID]*attempt
	// ending holds cancelled attempts until they have ended.
	ending map[ident.JobID][]*attempt
	// running counts attempts that have not ended.
	running sync.WaitGroup
	// fatal ends the process: an attempt that cannot be cancelled.
	fatal chan error
}

// New makes a task manager; nothing runs before Run.
func New(cfg Config, connectors Connectors, expressions graph.Expressions) (*TaskManager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.WorkDir, 0o700); err != nil {
		return nil, fmt.Errorf("work-dir %q: %w; name a directory that this user can make", cfg.WorkDir, err)
	}
	var inc [8]byte
	rand.Read(inc[:]) // never fails (crypto/rand)
	tm := &TaskManager{
		cfg: cfg, incarnation: ident.Incarnation(hex.EncodeToString(inc[:])), outbox: newOutbox(),
		attempts: map[ident.JobID]*attempt{}, ending: map[ident.JobID][]*attempt{}, connectors: connectors, expressions: expressions, fatal: make(chan error, 1),
	}
	tm.lease = newLease(tm.clock())
	tm.metrics = newMetrics(tm)
	return tm, nil
}

// Metrics is the registry for /metrics.
func (tm *TaskManager) Metrics() *prometheus.Registry { return tm.metrics.registry }

// SetHTTPAddress tells the address that the job manager shows; call it before Run.
func (tm *TaskManager) SetHTTPAddress(addr string) { tm.httpAddress = addr }

// HTTPAddress is what SetHTTPAddress was told.
func (tm *TaskManager) HTTPAddress() string { return tm.httpAddress }

// Run serves until ctx ends (nil then, after all subtasks have ended) or the task manager cannot go on.
// ready is called with the data address when others can connect to it.
func (tm *TaskManager) Run(ctx context.Context, ready func(dataAddress string)) error {
	l, err := tm.listen()
	if err != nil {
		return fmt.Errorf("listen for data: %w", err)
	}
	dataAddress := tm.cfg.advertised(l.Addr())
	conn, err := grpc.NewClient("passthrough:///"+tm.cfg.JobManager, tm.dialOptions()...)
	if err != nil {
		l.Close()
		return fmt.Errorf("jobmanager %q: %w", tm.cfg.JobManager, err)
	}
	defer conn.Close()
	tm.transfer = newStateTransfer(conn)
	tm.network = exchange.NewNetwork(exchange.Config{Worker: tm.cfg.ID, Credentials: tm.cfg.ClientTLS, Dial: tm.cfg.Dial})
	server := grpc.NewServer(tm.serverOptions()...)
	tm.network.Register(server)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return tm.serve(gctx, server, l) })
	g.Go(func() error { return tm.newSession(tm.transfer.client, dataAddress).run(gctx) })
	g.Go(func() error {
		select {
		case err := <-tm.fatal:
			return err
		case <-gctx.Done():
			return context.Cause(gctx)
		}
	})
	ready(dataAddress)
	err = g.Wait()
	err = errors.Join(notCanceled(err), tm.end())
	return err
}

func notCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func orInsecure(c credentials.TransportCredentials) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	return c
}

func (tm *TaskManager) listen() (net.Listener, error) {
	if tm.cfg.Listen != nil {
		return tm.cfg.Listen(tm.cfg.DataListen)
	}
	return net.Listen("tcp", tm.cfg.DataListen)
}

// dialOptions are those of the connection to the job manager.
func (tm *TaskManager) dialOptions() []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(orInsecure(tm.cfg.ClientTLS)), grpc.WithNoProxy(), // HTTPS_PROXY is for what lies outside
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveExpiry}),
		grpc.WithConnectParams(grpc.ConnectParams{ // the session paces itself; grpc's default would wait a second
			Backoff:           backoff.Config{BaseDelay: dialRetry, Multiplier: 1.5, Jitter: 0.2, MaxDelay: dialRetryMax},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithStaticStreamWindowSize(windowBytes), grpc.WithStaticConnWindowSize(windowBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(controlMessageBytes)),
	}
	if dial := tm.cfg.Dial; dial != nil {
		options = append(options, grpc.WithContextDialer(dial))
	}
	return options
}

func (tm *TaskManager) serverOptions() []grpc.ServerOption {
	return append(tm.network.ServerOptions(), grpc.Creds(orInsecure(tm.cfg.ServerTLS)), grpc.MaxConcurrentStreams(1024),
		grpc.WaitForHandlers(true), grpc.ConnectionTimeout(greetTimeout))
}

// serve runs the data port. Its streams end with their attempts, so Stop need not be graceful.
func (tm *TaskManager) serve(ctx context.Context, server *grpc.Server, l net.Listener) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		server.Stop()
	}()
	err := server.Serve(l)
	if ctx.Err() == nil {
		return fmt.Errorf("serve data on %s: %w", l.Addr(), err)
	}
	<-stopped
	return context.Cause(ctx)
}

// end cancels everything and waits, at most stopTimeout.
func (tm *TaskManager) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	tm.reset(ctx, "the task manager ends")
	if ctx.Err() != nil {
		return fmt.Errorf("subtasks did not end within %s", stopTimeout)
	}
	return nil
}

// reset cancels every attempt and waits until they have ended or ctx has.
func (tm *TaskManager) reset(ctx context.Context, why string) {
	tm.mu.Lock()
	for _, a := range tm.attempts {
		tm.cancelLocked(a, errors.New(why))
	}
	tm.mu.Unlock()
	done := make(chan struct{})
	go func() {
		tm.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
