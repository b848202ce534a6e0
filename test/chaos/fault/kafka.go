package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/sluice-stream/sluice/test/chaos/rig"
)

// kafkaTrouble is how long a topic refuses what the sink writes.
const kafkaTrouble = 8 * time.Second

func kafkaFaults() []Fault {
	return []Fault{
		{ID: "F25", Variant: "move", What: "the leaders of all input partitions move, several times", Inject: moveLeaders},
		{
			ID: "F26", Variant: "min-isr", What: "too few replicas of the output are in sync for a while",
			Inject: func(ctx context.Context, s *Scene) error { return lackReplicas(ctx, s) },
		},
		{
			ID: "F26", Variant: "too-large", What: "the output topic refuses the records as too large for a while", Inject: refuseLarge,
			Expect: Expect{MinAttempts: 1, MaxAttempts: 30, States: []string{running}, Failure: "MESSAGE_TOO_LARGE"},
		},
		{ID: "F26", Variant: "throttle", What: "a quota slows down every producer for a while", Inject: throttle},
	}
}

// moveLeaders makes another replica the preferred one, and elects it.
func moveLeaders(ctx context.Context, s *Scene) error {
	admin, err := s.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	s.Begin()
	for range 4 {
		topics, err := admin.ListTopics(ctx, s.Workload.In())
		if err != nil {
			return fmt.Errorf("moving leaders: %w", err)
		}
		var moves kadm.AlterPartitionAssignmentsReq
		set := kadm.TopicsSet{}
		topics.EachPartition(func(p kadm.PartitionDetail) {
			next := append(append([]int32{}, p.Replicas[1:]...), p.Replicas[0])
			moves.Assign(p.Topic, p.Partition, next)
			set.Add(p.Topic, p.Partition)
		})
		if _, err := admin.AlterPartitionAssignments(ctx, moves); err != nil {
			return fmt.Errorf("moving leaders: %w", err)
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if _, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, set); err != nil {
			return fmt.Errorf("electing leaders: %w", err)
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// configure sets, or with nil takes back, one setting of the output topic.
func (s *Scene) configure(ctx context.Context, name string, value *string) error {
	return s.configureTopic(ctx, s.Workload.Out(), name, value)
}

// configureTopic sets, or with nil takes back, one setting of a topic.
func (s *Scene) configureTopic(ctx context.Context, topic, name string, value *string) error {
	admin, err := s.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	operation := kadm.SetConfig
	if value == nil {
		operation = kadm.DeleteConfig
	}
	responses, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: operation, Name: name, Value: value}}, topic)
	for _, r := range responses {
		err = errors.Join(err, r.Err)
	}
	if err != nil {
		return fmt.Errorf("setting %s of %s: %w", name, topic, err)
	}
	return nil
}

func lackReplicas(ctx context.Context, s *Scene) error {
	all, most := fmt.Sprint(rig.Brokers), fmt.Sprint(rig.Brokers-1)
	node := s.Rand.IntN(rig.Brokers)
	s.Begin()
	if err := s.configure(ctx, "min.insync.replicas", &all); err != nil {
		return err
	}
	if err := s.KillBroker(node); err != nil {
		return err
	}
	if err := pause(ctx, kafkaTrouble); err != nil {
		return err
	}
	if err := s.StartBroker(ctx, node); err != nil {
		return err
	}
	return s.configure(ctx, "min.insync.replicas", &most)
}

func refuseLarge(ctx context.Context, s *Scene) error {
	before, err := s.attempt(ctx)
	if err != nil {
		return err
	}
	tiny := "100"
	s.Begin()
	if err := s.configure(ctx, "max.message.bytes", &tiny); err != nil {
		return err
	}
	if err := pause(ctx, kafkaTrouble); err != nil {
		return err
	}
	if err := s.configure(ctx, "max.message.bytes", nil); err != nil {
		return err
	}
	return s.again(ctx, before)
}

func throttle(ctx context.Context, s *Scene) error {
	admin, err := s.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	quota := func(remove bool) error {
		entries := []kadm.AlterClientQuotaEntry{{
			Entity: kadm.ClientQuotaEntity{{Type: "client-id"}},
			Ops:    []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 500_000, Remove: remove}},
		}}
		altered, err := admin.AlterClientQuotas(ctx, entries)
		for _, a := range altered {
			err = errors.Join(err, a.Err)
		}
		if err != nil {
			return fmt.Errorf("setting a quota: %w", err)
		}
		return nil
	}
	s.Begin()
	if err := quota(false); err != nil {
		return err
	}
	return errors.Join(pause(ctx, kafkaTrouble), quota(true))
}
