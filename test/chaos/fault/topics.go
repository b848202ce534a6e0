package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/chaos/proxy"
	"github.com/sluice-stream/sluice/test/chaos/workload"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

const (
	failed = "FAILED"
	// addedPartitions are added to the input, each with so many records.
	addedPartitions, addedRecords = 4, 500
)

// topicFaults are what administrators and accidents do to topics. What cannot be survived is done to a victim.
func topicFaults() []Fault {
	return []Fault{
		{
			ID: "F25", Variant: "partitions", What: "partitions are added to the input, and written to", Inject: addPartitions, Alone: true,
			Tune: func(t *Tuning) {
				t.SourceProperties = map[string]string{"partition.discovery.interval.ms": "1000"}
			},
			Kinds: []workload.Kind{workload.B, workload.C}, // A keeps the partition, of which the output has no more
		},
		{ID: "F25", Variant: "retention", What: "the input of a second job is deleted past its position", Inject: onVictim(2, retain), Alone: true},
		{ID: "F25", Variant: "recreated", What: "the input of a second job is deleted and created again", Inject: onVictim(2, recreate), Alone: true},
		{
			ID: "F25", Variant: "replaced", What: "the input of a second job is deleted and created again, and has more records than before when the job looks",
			Inject: onVictim(2, replace), Alone: true,
		},
		{
			ID: "F25", Variant: "unclean", What: "a replica that lacks what a second job has read becomes the leader of its input",
			Inject: func(ctx context.Context, s *Scene) error { return truncateLog(ctx, s, 0) }, Alone: true,
			Expect: Expect{MaxAttempts: 3}, // of three brokers one is left for a moment
		},
		{
			ID: "F25", Variant: "overtaken", What: "as F25/unclean, and the log of the new leader is longer than what was read when the job looks",
			Inject: func(ctx context.Context, s *Scene) error { return truncateLog(ctx, s, 2*victimRecords) }, Alone: true,
			Expect: Expect{MaxAttempts: 3},
		},
		{ID: "F26", Variant: "deleted", What: "the output of a second job is deleted", Inject: onVictim(2, deleteOutput), Alone: true},
	}
}

// onVictim does something to a victim that has so many restarts. The job of the workload must not notice.
func onVictim(attempts int, harm func(ctx context.Context, v *victim) error) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		v, err := s.newVictim(ctx, victimOptions{attempts: attempts})
		if err != nil {
			return err
		}
		s.Begin()
		if err := harm(ctx, v); err != nil {
			return err
		}
		return v.end(ctx)
	}
}

// addPartitions waits until what is in the new partitions is part of a checkpoint. The oracle misses it otherwise, too.
func addPartitions(ctx context.Context, s *Scene) error {
	admin, err := s.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	in, first := s.Workload.In(), s.Workload.Params().Partitions
	s.Begin()
	added, err := admin.CreatePartitions(ctx, addedPartitions, in)
	if err = errors.Join(err, added.Error()); err != nil {
		return fmt.Errorf("adding partitions to %s: %w", in, err)
	}
	var records []*kgo.Record
	for n := range addedPartitions * addedRecords {
		v := workload.Value{Partition: first + int32(n%addedPartitions), Seq: int64(n / addedPartitions), Fan: 1, Payload: []byte("added")}
		records = append(records, &kgo.Record{Topic: in, Partition: v.Partition, Key: fmt.Appendf(nil, "added-%d", n%100), Value: v.Append(nil)})
	}
	if err := s.produce(ctx, records); err != nil {
		return err
	}
	_, err = s.WaitFor(ctx, s.Job, "past the records of the new partitions", patience, func(j *cluster.Job) bool {
		if j.Checkpoints.Latest == nil {
			return false
		}
		for p := range int32(addedPartitions) {
			if j.Checkpoints.Latest.Offsets["in"][in][fmt.Sprint(first+p)] < addedRecords {
				return false
			}
		}
		return true
	})
	return err
}

// retain deletes records that the victim has not read: it hears nothing of Kafka meanwhile.
func retain(ctx context.Context, v *victim) error {
	if err := v.deafen(ctx); err != nil {
		return err
	}
	if err := v.write(ctx, 1); err != nil { // answers the fetch that waits at the broker
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if err := v.write(ctx, victimRecords); err != nil {
		return err
	}
	admin, err := v.scene.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	var end kadm.Offsets
	end.AddOffset(v.in(), 0, int64(v.written), -1)
	deleted, err := admin.DeleteRecords(ctx, end)
	if err = errors.Join(err, deleted.Error()); err != nil {
		return fmt.Errorf("deleting the records of %s: %w", v.in(), err)
	}
	v.scene.Mesh.Heal()
	return v.failsWith(ctx, v.in()+"/0", "the position ", fmt.Sprintf("is before the start of the log, which is %d", v.written))
}

// deafen lets the victim hear nothing of Kafka.
func (v *victim) deafen(ctx context.Context) error {
	job, err := v.scene.Rig.Job(ctx, v.id)
	if err != nil {
		return err
	}
	v.scene.silence(workerToKafka(job.Vertices[0].Subtasks[0].TaskManager), proxy.Rule{BlockForward: true, BlockBack: true})
	return nil
}

// replace leaves a topic of the same name that is longer than what the victim has read: other records stand where it
// would go on.
func replace(ctx context.Context, v *victim) error {
	if err := v.deafen(ctx); err != nil {
		return err
	}
	if err := v.deleteTopic(ctx, v.in()); err != nil {
		return err
	}
	if err := v.createTopic(ctx, v.in(), nil); err != nil {
		return err
	}
	if err := v.write(ctx, 2*victimRecords); err != nil {
		return err
	}
	v.scene.Mesh.Heal()
	return v.stateOf(ctx, failed, v.in(), "deleted and created again") // no restart would help
}

// recreate leaves a topic of the same name that is shorter than what the victim has read.
func recreate(ctx context.Context, v *victim) error {
	if err := v.deleteTopic(ctx, v.in()); err != nil {
		return err
	}
	if err := v.createTopic(ctx, v.in(), nil); err != nil {
		return err
	}
	v.written = 0
	if err := v.write(ctx, 10); err != nil {
		return err
	}
	return v.stateOf(ctx, failed, v.in(), "deleted and created again")
}

func deleteOutput(ctx context.Context, v *victim) error {
	if err := v.deleteTopic(ctx, v.out()); err != nil {
		return err
	}
	if err := v.write(ctx, victimRecords); err != nil {
		return err
	}
	return v.failsWith(ctx, v.out())
}

// failsWith expects that the victim uses its restarts up, with growing pauses, and says why.
func (v *victim) failsWith(ctx context.Context, words ...string) error {
	if err := v.stateOf(ctx, failed, words...); err != nil {
		return err
	}
	return v.backsOff(v.attempts)
}

// truncateLog lets a follower miss what the victim reads, and makes it the leader: the log gets shorter. More records
// may follow before the victim looks.
func truncateLog(ctx context.Context, s *Scene, more int) error {
	const leader, follower = 0, 1 // counted from 0; as node ids from 1
	v, err := s.newVictim(ctx, victimOptions{attempts: 2, replicas: []int32{leader + 1, follower + 1}})
	if err != nil {
		return err
	}
	if err := s.configureTopic(ctx, v.in(), "unclean.leader.election.enable", new("true")); err != nil {
		return err
	}
	s.Begin()
	if err := s.KillBroker(follower); err != nil {
		return err
	}
	if err := v.goesOn(ctx); err != nil { // one replica is enough
		return err
	}
	if err := v.deafen(ctx); err != nil {
		return err
	}
	if err := s.KillBroker(leader); err != nil {
		return err
	}
	if err := s.StartBroker(ctx, follower); err != nil {
		return err
	}
	if err := v.write(ctx, more); err != nil {
		return err
	}
	s.Mesh.Heal()
	if err := v.failsWith(ctx, v.in()+"/0", fmt.Sprintf("the position %d ", 2*victimRecords), "truncated"); err != nil {
		return err
	}
	if err := s.StartBroker(ctx, leader); err != nil {
		return err
	}
	if err := s.Ground.Heal(ctx); err != nil {
		return err
	}
	return v.end(ctx)
}
