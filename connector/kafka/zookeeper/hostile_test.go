package zookeeper

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	badServer  = "bad:2181"
	goodServer = "good:2181"
)

// length is the beginning of a packet that claims to be so long.
func length(bytes int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(bytes)) }

// handshakes are what a server may say instead of an answer to the handshake. It reads the request first.
var handshakes = []struct {
	name string
	say  func(net.Conn)
	want string // in the error
}{
	{"closes", func(net.Conn) {}, "closed"},
	{"says nothing", hold, "within"},
	{"half a length, then silence", func(c net.Conn) { say(c, []byte{0, 0}); hold(c) }, "within"},
	{"half an answer, then silence", func(c net.Conn) { say(c, handshakeReply(10*time.Second, 1)[:20]); hold(c) }, "within"},
	{"half an answer, then closes", func(c net.Conn) { say(c, handshakeReply(10*time.Second, 1)[:20]) }, "in the middle of a packet"},
	{"one byte a second", drip, "within"},
	{"length 0", func(c net.Conn) { say(c, length(0)); hold(c) }, "a packet of 0 bytes"},
	{"8 bytes", func(c net.Conn) { say(c, sized(make([]byte, 8))); hold(c) }, "8 bytes are no answer"},
	{"length negative", func(c net.Conn) { say(c, length(-1)); hold(c) }, "a packet of -1 bytes"},
	{"length 2 GiB", func(c net.Conn) { say(c, length(math.MaxInt32)); hold(c) }, "a packet of 2147483647 bytes"},
	{"password of 2 GiB", func(c net.Conn) {
		packet := handshakeReply(10*time.Second, 1)
		binary.BigEndian.PutUint32(packet[4+16:], math.MaxInt32)
		say(c, packet)
		hold(c)
	}, "no answer to the handshake"},
	{"session 0", func(c net.Conn) { say(c, handshakeReply(10*time.Second, 0)); hold(c) }, "refuses a session"},
	{"session timeout 0", func(c net.Conn) { say(c, handshakeReply(0, 1)); hold(c) }, "session timeout of 0s"},
	{"session timeout negative", func(c net.Conn) { say(c, handshakeReply(-time.Second, 1)); hold(c) }, "session timeout of -1s"},
	{"session timeout of weeks", func(c net.Conn) { say(c, handshakeReply(500*time.Hour, 1)); hold(c) }, "session timeout of 500h"},
	{"another protocol", func(c net.Conn) { say(c, []byte("HTTP/1.1 400 Bad Request\r\n\r\n")); hold(c) }, "is that a ZooKeeper server?"},
	{"a good handshake, then silence", func(c net.Conn) { say(c, handshakeReply(10*time.Second, 1)); hold(c) }, "within"},
	{"a good handshake twice", func(c net.Conn) {
		say(c, handshakeReply(10*time.Second, 1))
		say(c, handshakeReply(10*time.Second, 1))
		hold(c)
	}, "never sent"},
}

// say writes; the client may have left already.
func say(conn net.Conn, bytes []byte) { _, _ = conn.Write(bytes) }

// hold reads until the client leaves.
func hold(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func drip(conn net.Conn) {
	go hold(conn)
	for _, b := range handshakeReply(10*time.Second, 1) {
		if _, err := conn.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func TestHostileHandshake(t *testing.T) {
	for _, h := range handshakes {
		bad := func(conn net.Conn) {
			if _, err := readPacket(conn); err == nil {
				h.say(conn)
			}
		}
		t.Run(h.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network{badServer: bad}.client(t, Config{Servers: []string{badServer}})
				began := time.Now()
				_, err := c.ReadOffsets(t.Context(), "g", []Partition{{Topic: "t"}})
				if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), badServer+": ") || !strings.Contains(err.Error(), h.want) {
					t.Errorf("error %v, want that %s does not answer: %s", err, badServer, h.want)
				}
				if waited := time.Since(began); waited > DefaultConnectionTimeout {
					t.Errorf("the error came after %s, want at most %s", waited, DefaultConnectionTimeout)
				}
			})
		})
		t.Run(h.name+", and the next server is good", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				good := newFakeEnsemble()
				c := network{badServer: bad, goodServer: good.serve}.client(t, Config{Servers: []string{badServer, goodServer}})
				if written, err := c.WriteOffsets(t.Context(), "g", offsets(7)); written != 1 || err != nil {
					t.Errorf("%d written, %v", written, err)
				}
				if got := good.at("/consumers/g/offsets/t/0"); got != "7" {
					t.Errorf("the node holds %q", got)
				}
			})
		})
	}
}

// offsets are values of partitions 0, 1, … of topic t.
func offsets(values ...int64) []Offset {
	var offsets []Offset
	for p, value := range values {
		offsets = append(offsets, Offset{Partition: Partition{"t", int32(p)}, Value: value})
	}
	return offsets
}

// replies are what a server may answer to getData.
var replies = []struct {
	name   string
	change func(reply []byte) []byte
	want   string
}{
	{"cut off", func([]byte) []byte { return nil }, "closed the connection"},
	{"8 bytes", func([]byte) []byte { return sized(make([]byte, 8)) }, "a reply of 8 bytes, want at least 16"},
	{"length 2 GiB", func([]byte) []byte { return length(math.MaxInt32) }, "a packet of 2147483647 bytes"},
	{"length negative", func([]byte) []byte { return length(math.MinInt32) }, "a packet of -2147483648 bytes"},
	{"a request that was never sent", func([]byte) []byte { return replyOf(4711, codeOK) }, "request 4711, which was never sent"},
	{"a negative request", func([]byte) []byte { return replyOf(-4, codeOK) }, "request -4, which was never sent"},
	{"answered twice", func(reply []byte) []byte { return append(reply, reply...) }, ""}, // taken once, then the connection ends
	{"without the body", func(reply []byte) []byte { return grown(reply[:4+replyHeader]) }, "cut short"},
	{"body cut short", func(reply []byte) []byte { return grown(reply[:len(reply)-1]) }, "cut short"},
	{"data of 2 GiB", func(reply []byte) []byte {
		binary.BigEndian.PutUint32(reply[4+replyHeader:], math.MaxInt32)
		return reply
	}, "cut short"},
	{"data of negative length", func(reply []byte) []byte {
		binary.BigEndian.PutUint32(reply[4+replyHeader:], math.MaxUint32-1)
		return reply
	}, "cut short"},
	{"an event cut short", func([]byte) []byte { return replyOf(xidEvent, codeOK) }, "an event that is cut short"},
	{"an unknown code", func(reply []byte) []byte { return withCode(grown(reply[:4+replyHeader]), -4) }, "unknown error: -4"},
}

// A session that goes wrong leaves nothing behind, and a call tries the next one until it has had enough.
func TestHostileReplies(t *testing.T) {
	for _, r := range replies {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad := newFakeEnsemble()
				bad.nodes["/consumers/g/offsets/t/0"] = &fakeNode{data: []byte("5")}
				bad.answer = func(op opcode, reply []byte) []byte {
					if op == opGetData {
						return r.change(reply)
					}
					return reply
				}
				c := network{badServer: bad.serve}.client(t, Config{Servers: []string{badServer}})
				got, err := c.ReadOffsets(t.Context(), "g", []Partition{{Topic: "t"}})
				if r.want == "" {
					if err != nil || got[0].Value != 5 {
						t.Errorf("%v, %v", got, err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), r.want) || !strings.Contains(err.Error(), "/consumers/g/offsets/t/0") {
					t.Errorf("error %v, want %q and the path", err, r.want)
				}
			})
		})
	}
}

// Whatever bytes come, nothing panics, nothing hangs, and no wrong number is read.
func TestRandomReplies(t *testing.T) {
	good, failed := 0, 0
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			bad := newFakeEnsemble()
			bad.nodes["/consumers/g/offsets/t/0"] = &fakeNode{data: []byte("5")}
			var mu sync.Mutex // connections of before and after a loss share random
			bad.answer = func(_ opcode, reply []byte) []byte {
				mu.Lock()
				defer mu.Unlock()
				if random.IntN(3) > 0 {
					return reply
				}
				if random.IntN(2) == 0 {
					reply = grown(reply[:4+random.IntN(len(reply)-3)])
				}
				if len(reply) < 20 || random.IntN(2) == 0 { // not the header alone, which is refused at once
					return append(reply, byte(random.Uint32()))
				}
				reply[random.IntN(20)] ^= byte(1 << random.IntN(8))
				return reply
			}
			c := network{badServer: bad.serve}.client(t, Config{Servers: []string{badServer}})
			for range 3 {
				got, err := c.ReadOffsets(t.Context(), "g", []Partition{{Topic: "t"}})
				switch {
				case err != nil:
					failed++
				case got[0].Value != 5:
					t.Errorf("seed %d: read %+v", seed, got)
				default:
					good++
				}
			}
		})
	}
	if t.Logf("%d reads, %d errors", good, failed); good == 0 || failed == 0 {
		t.Error("the replies are all good or all bad")
	}
}
