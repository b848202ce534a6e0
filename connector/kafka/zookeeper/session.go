package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// packetBuffer is the library's buffer for requests; the longest path has about 2 KiB.
const packetBuffer = 16 << 10

// maxRequests bounds the requests in flight of a session, those included whose callers have left.
const maxRequests = 8

// errUnknown marks a request whose answer did not come: it may have been carried out.
var errUnknown = errors.New("the outcome is unknown")

// definite are the answers after which a session is as good as before.
var definite = []error{
	zk.ErrNoNode, zk.ErrNodeExists, zk.ErrBadVersion, zk.ErrNoAuth, zk.ErrInvalidACL, zk.ErrNoChildrenForEphemerals, zk.ErrAuthFailed,
}

// session is one connection to one server. It ends by its first trouble and is not repaired. run owns what
// the library starts; gone is closed when nothing of it is left.
type session struct {
	server      string
	callTimeout time.Duration
	framed      *framed
	conn        *zk.Conn
	events      <-chan zk.Event
	ready       chan struct{} // closed after the handshake
	leaving     chan struct{} // closed by leave
	lost        chan struct{} // closed by end
	gone        chan struct{}
	readyOnce   sync.Once
	endOnce     sync.Once
	tokens      chan struct{} // one per request in flight
	inFlight    sync.WaitGroup

	mu    sync.Mutex
	ended bool // no request begins any more
	cause error
}

// newSession gives an open connection to the library. finish is called when nothing of it is left.
func newSession(server string, conn net.Conn, handshake time.Duration, cfg *Config, finish func()) (*session, error) {
	s := &session{
		server: server, callTimeout: cfg.CallTimeout, framed: newFramed(conn, handshake),
		ready: make(chan struct{}), leaving: make(chan struct{}), lost: make(chan struct{}), gone: make(chan struct{}),
		tokens: make(chan struct{}, maxRequests),
	}
	var err error
	s.conn, s.events, err = zk.Connect([]string{server}, cfg.SessionTimeout,
		zk.WithDialer(once(s.framed)), zk.WithHostProvider(&oneServer{server: server}), zk.WithEventCallback(s.observe),
		zk.WithLogger(libraryLog{cfg.Logger}), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxFrame), zk.WithMaxConnBufferSize(packetBuffer))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go s.run(finish)
	return s, nil
}

// run ends what the library has started, once the session is lost. Requests must be over before the library
// is closed: it answers one that is cut off while it closes once more than there is room for, and hangs.
// It answers all of them within a second of losing its connection.
func (s *session) run(finish func()) {
	select {
	case <-s.lost:
		s.inFlight.Wait()
	case <-s.leaving: // nothing is in flight; the server hears a good-bye, for which the library waits three seconds at most
	}
	s.conn.Close()
	s.end(ErrClosed)
	for range s.events { // closed by the library's last goroutine
	}
	close(s.gone)
	finish()
}

// observe is called by the library's goroutines and never blocks.
func (s *session) observe(event zk.Event) {
	switch event.State {
	case zk.StateHasSession:
		s.readyOnce.Do(func() { close(s.ready) })
	case zk.StateDisconnected, zk.StateExpired:
		s.end(errors.New("the connection is lost"))
	}
}

// end gives the session up. The first reason stays; one of the connection says more than others.
func (s *session) end(cause error) {
	s.endOnce.Do(func() {
		if fault := s.framed.why(); fault != nil {
			cause = fault
		}
		s.mu.Lock()
		s.ended, s.cause = true, cause
		s.mu.Unlock()
		_ = s.framed.Close() // whatever it says, nobody uses the connection any more
		close(s.lost)
	})
}

// leave ends the session, in an orderly way if it is idle, so that the server forgets it, and waits. It is
// called once.
func (s *session) leave() {
	s.mu.Lock()
	idle := len(s.tokens) == 0 && !s.ended
	s.ended = true
	s.mu.Unlock()
	if idle {
		close(s.leaving)
	} else {
		s.end(ErrClosed)
	}
	<-s.gone
}

func (s *session) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended
}

func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// begin admits a request; done ends it.
func (s *session) begin(ctx context.Context) error {
	select {
	case s.tokens <- struct{}{}:
	case <-s.lost:
		return s.unknown()
	case <-ctx.Done():
		return fmt.Errorf("wait for earlier requests: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		<-s.tokens
		return lostBy(s.cause)
	}
	s.inFlight.Add(1)
	return nil
}

func (s *session) done() {
	<-s.tokens
	s.inFlight.Done()
}

// unknown is the error of a request whose answer did not come, or that came too late to be sent.
func (s *session) unknown() error { return lostBy(s.why()) }

func lostBy(cause error) error {
	if cause == nil {
		cause = ErrClosed // the session leaves
	}
	return fmt.Errorf("%w: %w", errUnknown, cause)
}

// ask sends one request. A caller whose context ends leaves at once; the request has its own end, the call
// timeout, after which the server is given up.
func ask[T any](ctx context.Context, s *session, request func(*zk.Conn) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	if err := s.begin(ctx); err != nil {
		return none, err
	}
	answers := make(chan answer, 1)
	go func() {
		defer s.done()
		timeout := time.AfterFunc(s.callTimeout, func() { s.end(fmt.Errorf("no answer within %s", s.callTimeout)) })
		defer timeout.Stop()
		value, err := request(s.conn)
		if err != nil && !slices.ContainsFunc(definite, func(known error) bool { return errors.Is(err, known) }) {
			s.end(err)
			err = s.unknown()
		}
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return none, a.err // what came with an error, the library may still be writing to
		}
		return a.value, nil
	case <-ctx.Done():
		return none, fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
}

// once is a dialer that has one connection to give.
func once(conn net.Conn) zk.Dialer {
	connections := make(chan net.Conn, 1)
	connections <- conn
	return func(string, string, time.Duration) (net.Conn, error) {
		select {
		case c := <-connections:
			return c, nil
		default:
			return nil, errors.New("a session is not repaired")
		}
	}
}

// oneServer makes the library, after its first connection, answer what waits and pause.
type oneServer struct {
	server string
	used   bool
}

func (o *oneServer) Init([]string) error { return nil }
func (o *oneServer) Len() int            { return 1 }
func (o *oneServer) Connected()          {}
func (o *oneServer) Next() (server string, retryStart bool) {
	retryStart, o.used = o.used, true
	return o.server, retryStart
}

// libraryLog takes what the library says; errors reach callers as errors.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(format string, args ...any) {
	l.log.Debug("ZooKeeper library", "text", fmt.Sprintf(format, args...))
}
