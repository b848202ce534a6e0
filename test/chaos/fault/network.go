package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/proxy"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// short is a silence that no timeout notices.
const short = 2 * time.Second

// silences are the ways in which a line can be silent.
var silences = []struct {
	name string
	rule proxy.Rule
}{
	{"both", proxy.Rule{BlockForward: true, BlockBack: true}},
	{"forward", proxy.Rule{BlockForward: true}},
	{"back", proxy.Rule{BlockBack: true}},
}

func networkFaults() []Fault {
	var all []Fault
	for _, silence := range silences {
		all = append(all,
			partition("tm-jm", silence.name+"-short", "a task manager and the job manager, 2 s", toJobManager, silence.rule, Expect{}),
			partition("tm-jm", silence.name+"-long", "a task manager and the job manager, the outage", toJobManager, silence.rule,
				Expect{MinAttempts: 1, MaxAttempts: 3, Detect: lateDetect, States: []string{running}}),
			partition("tm-kafka", silence.name+"-short", "a task manager and Kafka, 2 s", workerToKafka, silence.rule, Expect{}),
			partition("tm-kafka", silence.name+"-long", "a task manager and Kafka, the outage", workerToKafka, silence.rule, Expect{MaxAttempts: 3}),
			partition("jm-kafka", silence.name+"-long", "the job manager and Kafka, the outage", managerToKafka, silence.rule, Expect{}),
		)
	}
	return append(all,
		partition("tm-jm", "refused-long", "a task manager and the job manager, the outage: connections are reset", toJobManager, proxy.Rule{Refuse: 1, CutAfterBytes: 1},
			Expect{MinAttempts: 1, MaxAttempts: 3, Detect: lateDetect, States: []string{running}}),
		partition("tm-kafka", "refused-long", "a task manager and Kafka, the outage: connections are reset", workerToKafka, proxy.Rule{Refuse: 1, CutAfterBytes: 1}, Expect{MaxAttempts: 3}),
		partition("tm-kafka", "dropped-long", "a task manager and Kafka, the outage: every other connection is reset, and each after some 100 KB", workerToKafka,
			proxy.Rule{Refuse: 0.5, CutAfterBytes: 100_000}, Expect{MaxAttempts: 3}),
		Fault{ID: "F12", Variant: "flapping", What: "a task manager loses job manager and Kafka for 1 s, every other second", Inject: flap, Expect: Expect{MaxAttempts: 3}},
		Fault{ID: "F12", Variant: "slow", What: "75 ± 50 ms on every line", Inject: slow},
		Fault{
			ID: "F13", What: "task managers do not reach each other, the outage; they reach everybody else", Kinds: []workload.Kind{workload.B, workload.C},
			Inject: splitWorkers, Expect: Expect{MinAttempts: 1, MaxAttempts: 8, States: []string{running}, Failure: "task manager tm-"},
		},
	)
}

func toJobManager(id string) proxy.Edge  { return proxy.Edge{From: id, To: rig.JobManager} }
func workerToKafka(id string) proxy.Edge { return proxy.Edge{From: id, To: ""} }
func managerToKafka(string) proxy.Edge   { return proxy.Edge{From: rig.JobManager, To: ""} }
func (s *Scene) silence(e proxy.Edge, r proxy.Rule) {
	if e.To != "" {
		s.Mesh.Set(e, r)
		return
	}
	for node := range rig.Brokers {
		s.Mesh.Set(proxy.Edge{From: e.From, To: rig.BrokerName(node)}, r)
	}
}

// partition is F12: a line is silent for a short time or for the outage.
func partition(line, how, what string, edge func(worker string) proxy.Edge, rule proxy.Rule, expect Expect) Fault {
	return Fault{
		ID: "F12", Variant: line + "/" + how, What: fmt.Sprintf("silence (%s) between %s", how, what), Expect: expect,
		Inject: func(ctx context.Context, s *Scene) error {
			victim, err := s.host(ctx)
			if err != nil {
				return err
			}
			duration := s.Outage
			if how[len(how)-len("short"):] == "short" {
				duration = short
			}
			s.Begin()
			s.silence(edge(victim), rule)
			if err := pause(ctx, duration); err != nil {
				return err
			}
			s.Mesh.Heal()
			return nil
		},
	}
}

func flap(ctx context.Context, s *Scene) error {
	victim, err := s.host(ctx)
	if err != nil {
		return err
	}
	s.Begin()
	for range 10 {
		s.Mesh.Set(proxy.Edge{From: victim, To: proxy.Any}, proxy.Rule{BlockForward: true, BlockBack: true})
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		s.Mesh.Heal()
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

func slow(ctx context.Context, s *Scene) error {
	s.Begin()
	s.Mesh.Set(proxy.Edge{From: proxy.Any, To: proxy.Any}, proxy.Rule{Delay: 75 * time.Millisecond, Jitter: 50 * time.Millisecond})
	if err := pause(ctx, s.Outage); err != nil {
		return err
	}
	s.Mesh.Heal()
	return nil
}

func splitWorkers(ctx context.Context, s *Scene) error {
	before, err := s.attempt(ctx)
	if err != nil {
		return err
	}
	s.Begin()
	for _, from := range s.TaskManagers() {
		for _, to := range s.TaskManagers() {
			s.Mesh.Set(proxy.Edge{From: from, To: to}, proxy.Rule{BlockForward: true, BlockBack: true})
		}
	}
	if err := pause(ctx, s.Outage); err != nil {
		return err
	}
	s.Mesh.Heal()
	return s.again(ctx, before)
}
