package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/cluster"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// patience bounds every wait. What it waits for takes seconds at most; the rest is a slow machine.
const patience = 90 * time.Second

// rig is a Sluice cluster beside a Kafka, with names that no other case uses.
type rig struct {
	*cluster.Cluster
	kafka  *kafkaenv.Cluster
	prefix string
}

func newRig(t *testing.T, kafka *kafkaenv.Cluster) *rig {
	t.Helper()
	return newRigOf(t, binaries, kafka)
}

// newRigOf is newRig with other programs.
func newRigOf(t *testing.T, programs *cluster.Binaries, kafka *kafkaenv.Cluster) *rig {
	t.Helper()
	return &rig{Cluster: cluster.New(t, programs), kafka: kafka, prefix: fmt.Sprintf("t%08x-", rand.Uint32())}
}

// start runs a job manager and task managers tm-1, tm-2, … with these slots.
func (r *rig) start(t *testing.T, slots ...int) {
	t.Helper()
	r.StartJobManager(t)
	for i, n := range slots {
		r.StartTaskManager(t, fmt.Sprintf("tm-%d", i+1), n)
	}
}

// topic is the full name of a topic of this case.
func (r *rig) topic(name string) string { return r.prefix + name }

// create makes topics of this case.
func (r *rig) create(t *testing.T, partitions int32, names ...string) {
	t.Helper()
	for _, name := range names {
		r.kafka.CreateTopic(t, r.topic(name), partitions, nil)
	}
}

// fill replaces $brokers, $name (of the job) and the topics of this case, as $in, in a job file.
func (r *rig) fill(job string) string {
	return os.Expand(job, func(name string) string {
		switch name {
		case "brokers":
			return r.kafka.Addr()
		case "name":
			return r.prefix + "job"
		default:
			return r.topic(name)
		}
	})
}

// submit submits a job file after fill.
func (r *rig) submit(t *testing.T, job string, args ...string) string {
	t.Helper()
	return r.Submit(t, r.fill(job), args...)
}

// finish runs a bounded job to its end.
func (r *rig) finish(t *testing.T, job string, args ...string) cluster.Job {
	t.Helper()
	return r.WaitState(t, r.submit(t, job, args...), "FINISHED", patience)
}

// numbered makes records FROM..TO-1 for a topic of this case, spread over the partitions in turn. The
// value is the number; the key is the number modulo keys.
func (r *rig) numbered(topic string, partitions, keys, from, to int) []*kgo.Record {
	records := make([]*kgo.Record, 0, to-from)
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{
			Topic: r.topic(topic), Partition: int32(i % partitions),
			Key: []byte("key-" + strconv.Itoa(i%keys)), Value: []byte(strconv.Itoa(i)),
		})
	}
	return records
}

// guarantee says how often a record may come out.
type guarantee int

const (
	exactly guarantee = iota // once each
	atLeast                  // once or, after a failure, more
)

// checkCopies compares the values of the output with the numbers 0..want-1.
func (r *rig) checkCopies(t *testing.T, topic string, want int, g guarantee) {
	t.Helper()
	seen := make([]int, want)
	out := r.kafka.Read(t, r.topic(topic))
	for _, record := range out {
		n, err := strconv.Atoi(string(record.Value))
		if err != nil || n < 0 || n >= want {
			t.Fatalf("output holds %q, which was never sent", record.Value)
		}
		seen[n]++
	}
	lost, duplicates := 0, 0
	for _, count := range seen {
		if count == 0 {
			lost++
		} else {
			duplicates += count - 1
		}
	}
	t.Logf("%d in, %d out, %d lost, %d duplicates", want, len(out), lost, duplicates)
	if lost > 0 || g == exactly && duplicates > 0 {
		t.Errorf("%d lost, %d duplicates", lost, duplicates)
	}
}

// checkCounts compares running counts with what count per key of numbered(…, keys, 0, total) gives: the
// counts 1..n of each key, in this order, each once; with atLeast a restart may repeat a part.
func (r *rig) checkCounts(t *testing.T, topic string, keys, total int, g guarantee) {
	t.Helper()
	latest := map[string]int{}
	highest := map[string]int{}
	duplicates := 0
	for _, record := range r.kafka.Read(t, r.topic(topic)) {
		key := string(record.Key)
		n, err := strconv.Atoi(string(record.Value))
		if err != nil {
			t.Fatalf("count of %s is %q", key, record.Value)
		}
		if n != latest[key]+1 {
			if g == exactly || n > highest[key]+1 {
				t.Errorf("%s: count %d follows %d", key, n, latest[key])
			}
		}
		if n <= highest[key] {
			duplicates++
		}
		latest[key], highest[key] = n, max(n, highest[key])
	}
	if len(highest) != min(keys, total) {
		t.Errorf("%d keys in the output, want %d", len(highest), min(keys, total))
	}
	for k := range min(keys, total) {
		want := total / keys
		if k < total%keys {
			want++
		}
		if key := "key-" + strconv.Itoa(k); highest[key] != want || latest[key] != want {
			t.Errorf("%s was counted up to %d and ends at %d, want %d", key, highest[key], latest[key], want)
		}
	}
	t.Logf("%d records, %d keys, %d duplicates", total, len(highest), duplicates)
}

// jobStatus is the status of a job.
type jobStatus = cluster.Job

// position is the offset of a partition in the newest checkpoint; -1 before the first.
func (r *rig) position(j *jobStatus, topic string, partition int) int64 {
	if j.Checkpoints.Latest == nil {
		return -1
	}
	for _, topics := range j.Checkpoints.Latest.Offsets {
		if at, ok := topics[r.topic(topic)][strconv.Itoa(partition)]; ok {
			return at
		}
	}
	return -1
}

// read is the sum of all offsets in the newest checkpoint: with partitions that begin at 0 and hold no
// control batches, the records that it covers.
func (r *rig) read(j *jobStatus) int64 {
	sum := int64(0)
	if j.Checkpoints.Latest == nil {
		return sum
	}
	for _, topics := range j.Checkpoints.Latest.Offsets {
		for _, partitions := range topics {
			for _, at := range partitions {
				sum += at
			}
		}
	}
	return sum
}
