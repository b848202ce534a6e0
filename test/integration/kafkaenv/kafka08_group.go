package kafkaenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Consume reads records of a topic with the old consumer, which keeps its offsets in ZooKeeper, and gives their
// values. It begins where the group's offsets say, else at the beginning.
func (k *Kafka08) Consume(tb testing.TB, group, topic string, records int) []string {
	tb.Helper()
	config := filepath.Join(k.dir, "consumer.properties")
	content := fmt.Sprintf("group.id=%s\noffsets.storage=zookeeper\nauto.offset.reset=smallest\n", group)
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		tb.Fatal(err)
	}
	output := k.output(tb, "kafka.tools.ConsoleConsumer", "--zookeeper", k.zookeeper.Addr(), "--topic", topic, "--consumer.config", config,
		"--max-messages", strconv.Itoa(records))
	return strings.Fields(output)
}

// GroupOffsets asks the broker's own tool what ZooKeeper holds for a group, by partition.
func (k *Kafka08) GroupOffsets(tb testing.TB, group, topic string) map[int]int64 {
	tb.Helper()
	output := k.output(tb, "kafka.tools.ConsumerOffsetChecker", "--zookeeper", k.zookeeper.Addr(), "--group", group, "--topic", topic)
	offsets := map[int]int64{}
	for line := range strings.Lines(output) { // GROUP TOPIC PARTITION OFFSET SIZE LAG OWNER
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] != group || fields[1] != topic {
			continue
		}
		partition, err := strconv.Atoi(fields[2])
		if err != nil {
			tb.Fatalf("partition in %q: %v", line, err)
		}
		if offsets[partition], err = strconv.ParseInt(fields[3], 10, 64); err != nil {
			tb.Fatalf("offset in %q: %v", line, err)
		}
	}
	return offsets
}

// output runs one of the broker's own programs and gives its standard output.
func (k *Kafka08) output(tb testing.TB, main string, args ...string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "java", k.java(main, args...)...)
	var faults strings.Builder
	command.Stderr = &faults
	output, err := command.Output()
	if err != nil {
		tb.Fatalf("%s %q: %v\n%s%s", main, args, err, output, faults.String())
	}
	tb.Logf("%s:\n%s%s", main, output, faults.String())
	return string(output)
}
