package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// PeerError is an address where something other than Kafka listens.
type PeerError struct {
	Address string
	Answer  string // what it said, short
}

// Error names the address and the answer.
func (e *PeerError) Error() string {
	return fmt.Sprintf("%s does not speak Kafka (%s): check host and port in bootstrap.servers", e.Address, e.Answer)
}

// SetupError is a connection that cannot work as configured, such as TLS against a plain port.
type SetupError struct {
	Address string
	Hint    string
	Err     error
}

// Error names the address, the cause and what to check.
func (e *SetupError) Error() string {
	return fmt.Sprintf("connect to %s: %v (%s)", e.Address, e.Err, e.Hint)
}

// Unwrap gives the cause.
func (e *SetupError) Unwrap() error { return e.Err }

// dialer makes the connections of one cluster. It does TLS itself, because the check of the peer's
// first bytes has to stand above TLS.
type dialer struct {
	tls     *tls.Config
	timeout time.Duration
	// sasl: a login follows the first answer.
	sasl bool
	// legacy: the brokers are not asked what they speak, and the first answer on a connection may be any.
	legacy     bool
	firstLimit int // largest first answer, in bytes

	mu     sync.Mutex
	closed bool
	live   map[*peerConn]struct{}
	gone   chan struct{} // closed when closed and live is empty
	faults map[string]fault
}

// fault is what was found at an address a moment ago. Transport connects twice for a first call;
// the second attempt need not wait as long as the first.
type fault struct {
	err error
	at  time.Time
}

const faultMemory = time.Second

func newDialer(c Config) *dialer {
	limit := maxFirstAnswer
	if c.legacy() {
		limit = c.MaxResponseBytes
	}
	return &dialer{tls: c.TLS, timeout: c.DialTimeout, sasl: c.SASL.Mechanism != "", legacy: c.legacy(), firstLimit: limit, live: map[*peerConn]struct{}{}, gone: make(chan struct{}), faults: map[string]fault{}}
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := d.recentFault(address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	inner, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		if inner, err = handshake(ctx, inner, address, d.tls); err != nil {
			if ctx.Err() != nil {
				d.remember(address, err)
			}
			return nil, err
		}
	}
	c := &peerConn{Conn: inner, address: address, owner: d, negotiating: true, loggingIn: d.sasl}
	if !d.add(c) {
		inner.Close()
		return nil, errClosed
	}
	if d.legacy {
		return &fixedConn{Conn: c}, nil
	}
	return c, nil
}

func handshake(ctx context.Context, inner net.Conn, address string, cfg *tls.Config) (net.Conn, error) {
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			inner.Close()
			return nil, err
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	c := tls.Client(inner, cfg)
	err := c.HandshakeContext(ctx)
	if err == nil {
		return c, nil
	}
	inner.Close()
	var header tls.RecordHeaderError
	var alert tls.AlertError
	var verify *tls.CertificateVerificationError
	var host x509.HostnameError
	switch {
	case errors.As(err, &header):
		err = &SetupError{address, "the port does not speak TLS: check the port or security.protocol", err}
	case errors.As(err, &host):
		err = &SetupError{address, "the certificate is for another name: check the address or ssl.endpoint.identification.algorithm", err}
	case errors.As(err, &verify):
		err = &SetupError{address, "the broker's certificate is not trusted: check ssl.truststore.location", err}
	case errors.As(err, &alert):
		err = &SetupError{address, "the broker refused the TLS handshake: check ssl.certificate.location and ssl.key.location", err}
	default:
		err = fmt.Errorf("TLS handshake (does the port speak TLS?): %w", err)
	}
	return nil, err
}

func (d *dialer) recentFault(address string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.faults[address]
	if ok && time.Since(f.at) < faultMemory {
		return f.err
	}
	delete(d.faults, address)
	return nil
}

func (d *dialer) remember(address string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults[address] = fault{err, time.Now()}
}

func (d *dialer) add(c *peerConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.live[c] = struct{}{}
	return true
}

func (d *dialer) remove(c *peerConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.live[c]; !ok {
		return
	}
	delete(d.live, c)
	if d.closed && len(d.live) == 0 {
		close(d.gone)
	}
}

// close cuts all connections; the goroutines that own them end on their own, and gone tells when.
func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	if len(d.live) == 0 {
		close(d.gone)
	}
	for c := range d.live {
		c.Conn.Close()
	}
}

// peerConn checks the first answer on a connection before kafka-go reads it: kafka-go would take
// "HTTP" for a length and reserve gigabytes. That answer is always the one to ApiVersions, with
// correlation id 1, save for legacy brokers.
type peerConn struct {
	net.Conn
	address string
	owner   *dialer

	// only touched by the one goroutine that reads
	negotiating bool
	loggingIn   bool
	head        [8]byte
	seen        int
	fault       error // stays: kafka-go reads on after an error, to drain
}

const (
	maxFirstAnswer = 1 << 20 // ApiVersions answers take about 1 KB
	probeTime      = 300 * time.Millisecond
)

// Read reads, and refuses what cannot be an answer of Kafka.
func (c *peerConn) Read(p []byte) (int, error) {
	if c.fault != nil {
		return 0, c.fault
	}
	n, err := c.Conn.Read(p)
	if !c.negotiating {
		return n, err
	}
	c.seen += copy(c.head[c.seen:], p[:n])
	switch {
	case c.seen == 0 && errors.Is(err, os.ErrDeadlineExceeded):
		c.fault = c.silent(err)
	case c.seen >= 4 && !c.plausible(binary.BigEndian.Uint32(c.head[:])), c.seen == 8 && !c.owner.legacy && binary.BigEndian.Uint32(c.head[4:]) != 1:
		c.fault = &PeerError{c.address, describeAnswer(c.head[:c.seen])}
	}
	if c.fault != nil {
		c.owner.remember(c.address, c.fault)
		return 0, c.fault
	}
	c.negotiating = c.seen < len(c.head)
	return n, err
}

func (c *peerConn) plausible(length uint32) bool {
	return length >= 4 && int64(length) <= int64(c.owner.firstLimit)
}

// SetDeadline leaves time for a last question while nothing is known of the peer. kafka-go takes the deadline of a new
// connection away before it logs in, without any: it stays, until the first call sets its own.
func (c *peerConn) SetDeadline(t time.Time) error {
	if c.loggingIn && t.IsZero() {
		c.loggingIn = false
		return nil
	}
	if c.negotiating && time.Until(t) > 2*probeTime {
		t = t.Add(-probeTime)
	}
	return c.Conn.SetDeadline(t)
}

// silent asks a peer that said nothing to ApiVersions in a way in which text protocols answer. The
// connection is of no use afterwards.
func (c *peerConn) silent(cause error) error {
	unknown := fmt.Errorf("accepted the connection and answered nothing: a hung broker, one before Kafka 0.10 (set broker.version), or not a Kafka listener: %w", cause)
	if c.Conn.SetDeadline(time.Now().Add(probeTime/2)) != nil {
		return unknown
	}
	if _, err := c.Conn.Write([]byte("\r\n\r\n")); err != nil {
		return unknown
	}
	n, err := c.Conn.Read(c.head[:])
	if err != nil || n == 0 {
		return unknown
	}
	return &PeerError{c.address, describeAnswer(c.head[:n])}
}

// Close closes the connection and forgets it.
func (c *peerConn) Close() error {
	err := c.Conn.Close()
	c.owner.remove(c)
	return err
}

func describeAnswer(head []byte) string {
	for _, known := range []string{"HTTP", "SSH-"} {
		if bytes.HasPrefix(head, []byte(known)) {
			return fmt.Sprintf("answered %q", known)
		}
	}
	if len(head) >= 3 && head[0] == 0x15 && head[1] == 3 {
		return "answered with a TLS alert: set security.protocol to SSL or SASL_SSL"
	}
	return fmt.Sprintf("answered %q", head)
}
