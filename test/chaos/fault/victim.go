package fault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

// victim is a second, small job, on the slots that a run has to spare. What no job can survive, such as the end of
// its topic, is done to it; the job of the workload must not notice. It copies numbers from one partition to
// another, so it is easy to say what must come out.
type victim struct {
	scene   *Scene
	name    string // and the prefix of its topics
	id      string
	written int // numbers 0 to written−1 are in the input
	// attempts are the restarts that it has before it is FAILED.
	attempts int
}

// victimOptions say how a victim runs.
type victimOptions struct {
	// attempts are the restarts that it has before it is FAILED.
	attempts int
	// replicas of its input, by node id, of which one need be in sync; nil: every broker, two in sync.
	replicas []int32
	// bootstrap is where it finds the brokers, and properties how it logs in; empty: as the job of the workload.
	bootstrap  string
	properties map[string]string
}

const (
	// victimRecords are written before a fault, and again after it.
	victimRecords = 1000
	// deliveryMs is delivery.timeout.ms of a victim: how long its sink waits for a topic that is gone.
	deliveryMs = 6000
	// firstBackoff is the pause before the second restart in a row; it doubles up to maxBackoff. At random a quarter
	// of it is taken away; the log is written a little later than the pause begins.
	firstBackoff, maxBackoff = time.Second, 4 * time.Second
)

func (v *victim) in() string  { return v.name + "-in" }
func (v *victim) out() string { return v.name + "-out" }

// newVictim makes its topics, submits it and waits until it has copied what is there.
func (s *Scene) newVictim(ctx context.Context, o victimOptions) (*victim, error) {
	v := &victim{scene: s, attempts: o.attempts, name: fmt.Sprintf("%s-victim-%x", s.Workload.Params().Name, time.Now().UnixNano())}
	err := errors.Join(v.createTopic(ctx, v.in(), o.replicas), v.createTopic(ctx, v.out(), nil))
	if err != nil {
		return nil, err
	}
	if o.properties != nil {
		if err := v.grant(ctx); err != nil {
			return nil, err
		}
	}
	if v.id, err = s.Submit(ctx, v.name, v.jobFile(o)); err != nil {
		return nil, err
	}
	return v, v.goesOn(ctx)
}

// jobFile is a copy job of one slot.
func (v *victim) jobFile(o victimOptions) string {
	own := map[string]string{"bootstrap.servers": v.scene.Led()}
	if o.bootstrap != "" {
		own["bootstrap.servers"] = o.bootstrap
	}
	maps.Copy(own, o.properties)
	properties := func(more map[string]string) string {
		all := maps.Clone(own)
		maps.Copy(all, more)
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(all)) {
			parts = append(parts, fmt.Sprintf("%s: '%s'", name, all[name]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprintf(`name: %s
parallelism: 1
checkpoint: {interval: 500ms, timeout: 10s, tolerableFailures: 5}
restart: {strategy: exponential-delay, initial: 0s, max: %v, attempts: %d, healthyAfter: 5m}
sources:
  in: {kafka: {topics: [%s], startup: earliest, offsets: {storage: none}, properties: %s}}
sinks:
  out: {from: in, kafka: {topic: %s, guarantee: exactly-once, partitioner: preserve, properties: %s}}
`, v.name, maxBackoff, o.attempts, v.in(), properties(map[string]string{"isolation.level": "read_committed"}),
		v.out(), properties(map[string]string{"transaction.timeout.ms": "120000", "delivery.timeout.ms": strconv.Itoa(deliveryMs), "request.timeout.ms": "5000"}))
}

// createTopic makes a topic of one partition, on these brokers or on all.
func (v *victim) createTopic(ctx context.Context, topic string, replicas []int32) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(v.scene.Direct(), ",")...))
	if err != nil {
		return fmt.Errorf("making a client to create topic %s: %w", topic, err)
	}
	defer client.Close()
	inSync := "1"
	if replicas == nil {
		inSync = fmt.Sprint(rig.Brokers - 1)
		for node := range int32(rig.Brokers) {
			replicas = append(replicas, node+1)
		}
	}
	made := kmsg.NewCreateTopicsRequestTopic()
	made.Topic, made.NumPartitions, made.ReplicationFactor = topic, -1, -1
	made.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Replicas: replicas}}
	made.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "min.insync.replicas", Value: &inSync}}
	request := kmsg.NewPtrCreateTopicsRequest()
	request.Topics, request.TimeoutMillis = []kmsg.CreateTopicsRequestTopic{made}, int32(patience.Milliseconds())
	answer, err := request.RequestWith(ctx, client)
	if err == nil && len(answer.Topics) == 1 {
		err = kerr.ErrorForCode(answer.Topics[0].ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("creating topic %s: %w", topic, err)
	}
	return nil
}

// deleteTopic deletes a topic, and waits until the brokers do not list it any more.
func (v *victim) deleteTopic(ctx context.Context, topic string) error {
	if err := v.scene.DeleteTopics(ctx, topic); err != nil {
		return err
	}
	admin, err := v.scene.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	for {
		if topics, err := admin.ListTopics(ctx); err == nil && !topics.Has(topic) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for the end of topic %s: %w", topic, err)
		}
	}
}

// write appends the next numbers to the input.
func (v *victim) write(ctx context.Context, count int) error {
	var records []*kgo.Record
	for n := range count {
		records = append(records, &kgo.Record{Topic: v.in(), Value: []byte(strconv.Itoa(v.written + n))})
	}
	if err := v.scene.produce(ctx, records); err != nil {
		return err
	}
	v.written += count
	return nil
}

// produce writes records, each to the partition that it names, with no proxy between.
func (s *Scene) produce(ctx context.Context, records []*kgo.Record) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(s.Direct(), ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return fmt.Errorf("making a producer: %w", err)
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("writing %d records: %w", len(records), err)
	}
	return nil
}

// goesOn writes more and waits until all that was ever written is in the output, each number once and in order.
func (v *victim) goesOn(ctx context.Context) error {
	if err := v.write(ctx, victimRecords); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(v.scene.Direct(), ",")...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeTopics(v.out()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		return fmt.Errorf("making a reader of the victim's output: %w", err)
	}
	defer client.Close()
	next := 0
	for next < v.written {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			job, err := v.scene.Rig.Job(context.WithoutCancel(ctx), v.id)
			return fmt.Errorf("the victim has copied %d of %d records within %s; it is %s: %w", next, v.written, patience, job, errors.Join(ctx.Err(), err))
		}
		for iterator := fetches.RecordIter(); !iterator.Done(); next++ {
			if r := iterator.Next(); string(r.Value) != strconv.Itoa(next) {
				return fmt.Errorf("the victim's output has %.40q at offset %d, want %d: lost, twice or out of order", r.Value, r.Offset, next)
			}
		}
	}
	return nil
}

// stateOf waits until the victim is in a state, and gives a reason that says all of the words.
func (v *victim) stateOf(ctx context.Context, state string, words ...string) error {
	_, err := v.scene.WaitFor(ctx, v.id, fmt.Sprintf("%s with %q", state, words), patience, func(j *cluster.Job) bool {
		return j.State == state && says(j, words)
	})
	return err
}

// suffers waits until the victim, which lives on, gives a reason that says all of the words.
func (v *victim) suffers(ctx context.Context, words ...string) error {
	_, err := v.scene.WaitFor(ctx, v.id, fmt.Sprintf("in trouble with %q", words), patience, func(j *cluster.Job) bool { return says(j, words) })
	return err
}

// neverRestarted checks that the victim is in its first attempt.
func (v *victim) neverRestarted(ctx context.Context) error {
	job, err := v.scene.WaitFor(ctx, v.id, running, patience, func(j *cluster.Job) bool { return j.State == running })
	if err == nil && job.Attempt != 1 {
		err = fmt.Errorf("the victim restarted: %s", job)
	}
	return err
}

// says tells whether the failure of a job, or what it waits for, has all of the words.
func says(j *cluster.Job, words []string) bool {
	text := strings.Join(j.Waiting, "\n")
	if j.Failure != nil {
		text += "\n" + j.Failure.Message
	}
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
}

// backsOff checks the restarts of the victim so far.
func (v *victim) backsOff(least int) error {
	lines, err := v.scene.decisions(v.id)
	if err != nil {
		return err
	}
	return backsOff(lines, least)
}

// backsOff checks that the restarts of a job, of which there are at least so many, came after growing pauses.
func backsOff(lines []oracle.Decision, least int) error {
	restarts, due := 0, time.Duration(0)
	var since time.Time
	for _, line := range lines {
		switch {
		case line.Event != "state":
		case line.To == "RESTARTING":
			since = line.Time
			restarts++
			if due = min(2*due, maxBackoff); restarts == 2 { // the first one comes at once
				due = firstBackoff
			}
		case line.From == "RESTARTING" && restarts > 1 && line.Time.Sub(since) < due/2:
			return fmt.Errorf("restart %d of the victim came after %s, want at least %s", restarts, line.Time.Sub(since), due/2)
		}
	}
	if restarts < least {
		return fmt.Errorf("the victim restarted %d times, want at least %d", restarts, least)
	}
	return nil
}

// end cancels the victim if it runs, and deletes what it leaves.
func (v *victim) end(ctx context.Context) error {
	job, err := v.scene.WaitFor(ctx, v.id, "there", patience, func(*cluster.Job) bool { return true })
	if err != nil {
		return err
	}
	if !cluster.Terminal(job.State) {
		result, err := v.scene.Sluice(ctx, "cancel", v.id)
		if err != nil {
			return err
		}
		if result.Code != 0 {
			return fmt.Errorf("cancelling the victim: exit code %d: %s", result.Code, result.Stderr)
		}
		if err := v.stateOf(ctx, canceled); err != nil {
			return err
		}
	}
	lines, err := v.scene.decisions(v.id)
	if err != nil {
		return err
	}
	if found := oracle.CheckDecisions(lines); len(found.Faults) > 0 {
		return fmt.Errorf("the decisions about the victim break rules: %q", found.Faults)
	}
	return v.scene.DeleteTopics(ctx, v.in(), v.out())
}

// decisions are the lines of the decision log about a job.
func (s *Scene) decisions(job string) ([]oracle.Decision, error) {
	file, err := os.Open(s.DecisionLog())
	if err != nil {
		return nil, fmt.Errorf("decision log: %w", err)
	}
	defer file.Close()
	lines, err := oracle.ReadDecisions(file)
	if err != nil {
		return nil, fmt.Errorf("decision log: %w", err)
	}
	return oracle.OfJob(lines, job), nil
}
