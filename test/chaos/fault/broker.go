package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

// brokerDown is how long one broker is away: with its start, hardly shorter than sources and sinks wait for it. In mixed
// runs rounds are short.
const brokerDown, brokerDownMixed = 25 * time.Second, 10 * time.Second

// coordinatorHang is more than the 30 s after which a task manager asks another broker who the coordinator is.
const coordinatorHang = 45 * time.Second

// intoInterval is a part of the second between two checkpoints.
const intoInterval = 400 * time.Millisecond

func (s *Scene) down() time.Duration {
	if s.Mixed {
		return brokerDownMixed
	}
	return brokerDown
}

// The internal topics of Kafka whose leaders coordinate.
const (
	transactionTopic = "__transaction_state"
	groupTopic       = "__consumer_offsets"
)

// brokerFaults: no restart is due, as Kafka is back within the 30 s that a source or a sink waits for it.
func brokerFaults() []Fault {
	all := []Fault{}
	leaders := []struct {
		of    string
		topic func(*Scene) string
	}{
		{"source", func(s *Scene) string { return s.Workload.In() }},
		{"sink", func(s *Scene) string { return s.Workload.Out() }},
		{"transactions", func(*Scene) string { return transactionTopic }},
		{"group", func(*Scene) string { return groupTopic }},
	}
	for _, leader := range leaders {
		all = append(all,
			Fault{
				ID: "F8", Variant: leader.of + "-kill", What: "kill -9 of the broker that leads a partition of: " + leader.of,
				Inject: func(ctx context.Context, s *Scene) error { return killLeader(ctx, s, leader.topic(s)) },
			},
			Fault{
				ID: "F8", Variant: leader.of + "-hang", What: "SIGSTOP of the broker that leads a partition of: " + leader.of,
				Inject: func(ctx context.Context, s *Scene) error { return hangLeader(ctx, s, leader.topic(s), s.down()) },
			})
	}
	return append(all,
		// It goes on as if it were the coordinator still, and answers from memory what was asked before.
		Fault{
			ID: "F8", Variant: "transactions-hang-long", What: "SIGSTOP of a transaction coordinator for longer than anybody waits for its answer",
			Inject: func(ctx context.Context, s *Scene) error {
				return hangLeader(ctx, s, transactionTopic, coordinatorHang)
			},
			Expect: Expect{MaxAttempts: 4}, Alone: true,
		},
		Fault{
			ID: "F9", Variant: "outage", What: "all brokers are down for the outage",
			Inject: func(ctx context.Context, s *Scene) error { return killKafka(ctx, s, s.Outage) },
		},
		// The attempt that runs loses its transactions, and nothing else.
		Fault{
			ID: "F9", Variant: "expired", What: "all brokers are down for longer than the transaction timeout, with every completed checkpoint committed",
			Tune: func(t *Tuning) { t.TransactionTimeout, t.CheckpointTimeout = expiry, expiryCheckpoints },
			Inject: func(ctx context.Context, s *Scene) error {
				if err := s.betweenCheckpoints(ctx); err != nil {
					return err
				}
				if err := pause(ctx, intoInterval); err != nil { // or no transaction has begun that could expire
					return err
				}
				return killKafka(ctx, s, tooLong)
			},
			Expect: Expect{MinAttempts: 1, MaxAttempts: 200, States: []string{running}}, Alone: true,
		},
	)
}

// betweenCheckpoints returns when a checkpoint has just been committed: for most of an interval none is complete that
// is not committed.
func (s *Scene) betweenCheckpoints(ctx context.Context) error {
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	_, err = s.WaitFor(ctx, s.Job, "past a commit", patience, func(j *cluster.Job) bool { return j.LatestID() > before.LatestID() && j.Checkpoints.Latest.Committed })
	return err
}

// leader is the broker, counted from 0, that leads a random partition of a topic.
func (s *Scene) leader(ctx context.Context, topic string) (int, error) {
	admin, err := s.Admin()
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	topics, err := admin.ListTopicsWithInternal(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("looking for the leader of %s: %w", topic, err)
	}
	partitions := topics[topic].Partitions.Sorted()
	if len(partitions) == 0 || topics[topic].Err != nil {
		return 0, fmt.Errorf("looking for the leader of %s: no partitions: %w", topic, topics[topic].Err)
	}
	return int(partitions[s.Rand.IntN(len(partitions))].Leader) - 1, nil
}

func killLeader(ctx context.Context, s *Scene, topic string) error {
	node, err := s.leader(ctx, topic)
	if err != nil {
		return err
	}
	s.Begin()
	if err := s.KillBroker(node); err != nil {
		return err
	}
	if err := pause(ctx, s.down()); err != nil {
		return err
	}
	return s.StartBroker(ctx, node)
}

func hangLeader(ctx context.Context, s *Scene, topic string, down time.Duration) error {
	node, err := s.leader(ctx, topic)
	if err != nil {
		return err
	}
	s.Begin()
	if err := s.Kafka.Node(node).Pause(); err != nil {
		return err
	}
	if err := pause(ctx, down); err != nil {
		return err
	}
	return s.Kafka.Node(node).Resume()
}

// killKafka has no broker for a while. The job stays, and says what it waits for.
func killKafka(ctx context.Context, s *Scene, outage time.Duration) error {
	s.Begin()
	for node := range rig.Brokers {
		if err := s.KillBroker(node); err != nil {
			return err
		}
	}
	over := time.Now().Add(outage)
	told := func(j *cluster.Job) bool { return len(j.Waiting) > 0 || j.Failure != nil }
	if _, err := s.WaitFor(ctx, s.Job, "in trouble without any broker", outage, told); err != nil {
		return err
	}
	if err := pause(ctx, time.Until(over)); err != nil {
		return err
	}
	return s.Ground.Heal(ctx)
}
