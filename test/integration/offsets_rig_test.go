package integration

import (
	"errors"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// offsetsJob copies $in to $out and publishes its offsets. The words in capitals are for offsetsRig.job.
const offsetsJob = `name: $name
parallelism: 1
checkpoint: {interval: INTERVAL}
restart: {initial: 0s}
sources:
  in:
    kafka:
      topics: ['$in']
      startup: committed
      bounded: none
      offsets: {storage: STORAGE, meaning: MEANING}
      properties: {bootstrap.servers: '$brokers', group.id: '$name', auto.offset.reset: earliest, zookeeper.connect: 'CONNECT'}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: GUARANTEE, properties: {bootstrap.servers: '$brokers', linger.ms: 5}}}
`

// offsetsRig is a rig with a ZooKeeper of its own and somebody who looks into it with another client.
type offsetsRig struct {
	*rig
	keeper *kafkaenv.ZooKeeper
	nodes  *zk.Conn
}

func newOffsetsRig(t *testing.T, r *rig) *offsetsRig {
	t.Helper()
	o := &offsetsRig{rig: r, keeper: kafkaenv.StartZooKeeper(t)}
	o.look(t)
	return o
}

// look makes a new session; a server whose data is gone refuses those that have seen it.
func (o *offsetsRig) look(t *testing.T) {
	t.Helper()
	o.nodes = o.keeper.Session(t)
}

// job fills the words of a job file in pairs; what is not given has a default.
func (o *offsetsRig) job(pairs ...string) string {
	defaults := []string{"INTERVAL", "100ms", "STORAGE", "zookeeper", "MEANING", "last", "CONNECT", o.keeper.Addr(), "GUARANTEE", "exactly-once"}
	return strings.NewReplacer(append(pairs, defaults...)...).Replace(offsetsJob) // of two the first counts
}

// node is where the offset of a partition of $in is.
func (o *offsetsRig) node(partition int) string {
	return path.Join("/consumers", o.prefix+"job", "offsets", o.topic("in"), strconv.Itoa(partition))
}

// set makes a node or changes it, as other programs do.
func (o *offsetsRig) set(t *testing.T, node, data string) {
	t.Helper()
	if parent := path.Dir(node); parent != "/" {
		if found, _, err := o.nodes.Exists(parent); err != nil {
			t.Fatal(err)
		} else if !found {
			o.set(t, parent, "")
		}
	}
	_, err := o.nodes.Create(node, []byte(data), 0, zk.WorldACL(zk.PermAll))
	if errors.Is(err, zk.ErrNodeExists) {
		_, err = o.nodes.Set(node, []byte(data), -1)
	}
	if err != nil {
		t.Fatalf("set %s: %v", node, err)
	}
}

// held is what a node holds; empty if there is none.
func (o *offsetsRig) held(t *testing.T, node string) string {
	t.Helper()
	data, _, err := o.nodes.Get(node)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		t.Fatalf("get %s: %v", node, err)
	}
	return string(data)
}

// waitHeld waits until a node holds this.
func (o *offsetsRig) waitHeld(t *testing.T, node, want string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		data, _, err := o.nodes.Get(node)
		if err == nil && string(data) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s holds %q (%v), want %q", node, data, err, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// publication is how publishing goes at a place, of a job with one source.
func publication(j *jobStatus, storage string) (at struct {
	Checkpoint          int64
	Error, FailingSince string
}) {
	for _, p := range j.Publications {
		if p.Storage == storage {
			at.Checkpoint, at.Error, at.FailingSince = p.Checkpoint, p.Error, p.FailingSince
		}
	}
	return at
}
