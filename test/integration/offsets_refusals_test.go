package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// TestOffsetsRefusals: what cannot be meant is refused with the reason, before anything runs.
func TestOffsetsRefusals(t *testing.T) {
	onEveryKafka(t, []testCase{{"refused", refuseOffsets}})
}

func refuseOffsets(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.start(t, 1)
	o := newOffsetsRig(t, r)
	unused, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	good := o.job()
	without := func(text string) string { return strings.Replace(good, text, "", 1) }
	for _, c := range []struct {
		name, job string
		code      int
		words     []string
	}{
		{"no zookeeper.connect", without(", zookeeper.connect: '" + o.keeper.Addr() + "'"), 2, []string{"offsets.storage: zookeeper needs zookeeper.connect"}},
		{"no group.id", without("group.id: '$name', "), 2, []string{"offsets.storage: zookeeper needs group.id"}},
		{"nobody listens", o.job("CONNECT", fmt.Sprintf("127.0.0.1:%d", unused)), 1, []string{"source in", fmt.Sprintf("127.0.0.1:%d", unused), "zookeeper.connect"}},
		{"no such chroot", o.job("CONNECT", o.keeper.Addr()+"/nowhere"), 1, []string{"source in", "/nowhere", "does not exist"}},
		{"Kafka instead of ZooKeeper", o.job("CONNECT", r.kafka.Addr()), 1, []string{"source in", r.kafka.Addr()}},
		{"connect is no address", o.job("CONNECT", "zk1:port"), 2, []string{"zookeeper.connect", "port"}},
	} {
		t.Run(c.name, func(t *testing.T) { r.refused(t, c.job, c.code, c.words...) })
	}
}

// TestOffsetsWithDigest: the user and the password come from the environment of the job manager; the nodes that it
// creates are that user's alone.
func TestOffsetsWithDigest(t *testing.T) {
	onEveryKafka(t, []testCase{{"digest", offsetsWithDigest}})
}

func offsetsWithDigest(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.start(t)
	r.Term(t, r.JobManager())
	o := newOffsetsRig(t, r)
	r.kafka.Produce(t, r.numbered("in", 1, 5, 0, 10))
	job := func(user string) string {
		more := "zookeeper.digest.username: " + user + ", zookeeper.digest.password: '${env:ZK_PASSWORD}', zookeeper.set.acl: 'true', zookeeper.connect"
		return strings.Replace(o.job(), "zookeeper.connect", more, 1)
	}
	refused := r.Sluice(t, "validate", r.JobFile(t, strings.Replace(fillDigest(o, job("sluice")), "${env:ZK_PASSWORD}", "hunter2", 1)))
	if refused.Code != 2 || !strings.Contains(refused.Stderr, "the value stands in the job file") || strings.Contains(refused.Stderr, "hunter2") {
		t.Errorf("exit code %d:\n%s", refused.Code, refused.Stderr)
	}
	r.SetEnvironment("ZK_PASSWORD=hunter2")
	r.start(t, 1)
	id := r.Submit(t, fillDigest(o, job("sluice")))
	r.WaitFor(t, id, "publishing what nobody without a password reads", patience, func(*jobStatus) bool {
		_, _, err := o.nodes.Get(o.node(0))
		if err == nil {
			t.Error("somebody without a password reads the node")
		}
		return err == nil || errors.Is(err, zk.ErrNoAuth)
	})
	if err := o.nodes.AddAuth("digest", []byte("sluice:hunter2")); err != nil {
		t.Fatal(err)
	}
	o.waitHeld(t, o.node(0), "9")
	r.MustSluice(t, "cancel", id)
	r.WaitState(t, id, "CANCELED", patience)
	other := r.Sluice(t, "submit", r.JobFile(t, fillDigest(o, job("another"))))
	if other.Code != 1 || !strings.Contains(other.Stderr, "no permission") || !strings.Contains(other.Stderr, o.node(0)) {
		t.Errorf("exit code %d of a user who may not read the offsets:\n%s", other.Code, other.Stderr)
	}
}

// fillDigest is fill for a job file with a reference.
func fillDigest(o *offsetsRig, job string) string {
	return strings.Replace(o.fill(strings.Replace(job, "${env:ZK_PASSWORD}", "PASSWORD", 1)), "PASSWORD", "${env:ZK_PASSWORD}", 1)
}
