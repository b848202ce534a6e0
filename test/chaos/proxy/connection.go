package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	chunkBytes = 32 << 10
	// queueChunks bounds what is on its way through a delayed or silent connection, per direction.
	queueChunks = 64
)

// connection is one that goes through a proxy.
type connection struct {
	mesh           *Mesh
	edge           atomic.Pointer[Edge]
	client, server *net.TCPConn
	carriedBytes   atomic.Int64
	once           sync.Once
	done           chan struct{} // closed when the connection is reset or over
}

// chunk is a part of a stream; err is how the stream ends after it.
type chunk struct {
	data []byte
	due  time.Time
	err  error
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // a reset instead of an orderly end; a connection that is gone is as good
	_ = c.Close()
}

func (c *connection) reset() {
	c.once.Do(func() {
		close(c.done)
		reset(c.client)
		reset(c.server)
	})
}

// serve returns when both directions are over and their goroutines are gone.
func (c *connection) serve() {
	var all sync.WaitGroup
	direction := func(from, to *net.TCPConn, forward bool) {
		queue := make(chan chunk, queueChunks)
		all.Go(func() { c.read(from, queue) })
		all.Go(func() { c.write(to, queue, forward) })
	}
	direction(c.client, c.server, true)
	direction(c.server, c.client, false)
	all.Wait()
	c.once.Do(func() {
		close(c.done)
		_ = c.client.Close() // both directions have ended
		_ = c.server.Close()
	})
}

func (c *connection) read(from *net.TCPConn, queue chan<- chunk) {
	for {
		data := make([]byte, chunkBytes)
		n, err := from.Read(data)
		rule, _ := c.mesh.rule(*c.edge.Load())
		due := time.Now().Add(rule.Delay)
		if rule.Jitter > 0 {
			due = due.Add(rand.N(2*rule.Jitter) - rule.Jitter)
		}
		select {
		case queue <- chunk{data[:n], due, err}:
		case <-c.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// write passes chunks on when they are due and nothing silences the direction. An end is passed on too.
func (c *connection) write(to *net.TCPConn, queue <-chan chunk, forward bool) {
	for {
		var next chunk
		select {
		case next = <-queue:
		case <-c.done:
			return
		}
		if !c.hold(next.due, forward) {
			return
		}
		if _, err := to.Write(next.data); err != nil {
			c.reset()
			return
		}
		rule, _ := c.mesh.rule(*c.edge.Load())
		if carried := c.carriedBytes.Add(int64(len(next.data))); rule.CutAfterBytes > 0 && carried >= rule.CutAfterBytes {
			c.reset()
			return
		}
		if errors.Is(next.err, io.EOF) {
			_ = to.CloseWrite() // whoever is gone already needs no end
			return
		}
		if next.err != nil {
			c.reset()
			return
		}
	}
}

// hold waits until a chunk is due and its direction is not silent; false: the connection is over.
func (c *connection) hold(due time.Time, forward bool) bool {
	for {
		rule, changed := c.mesh.rule(*c.edge.Load())
		blocked := forward && rule.BlockForward || !forward && rule.BlockBack
		wait := time.Until(due)
		if !blocked && wait <= 0 {
			return true
		}
		if blocked {
			select {
			case <-changed:
			case <-c.done:
				return false
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.done:
			timer.Stop()
			return false
		}
	}
}
