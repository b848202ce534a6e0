package zookeeper

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path"
	"sync"
	"testing"
	"time"
)

// Codes of ZooKeeper's protocol.
const (
	codeOK         = 0
	codeNoNode     = -101
	codeNoAuth     = -102
	codeBadVersion = -103
	codeNodeExists = -110
)

// fakeNode is a node of fakeEnsemble.
type fakeNode struct {
	data    []byte
	version int32
}

// fakeEnsemble keeps nodes as ZooKeeper does. Tests reach it by net.Pipe, so that its clock is theirs.
type fakeEnsemble struct {
	mu    sync.Mutex
	nodes map[string]*fakeNode
	// before is called, unlocked, before a request is carried out; false: the connection is cut instead.
	before func(op opcode, path string) bool
	// answer may change a reply, its length included, or return nil, which cuts the connection.
	answer func(op opcode, reply []byte) []byte
	// negotiated is the session timeout.
	negotiated time.Duration
}

func newFakeEnsemble() *fakeEnsemble {
	return &fakeEnsemble{nodes: map[string]*fakeNode{"/": {}}, negotiated: 10 * time.Second}
}

func (e *fakeEnsemble) put(node, data string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nodes[node] = &fakeNode{data: []byte(data)}
}

func (e *fakeEnsemble) at(node string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.nodes[node]; n != nil {
		return string(n.data)
	}
	return "no node"
}

// serve is one connection.
func (e *fakeEnsemble) serve(conn net.Conn) {
	defer conn.Close()
	if _, err := readPacket(conn); err != nil {
		return
	}
	if _, err := conn.Write(handshakeReply(e.negotiated, 1)); err != nil {
		return
	}
	for {
		request, err := readPacket(conn)
		if err != nil {
			return
		}
		p := payload{rest: request}
		xid, op := int32(p.number(4)), opcode(p.number(4))
		reply, ok := e.carryOut(op, &p, replyOf(xid, codeOK))
		if !ok {
			return
		}
		if e.answer != nil {
			reply = e.answer(op, reply)
		}
		if reply == nil {
			return
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

// carryOut does what a request asks for.
func (e *fakeEnsemble) carryOut(op opcode, p *payload, reply []byte) ([]byte, bool) {
	const opPing = 11
	if op == opPing || op == opAuth || op == opClose {
		return reply, true
	}
	node := string(p.skip(int(p.number(4))))
	if e.before != nil && !e.before(op, node) {
		return nil, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.nodes[node]
	switch {
	case op == opSync:
		return appendText(reply, node), true
	case op == opCreate:
		if n != nil {
			return withCode(reply, codeNodeExists), true
		}
		if e.nodes[path.Dir(node)] == nil {
			return withCode(reply, codeNoNode), true
		}
		e.nodes[node] = &fakeNode{data: readData(p)}
		return appendText(reply, node), true
	case n == nil:
		return withCode(reply, codeNoNode), true
	case op == opExists:
		return appendStat(reply, n), true
	case op == opGetData:
		return appendStat(appendText(reply, string(n.data)), n), true
	case op == opSetData:
		data := readData(p)
		if version := int32(p.number(4)); version != n.version {
			return withCode(reply, codeBadVersion), true
		}
		n.data, n.version = data, n.version+1
		return appendStat(reply, n), true
	default:
		return withCode(reply, -6), true // unimplemented
	}
}

func readData(p *payload) []byte {
	size := int32(p.number(4))
	if size < 0 {
		return nil
	}
	return append([]byte(nil), p.skip(int(size))...)
}

func readPacket(conn io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint32(length[:]))
	_, err := io.ReadFull(conn, packet)
	return packet, err
}

// sized puts the length before a packet.
func sized(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func handshakeReply(timeout time.Duration, session uint64) []byte {
	body := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(timeout.Milliseconds()))
	body = binary.BigEndian.AppendUint64(body, session)
	return sized(append(binary.BigEndian.AppendUint32(body, 16), make([]byte, 16)...))
}

// replyOf is a reply without a body. What is appended to a reply must be counted: see grown.
func replyOf(xid, code int32) []byte {
	body := binary.BigEndian.AppendUint32(nil, uint32(xid))
	body = binary.BigEndian.AppendUint64(body, 1)
	return sized(binary.BigEndian.AppendUint32(body, uint32(code)))
}

// grown corrects the length of a packet after something was appended.
func grown(packet []byte) []byte {
	binary.BigEndian.PutUint32(packet, uint32(len(packet)-4))
	return packet
}

func withCode(reply []byte, code int32) []byte {
	binary.BigEndian.PutUint32(reply[4+12:], uint32(code))
	return reply
}

func appendText(reply []byte, text string) []byte {
	return grown(append(binary.BigEndian.AppendUint32(reply, uint32(len(text))), text...))
}

func appendStat(reply []byte, n *fakeNode) []byte {
	stat := make([]byte, statSize)
	binary.BigEndian.PutUint32(stat[32:], uint32(n.version))
	return grown(append(reply, stat...))
}

// network is what a client of a test can reach: a function per server that owns each connection to it.
type network map[string]func(net.Conn)

// client makes a client that begins with the first of the servers. It is closed at the end of the test.
func (n network) client(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.next = 0
	var serving sync.WaitGroup
	c.dial = func(ctx context.Context, server string) (net.Conn, error) {
		serve, ok := n[server]
		if !ok {
			return nil, errors.New("connection refused")
		}
		near, far := net.Pipe()
		serving.Go(func() {
			defer far.Close()
			serve(far)
		})
		return near, nil
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return c
}
