package kafka

import (
	"strings"

	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
)

// The names of the properties about where and when offsets are published. Those of ZooKeeper are Kafka's and
// Flink's; for digest credentials they have none but a JAAS file.
const (
	propAutoCommit                 = "auto.commit.interval.ms"
	propZooKeeper                  = "zookeeper.connect"
	propZooKeeperSessionTimeout    = "zookeeper.session.timeout.ms"
	propZooKeeperConnectionTimeout = "zookeeper.connection.timeout.ms"
	propZooKeeperUsername          = "zookeeper.digest.username"
	propZooKeeperPassword          = "zookeeper.digest.password"
	propZooKeeperACL               = "zookeeper.set.acl"
)

// offsetProperties say where and when offsets are published. The table is never changed.
var offsetProperties = []Property{
	source(Property{Name: propAutoCommit, Type: Millis, Min: 100, Max: dayMs, Default: "60000", Doc: "how often offsets are published without checkpoints, and no more than the sinks have acknowledged; with checkpoint.interval it is after each checkpoint; 1000 with mode: group"}),
	source(Property{Name: propZooKeeper, Type: Text, Doc: "ZooKeeper, as zk1:2181,zk2:2181/chroot; required with offsets.storage zookeeper and both"}),
	source(Property{Name: propZooKeeperSessionTimeout, Type: Millis, Min: 1000, Max: hourMs, Default: "60000", Doc: "session that is asked for; a server that is silent for two thirds of it is given up"}),
	source(Property{Name: propZooKeeperConnectionTimeout, Type: Millis, Min: 100, Max: hourMs, Default: "15000", Doc: "how long to look for a server that answers"}),
	source(Property{Name: propZooKeeperUsername, Type: Text, Doc: "user of ZooKeeper's digest scheme; may be a reference"}),
	source(Property{Name: propZooKeeperPassword, Type: Secret, Doc: "password of that user"}),
	source(Property{Name: propZooKeeperACL, Type: Choice, Values: []string{"true", "false"}, Default: "false", Doc: "true: only that user may use the nodes that are created; false: everybody may"}),
}

// refusedOffsets are properties about offsets that a user may bring along; see refused.
var refusedOffsets = map[string]string{
	"auto.commit.enable":                 "it is set by Sluice: offsets are published after each checkpoint, without checkpoints every " + propAutoCommit + "; to have none published, write offsets: {storage: none}",
	"enable.auto.commit":                 "it is set by Sluice: offsets are published after each checkpoint, without checkpoints every " + propAutoCommit + "; to have none published, write offsets: {storage: none}",
	"offsets.storage":                    "write offsets: {storage: kafka | zookeeper | both | none} beside properties",
	"dual.commit.enabled":                "write offsets: {storage: both} beside properties",
	"commit.offsets.on.checkpoint":       "write offsets: {storage: none} beside properties for false; it is what happens otherwise",
	"zookeeper.sync.time.ms":             "it has no meaning here: what is there is read up to date; remove it",
	"zookeeper.servers":                  "write " + propZooKeeper,
	"flink.zookeeper.max-retries":        "it has no meaning here: offsets are written until it succeeds, and the job does not wait for it; remove it",
	"flink.get-partitions.retry":         "it has no meaning here: partitions are asked for until there is an answer; remove it",
	"offsets.commit.timeout.ms":          "it has no meaning here: the job does not wait for it; remove it",
	"flink.zookeeper.base-sleep-time.ms": "it has no meaning here: offsets are written until it succeeds, and the job does not wait for it; remove it",
}

// refusal is why a property of other clients is refused.
func refusal(name string) (reason string, ok bool) {
	for _, table := range []map[string]string{refused, refusedOffsets, refusedForeign} {
		if reason, ok = table[name]; ok {
			break
		}
	}
	return reason, ok
}

// checkZooKeeper judges a zookeeper.connect.
func checkZooKeeper(value string) error {
	if _, _, err := zookeeper.ParseConnect(value); err != nil {
		if strings.Contains(value, "@") {
			return &PropertyError{Name: propZooKeeper, Reason: "it holds an @, so it is not shown: a password may be in it",
				Hint: "write zk1:2181,zk2:2181/chroot, and the login as " + propZooKeeperUsername + " and " + propZooKeeperPassword}
		}
		return &PropertyError{Name: propZooKeeper, Reason: strings.TrimPrefix(err.Error(), propZooKeeper+" ")}
	}
	return nil
}

// zooKeeper judges what the properties of ZooKeeper mean to each other.
func (c *checker) zooKeeper() {
	for _, p := range offsetProperties {
		if p.Name != propAutoCommit && c.has(p.Name) && !c.has(propZooKeeper) {
			c.add(p.Name, "add "+propZooKeeper+" or remove it", "it has no effect without %s", propZooKeeper)
		}
	}
	switch {
	case c.has(propZooKeeperUsername) != c.has(propZooKeeperPassword):
		c.add(propZooKeeperUsername, "give both or none", "%s and %s belong together", propZooKeeperUsername, propZooKeeperPassword)
	case c.properties[propZooKeeperACL] == "true" && !c.has(propZooKeeperUsername):
		c.add(propZooKeeperACL, "add "+propZooKeeperUsername+" and "+propZooKeeperPassword, "without a user there is nobody whom nodes could belong to")
	}
}
