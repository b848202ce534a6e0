package daemon

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator/expression"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
	"github.com/sluice-stream/sluice/spec"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write(name+".pem", "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue makes a certificate for 127.0.0.1 that is valid until the given time.
func (a *authority) issue(name string, until time.Time) TLSFiles {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-2 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return TLSFiles{Cert: a.write(name+".pem", "CERTIFICATE", der), Key: a.write(name+".key", "EC PRIVATE KEY", keyDER), CA: a.file}
}

func (f TLSFiles) args() []string {
	return []string{"--tls-cert", f.Cert, "--tls-key", f.Key, "--tls-ca", f.CA, "--http", ""}
}

// logged may be written by several goroutines; line tells of the first line.
type logged struct {
	mu   sync.Mutex
	b    bytes.Buffer
	line chan string
}

func newLogged() *logged { return &logged{line: make(chan string, 1)} }

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() == 0 {
		l.line <- string(p)
	}
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until the log holds text: the two sides of a refused handshake end at their own pace.
func (l *logged) await(t *testing.T, text string) {
	t.Helper()
	tick, deadline := time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !strings.Contains(l.String(), text) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("no %q in the log of the job manager", text)
			return
		}
	}
}

// startDaemon runs a daemon until the test ends and returns its log and one field of its ready line.
func startDaemon(t *testing.T, run func(context.Context, Process) error, field string, args ...string) (log *logged, address string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, log, done := newLogged(), newLogged(), make(chan error, 1)
	go func() { done <- run(ctx, Process{Args: args, Stdout: out, Stderr: log}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("daemon %v: %v", args, err)
		}
		if t.Failed() {
			t.Logf("log of %v:\n%s", args, log)
		}
	})
	select {
	case line := <-out.line:
		_, rest, _ := strings.Cut(line, field+"=")
		address, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
		return log, address
	case <-time.After(20 * time.Second):
		t.Fatalf("daemon %v is not ready", args)
		return nil, ""
	}
}

func clientOf(t *testing.T, addr string, files TLSFiles) pb.JobServiceClient {
	t.Helper()
	_, creds, err := files.Load()
	if err != nil {
		t.Fatal(err)
	}
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the test is over
	return pb.NewJobServiceClient(conn)
}

// A cluster with mutual TLS runs a job whose records cross from one task manager to the other.
func TestClusterWithMutualTLS(t *testing.T) {
	ca, soon := newAuthority(t, "ca"), time.Now().Add(time.Hour)
	_, addr := startDaemon(t, JobManager, "grpc", append(ca.issue("jm", soon).args(), "--listen", "127.0.0.1:0", "--data-dir", t.TempDir())...)
	for _, id := range []string{"tm-1", "tm-2"} {
		startDaemon(t, TaskManager, "data", append(ca.issue(id, soon).args(), "--jobmanager", addr, "--id", id, "--slots", "1", "--work-dir", t.TempDir())...)
	}
	client := clientOf(t, addr, ca.issue("client", soon))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Second, errors.New("the job did not finish"))
	defer cancel()
	submitted, err := client.Submit(ctx, &pb.SubmitRequest{Job: wire.JobToProto(countingJob(t, fillTopic(ctx, t)))})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.Watch(ctx, &pb.WatchRequest{Job: submitted.GetJobId()})
	if err != nil {
		t.Fatal(err)
	}
	workers := map[string]bool{}
	for {
		got, err := stream.Recv()
		if err != nil {
			t.Fatalf("%v (%v)", err, context.Cause(ctx))
		}
		for _, v := range got.GetJob().GetVertices() {
			for _, s := range v.GetSubtasks() {
				workers[s.GetTaskManager()] = true
			}
		}
		if state := got.GetJob().GetState(); state == "FINISHED" {
			break
		} else if got.GetJob().GetEndedAt() != nil {
			t.Fatalf("job is %s: %s", state, got.GetJob().GetFailure().GetMessage())
		}
	}
	if !workers["tm-1"] || !workers["tm-2"] {
		t.Errorf("the job ran on %v; the exchange between two task managers was not used", workers)
	}
}

const tlsRecords = 2000

// fillTopic starts a broker with a topic of 2 partitions and returns its address.
func fillTopic(ctx context.Context, t *testing.T) string {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "in", "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range tlsRecords {
		cl.Produce(ctx, &kgo.Record{Topic: "in", Partition: int32(i % 2), Value: fmt.Append(nil, "word", i%50)}, nil)
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	return broker.ListenAddrs()[0]
}

func countingJob(t *testing.T, broker string) *graph.Job {
	t.Helper()
	text := strings.ReplaceAll(`name: counting
parallelism: 2
checkpoint: {interval: 200ms}
sources:
  in: {kafka: {topics: [in], startup: earliest, bounded: latest, offsets: {storage: none}, format: string, properties: {bootstrap.servers: 'BROKER', group.id: g}}}
operators:
  count: {from: in, keyBy: value, count: {}}
sinks:
  out: {from: count, kafka: {topic: out, guarantee: at-least-once, properties: {bootstrap.servers: 'BROKER'}}}
`, "BROKER", broker)
	job, err := spec.Parse([]byte(text), "counting.yaml", spec.Options{Checks: graph.Checks{Expressions: expression.Checker{}, Properties: kafka.CheckProperties}})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestStrangersAreTurnedAway(t *testing.T) {
	ca, other, soon := newAuthority(t, "ca"), newAuthority(t, "other"), time.Now().Add(time.Hour)
	log, addr := startDaemon(t, JobManager, "grpc", append(ca.issue("jm", soon).args(), "--listen", "127.0.0.1:0", "--data-dir", t.TempDir())...)
	wrongCA := ca.issue("wrong-ca", soon)
	wrongCA.CA = other.file
	stranger := other.issue("stranger", soon)
	stranger.CA = ca.file
	for name, c := range map[string]struct {
		files TLSFiles
		logs  string
	}{
		"no TLS":                       {TLSFiles{}, "first record does not look like a TLS handshake"},
		"a client that trusts another": {wrongCA, "bad certificate"},
		"a certificate of another":     {stranger, "TLS handshake failed"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if _, err := clientOf(t, addr, c.files).List(ctx, &pb.ListRequest{}); err == nil || ctx.Err() != nil {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
		cancel()
		log.await(t, c.logs)
	}
}

func TestUnusableCertificates(t *testing.T) {
	ca := newAuthority(t, "ca")
	good, another := ca.issue("good", time.Now().Add(time.Hour)), ca.issue("another", time.Now().Add(time.Hour))
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		files TLSFiles
		says  string
	}{
		{"expired", ca.issue("old", time.Now().Add(-time.Minute)), "this machine's clock says"},
		{"not valid yet", ca.issue("new", time.Now().Add(3*time.Hour)), "this machine's clock says"},
		{"key of another", TLSFiles{good.Cert, another.Key, good.CA}, "private key does not match"},
		{"no such file", TLSFiles{good.Cert + "x", good.Key, good.CA}, "no such file"},
		{"no such authority", TLSFiles{good.Cert, good.Key, good.CA + "x"}, "no such file"},
		{"authority is no PEM", TLSFiles{good.Cert, good.Key, noPEM}, "holds no PEM certificate"},
		{"no key", TLSFiles{good.Cert, "", good.CA}, "--tls-key missing"},
	} {
		_, _, err := c.files.Load()
		if err == nil || errors.Is(err, ErrUsage) == (c.name == "not valid yet") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.says)
		}
	}
	if server, client, err := (&TLSFiles{}).Load(); server != nil || client != nil || err != nil {
		t.Errorf("without files TLS must be off: %v", err)
	}
}

func TestHandshakeReasonsAreToldOncePerPause(t *testing.T) {
	told, now := &toldReasons{at: map[string]time.Time{}}, time.Unix(0, 0)
	if !told.isNew("a", now) || told.isNew("a", now.Add(handshakePause-1)) || !told.isNew("b", now) {
		t.Error("a reason is told once")
	}
	if !told.isNew("a", now.Add(handshakePause)) {
		t.Error("after the pause it is told again")
	}
	for i := range 2 * maxToldReasons {
		told.isNew(fmt.Sprint(i), now)
	}
	if len(told.at) > maxToldReasons {
		t.Errorf("%d reasons are remembered, want at most %d", len(told.at), maxToldReasons)
	}
}
