package zookeeper

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// Operations of ZooKeeper's protocol.
const (
	opCreate  = 1
	opSetData = 5
)

// moment says where a request is cut off.
type moment int

const (
	beforeServer moment = iota // the server never sees it
	afterServer                // it is carried out, and the answer lost
)

// cutter passes packets on and cuts the connection once, at a request of the chosen kind.
type cutter struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	armed    bool
	op       int32
	when     moment
	cuts     int
	open     map[net.Conn]bool
	running  sync.WaitGroup
}

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener, target: target, open: map[net.Conn]bool{}}
	c.running.Go(c.accept)
	t.Cleanup(func() {
		_ = listener.Close() // ends accept
		c.mu.Lock()
		for conn := range c.open {
			_ = conn.Close()
		}
		c.mu.Unlock()
		c.running.Wait()
	})
	return c
}

func (c *cutter) addr() string { return c.listener.Addr().String() }

// arm makes the next request of a kind be cut off.
func (c *cutter) arm(op int32, when moment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.op, c.when, c.cuts = true, op, when, 0
}

func (c *cutter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts
}

func (c *cutter) accept() {
	for {
		in, err := c.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		c.mu.Lock()
		c.open[in], c.open[out] = true, true
		c.mu.Unlock()
		lost := make(chan int32, 1) // the number of the request whose answer is to be lost
		c.running.Go(func() { c.requests(in, out, lost) })
		c.running.Go(func() { c.answers(in, out, lost) })
	}
}

// packet reads one packet with its length.
func packet(from io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	packet := append(length[:], make([]byte, binary.BigEndian.Uint32(length[:]))...)
	_, err := io.ReadFull(from, packet[4:])
	return packet, err
}

func number(packet []byte, at int) int32 { return int32(binary.BigEndian.Uint32(packet[at:])) }

func (c *cutter) requests(in, out net.Conn, lost chan<- int32) {
	defer in.Close()
	defer out.Close()
	for first := true; ; first = false {
		p, err := packet(in)
		if err != nil {
			return
		}
		if first {
			// the handshake is no request
		} else if hit, when := c.hits(p); hit {
			if when == beforeServer {
				return
			}
			lost <- number(p, 4)
		}
		if _, err := out.Write(p); err != nil {
			return
		}
	}
}

func (c *cutter) answers(in, out net.Conn, lost <-chan int32) {
	defer in.Close()
	defer out.Close()
	missing := int32(-100)
	for first := true; ; first = false {
		p, err := packet(out)
		if err != nil {
			return
		}
		select {
		case missing = <-lost:
		default:
		}
		if !first && number(p, 4) == missing {
			return
		}
		if _, err := in.Write(p); err != nil {
			return
		}
	}
}

func (c *cutter) hits(request []byte) (bool, moment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.armed || number(request, 8) != c.op {
		return false, 0
	}
	c.armed = false
	c.cuts++
	return true, c.when
}
