package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const offsetNode = "/consumers/g/offsets/t/0"

// onFake runs a test in virtual time with a client of one good server.
func onFake(t *testing.T, test func(t *testing.T, e *fakeEnsemble, c *Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEnsemble()
		test(t, e, network{goodServer: e.serve}.client(t, Config{Servers: []string{goodServer}}))
	})
}

// withParents makes the nodes above the offset of partition 0, and it.
func (e *fakeEnsemble) withParents(value string) {
	for _, node := range []string{"/consumers", "/consumers/g", "/consumers/g/offsets", "/consumers/g/offsets/t"} {
		e.put(node, "")
	}
	e.put(offsetNode, value)
}

// Somebody else changes the node between looking and writing.
func TestOvertaken(t *testing.T) {
	cases := []struct {
		name   string
		first  string // in the node; "-": no node
		by     func(e *fakeEnsemble, times int)
		want   string
		stored int
		fault  string
	}{
		{"by less", "5", once1(func(e *fakeEnsemble) { e.write("6") }), "10", 1, ""},
		{"by the same", "5", once1(func(e *fakeEnsemble) { e.write("10") }), "10", 0, ""},
		{"by more", "5", once1(func(e *fakeEnsemble) { e.write("11") }), "11", 0, ""},
		{"by garbage", "5", once1(func(e *fakeEnsemble) { e.write("x") }), "x", 0, `holds "x"`},
		{"by deletion", "5", once1(func(e *fakeEnsemble) { e.remove() }), "10", 1, ""},
		{"by creation", "-", once1(func(e *fakeEnsemble) { e.withParents("4") }), "10", 1, ""},
		{"by creation with more", "-", once1(func(e *fakeEnsemble) { e.withParents("40") }), "40", 0, ""},
		{"again and again", "1", func(e *fakeEnsemble, times int) { e.write(fmt.Sprint(times)) }, "5", 0, "keep changing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onFake(t, func(t *testing.T, e *fakeEnsemble, client *Client) {
				if c.first != "-" {
					e.withParents(c.first)
				}
				times := 0
				e.before = func(op opcode, path string) bool {
					if (op == opSetData || op == opCreate) && path == offsetNode {
						times++
						c.by(e, times)
					}
					return true
				}
				written, err := client.WriteOffsets(t.Context(), "g", offsets(10))
				if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
					t.Errorf("error %v, want %q", err, c.fault)
				}
				if got := e.at(offsetNode); written != c.stored || got != c.want {
					t.Errorf("%d written, the node holds %s; want %d, %s", written, got, c.stored, c.want)
				}
			})
		})
	}
}

// once1 is done the first time only.
func once1(change func(*fakeEnsemble)) func(*fakeEnsemble, int) {
	return func(e *fakeEnsemble, times int) {
		if times == 1 {
			change(e)
		}
	}
}

func (e *fakeEnsemble) write(data string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.nodes[offsetNode]
	n.data, n.version = []byte(data), n.version+1
}

func (e *fakeEnsemble) remove() {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.nodes, offsetNode)
}

// The connection is cut around each write, before or after it was carried out.
func TestUnknownOutcome(t *testing.T) {
	for _, carriedOut := range []bool{true, false} {
		t.Run(fmt.Sprintf("carried out %v", carriedOut), func(t *testing.T) {
			onFake(t, func(t *testing.T, e *fakeEnsemble, c *Client) {
				e.withParents("")
				cut, writes := 0, 0
				hit := func(op opcode) bool { return (op == opSetData || op == opCreate) && writes%2 == 1 }
				e.before = func(op opcode, _ string) bool {
					if op == opSetData || op == opCreate {
						writes++
					}
					if !carriedOut && hit(op) {
						cut++
						return false
					}
					return true
				}
				e.answer = func(op opcode, reply []byte) []byte {
					if carriedOut && hit(op) {
						cut++
						return nil
					}
					return reply
				}
				for value := range int64(10) {
					written, err := c.WriteOffsets(t.Context(), "g", offsets(value))
					if got := e.at(offsetNode); err != nil || written != 1 || got != fmt.Sprint(value) {
						t.Fatalf("%d written, %v; the node holds %s, want %d", written, err, got, value)
					}
				}
				if cut < 5 {
					t.Errorf("%d connections were cut", cut)
				}
			})
		})
	}
}

// A server that answers pings but no request is given up after the call timeout.
func TestCallTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck, good := newFakeEnsemble(), newFakeEnsemble()
		release := make(chan struct{})
		stuck.before = func(op opcode, _ string) bool {
			if op == opGetData {
				<-release
			}
			return true
		}
		c := network{badServer: stuck.serve, goodServer: good.serve}.client(t, Config{Servers: []string{badServer, goodServer}, CallTimeout: 5 * time.Second})
		t.Cleanup(func() { close(release) })
		began := time.Now()
		if written, err := c.WriteOffsets(t.Context(), "g", offsets(1)); written != 1 || err != nil {
			t.Errorf("%d written, %v", written, err)
		}
		if waited := time.Since(began); waited != 5*time.Second {
			t.Errorf("waited %s for a server that does not answer, want the call timeout", waited)
		}
		if got := good.at(offsetNode); got != "1" {
			t.Errorf("the good server holds %s", got)
		}
	})
}

// A caller whose context ends leaves at once, and the session is kept for others.
func TestContext(t *testing.T) {
	onFake(t, func(t *testing.T, e *fakeEnsemble, c *Client) {
		e.before = func(op opcode, path string) bool {
			if op == opGetData && strings.Contains(path, "/slow/") {
				time.Sleep(3 * time.Second)
			}
			return true
		}
		reason := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, reason)
		defer cancel()
		began := time.Now()
		_, err := c.ReadOffsets(ctx, "slow", []Partition{{Topic: "t"}})
		if !errors.Is(err, reason) || time.Since(began) != time.Second {
			t.Errorf("%v after %s, want the reason of the context after 1s", err, time.Since(began))
		}
		first := c.session
		if _, err := c.ReadOffsets(t.Context(), "g", []Partition{{Topic: "t"}}); err != nil || c.session != first {
			t.Errorf("%v, session kept: %v", err, c.session == first)
		}
		ended, stop := context.WithCancel(t.Context())
		stop()
		if _, err := c.ReadOffsets(ended, "g", []Partition{{Topic: "t"}}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that the context was canceled before", err)
		}
	})
}

// Pings keep an idle session; a server that is away for ten minutes is found again.
func TestLongLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEnsemble()
		var away atomic.Bool
		var connections atomic.Int32
		serve := func(conn net.Conn) {
			connections.Add(1)
			if !away.Load() {
				e.serve(conn)
			}
		}
		c := network{goodServer: serve}.client(t, Config{Servers: []string{goodServer}})
		for value := range int64(3) {
			if _, err := c.WriteOffsets(t.Context(), "g", offsets(value)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if n := connections.Load(); n != 1 {
			t.Errorf("%d connections in three idle hours, want 1", n)
		}
		away.Store(true)
		c.session.end(errors.New("the server went away"))
		for range 600 {
			if _, err := c.WriteOffsets(t.Context(), "g", offsets(9)); !errors.Is(err, ErrUnreachable) {
				t.Fatalf("%v, want that no server answers", err)
			}
			time.Sleep(time.Second)
		}
		away.Store(false)
		if written, err := c.WriteOffsets(t.Context(), "g", offsets(10)); written != 1 || err != nil {
			t.Errorf("%d written, %v", written, err)
		}
	})
}

// Calls that share a session which is lost go on together in one new session.
func TestManyCallsOneLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEnsemble()
		var connections, gets atomic.Int32
		e.before = func(op opcode, _ string) bool { return op != opGetData || gets.Add(1) != 20 }
		serve := func(conn net.Conn) {
			connections.Add(1)
			e.serve(conn)
		}
		c := network{goodServer: serve}.client(t, Config{Servers: []string{goodServer}})
		var calls sync.WaitGroup
		for g := range 10 {
			calls.Go(func() {
				if written, err := c.WriteOffsets(t.Context(), fmt.Sprint("g", g), offsets(1, 2, 3, 4)); written != 4 || err != nil {
					t.Errorf("%d written, %v", written, err)
				}
			})
		}
		calls.Wait()
		if n := connections.Load(); n != 2 {
			t.Errorf("%d connections, want one and another after its loss", n)
		}
	})
}

func TestClose(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		onFake(t, func(t *testing.T, e *fakeEnsemble, c *Client) {
			var farewell atomic.Bool
			e.answer = func(op opcode, reply []byte) []byte {
				farewell.Store(farewell.Load() || op == opClose)
				return reply
			}
			if _, err := c.WriteOffsets(t.Context(), "g", offsets(1)); err != nil {
				t.Fatal(err)
			}
			closeTwice(t, c)
			if !farewell.Load() {
				t.Error("the server was not told that the session ends")
			}
		})
	})
	t.Run("never used", func(t *testing.T) {
		onFake(t, func(t *testing.T, _ *fakeEnsemble, c *Client) { closeTwice(t, c) })
	})
	t.Run("with a call in progress", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := network{badServer: hold}.client(t, Config{Servers: []string{badServer}})
			failed := make(chan error, 1)
			go func() {
				_, err := c.ReadOffsets(t.Context(), "g", []Partition{{Topic: "t"}})
				failed <- err
			}()
			synctest.Wait()
			closeTwice(t, c)
			if err := <-failed; !errors.Is(err, ErrClosed) {
				t.Errorf("the call answers %v, want %v", err, ErrClosed)
			}
			if _, err := c.WriteOffsets(t.Context(), "g", offsets(1)); !errors.Is(err, ErrClosed) {
				t.Errorf("a later call answers %v, want %v", err, ErrClosed)
			}
		})
	})
}

func closeTwice(t *testing.T, c *Client) {
	t.Helper()
	began := time.Now()
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closing took %s", took)
	}
}

// One fault is told with all it needs; hundreds are counted.
func TestFaultsAreBounded(t *testing.T) {
	onFake(t, func(t *testing.T, e *fakeEnsemble, c *Client) {
		e.withParents("x")
		var values []int64
		for p := range 50 {
			e.put(fmt.Sprintf("/consumers/g/offsets/t/%d", p), strings.Repeat("x", 1000))
			values = append(values, 1)
		}
		written, err := c.WriteOffsets(t.Context(), "g", append(offsets(values...), Offset{Partition: Partition{"t", 99}, Value: 1}))
		if written != 1 || err == nil || !strings.Contains(err.Error(), "and 45 more partitions") || len(err.Error()) > 2000 {
			t.Errorf("%d written, error %v", written, err)
		}
	})
}

// A server that falls silent while nobody asks for anything is noticed by its missing answers to pings.
func TestSilence(t *testing.T) {
	onFake(t, func(t *testing.T, e *fakeEnsemble, c *Client) {
		var silent atomic.Bool
		e.answer = func(_ opcode, reply []byte) []byte {
			if silent.Load() {
				return []byte{} // nothing is written
			}
			return reply
		}
		if _, err := c.WriteOffsets(t.Context(), "g", offsets(1)); err != nil {
			t.Fatal(err)
		}
		session := c.session
		silent.Store(true)
		time.Sleep(e.negotiated)
		if session.alive() || !strings.Contains(fmt.Sprint(session.why()), "no whole packet within 6.6") {
			t.Errorf("alive %v, %v; want the session given up after two thirds of its timeout", session.alive(), session.why())
		}
	})
}

// A server that lags behind the others shows an old offset until it is told to catch up.
func TestLaggingServer(t *testing.T) {
	onFake(t, func(t *testing.T, e *fakeEnsemble, c *Client) {
		e.withParents("5")
		e.write("7")
		if err := c.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		var caughtUp atomic.Bool
		e.answer = func(op opcode, reply []byte) []byte {
			caughtUp.Store(caughtUp.Load() || op == opSync)
			if op != opGetData || caughtUp.Load() {
				return reply
			}
			xid := payload{rest: reply[4:8]}
			return appendStat(appendText(replyOf(int32(xid.number(4)), codeOK), "5"), &fakeNode{})
		}
		if written, err := c.WriteOffsets(t.Context(), "g", offsets(10)); written != 1 || err != nil || e.at(offsetNode) != "10" {
			t.Errorf("%d written, %v; the node holds %s", written, err, e.at(offsetNode))
		}
	})
}
