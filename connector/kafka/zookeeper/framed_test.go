package zookeeper

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// stream is a connection that reads what a test gives and forgets what is written.
type stream struct {
	net.Conn
	io.Reader
}

func (s stream) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (s stream) Write(p []byte) (int, error)      { return len(p), nil }
func (s stream) SetReadDeadline(time.Time) error  { return nil }
func (s stream) SetWriteDeadline(time.Time) error { return nil }

// awaiting is a framed connection that has sent the handshake and a request of each kind, numbered from 1.
func awaiting(t testing.TB, bytes io.Reader) *framed {
	t.Helper()
	f := newFramed(stream{Reader: bytes}, time.Second)
	send := func(packet []byte) {
		if _, err := f.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	send(sized(make([]byte, 44)))
	for i, op := range []opcode{opCreate, opExists, opGetData, opSetData, opSync, opAuth, opClose, opList} {
		send(sized([]byte{0, 0, 0, byte(i + 1), byte(op >> 24), byte(op >> 16), byte(op >> 8), byte(op)}))
	}
	return f
}

// Whatever a server sends, what comes through is whole packets, and the library finds in them what it reads.
func FuzzPackets(f *testing.F) {
	good := handshakeReply(10*time.Second, 1)
	f.Add(good)
	f.Add(append(bytes.Clone(good), appendStat(appendText(replyOf(3, codeOK), "42"), &fakeNode{})...))
	f.Add(append(bytes.Clone(good), appendText(replyOf(1, codeOK), "/consumers")...))
	f.Add(append(bytes.Clone(good), appendStat(appendText(append(replyOf(8, codeOK), 0, 0, 0, 1), "topic"), &fakeNode{})...))
	f.Add(append(bytes.Clone(good), withCode(replyOf(2, codeOK), codeNoNode)...))
	f.Add(append(bytes.Clone(good), replyOf(xidPing, codeOK)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		conn := awaiting(t, bytes.NewReader(data))
		passed, err := io.ReadAll(conn)
		if err == nil {
			t.Fatal("the end of a stream is an error with a reason")
		}
		if !bytes.HasPrefix(data, passed) {
			t.Fatal("what comes through is not what was sent")
		}
		for first := true; len(passed) > 0; first = false {
			p := payload{rest: passed}
			size := int(p.number(4))
			if body := p.skip(size); p.short || len(body) < 16 {
				t.Fatalf("a packet of %d bytes came through, %d of it (first: %v)", size, len(body), first)
			}
			passed = p.rest
		}
	})
}

// A second answer to the same request ends the connection.
func TestRepliesAreUsedOnce(t *testing.T) {
	reply := appendText(replyOf(1, codeOK), "/consumers")
	conn := awaiting(t, bytes.NewReader(bytes.Join([][]byte{handshakeReply(10*time.Second, 1), reply, reply}, nil)))
	passed, err := io.ReadAll(conn)
	if want := len(handshakeReply(0, 1)) + len(reply); len(passed) != want || err == nil {
		t.Errorf("%d bytes came through, %v; want %d and an error", len(passed), err, want)
	}
}

// A list says how many names it has, and the library makes room for all of them before it reads one.
func TestLists(t *testing.T) {
	for name, c := range map[string]struct {
		count []byte
		good  bool
	}{
		"one":        {[]byte{0, 0, 0, 1}, true},
		"two of one": {[]byte{0, 0, 0, 2}, false},
		"very many":  {[]byte{0x7f, 0xff, 0xff, 0xff}, false},
		"negative":   {[]byte{0xff, 0xff, 0xff, 0xff}, false},
	} {
		reply := appendStat(appendText(append(replyOf(8, codeOK), c.count...), "topic"), &fakeNode{})
		passed, _ := io.ReadAll(awaiting(t, bytes.NewReader(append(handshakeReply(10*time.Second, 1), reply...)))) // it ends with an error, always
		if got := len(passed) > len(handshakeReply(0, 1)); got != c.good {
			t.Errorf("%s: came through: %v", name, got)
		}
	}
}
