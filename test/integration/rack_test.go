package integration

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// racked are three brokers, each in a rack of its own, with a proxy before each that counts what it answers.
type racked struct {
	kafka   *kafkaenv.Cluster
	proxies [3]*proxy
}

func startRacked(t *testing.T) *racked {
	t.Helper()
	r := &racked{}
	r.kafka = kafkaenv.Start(t, kafkaenv.Options{
		Kind: kafkaenv.Kafka43, Brokers: 3,
		Properties: map[string]string{"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"},
		Advertise: func(node int, listens string) (string, error) {
			r.proxies[node] = newProxy(t, listens)
			return r.proxies[node].addr(), nil
		},
		PerNode: func(node int, properties map[string]string) error {
			properties["broker.rack"] = rackOf(node)
			return nil
		},
	})
	return r
}

func rackOf(node int) string { return "rack-" + strconv.Itoa(node) }

// leader is the node that leads partition 0 of a topic.
func (r *racked) leader(t *testing.T, topic string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	topics, err := kadm.NewClient(r.kafka.Client(t)).ListTopics(ctx, topic)
	if err != nil || topics.Error() != nil {
		t.Fatalf("the leader of %s: %v, %v", topic, err, topics.Error())
	}
	return int(topics[topic].Partitions[0].Leader) - 1
}

// heavy makes records FROM..TO-1 that cannot be compressed, of 2 KiB each.
func (r *rig) heavy(topic string, from, to int) []*kgo.Record {
	var records []*kgo.Record
	for n := from; n < to; n++ {
		filler := make([]byte, 2<<10)
		for i := range filler {
			filler[i] = byte(rand.Uint32())
		}
		records = append(records, &kgo.Record{Topic: r.topic(topic), Value: []byte(strconv.Itoa(n)), Headers: []kgo.RecordHeader{{Key: "filler", Value: filler}}})
	}
	return records
}

// TestRack reads from the follower in the rack of the task manager, and from the leader once that one is dead.
func TestRack(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and brokers")
	}
	brokers := startRacked(t)
	r := newRig(t, brokers.kafka)
	r.create(t, 1, "in", "out")
	leader := brokers.leader(t, r.topic("in"))
	follower := (leader + 1) % 3
	r.SetEnvironment("RACK=" + rackOf(follower))
	r.start(t, 1)
	var led []string
	for _, p := range brokers.proxies {
		led = append(led, p.addr())
	}
	job := strings.NewReplacer("$brokers", strings.Join(led, ","), "startup: latest", "startup: earliest", "partition.discovery.interval.ms: 1000", "client.rack: RACK",
		"parallelism: 2", "parallelism: 1").Replace(discovering)
	job = strings.Replace(job, "from: in\n", "from: slim\n", 1)
	job = strings.Replace(job, "sinks:\n", "operators:\n  slim: {from: in, map: {headers: '[]'}}\nsinks:\n", 1)
	id := r.Submit(t, strings.Replace(r.fill(job), "rack: RACK", "rack: '${env:RACK}'", 1))
	const batch = 1000 // 2 MiB
	small := kgo.ProducerBatchMaxBytes(256 << 10)
	answered := func(node int) int64 { return brokers.proxies[node].answered.Load() }
	fromLeader, fromFollower := answered(leader), answered(follower)
	r.kafka.Produce(t, r.heavy("in", 0, batch), small)
	r.waitVisible(t, "out", batch, patience)
	fromLeader, fromFollower = answered(leader)-fromLeader, answered(follower)-fromFollower
	t.Logf("%d bytes from the leader, %d from the follower", fromLeader, fromFollower)
	if fromFollower < batch*2<<10 || fromLeader > batch<<10 {
		t.Errorf("%d bytes came from the leader and %d from the follower in our rack", fromLeader, fromFollower)
	}
	brokers.kafka.Kill(t, follower)
	fromLeader = answered(leader)
	r.kafka.Produce(t, r.heavy("in", batch, 2*batch), small)
	r.waitVisible(t, "out", 2*batch, patience)
	t.Logf("%d bytes from the leader after the follower had died", answered(leader)-fromLeader)
	j := r.Job(t, id)
	if j.Attempt != 1 || j.Restarts != 0 {
		t.Errorf("attempt %d, %d restarts", j.Attempt, j.Restarts)
	}
	r.MustSluice(t, "stop", id)
	r.WaitState(t, id, "STOPPED", patience)
	r.checkCopies(t, "out", 2*batch, exactly)
}
