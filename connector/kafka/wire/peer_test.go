package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// listen serves every connection with serve until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

func openAddr(t *testing.T, addr string, change ...func(*Config)) *Cluster {
	t.Helper()
	cfg := Config{Bootstrap: []string{addr}, DialTimeout: time.Second}
	for _, c := range change {
		c(&cfg)
	}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestWrongPeers(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	banner := func(text string) string {
		return listen(t, func(c net.Conn) { io.WriteString(c, text); io.Copy(io.Discard, c) })
	}
	for name, c := range map[string]struct {
		addr string
		want string
	}{
		"http that waits": {web.Listener.Addr().String(), `answered "HTTP"`},
		"http at once":    {banner("HTTP/1.1 400 Bad Request\r\n\r\n"), `answered "HTTP"`},
		"ssh":             {banner("SSH-2.0-OpenSSH_9.9\r\n"), `answered "SSH-"`},
		"tls port":        {banner("\x15\x03\x03\x00\x02\x02\x46"), "set security.protocol to SSL"},
		"huge length":     {banner("\x06\x00\x00\x00abcdefgh"), "answered"},
		"wrong answer":    {banner("\x00\x00\x00\x10\x00\x00\x00\x09abcdefghijkl"), "answered"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := openAddr(t, c.addr)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := cl.Metadata(testContext(t), nil)
			runtime.ReadMemStats(&after)
			var peer *PeerError
			if !errors.As(err, &peer) || peer.Address != c.addr || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want a PeerError of %s with %s", err, c.addr, c.want)
			}
			if Classify(err) != ClassFatal {
				t.Errorf("class %v", Classify(err))
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
				t.Errorf("%d bytes were allocated", got)
			}
		})
	}
}

func TestSilentPeer(t *testing.T) {
	cl := openAddr(t, listen(t, func(c net.Conn) { io.Copy(io.Discard, c) }))
	start := time.Now()
	err := cl.CheckVersions(testContext(t))
	if err == nil || !strings.Contains(err.Error(), "answered nothing") || Classify(err) != ClassRefresh {
		t.Errorf("%v (%v)", err, Classify(err))
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("took %v with a dial timeout of 1 s", took)
	}
}

// TestSilentLogin: a broker that says what it speaks and then nothing holds nobody up.
func TestSilentLogin(t *testing.T) {
	addr := listen(t, func(c net.Conn) {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		request := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, request); err != nil {
			return
		}
		answer := kmsg.NewPtrApiVersionsResponse() // version 0, as kafka-go asks
		for _, key := range []int16{int16(kmsg.SASLHandshake), int16(kmsg.SASLAuthenticate), int16(kmsg.Metadata), int16(kmsg.ApiVersions)} {
			answer.ApiKeys = append(answer.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: 1})
		}
		body := answer.AppendTo(binary.BigEndian.AppendUint32(nil, 1)) // correlation id
		if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, c) // until it is cut off
	})
	c := openAddr(t, addr, func(cfg *Config) {
		cfg.SASL = SASL{Mechanism: "PLAIN", Username: "u", Password: "p"}
		cfg.DialTimeout, cfg.CallTimeout = 300*time.Millisecond, 20*time.Second
	})
	began := time.Now()
	_, err := c.Metadata(t.Context(), nil)
	if err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cl := openAddr(t, addr)
	_, err = cl.Metadata(testContext(t), nil)
	var call *CallError
	if !errors.As(err, &call) || call.Sent || call.Address != addr || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}
	if Classify(err) != ClassRefresh {
		t.Errorf("class %v", Classify(err))
	}
}

// TestSecondBootstrapAddress finds the broker behind a dead and a wrong address.
func TestSecondBootstrapAddress(t *testing.T) {
	f := startFake(t)
	wrong := listen(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400\r\n") })
	cl := openCluster(t, f, func(c *Config) { c.Bootstrap = append([]string{"127.0.0.1:1", wrong}, c.Bootstrap...) })
	if err := cl.CheckVersions(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

// TestCancel ends a call against a hung broker at once, without a connection or goroutine left, and
// without anybody reading the batch afterwards.
func TestCancel(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	hang := make(chan struct{})
	entered := make(chan struct{}, 1)
	f.Control(holdProduce(entered, hang))
	cl := openCluster(t, f)
	var w Builder
	w.AppendRecord(0, nil, make([]byte, 1<<20), nil)
	data, err := w.Finish(NoProducer, nil)
	if err != nil {
		t.Fatal(err)
	}
	leader := leaderOf(t, cl, "t", 0)
	ctx, cancel := context.WithCancel(testContext(t))
	failed := make(chan error, 1)
	go func() {
		_, err := cl.Produce(ctx, leader, &ProduceRequest{Acks: -1, Batches: []ProduceBatch{{Topic: "t", Partition: 0, Data: data}}})
		failed <- err
	}()
	<-entered
	cancel()
	start := time.Now()
	err = <-failed
	clear(data) // the race detector sees a late reader
	if Classify(err) != ClassCanceled || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	var call *CallError
	if !errors.As(err, &call) || !call.Sent {
		t.Errorf("%v: the request was sent, its outcome is unknown", err)
	}
	close(hang)
}

func TestClosedCluster(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(1, "t"))
	cl := openCluster(t, f)
	leader := leaderOf(t, cl, "t", 0)
	entered := make(chan struct{}, 1)
	f.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		entered <- struct{}{}
		return nil, nil, false // served as always: it waits for data
	})
	failed := make(chan error, 1)
	go func() {
		_, err := cl.Fetch(testContext(t), leader, &FetchRequest{MaxWait: 15 * time.Second, Partitions: []FetchPartition{{Topic: "t", LeaderEpoch: -1}}})
		failed <- err
	}()
	<-entered
	if err := cl.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("the fetch succeeded")
	}
	if _, err := cl.Metadata(testContext(t), nil); !errors.Is(err, errClosed) {
		t.Errorf("%v after Close", err)
	}
}

// secureFake is a broker with TLS and three users, and the pool that trusts it.
func secureFake(t *testing.T) (*kfake.Cluster, *x509.CertPool) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.StartTLS()
	certificate, pool := server.TLS.Certificates[0], x509.NewCertPool()
	pool.AddCert(server.Certificate())
	server.Close()
	f := startFake(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "ann", "secret"), kfake.Superuser("SCRAM-SHA-256", "bob", "secret"), kfake.Superuser("SCRAM-SHA-512", "eve", "secret"))
	return f, pool
}

func TestLogin(t *testing.T) {
	f, pool := secureFake(t)
	trusted := &tls.Config{RootCAs: pool, ServerName: "example.com"}
	for _, c := range []struct {
		name string
		sasl SASL
		tls  *tls.Config
		want string // of the error
	}{
		{"plain", SASL{"PLAIN", "ann", "secret"}, trusted, ""},
		{"scram 256", SASL{"SCRAM-SHA-256", "bob", "secret"}, trusted, ""},
		{"scram 512", SASL{"SCRAM-SHA-512", "eve", "secret"}, trusted, ""},
		// the fake closes the connection, as some proxies do; brokers answer with a code, see below
		{"wrong password", SASL{"PLAIN", "ann", "wrong-one"}, trusted, "check sasl.mechanism, sasl.username and sasl.password"},
		{"wrong scram password", SASL{"SCRAM-SHA-256", "bob", "wrong-one"}, trusted, "check sasl.mechanism"},
		{"unknown authority", SASL{"PLAIN", "ann", "secret"}, &tls.Config{ServerName: "example.com"}, "not trusted"},
		{"wrong name", SASL{"PLAIN", "ann", "secret"}, &tls.Config{RootCAs: pool, ServerName: "other.org"}, "another name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := openCluster(t, f, func(cfg *Config) { cfg.SASL, cfg.TLS, cfg.DialTimeout = c.sasl, c.tls, time.Second })
			_, err := cl.Metadata(testContext(t), nil)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v (%v), want %q", err, Classify(err), c.want)
			}
			if strings.Contains(err.Error(), c.sasl.Password) {
				t.Fatalf("%v shows the password", err)
			}
		})
	}
}

func TestLoginFaults(t *testing.T) {
	f, pool := secureFake(t)
	trusted := &tls.Config{RootCAs: pool, ServerName: "example.com"}
	t.Run("refused by code", func(t *testing.T) {
		f.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
			f.KeepControl()
			res := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
			res.ErrorCode = CodeSaslAuthenticationFailed
			return res, nil, true
		})
		cl := openCluster(t, f, func(cfg *Config) { cfg.SASL, cfg.TLS = SASL{"PLAIN", "ann", "secret"}, trusted })
		_, err := cl.Metadata(testContext(t), nil)
		if !HasCode(err, CodeSaslAuthenticationFailed) || Classify(err) != ClassFatal || !strings.Contains(err.Error(), "check sasl.username") {
			t.Fatal(err)
		}
	})
	t.Run("plain text", func(t *testing.T) {
		cl := openCluster(t, f, func(cfg *Config) { cfg.DialTimeout = time.Second })
		if _, err := cl.Metadata(testContext(t), nil); err == nil || !strings.Contains(err.Error(), "check security.protocol") {
			t.Fatal(err)
		}
	})
	t.Run("TLS against a plain port", func(t *testing.T) {
		cl := openCluster(t, startFake(t), func(cfg *Config) { cfg.TLS, cfg.DialTimeout = trusted, time.Second })
		_, err := cl.Metadata(testContext(t), nil)
		if err == nil || !strings.Contains(err.Error(), "does the port speak TLS?") {
			t.Fatal(err)
		}
	})
	t.Run("no SASL", func(t *testing.T) {
		cl := openCluster(t, f, func(cfg *Config) { cfg.TLS, cfg.DialTimeout, cfg.CallTimeout = trusted, time.Second, 5*time.Second })
		_, err := cl.Metadata(testContext(t), nil)
		if err == nil || !strings.Contains(err.Error(), "security.protocol") {
			t.Fatal(err)
		}
	})
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "bootstrap.servers is empty"},
		{Config{Bootstrap: []string{"localhost"}}, `"localhost" is not host:port`},
		{Config{Bootstrap: []string{"localhost:kafka"}}, `port "kafka"`},
		{Config{Bootstrap: []string{"localhost:0", ":9092"}}, "the host is missing"},
		{Config{Bootstrap: []string{"localhost:70000"}}, `port "70000"`},
		{Config{Bootstrap: []string{"a:1"}, SASL: SASL{Mechanism: "GSSAPI"}}, `"GSSAPI" is not known`},
	} {
		_, err := Open(c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
