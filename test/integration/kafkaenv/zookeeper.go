package kafkaenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// ZooKeeper is one server, standalone or of an ensemble. Its address and its data survive Kill and Restart.
type ZooKeeper struct {
	port    int
	dir     string
	id      int // in its ensemble, from 1; 0: standalone
	args    []string
	process *process.Process
}

// StartZooKeeper starts a server for one test; it ends with the test.
func StartZooKeeper(tb testing.TB) *ZooKeeper {
	tb.Helper()
	Require(tb, zookeeper39)
	z, err := newZooKeeper(tb.Context(), tb.TempDir(), 0, "")
	if err != nil {
		tb.Fatal(err)
	}
	z.endWith(tb)
	z.Restart(tb)
	return z
}

// endWith ends the server with the test, and shows what it said if that failed.
func (z *ZooKeeper) endWith(tb testing.TB) {
	tb.Helper()
	tb.Cleanup(func() {
		if z.process == nil {
			return
		}
		if tb.Failed() {
			tb.Logf("--- ZooKeeper %d ---\n%s", z.id, z.process.Tail(16<<10))
		}
		if err := z.process.Kill9(); err != nil {
			tb.Errorf("ending ZooKeeper: %v", err)
		}
	})
}

// OpenZooKeeper starts a server for a program that is no test, in a directory of the caller. Close ends it.
func OpenZooKeeper(ctx context.Context, dir string) (*ZooKeeper, error) {
	z, err := newZooKeeper(ctx, dir, 0, "")
	if err != nil {
		return nil, err
	}
	if err := z.start(ctx); err != nil {
		return nil, errors.Join(err, z.Close())
	}
	return z, nil
}

// Close ends the server.
func (z *ZooKeeper) Close() error {
	if z.process == nil {
		return nil
	}
	return z.process.Kill9()
}

// newZooKeeper makes a server. members are the lines of its configuration that name its ensemble.
func newZooKeeper(ctx context.Context, dir string, id int, members string) (*ZooKeeper, error) {
	classPath, err := jars(ctx, zookeeper39)
	if err != nil {
		return nil, err
	}
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	z := &ZooKeeper{port: port, dir: dir, id: id}
	config, logging := filepath.Join(dir, "zoo.cfg"), filepath.Join(dir, "logback.xml")
	for path, content := range map[string]string{
		config: fmt.Sprintf(`tickTime=500
dataDir=%s
clientPort=%d
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
minSessionTimeout=1000
maxSessionTimeout=60000
%s`, z.data(), z.port, members),
		logging: `<configuration><appender name="out" class="ch.qos.logback.core.ConsoleAppender">
<encoder><pattern>%d %p %c %m%n</pattern></encoder></appender><root level="WARN"><appender-ref ref="out"/></root></configuration>
`,
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return nil, fmt.Errorf("writing the configuration of ZooKeeper: %w", err)
		}
	}
	main := "org.apache.zookeeper.server.ZooKeeperServerMain"
	if id > 0 {
		main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
	}
	z.args = []string{
		"-Xms32m", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlogback.configurationFile=" + logging,
		"-cp", classPath, main, config,
	}
	return z, nil
}

func (z *ZooKeeper) data() string { return filepath.Join(z.dir, "data") }

// Addr is HOST:PORT of the client port.
func (z *ZooKeeper) Addr() string { return fmt.Sprintf("127.0.0.1:%d", z.port) }

// Session is the library alone, to look at nodes and to make them as other programs do. It ends with the test. What the
// library logs is dropped: that a server is down is what the tests do, and pages of it would bury what failed.
func (z *ZooKeeper) Session(tb testing.TB) *zk.Conn {
	tb.Helper()
	conn, events, err := zk.Connect([]string{z.Addr()}, 10*time.Second, zk.WithLogInfo(false), zk.WithLogger(silent{}))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		conn.Close()
		for range events { // until its goroutines are gone
		}
	})
	return conn
}

// silent drops what the library logs.
type silent struct{}

// Printf drops a line.
func (silent) Printf(string, ...any) {}

// Server is the same for programs that are no tests.
func (z *ZooKeeper) Server() ZooKeeperServer { return ZooKeeperServer{z} }

// ZooKeeperServer is a ZooKeeper whose faults are errors.
type ZooKeeperServer struct{ zookeeper *ZooKeeper }

// Kill ends the server as kill -9 does.
func (s ZooKeeperServer) Kill() error { return s.zookeeper.process.Kill9() }

// Pause makes the server stand still with open connections; Resume ends that.
func (s ZooKeeperServer) Pause() error { return s.zookeeper.process.Signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (s ZooKeeperServer) Resume() error { return s.zookeeper.process.Signal(syscall.SIGCONT) }

// Running tells whether the server has not ended.
func (s ZooKeeperServer) Running() bool { return s.zookeeper.process.Running() }

// Wipe removes the data of a server that has ended.
func (s ZooKeeperServer) Wipe() error {
	if s.Running() {
		return errors.New("the data of a ZooKeeper that runs is not removed")
	}
	return os.RemoveAll(s.zookeeper.data())
}

// Start starts the server, at the same address with the same data, and waits until it serves.
func (s ZooKeeperServer) Start(ctx context.Context) error { return s.zookeeper.start(ctx) }

// Kill ends the server as kill -9 does.
func (z *ZooKeeper) Kill(tb testing.TB) {
	tb.Helper()
	must(tb, z.Server().Kill())
}

// Stop ends the server in an orderly way.
func (z *ZooKeeper) Stop(tb testing.TB) {
	tb.Helper()
	_, err := z.process.Stop(stopGrace)
	must(tb, err)
}

// Wipe removes the data of a server that was killed or stopped.
func (z *ZooKeeper) Wipe(tb testing.TB) {
	tb.Helper()
	must(tb, z.Server().Wipe())
}

// Pause makes the server stand still with open connections; Resume ends that.
func (z *ZooKeeper) Pause(tb testing.TB) {
	tb.Helper()
	must(tb, z.Server().Pause())
}

// Resume ends Pause.
func (z *ZooKeeper) Resume(tb testing.TB) {
	tb.Helper()
	must(tb, z.Server().Resume())
}

// Restart starts the server, at the same address with the same data, and waits until it serves.
func (z *ZooKeeper) Restart(tb testing.TB) {
	tb.Helper()
	must(tb, z.start(tb.Context()))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// start starts the server and waits until it serves.
func (z *ZooKeeper) start(ctx context.Context) error {
	if err := z.launch(); err != nil {
		return err
	}
	return z.serves(ctx)
}

func (z *ZooKeeper) launch() (err error) {
	if z.id > 0 {
		err = errors.Join(os.MkdirAll(z.data(), 0o755), os.WriteFile(filepath.Join(z.data(), "myid"), fmt.Append(nil, z.id), 0o644))
	}
	if err == nil {
		z.process, err = process.Start(process.Spec{Name: "zookeeper", Path: "java", Args: z.args, Dir: z.dir})
	}
	if err != nil {
		return fmt.Errorf("starting ZooKeeper: %w", err)
	}
	return nil
}

// serves waits until the server answers clients. One of an ensemble needs a quorum for that.
func (z *ZooKeeper) serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := z.answers()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-z.process.Done():
			return fmt.Errorf("ZooKeeper ended while it started:\n%s", z.process.Tail(16<<10))
		case <-ctx.Done():
			return fmt.Errorf("waiting for ZooKeeper: %w\n%s", errors.Join(err, ctx.Err()), z.process.Tail(16<<10))
		}
	}
}

// answers asks by a four letter word of ZooKeeper's administration whether it serves; "are you ok" it
// answers before that.
func (z *ZooKeeper) answers() error {
	connection, err := net.DialTimeout("tcp", z.Addr(), time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(connection, "srvr"); err != nil {
		return err
	}
	answer, err := io.ReadAll(connection)
	if err == nil && !strings.Contains(string(answer), "\nMode: ") {
		err = errors.New("answers " + string(answer))
	}
	return err
}
