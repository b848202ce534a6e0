package zookeeper

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
)

// A request is cut off before or after the server carried it out. The client cannot know which; it looks.
func TestUnknownOutcome(t *testing.T) {
	z := start(t)
	cut := newCutter(t, z.Addr())
	client, conn := connect(t, cut.addr()), z.Session(t)
	value := int64(0)
	for _, c := range []struct {
		name string
		op   int32
		when moment
	}{
		{"create lost", opCreate, beforeServer},
		{"set lost", opSetData, beforeServer},
		{"set carried out", opSetData, afterServer},
	} {
		t.Run(c.name, func(t *testing.T) {
			cut.arm(c.op, c.when)
			value++
			write(t, client, 1, offset("t", 0, value))
			if cut.count() != 1 {
				t.Error("no request was cut off: nothing is tested")
			}
			check(t, client, "t", value)
		})
	}
	_, stat, err := conn.Get(node("t", 0))
	if err != nil || stat.Version != 2 {
		t.Errorf("version %d, %v; want 2: every value written exactly once", stat.Version, err)
	}
	t.Run("create carried out", func(t *testing.T) {
		cut.arm(opCreate, afterServer)
		write(t, client, 1, offset("t", 1, 7))
		if cut.count() != 1 {
			t.Error("no request was cut off: nothing is tested")
		}
		check(t, client, "t", value, 7)
	})
}

// The server stands still for longer than the session lasts: calls end by their time, and go on when it does.
func TestExpiredSession(t *testing.T) {
	z := start(t)
	client := connect(t, z.Addr(), func(c *zookeeper.Config) {
		c.SessionTimeout, c.ConnectionTimeout, c.CallTimeout = time.Second, 2*time.Second, 2*time.Second
	})
	ready(t, client, offset("t", 0, 1))
	z.Pause(t)
	_, err := client.WriteOffsets(bounded(t), "group", []zookeeper.Offset{offset("t", 0, 2)})
	if !errors.Is(err, zookeeper.ErrUnreachable) {
		t.Errorf("%v, want that no server answers", err)
	}
	says(t, err, z.Addr(), "handshake", "zookeeper.connect")
	z.Resume(t)
	ready(t, client, offset("t", 0, 3))
	check(t, client, "t", 3)
}

func TestKillAndRestart(t *testing.T) {
	z := start(t)
	client := connect(t, z.Addr())
	write(t, client, 1, offset("t", 0, 1))
	z.Kill(t)
	_, err := client.WriteOffsets(bounded(t), "group", []zookeeper.Offset{offset("t", 0, 2)})
	if !errors.Is(err, zookeeper.ErrUnreachable) {
		t.Errorf("%v, want that no server answers", err)
	}
	says(t, err, z.Addr(), "refused")
	z.Restart(t)
	check(t, client, "t", 1)
	write(t, client, 1, offset("t", 0, 2))

	t.Run("data wiped", func(t *testing.T) {
		z.Kill(t)
		z.Wipe(t)
		z.Restart(t)
		check(t, client, "t", -1)
		write(t, client, 1, offset("t", 0, 3))
		check(t, client, "t", 3)
	})
	t.Run("node deleted", func(t *testing.T) {
		conn := z.Session(t)
		if err := conn.Delete(node("t", 0), -1); err != nil {
			t.Fatal(err)
		}
		write(t, client, 1, offset("t", 0, 4))
		check(t, client, "t", 4)
	})
}

// Servers that refuse, say nothing or talk something else stand before the good one.
func TestNextServer(t *testing.T) {
	z := start(t)
	closed := listen(t, nil)
	_ = closed.Close() // its port refuses from now on
	mute := listen(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1<<10)) // and never answers; the client leaves
		_, _ = conn.Read(make([]byte, 1<<10))
	})
	web := listen(t, func(conn net.Conn) {
		_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	})
	servers := closed.Addr().String() + "," + mute.Addr().String() + "," + web.Addr().String()
	t.Run("none is good", func(t *testing.T) {
		client := connect(t, servers, func(c *zookeeper.Config) { c.ConnectionTimeout = 9 * time.Second })
		_, err := client.ReadOffsets(bounded(t), "group", []zookeeper.Partition{{Topic: "t"}})
		if !errors.Is(err, zookeeper.ErrUnreachable) {
			t.Errorf("%v, want that no server answers", err)
		}
		says(t, err, "refused", mute.Addr().String()+": handshake", "is that a ZooKeeper server?")
	})
	t.Run("the last is", func(t *testing.T) {
		client := connect(t, servers+","+z.Addr(), func(c *zookeeper.Config) { c.ConnectionTimeout = 12 * time.Second })
		write(t, client, 1, offset("t", 0, 1))
	})
}

// ready repeats a write until a server that was held up, on a slow machine, does it in its short times.
func ready(t *testing.T, client *zookeeper.Client, o zookeeper.Offset) {
	t.Helper()
	ctx := bounded(t)
	for {
		_, err := client.WriteOffsets(ctx, "group", []zookeeper.Offset{o})
		if err == nil {
			return
		}
		if !errors.Is(err, zookeeper.ErrUnreachable) && ctx.Err() == nil {
			t.Logf("repeated after: %v", err)
		}
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx), err)
		}
	}
}

// listen answers each connection by one function and closes it then.
func listen(t *testing.T, answer func(net.Conn)) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			answer(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close() // ends the loop; a mute one has been left by its client
		<-done
	})
	return listener
}
