package bubble

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Network connects named hosts. Addresses are HOST:PORT.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	conns     []*link
	isolated  map[string]bool
	down      map[string]bool
	nextPort  int
	// changed is closed and replaced when a host is reachable again.
	changed chan struct{}
}

// NewNetwork makes a network without hosts; a host is there as soon as it is named.
func NewNetwork() *Network {
	return &Network{
		listeners: map[string]*listener{}, isolated: map[string]bool{}, down: map[string]bool{},
		nextPort: 7000, changed: make(chan struct{}),
	}
}

func hostOf(address string) string {
	host, _, _ := strings.Cut(address, ":")
	return host
}

// Listen opens a port of a host; port 0 picks one.
func (n *Network) Listen(address string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	host, port, _ := strings.Cut(address, ":")
	if port == "0" {
		n.nextPort++
		address = fmt.Sprintf("%s:%d", host, n.nextPort)
	}
	if n.listeners[address] != nil {
		return nil, opError("listen", address, syscall.EADDRINUSE)
	}
	delete(n.down, host)
	l := &listener{network: n, address: addr(address), queue: make(chan net.Conn, 128), closed: make(chan struct{})}
	n.listeners[address] = l
	return l, nil
}

// From is the dialer of a host.
func (n *Network) From(host string) func(ctx context.Context, address string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) { return n.dial(ctx, host, address) }
}

func (n *Network) dial(ctx context.Context, from, address string) (net.Conn, error) {
	for {
		conn, changed, err := n.connect(from, address)
		if changed == nil {
			return conn, err
		}
		select { // nothing answers, not even a refusal
		case <-ctx.Done():
			return nil, opError("dial", address, ctx.Err())
		case <-changed:
		}
	}
}

// connect makes a connection, or returns when to try again.
func (n *Network) connect(from, address string) (net.Conn, <-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to := hostOf(address)
	if n.down[from] {
		return nil, nil, opError("dial", address, syscall.ENETDOWN)
	}
	if from != to && (n.isolated[from] || n.isolated[to]) {
		return nil, n.changed, nil
	}
	l := n.listeners[address]
	if l == nil {
		return nil, nil, opError("dial", address, syscall.ECONNREFUSED)
	}
	k := newLink(from, to, addr(from+":0"), l.address)
	select {
	case l.queue <- k.server:
	default:
		return nil, nil, opError("dial", address, syscall.ECONNREFUSED)
	}
	n.conns = append(slices.DeleteFunc(n.conns, (*link).dead), k)
	return k.client, nil, nil
}

// Kill takes a host off the network as the end of its processes does: ports refuse, connections are reset.
func (n *Network) Kill(host string) {
	n.mu.Lock()
	n.down[host] = true
	for address := range n.listeners {
		if hostOf(address) == host {
			delete(n.listeners, address) // the process closes it when it ends
		}
	}
	n.mu.Unlock()
	n.each(host, "", (*link).reset)
}

// Revive lets a killed host dial again.
func (n *Network) Revive(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.down, host)
}

// Reset resets the connections between two hosts; new ones can be made at once.
func (n *Network) Reset(a, b string) { n.each(a, b, (*link).reset) }

// Isolate loses every packet from and to a host until Heal.
func (n *Network) Isolate(host string) {
	n.mu.Lock()
	n.isolated[host] = true
	n.mu.Unlock()
	n.each(host, "", func(k *link) { k.freeze(true) })
}

// Heal ends Isolate. What was sent meanwhile arrives now, as TCP repeats it.
func (n *Network) Heal(host string) {
	n.mu.Lock()
	delete(n.isolated, host)
	close(n.changed)
	n.changed = make(chan struct{})
	n.mu.Unlock()
	n.each(host, "", func(k *link) { k.freeze(false) })
}

// each visits the connections between a and b, or of a with anybody if b is empty.
func (n *Network) each(a, b string, visit func(*link)) {
	n.mu.Lock()
	all := slices.Clone(n.conns)
	n.mu.Unlock()
	for _, k := range all {
		between := k.from == a && k.to == b || k.from == b && k.to == a
		if k.from != k.to && (between || b == "" && (k.from == a || k.to == a)) || k.from == k.to && b == "" && k.from == a {
			visit(k)
		}
	}
}

func opError(op, address string, err error) error {
	return &net.OpError{Op: op, Net: "bubble", Addr: addr(address), Err: err}
}

type addr string

// Network is net.Addr's.
func (addr) Network() string { return "bubble" }

// String is net.Addr's.
func (a addr) String() string { return string(a) }

type listener struct {
	network *Network
	address addr
	queue   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

// Accept is net.Listener's.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, opError("accept", string(l.address), net.ErrClosed)
	}
}

// Close is net.Listener's.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		if l.network.listeners[string(l.address)] == l {
			delete(l.network.listeners, string(l.address))
		}
		l.network.mu.Unlock()
		for {
			select {
			case c := <-l.queue:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr is net.Listener's.
func (l *listener) Addr() net.Addr { return l.address }

var errReset = errors.New("connection reset by peer")
