package kafkaenv

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// Kafka08 is one broker of Kafka 0.8.2.2, or of 0.9 or 0.10, with the ZooKeeper that it needs. Its address and its data
// survive Kill and Restart.
type Kafka08 struct {
	kind      Kind
	zookeeper *ZooKeeper
	port      int
	dir       string
	classPath string
	process   *process.Process
	topics    int // created
}

// speaks is what franz-go must say to a broker.
func (k *Kafka08) speaks() kgo.Opt {
	versions := map[Kind]*kversion.Versions{kafka08: kversion.V0_8_2(), Kafka09: kversion.V0_9_0(), Kafka010: kversion.V0_10_2()}
	return kgo.MaxVersions(versions[k.kind])
}

// sessionTimeout is how long ZooKeeper believes in a broker that says nothing. One that finds its session gone while it
// starts never comes up, so it is long; see Kill.
const sessionTimeout = 30 * time.Second

// StartKafka08 starts a broker of Kafka 0.8.2.2 for one test; it ends with the test.
func StartKafka08(tb testing.TB) *Kafka08 {
	tb.Helper()
	return StartOld(tb, kafka08)
}

// StartOld is StartKafka08 with another version: Kafka09 or Kafka010.
func StartOld(tb testing.TB, kind Kind) *Kafka08 {
	tb.Helper()
	Require(tb, kind)
	k := &Kafka08{kind: kind, zookeeper: StartZooKeeper(tb), dir: tb.TempDir()}
	var err error
	if k.classPath, err = jars(tb.Context(), kind); err != nil {
		tb.Fatal(err)
	}
	if k.port, err = process.FreePort(); err != nil {
		tb.Fatal(err)
	}
	if err := k.configure(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if k.process == nil {
			return
		}
		if tb.Failed() {
			tb.Logf("--- %s ---\n%s", k.kind, k.process.Tail(16<<10))
		}
		if err := k.process.Kill9(); err != nil {
			tb.Errorf("ending %s: %v", k.kind, err)
		}
	})
	k.Restart(tb)
	return k
}

func (k *Kafka08) configure() error {
	for name, content := range map[string]string{
		"server.properties": fmt.Sprintf(`broker.id=0
host.name=127.0.0.1
advertised.host.name=127.0.0.1
port=%d
log.dirs=%s
zookeeper.connect=%s
zookeeper.session.timeout.ms=%d
num.partitions=1
auto.create.topics.enable=true
offsets.topic.num.partitions=4
log.index.size.max.bytes=1048576
`, k.port, filepath.Join(k.dir, "data"), k.zookeeper.Addr(), sessionTimeout.Milliseconds()),
		"log4j.properties": logConfigs[Kafka39],
	} {
		if err := os.WriteFile(filepath.Join(k.dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing the configuration of %s: %w", k.kind, err)
		}
	}
	return nil
}

func (k *Kafka08) java(main string, args ...string) []string {
	return append([]string{
		"-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j.configuration=file:" + filepath.Join(k.dir, "log4j.properties"),
		"-cp", k.classPath, main,
	}, args...)
}

// Addr is HOST:PORT of the broker.
func (k *Kafka08) Addr() string { return fmt.Sprintf("127.0.0.1:%d", k.port) }

// ZooKeeper is the server that the broker keeps its state in.
func (k *Kafka08) ZooKeeper() *ZooKeeper { return k.zookeeper }

// Kill ends the broker as kill -9 does, and lets ZooKeeper forget it, as it does when the session is over.
func (k *Kafka08) Kill(tb testing.TB) {
	tb.Helper()
	if err := k.process.Kill9(); err != nil {
		tb.Fatal(err)
	}
	k.inZooKeeper(tb, func(c *zk.Conn) error {
		var faults []error
		for _, path := range []string{"/brokers/ids/0", "/controller"} {
			if err := c.Delete(path, -1); !errors.Is(err, zk.ErrNoNode) {
				faults = append(faults, err)
			}
		}
		return errors.Join(faults...)
	})
}

// inZooKeeper does something with a connection to ZooKeeper.
func (k *Kafka08) inZooKeeper(tb testing.TB, do func(*zk.Conn) error) {
	tb.Helper()
	c, _, err := zk.Connect([]string{k.zookeeper.Addr()}, 10*time.Second, zk.WithLogInfo(false), zk.WithLogger(silent{}))
	if err == nil {
		err = do(c)
		c.Close()
	}
	if err != nil {
		tb.Fatalf("changing what ZooKeeper knows of %s: %v", k.kind, err)
	}
}

// Restart starts the broker, at the same address with the same data, and waits until it answers.
func (k *Kafka08) Restart(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	client := k.Client(tb, kgo.RequestRetries(0), kgo.DialTimeout(time.Second))
	var err error
	if k.process, err = process.Start(process.Spec{Name: string(k.kind), Path: "java", Dir: k.dir, Args: k.java("kafka.Kafka", filepath.Join(k.dir, "server.properties"))}); err != nil {
		tb.Fatal(err)
	}
	for {
		answer, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
		if err == nil && (len(answer.Brokers) == 1 || k.topics == 0) { // without topics it does not know itself
			return
		}
		select {
		case <-tick.C:
		case <-k.process.Done():
			tb.Fatalf("%s ended while it started:\n%s", k.kind, k.process.Tail(16<<10))
		case <-ctx.Done():
			tb.Fatalf("%s does not answer: %v\n%s", k.kind, err, k.process.Tail(16<<10))
		}
	}
}

// tool runs one of the broker's own programs to its end and returns its output.
func (k *Kafka08) tool(tb testing.TB, input []byte, main string, args ...string) []byte {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "java", k.java(main, args...)...)
	command.Stdin = bytes.NewReader(input)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil || bytes.Contains(output, []byte(" ERROR ")) {
		tb.Fatalf("%s %q: %v\n%s%s", main, args, err, output, &complaints)
	}
	return output
}

// CreateTopic creates a topic, in ZooKeeper as the broker's own tools do, and waits until every partition has a leader.
func (k *Kafka08) CreateTopic(tb testing.TB, topic string, partitions int) {
	tb.Helper()
	k.topics++
	var replicas []string
	for p := range partitions {
		replicas = append(replicas, fmt.Sprintf(`"%d":[0]`, p))
	}
	k.inZooKeeper(tb, func(c *zk.Conn) error {
		_, err := c.Create("/config/topics/"+topic, []byte(`{"version":1,"config":{}}`), 0, zk.WorldACL(zk.PermAll))
		if err == nil {
			_, err = c.Create("/brokers/topics/"+topic, []byte(`{"version":1,"partitions":{`+strings.Join(replicas, ",")+`}}`), 0, zk.WorldACL(zk.PermAll))
		}
		return err
	})
	if ends := k.waitForEnds(tb, topic); len(ends) != partitions {
		tb.Fatalf("%s has made %d partitions of %s, want %d", k.kind, len(ends), topic, partitions)
	}
}

// waitForEnds asks for the end of each partition's log until there is one of every partition.
func (k *Kafka08) waitForEnds(tb testing.TB, topic string) map[int32]int64 {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ends, err := k.ends(ctx, topic)
		if err == nil && len(ends) > 0 {
			return ends
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("waiting for the leaders of %s on %s: %v", topic, k.kind, err)
		}
	}
}

// Console writes KEY:VALUE lines with the broker's own console producer: the Scala one of 0.8, or the Java one
// that was new then. The codec is none, gzip, snappy or lz4.
func (k *Kafka08) Console(tb testing.TB, topic, codec string, java bool, lines []string) {
	tb.Helper()
	args := []string{"--broker-list", k.Addr(), "--topic", topic, "--compression-codec", codec, "--batch-size", "100", "--request-required-acks", "-1",
		"--property", "parse.key=true", "--property", "key.separator=:"}
	if java {
		args = append(args, "--new-producer")
	}
	k.tool(tb, []byte(strings.Join(lines, "\n")+"\n"), "kafka.tools.ConsoleProducer", args...)
}

// Client makes a franz-go client that speaks as the broker does, and closes it with the test. Without options it
// writes to the partition that a record names and reads nothing.
func (k *Kafka08) Client(tb testing.TB, options ...kgo.Opt) *kgo.Client {
	tb.Helper()
	base := []kgo.Opt{
		kgo.SeedBrokers(k.Addr()), k.speaks(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.FetchMaxWait(200 * time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()),
	}
	client, err := kgo.NewClient(append(base, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

// Produce writes the records, each to its own Partition, in the order given within a partition.
func (k *Kafka08) Produce(tb testing.TB, records []*kgo.Record, options ...kgo.Opt) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	if err := k.Client(tb, options...).ProduceSync(ctx, records...).FirstErr(); err != nil {
		tb.Fatalf("producing %d records to %s: %v", len(records), k.kind, err)
	}
}

// ends asks for the end of each partition's log.
func (k *Kafka08) ends(ctx context.Context, topic string) (map[int32]int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addr()), k.speaks(), kgo.RequestRetries(1))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	metadata, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	ask := kmsg.NewPtrListOffsetsRequest()
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for _, t := range metadata.Topics {
		for _, p := range t.Partitions {
			if *t.Topic == topic {
				of := kmsg.NewListOffsetsRequestTopicPartition()
				of.Partition, of.Timestamp, of.MaxNumOffsets = p.Partition, -1, 1
				asked.Partitions = append(asked.Partitions, of)
			}
		}
	}
	ask.Topics = append(ask.Topics, asked)
	answer, err := client.Broker(0).Request(ctx, ask)
	if err != nil {
		return nil, err
	}
	list, ok := answer.(*kmsg.ListOffsetsResponse)
	if !ok {
		return nil, fmt.Errorf("ListOffsets was answered with a %T", answer)
	}
	return endsIn(list)
}

func endsIn(list *kmsg.ListOffsetsResponse) (map[int32]int64, error) {
	ends := map[int32]int64{}
	for _, t := range list.Topics {
		for _, p := range t.Partitions {
			end := p.Offset
			if len(p.OldStyleOffsets) > 0 { // before 0.10.1
				end = p.OldStyleOffsets[0]
			}
			if p.ErrorCode != 0 || end < 0 {
				return nil, fmt.Errorf("the end of %s/%d: code %d, offset %d", t.Topic, p.Partition, p.ErrorCode, end)
			}
			ends[p.Partition] = end
		}
	}
	return ends, nil
}

// Read returns every record of a topic as of now, ordered by partition and offset.
func (k *Kafka08) Read(tb testing.TB, topic string) []*kgo.Record {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	ends := k.waitForEnds(tb, topic)
	starts, left := map[int32]kgo.Offset{}, int64(0)
	for partition, end := range ends {
		starts[partition] = kgo.NewOffset().At(0)
		left += end
	}
	client := k.Client(tb, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}))
	var records []*kgo.Record
	for left > 0 {
		fetches := client.PollFetches(ctx)
		var faults []error
		fetches.EachError(func(_ string, _ int32, err error) { faults = append(faults, err) })
		if err := errors.Join(faults...); err != nil {
			tb.Fatalf("reading %s of %s, %d records missing: %v", topic, k.kind, left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records = append(records, r)
			left--
		})
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return records
}

// ConsoleRead reads a number of records of a topic with the broker's own console consumer, as KEY:VALUE lines: from where the
// group stands in ZooKeeper, else from the start.
func (k *Kafka08) ConsoleRead(tb testing.TB, topic, group string, count int) []string {
	tb.Helper()
	config := filepath.Join(tb.TempDir(), "consumer.properties")
	if err := os.WriteFile(config, []byte("group.id="+group+"\n"), 0o644); err != nil {
		tb.Fatal(err)
	}
	args := []string{
		"--zookeeper", k.zookeeper.Addr(), "--topic", topic, "--consumer.config", config,
		"--max-messages", fmt.Sprint(count), "--property", "print.key=true", "--property", "key.separator=:",
	}
	k.inZooKeeper(tb, func(c *zk.Conn) error {
		known, _, err := c.Exists("/consumers/" + group + "/offsets/" + topic)
		if !known {
			args = append(args, "--from-beginning") // refused when there is an offset, the end is the default
		}
		return err
	})
	output := k.tool(tb, nil, "kafka.tools.ConsoleConsumer", args...)
	var lines []string
	for line := range strings.Lines(string(output)) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}

// Topics lists what the broker knows.
func (k *Kafka08) Topics(tb testing.TB) []string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	answer, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, k.Client(tb))
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, t := range answer.Topics {
		names = append(names, *t.Topic)
	}
	return names
}
