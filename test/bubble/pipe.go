package bubble

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeBytes is what fits between a writer and its reader, as the buffers of two sockets.
const pipeBytes = 64 << 10

// link is one connection: two ends, two directions.
type link struct {
	from, to       string
	client, server *end
	up, down       *direction
}

func newLink(from, to string, client, server addr) *link {
	k := &link{from: from, to: to, up: newDirection(), down: newDirection()}
	k.client = &end{in: k.down, out: k.up, local: client, remote: server}
	k.server = &end{in: k.up, out: k.down, local: server, remote: client}
	return k
}

func (k *link) reset() {
	for _, d := range []*direction{k.up, k.down} {
		d.change(func() { d.broken = true })
	}
}

func (k *link) freeze(on bool) {
	for _, d := range []*direction{k.up, k.down} {
		d.change(func() { d.frozen = on })
	}
}

// dead says that both ends are closed.
func (k *link) dead() bool {
	k.up.mu.Lock()
	defer k.up.mu.Unlock()
	return k.up.writerClosed && k.up.readerClosed
}

// direction carries bytes one way. While it is frozen nothing arrives: no bytes, no end, no reset.
type direction struct {
	mu                                         sync.Mutex
	changed                                    *sync.Cond
	bytes                                      []byte
	frozen, broken, writerClosed, readerClosed bool
	// deadline is the timer of the reader's deadline; late: it has passed.
	deadline *time.Timer
	late     bool
}

func newDirection() *direction {
	d := &direction{}
	d.changed = sync.NewCond(&d.mu)
	return d
}

func (d *direction) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	d.changed.Broadcast()
}

func (d *direction) read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.readerClosed:
			return 0, net.ErrClosed
		case d.late:
			return 0, os.ErrDeadlineExceeded
		case d.frozen:
		case d.broken:
			return 0, errReset
		case len(d.bytes) > 0:
			n := copy(p, d.bytes)
			d.bytes = d.bytes[n:]
			d.changed.Broadcast()
			return n, nil
		case d.writerClosed:
			return 0, io.EOF
		}
		d.changed.Wait()
	}
}

// readBy sets the deadline of the reader; zero: none.
func (d *direction) readBy(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deadline != nil {
		d.deadline.Stop()
	}
	d.late = false
	if !t.IsZero() {
		d.deadline = time.AfterFunc(time.Until(t), func() { d.change(func() { d.late = true }) })
	}
}

func (d *direction) write(p []byte) (written int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(p) > 0 {
		room := pipeBytes - len(d.bytes)
		switch {
		case d.writerClosed:
			return written, net.ErrClosed
		case !d.frozen && (d.broken || d.readerClosed):
			return written, errReset
		case room > 0:
			n := min(room, len(p))
			d.bytes = append(d.bytes, p[:n]...)
			written, p = written+n, p[n:]
			d.changed.Broadcast()
		default:
			d.changed.Wait()
		}
	}
	return written, nil
}

// end is one end of a link. It has no write deadlines.
type end struct {
	in, out       *direction
	local, remote addr
}

// Read is net.Conn's.
func (e *end) Read(p []byte) (int, error) { return e.in.read(p) }

// Write is net.Conn's.
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }

// Close is net.Conn's.
func (e *end) Close() error {
	e.in.readBy(time.Time{})
	e.in.change(func() { e.in.readerClosed = true })
	e.out.change(func() { e.out.writerClosed = true })
	return nil
}

// LocalAddr is net.Conn's.
func (e *end) LocalAddr() net.Addr { return e.local }

// RemoteAddr is net.Conn's.
func (e *end) RemoteAddr() net.Addr { return e.remote }

// SetDeadline is net.Conn's; it sets the read deadline alone.
func (e *end) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }

// SetReadDeadline is net.Conn's.
func (e *end) SetReadDeadline(t time.Time) error {
	e.in.readBy(t)
	return nil
}

// SetWriteDeadline is net.Conn's; it does nothing.
func (e *end) SetWriteDeadline(time.Time) error { return nil }
