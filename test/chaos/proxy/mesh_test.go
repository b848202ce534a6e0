package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// echoMesh is a mesh with one server, "echo", whose clients are all called "me".
func echoMesh(t *testing.T) (*Mesh, string) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := target.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	port, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	m := New(func(*net.TCPAddr) string { return "me" })
	address := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
	m.Add("echo", address, target.Addr().String())
	if err := m.Up("echo"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		_ = target.Close()
		<-served
	})
	return m, address
}

// TestNobodyKnowsWho: while a rule is for one client alone, nothing of a connection passes before it is known whose it is.
func TestNobodyKnowsWho(t *testing.T) {
	m, address := echoMesh(t)
	var asked atomic.Int32
	m.identify = func(*net.TCPAddr) string {
		if asked.Add(1) < 4 {
			return unknown
		}
		return "me"
	}
	m.Set(Edge{"me", "echo"}, Rule{BlockForward: true, BlockBack: true})
	conn, reader := dial(t, address)
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(6 * identifyAfter)); err != nil {
		t.Fatal(err)
	}
	if text, err := reader.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %q, %v through a line that is silent", text, err)
	}
	if asked.Load() < 4 {
		t.Fatalf("asked %d times", asked.Load())
	}
	m.Heal()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if text, err := reader.ReadString('\n'); err != nil || text != "hello\n" {
		t.Errorf("read %q, %v after it", text, err)
	}
}

func dial(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, bufio.NewReader(conn)
}

func say(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

// hear expects a line within a second, or silence for a tenth of one if want is empty.
func hear(t *testing.T, conn net.Conn, in *bufio.Reader, want string) {
	t.Helper()
	patience := time.Second
	if want == "" {
		patience = 100 * time.Millisecond
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	line, err := in.ReadString('\n')
	if want == "" && !errors.Is(err, os.ErrDeadlineExceeded) || want != "" && line != want+"\n" {
		t.Fatalf("heard %q (%v), want %q", line, err, want)
	}
}

func TestSilenceHoldsBackAndHealDelivers(t *testing.T) {
	for name, rule := range map[string]Rule{"forward": {BlockForward: true}, "back": {BlockBack: true}} {
		t.Run(name, func(t *testing.T) {
			m, address := echoMesh(t)
			conn, in := dial(t, address)
			say(t, conn, "one")
			hear(t, conn, in, "one")
			time.Sleep(2 * identifyAfter) // nobody can see when the client is known
			m.Set(Edge{"me", "echo"}, rule)
			say(t, conn, "two")
			hear(t, conn, in, "")
			m.Set(Edge{"me", "other"}, Rule{})
			hear(t, conn, in, "")
			m.Heal()
			hear(t, conn, in, "two")
		})
	}
}

func TestDelay(t *testing.T) {
	m, address := echoMesh(t)
	m.Set(Edge{Any, "echo"}, Rule{Delay: 75 * time.Millisecond, Jitter: 25 * time.Millisecond})
	conn, in := dial(t, address)
	began := time.Now()
	say(t, conn, "late")
	hear(t, conn, in, "late")
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("there and back in %s, want at least twice 50 ms", took)
	}
}

func TestCutRefuseAndDown(t *testing.T) {
	m, address := echoMesh(t)
	conn, in := dial(t, address)
	say(t, conn, "one")
	hear(t, conn, in, "one")
	time.Sleep(2 * identifyAfter) // nobody can see when the client is known
	if n := m.Cut(Edge{"you", Any}); n != 0 {
		t.Errorf("cut %d connections of another party", n)
	}
	if n := m.Cut(Edge{Any, "echo"}); n != 1 {
		t.Errorf("cut %d connections, want 1", n)
	}
	if _, err := in.ReadByte(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a cut connection ends with %v, want a reset", err)
	}
	m.Set(Edge{"me", Any}, Rule{Refuse: 1})
	if refused, err := net.Dial("tcp", address); err == nil { // else it was reset at once
		_, _ = io.WriteString(refused, "hello\n") // may already be reset
		if _, err := refused.Read(make([]byte, 1)); err == nil {
			t.Error("a refused connection answers")
		}
		_ = refused.Close() // nothing is lost with it
	}
	m.Heal()
	m.Set(Edge{"me", Any}, Rule{CutAfterBytes: 1000})
	short, answers := dial(t, address)
	say(t, short, "few")
	hear(t, short, answers, "few")
	say(t, short, string(make([]byte, 2000)))
	if _, err := io.Copy(io.Discard, answers); err == nil {
		t.Error("a connection outlives the bytes that it may carry")
	}
	m.Down("echo")
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("a server that is down is connected to")
	}
	if err := m.Up("echo"); err != nil {
		t.Fatal(err)
	}
	conn, in = dial(t, address)
	m.Heal()
	say(t, conn, "again")
	hear(t, conn, in, "again")
}

// A client that is not found at first is asked for again.
func TestIdentifyAgain(t *testing.T) {
	m, address := echoMesh(t)
	asked := make(chan struct{}, identifyTries)
	m.identify = func(*net.TCPAddr) string {
		asked <- struct{}{}
		if len(asked) < 3 {
			return unknown
		}
		return "me"
	}
	conn, in := dial(t, address)
	say(t, conn, "one")
	hear(t, conn, in, "one")
	for m.Cut(Edge{"me", Any}) == 0 { // until the deadline of the test
		if err := conn.SetReadDeadline(time.Now().Add(identifyAfter)); err != nil {
			t.Fatal(err)
		}
		if _, err := in.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the connection ended before it was cut: %v", err)
		}
	}
	if len(asked) != 3 {
		t.Errorf("asked %d times, want 3", len(asked))
	}
}
