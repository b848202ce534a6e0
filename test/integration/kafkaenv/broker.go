package kafkaenv

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// clusterID is any 16 bytes in base64 (StorageTool wants it); each cluster lives on ports of its own.
const clusterID = "c2x1aWNlLXRlc3QtMDAwMQ"

// stopGrace bounds the orderly end of a broker.
const stopGrace = 60 * time.Second

// broker is a real Kafka node in combined mode (broker and controller, KRaft).
type broker struct {
	kind      Kind
	node      int // from 1, as node.id
	port      int
	dir       string
	classPath string
	jvm       []string
	niceness  int
	process   *process.Process
}

// newBrokers lays out and formats the nodes of a cluster; nothing runs yet.
func newBrokers(ctx context.Context, dir string, options Options) ([]server, error) {
	classPath, err := jars(ctx, options.Kind)
	if err != nil {
		return nil, err
	}
	jvm := []string{"-Xms64m", fmt.Sprintf("-Xmx%dm", orDefault(options.HeapMiB, 512))}
	if !options.Benchmark {
		archive, err := classArchive(ctx, options.Kind, classPath)
		if err != nil {
			return nil, err
		}
		jvm = append(jvm, fastStart(archive)...)
	}
	ports := make([]int, 2*options.Brokers)
	for i := range ports {
		if ports[i], err = process.FreePort(); err != nil {
			return nil, err
		}
	}
	var servers []server
	for i := range options.Brokers {
		b := &broker{
			kind: options.Kind, node: i + 1, port: ports[i], classPath: classPath, jvm: jvm, niceness: options.Niceness,
			dir: filepath.Join(dir, fmt.Sprintf("node%d", i+1)),
		}
		overrides, err := advertised(b, ports[options.Brokers+i], options)
		if err != nil {
			return nil, err
		}
		if err := b.prepare(ctx, brokerProperties(b, ports, overrides)); err != nil {
			return nil, err
		}
		servers = append(servers, b)
	}
	return servers, nil
}

// advertised adds the listener of Options.Advertise to the overrides of a broker.
func advertised(b *broker, controllerPort int, options Options) (map[string]string, error) {
	if options.Advertise == nil {
		return options.Properties, nil
	}
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	listens := fmt.Sprintf("127.0.0.1:%d", port)
	led, err := options.Advertise(b.node-1, listens)
	if err != nil {
		return nil, err
	}
	direct := fmt.Sprintf("PLAINTEXT://127.0.0.1:%d", b.port)
	overrides := map[string]string{
		"listeners":                      fmt.Sprintf("%s,LED://%s,CONTROLLER://127.0.0.1:%d", direct, listens, controllerPort),
		"advertised.listeners":           fmt.Sprintf("%s,LED://%s", direct, led),
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,LED:PLAINTEXT,CONTROLLER:PLAINTEXT",
	}
	maps.Copy(overrides, options.Properties)
	if options.PerNode == nil {
		return overrides, nil
	}
	return overrides, options.PerNode(b.node-1, overrides)
}

func orDefault(value, otherwise int) int {
	if value == 0 {
		return otherwise
	}
	return value
}

// prepare writes the configuration and formats the data directory.
func (b *broker) prepare(ctx context.Context, properties string) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return fmt.Errorf("making the directory of a broker: %w", err)
	}
	for name, content := range map[string]string{"server.properties": properties, b.logConfig(): logConfigs[b.kind]} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing the configuration of a broker: %w", err)
		}
	}
	command := exec.CommandContext(ctx, "java", b.arguments("kafka.tools.StorageTool", "format",
		"--cluster-id", clusterID, "--config", filepath.Join(b.dir, "server.properties"))...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("formatting node %d: %w: %s", b.node, err, output)
	}
	return nil
}

func (b *broker) logConfig() string {
	if b.kind == Kafka39 {
		return "log4j.properties"
	}
	return "log4j2.properties"
}

func (b *broker) arguments(main string, args ...string) []string {
	property := "-Dlog4j2.configurationFile="
	if b.kind == Kafka39 {
		property = "-Dlog4j.configuration=file:"
	}
	all := slices.Concat(b.jvm, []string{
		"-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true", property + filepath.Join(b.dir, b.logConfig()), "-cp", b.classPath, main,
	})
	return append(all, args...)
}

func (b *broker) start(context.Context) error {
	var err error
	b.process, err = process.Start(process.Spec{
		Name: "broker", Path: "nice", Dir: b.dir,
		Args: append([]string{"-n", strconv.Itoa(b.niceness), "java"}, b.arguments("kafka.Kafka", filepath.Join(b.dir, "server.properties"))...),
	})
	return err
}

func (b *broker) stop() error {
	_, err := b.process.Stop(stopGrace)
	return err
}

func (b *broker) kill() error       { return b.process.Kill9() }
func (b *broker) pause() error      { return b.process.Signal(syscall.SIGSTOP) }
func (b *broker) resume() error     { return b.process.Signal(syscall.SIGCONT) }
func (b *broker) running() bool     { return b.process != nil && b.process.Running() }
func (b *broker) bootstrap() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

func (b *broker) log() string {
	if b.process == nil {
		return "never started"
	}
	return b.process.Tail(16 << 10)
}

// brokerProperties is the configuration of one node. ports are all client ports, then all controller ports.
func brokerProperties(b *broker, ports []int, overrides map[string]string) string {
	brokers := len(ports) / 2
	replicas, inSync := 1, 1
	if brokers >= 3 {
		replicas, inSync = 3, 2
	}
	var voters []string
	for i := range brokers {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[brokers+i]))
	}
	properties := map[string]string{
		"process.roles": "broker,controller", "node.id": fmt.Sprint(b.node),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"listeners":                      fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", b.port, ports[brokers+b.node-1]),
		"advertised.listeners":           fmt.Sprintf("PLAINTEXT://127.0.0.1:%d", b.port),
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"controller.listener.names":      "CONTROLLER", "inter.broker.listener.name": "PLAINTEXT",
		"log.dirs":                                         filepath.Join(b.dir, "data"),
		"default.replication.factor":                       fmt.Sprint(replicas),
		"min.insync.replicas":                              fmt.Sprint(inSync),
		"offsets.topic.replication.factor":                 fmt.Sprint(replicas),
		"transaction.state.log.replication.factor":         fmt.Sprint(replicas),
		"transaction.state.log.min.isr":                    fmt.Sprint(inSync),
		"share.coordinator.state.topic.replication.factor": fmt.Sprint(replicas),
		"share.coordinator.state.topic.min.isr":            fmt.Sprint(inSync),
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.num.partitions":             "4",
		"group.initial.rebalance.delay.ms":                 "0",
		"auto.create.topics.enable":                        "false",
		// A log segment is allocated when it is made; the defaults fit a server, not a hundred test topics.
		"log.index.size.max.bytes": "1048576",
		"num.network.threads":      "2", "num.io.threads": "4",
		// Faults are noticed soon, and the cleaner runs while a test waits for it.
		"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500",
		"controller.quorum.election.timeout.ms": "500", "controller.quorum.fetch.timeout.ms": "1500",
		"log.cleaner.backoff.ms": "200", "log.cleaner.dedupe.buffer.size": "4194304", "log.cleaner.threads": "1",
	}
	for key, value := range overrides {
		properties[key] = value
	}
	var lines []string
	for key, value := range properties {
		lines = append(lines, key+"="+value+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// logConfigs make warnings go to stdout, which is the broker's log file. Kafka 4 logs nothing without one.
var logConfigs = map[Kind]string{
	Kafka39: `log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c %m%n
`,
	Kafka43: `rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c %m%n
`,
}
