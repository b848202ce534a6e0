package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/rig"
)

// lateDetect bounds how long a silent task manager stays unnoticed.
const lateDetect = rig.HeartbeatTimeout + 2*time.Second

func hangFaults() []Fault {
	return []Fault{
		{
			ID: "F6", What: "a task manager stands still for longer than the heartbeat timeout, and goes on",
			Inject: func(ctx context.Context, s *Scene) error { return hang(ctx, s, rig.HeartbeatTimeout+5*time.Second) },
			Expect: Expect{MinAttempts: 1, MaxAttempts: 2, Detect: lateDetect, States: []string{running}},
		},
		{
			ID: "F7", What: "a task manager stands still for less than the heartbeat timeout",
			Inject: func(ctx context.Context, s *Scene) error { return hang(ctx, s, rig.HeartbeatTimeout/3) },
		},
		{
			ID: "F28", What: "a task manager stands still nine tenths of the time for ten seconds",
			Inject: starve, Expect: Expect{MaxAttempts: 2},
		},
	}
}

func hang(ctx context.Context, s *Scene, duration time.Duration) error {
	victim, err := s.host(ctx)
	if err != nil {
		return err
	}
	s.Begin()
	if err := s.Pause(s.TaskManager(victim)); err != nil {
		return err
	}
	if err := pause(ctx, duration); err != nil {
		return err
	}
	if err := s.Resume(s.TaskManager(victim)); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if !s.TaskManager(victim).Running() {
		return fmt.Errorf("%s ended when it went on; it should cancel its subtasks and stay", victim)
	}
	return nil
}

func starve(ctx context.Context, s *Scene) error {
	victim, err := s.host(ctx)
	if err != nil {
		return err
	}
	s.Begin()
	p := s.TaskManager(victim)
	for range 100 {
		if err := s.Pause(p); err != nil {
			return err
		}
		if err := pause(ctx, 90*time.Millisecond); err != nil {
			return err
		}
		if err := s.Resume(p); err != nil {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
