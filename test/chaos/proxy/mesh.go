// Package proxy leads the TCP connections between the parties of a chaos run and breaks them on demand:
// silence in one direction or both, delay, refusal, a reset at once or after some bytes. One listener per
// server; who the client is, is asked for each connection, so that every edge has rules of its own.
package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Any stands for every party in an Edge.
const Any = "*"

// dialTimeout bounds the connection to a server on the same machine.
const dialTimeout = 5 * time.Second

// Edge is all connections that one party made to another.
type Edge struct{ From, To string }

// Rule is what happens to an edge. The zero value passes everything on.
type Rule struct {
	// BlockForward holds back what the client sends, BlockBack what the server answers. Nothing is thrown
	// away: like TCP over a broken line, it arrives late if the connection outlives the silence.
	BlockForward, BlockBack bool
	// Delay, and at random up to Jitter more or less, is added to each direction.
	Delay, Jitter time.Duration
	// Refuse is the share, 0 to 1, of new connections that are reset at once.
	Refuse float64
	// CutAfterBytes resets each connection that carried so many bytes; 0: none.
	CutAfterBytes int64
}

// Mesh is the proxies of a run. Close ends it.
type Mesh struct {
	identify func(client *net.TCPAddr) string
	mu       sync.Mutex
	servers  map[string]*server
	rules    map[Edge]Rule
	changed  chan struct{} // closed, and made anew, when a rule changes
	closed   bool
	running  sync.WaitGroup
}

// server is one proxied party.
type server struct {
	name, listen, target string
	listener             net.Listener // nil while down
	open                 map[*connection]bool
}

// New makes a mesh without servers. identify names the party that has the socket of a client's address.
func New(identify func(client *net.TCPAddr) string) *Mesh {
	return &Mesh{identify: identify, servers: map[string]*server{}, rules: map[Edge]Rule{}, changed: make(chan struct{})}
}

// Add makes a server known that is to be reached at listen and is at target. It is down until Up.
func (m *Mesh) Add(name, listen, target string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.servers[name] = &server{name: name, listen: listen, target: target, open: map[*connection]bool{}}
}

// Up makes the proxy of a server listen. To one that is up it does nothing.
func (m *Mesh) Up(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.servers[name]
	if !ok || m.closed {
		return fmt.Errorf("proxy of %s: not added, or the mesh is closed", name)
	}
	if s.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("proxy of %s: %w", name, err)
	}
	s.listener = listener
	m.running.Add(1)
	go m.accept(s, listener)
	return nil
}

// Down makes the proxy of a server refuse connections, as the kernel does for a process that is gone. Open
// ones are left alone: the server's own end of them tells.
func (m *Mesh) Down(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.servers[name]; s != nil && s.listener != nil {
		_ = s.listener.Close() // nothing is lost with it
		s.listener = nil
	}
}

// Set makes a rule for an edge; Any stands for every party. The most exact rule of an edge counts alone.
func (m *Mesh) Set(edge Edge, rule Rule) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rules[edge] = rule
	m.tell()
}

// Heal drops every rule: what was held back goes on.
func (m *Mesh) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.rules)
	m.tell()
}

func (m *Mesh) tell() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// rule is the one that counts for an edge now, and the channel that is closed when that may change.
func (m *Mesh) rule(edge Edge) (Rule, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range []Edge{edge, {edge.From, Any}, {Any, edge.To}, {Any, Any}} {
		if r, ok := m.rules[e]; ok {
			return r, m.changed
		}
	}
	return Rule{}, m.changed
}

// Cut resets the open connections of an edge and says how many there were.
func (m *Mesh) Cut(edge Edge) int {
	var cut []*connection
	m.mu.Lock()
	for _, s := range m.servers {
		for c := range s.open {
			of := *c.edge.Load()
			if (edge.From == Any || edge.From == of.From) && (edge.To == Any || edge.To == of.To) {
				cut = append(cut, c)
			}
		}
	}
	m.mu.Unlock()
	for _, c := range cut {
		c.reset()
	}
	return len(cut)
}

// Close ends every proxy and waits for its goroutines.
func (m *Mesh) Close() {
	m.mu.Lock()
	m.closed = true
	for _, s := range m.servers {
		if s.listener != nil {
			_ = s.listener.Close() // nothing is lost with it
			s.listener = nil
		}
	}
	m.mu.Unlock()
	m.Cut(Edge{Any, Any})
	m.running.Wait()
}

func (m *Mesh) accept(s *server, listener net.Listener) {
	defer m.running.Done()
	for {
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client is gone again
		}
		m.running.Add(1)
		go m.connect(s, client.(*net.TCPConn))
	}
}

// unknown is the client of a connection that is not identified yet, or any more.
const unknown = "?"

// identifyAfter is how long a connection must live to be worth the question whose it is, while no rule depends
// on that: a probe is over before.
const identifyAfter = 50 * time.Millisecond

// identifyTries is how often it is asked, ten seconds long: the kernel's table of sockets may lack one while others come
// and go, and a process may connect before anybody has noted its pid.
const identifyTries = 200

// connect dials the server for a client and passes bytes on until one of them ends.
func (m *Mesh) connect(s *server, client *net.TCPConn) {
	defer m.running.Done()
	edge := Edge{m.identifyFirst(client, s.name), s.name}
	if edge.From == unknown && m.asksWho(s.name) {
		reset(client) // a rule is for some clients only: it must not let through whom nobody knows
		return
	}
	rule, _ := m.rule(edge)
	if rand.Float64() < rule.Refuse {
		reset(client)
		return
	}
	dialled, err := net.DialTimeout("tcp", s.target, dialTimeout)
	if err != nil {
		reset(client)
		return
	}
	c := &connection{mesh: m, client: client, server: dialled.(*net.TCPConn), done: make(chan struct{})}
	c.edge.Store(&edge)
	m.mu.Lock()
	closed := m.closed
	s.open[c] = true
	m.mu.Unlock()
	if closed {
		c.reset()
	}
	if edge.From == unknown {
		m.running.Add(1)
		go m.identifyLater(c)
	}
	c.serve()
	m.mu.Lock()
	delete(s.open, c)
	m.mu.Unlock()
}

// asksWho tells whether a rule for connections to a server depends on whose they are.
func (m *Mesh) asksWho(server string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for edge := range m.rules {
		if edge.From != Any && (edge.To == Any || edge.To == server) {
			return true
		}
	}
	return false
}

func (m *Mesh) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// identifyFirst finds out whose a connection is before anything of it is passed on, as long as a rule depends on that.
func (m *Mesh) identifyFirst(client *net.TCPConn, server string) string {
	for range identifyTries {
		if !m.asksWho(server) || m.isClosed() {
			return unknown
		}
		if who := m.identify(client.RemoteAddr().(*net.TCPAddr)); who != unknown {
			return who
		}
		time.Sleep(identifyAfter)
	}
	return unknown
}

// identifyLater finds out whose a connection is while it is already used.
func (m *Mesh) identifyLater(c *connection) {
	defer m.running.Done()
	tick := time.NewTicker(identifyAfter)
	defer tick.Stop()
	for range identifyTries {
		select {
		case <-tick.C:
		case <-c.done:
			return
		}
		if who := m.identify(c.client.RemoteAddr().(*net.TCPAddr)); who != unknown {
			c.edge.Store(&Edge{who, c.edge.Load().To})
			return
		}
	}
}
