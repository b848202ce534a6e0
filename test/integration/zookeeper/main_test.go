// Package zookeeper runs connector/kafka/zookeeper against a real server.
package zookeeper

import (
	"context"
	"fmt"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/goleak"

	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// patience bounds every wait; what it waits for takes milliseconds, the rest is a slow machine.
const patience = time.Minute

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T) *kafkaenv.ZooKeeper {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a ZooKeeper")
	}
	return kafkaenv.StartZooKeeper(t)
}

// connect is a client as a user has it, with short waits.
func connect(t *testing.T, connect string, change ...func(*zookeeper.Config)) *zookeeper.Client {
	t.Helper()
	servers, chroot, err := zookeeper.ParseConnect(connect)
	if err != nil {
		t.Fatal(err)
	}
	cfg := zookeeper.Config{Servers: servers, Chroot: chroot, SessionTimeout: 10 * time.Second, ConnectionTimeout: 20 * time.Second, CallTimeout: 10 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	client, err := zookeeper.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// put makes a node, and what is above it, open to all.
func put(t *testing.T, conn *zk.Conn, node, data string) {
	t.Helper()
	if parent := path.Dir(node); parent != "/" {
		if found, _, err := conn.Exists(parent); err != nil {
			t.Fatal(err)
		} else if !found {
			put(t, conn, parent, "")
		}
	}
	if _, err := conn.Create(node, []byte(data), 0, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatalf("create %s: %v", node, err)
	}
}

func at(t *testing.T, conn *zk.Conn, node string) string {
	t.Helper()
	data, _, err := conn.Get(node)
	if err != nil {
		t.Fatalf("get %s: %v", node, err)
	}
	return string(data)
}

func offset(topic string, partition int32, value int64) zookeeper.Offset {
	return zookeeper.Offset{Partition: zookeeper.Partition{Topic: topic, Partition: partition}, Value: value}
}

func write(t *testing.T, c *zookeeper.Client, want int, offsets ...zookeeper.Offset) {
	t.Helper()
	written, err := c.WriteOffsets(bounded(t), "group", offsets)
	if err != nil || written != want {
		t.Fatalf("%d offsets written, %v; want %d", written, err, want)
	}
}

// check reads partitions 0..n-1 of a topic and compares the values.
func check(t *testing.T, c *zookeeper.Client, topic string, want ...int64) {
	t.Helper()
	var partitions []zookeeper.Partition
	for p := range want {
		partitions = append(partitions, zookeeper.Partition{Topic: topic, Partition: int32(p)})
	}
	offsets, err := c.ReadOffsets(bounded(t), "group", partitions)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, o := range offsets {
		got = append(got, o.Value)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("offsets of %s are %v, want %v", topic, got, want)
	}
}

func node(topic string, partition int) string {
	return fmt.Sprintf("/consumers/group/offsets/%s/%d", topic, partition)
}
