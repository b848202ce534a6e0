package zookeeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// maxSessions bounds the sessions that are open or being taken down; a lost one needs about a second.
const maxSessions = 4

var (
	// ErrClosed is what calls answer after Close.
	ErrClosed = errors.New("zookeeper: the client is closed")
	// ErrUnreachable is in the error of a call that found no server; it may be repeated later.
	ErrUnreachable = errors.New("zookeeper: no server answers")
	// ErrNoChroot is in the error of a call when the chroot does not exist.
	ErrNoChroot = errors.New("the chroot does not exist")
	// ErrNoPermission is in the error of a call that the ACL of a node refuses.
	ErrNoPermission = errors.New("no permission")
)

// Client keeps a session with one server of an ensemble as long as that is healthy, and takes the next
// server otherwise. Safe for concurrent use.
//
// A chroot is not created: Kafka's brokers make theirs, and one that is missing is a slip in
// zookeeper.connect, which would otherwise read as "no offsets yet".
type Client struct {
	cfg  Config
	dial func(ctx context.Context, server string) (net.Conn, error)

	turn     chan struct{} // holds one token; who has it may use session and next
	session  *session      // nil before the first
	next     int           // the server to try first
	sessions chan struct{} // a token per session that is not gone

	mu     sync.Mutex
	closed bool
	calls  map[*call]bool
	work   sync.WaitGroup
}

// call is a public call in progress.
type call struct{ cancel context.CancelCauseFunc }

// New makes a client. It connects when first asked for something.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	return &Client{
		cfg: cfg, next: rand.IntN(len(cfg.Servers)), turn: make(chan struct{}, 1), sessions: make(chan struct{}, maxSessions), calls: map[*call]bool{},
		dial: func(ctx context.Context, server string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", server)
		},
	}, nil
}

// Close ends the session and every call in progress, and waits for its goroutines, a few seconds at most.
// A second Close does nothing.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	for call := range c.calls {
		call.cancel(ErrClosed)
	}
	c.mu.Unlock()
	c.work.Wait()
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if c.session != nil {
		c.session.leave()
		c.session = nil
	}
	for range maxSessions { // every session gives its token back when it is gone
		c.sessions <- struct{}{}
	}
	for range maxSessions {
		<-c.sessions
	}
	return nil
}

// enter begins a public call: Close cancels its context and waits for leave.
func (c *Client) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	current := &call{cancel}
	c.calls[current] = true
	c.work.Add(1)
	return ctx, func() {
		cancel(nil)
		c.mu.Lock()
		delete(c.calls, current)
		c.mu.Unlock()
		c.work.Done()
	}, nil
}

// acquire gives the session, a new one if the last was lost. Callers that come together share it.
func (c *Client) acquire(ctx context.Context) (*session, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("zookeeper: wait for a connection: %w", context.Cause(ctx))
	}
	defer func() { <-c.turn }()
	if c.session != nil && c.session.alive() {
		return c.session, nil
	}
	if c.session != nil {
		c.cfg.Logger.Warn("ZooKeeper session lost", "server", c.session.server, "reason", c.session.why())
		c.session = nil
	}
	s, err := c.search(ctx)
	if err != nil {
		return nil, err
	}
	c.cfg.Logger.Info("connected to ZooKeeper", "server", s.server)
	c.session = s
	return s, nil
}

// search tries each server once, beginning behind the one that was used last.
func (c *Client) search(ctx context.Context) (*session, error) {
	ctx, cancel := within(ctx, c.cfg.ConnectionTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	count := len(c.cfg.Servers)
	var faults []string
	for i := range count {
		at := (c.next + i) % count
		s, err := c.connect(ctx, c.cfg.Servers[at], time.Until(deadline)/time.Duration(count-i))
		switch {
		case err == nil:
			c.next = (at + 1) % count
			return s, nil
		case errors.Is(err, ErrNoChroot), errors.Is(err, zk.ErrAuthFailed):
			return nil, fmt.Errorf("zookeeper: %w", err)
		}
		faults = append(faults, err.Error())
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, fmt.Errorf("zookeeper: connect: %w", context.Cause(ctx))
		} else if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("%w (check zookeeper.connect and the servers): %s", ErrUnreachable, strings.Join(faults, "; "))
}

// connect makes a session with one server within the given time.
func (c *Client) connect(ctx context.Context, server string, timeout time.Duration) (*session, error) {
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	select {
	case c.sessions <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: earlier sessions are not gone: %w", server, context.Cause(ctx))
	}
	release := func() { <-c.sessions }
	conn, err := c.dial(ctx, server)
	if err != nil {
		release()
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	s, err := newSession(server, conn, timeout, &c.cfg, release)
	if err != nil {
		release()
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	if err := c.greet(ctx, s); err != nil {
		s.end(err)
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return s, nil
}

func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not connected within %s", timeout.Round(time.Millisecond)))
}

// greet waits for the handshake, says who we are and looks at the chroot. A follower may lag behind what an
// earlier session has seen: sync brings it up to date.
func (c *Client) greet(ctx context.Context, s *session) error {
	select {
	case <-s.ready:
	case <-s.lost:
		return fmt.Errorf("handshake: %w", s.why())
	case <-ctx.Done():
		return fmt.Errorf("handshake: %w", context.Cause(ctx))
	}
	if c.cfg.Auth != "" {
		if err := authenticate(ctx, s, c.cfg.Auth); err != nil {
			return fmt.Errorf("authenticate by digest: %w", err)
		}
	}
	if err := catchUp(ctx, s, cmp.Or(c.cfg.Chroot, "/")); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if c.cfg.Chroot == "" {
		return nil
	}
	found, err := exists(ctx, s, c.cfg.Chroot)
	if err == nil && !found {
		err = c.noChroot()
	}
	return err
}

func (c *Client) noChroot() error {
	return fmt.Errorf("%s: %w: Kafka's brokers make it, so check the path in zookeeper.connect, or create the node", c.cfg.Chroot, ErrNoChroot)
}
