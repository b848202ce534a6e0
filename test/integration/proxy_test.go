package integration

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy passes connections on and can cut them all at once, by a reset.
type proxy struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	open     map[*net.TCPConn]bool
	copies   sync.WaitGroup
	answered atomic.Int64 // bytes from the target
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, open: map[*net.TCPConn]bool{}}
	p.copies.Add(1)
	go p.accept()
	t.Cleanup(func() {
		_ = listener.Close() // ends accept
		p.cut()
		p.copies.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	defer p.copies.Done()
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		a, b := in.(*net.TCPConn), out.(*net.TCPConn)
		p.mu.Lock()
		p.open[a], p.open[b] = true, true
		p.mu.Unlock()
		p.copies.Add(2)
		go p.pass(a, b, b)
		go p.pass(b, a, counting{a, &p.answered})
	}
}

// counting counts what is written.
type counting struct {
	io.Writer
	bytes *atomic.Int64
}

// Write is io.Writer's.
func (c counting) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (p *proxy) pass(from, to *net.TCPConn, into io.Writer) {
	defer p.copies.Done()
	_, _ = io.Copy(into, from) // a broken connection is what this is for
	p.mu.Lock()
	delete(p.open, from)
	p.mu.Unlock()
	_ = from.Close()
	_ = to.Close()
}

// cut resets every connection and returns how many sockets there were.
func (p *proxy) cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for connection := range p.open {
		_ = connection.SetLinger(0) // a reset instead of an orderly end
		_ = connection.Close()
	}
	return len(p.open)
}
