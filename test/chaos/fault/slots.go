package fault

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/rig"
)

// slotFaults is F22: there are less slots than the job needs.
func slotFaults() []Fault {
	two := func(t *Tuning) { t.TaskManagers = 2 }
	return []Fault{
		{
			ID: "F22", Variant: "back", What: "kill -9 of one of two task managers; it comes back", Tune: two,
			Inject: func(ctx context.Context, s *Scene) error {
				return starveSlots(ctx, s, []string{rig.TaskManagerName(1)})
			},
			Expect: Expect{MinAttempts: 1, MaxAttempts: 1, Detect: killDetect, States: []string{waiting, running}},
		},
		{
			ID: "F22", Variant: "all", What: "kill -9 of both task managers; they come back one by one", Tune: two,
			Inject: func(ctx context.Context, s *Scene) error {
				return starveSlots(ctx, s, []string{rig.TaskManagerName(1), rig.TaskManagerName(2)})
			},
			// The second kill may come into the deployment that the first one caused, but there is none: no slots.
			Expect: Expect{MinAttempts: 1, MaxAttempts: 1, Detect: killDetect, States: []string{waiting, running}},
		},
		{
			ID: "F22", Variant: "flapping", What: "one of two task managers is killed again and again", Tune: two, Inject: flapWorker,
			Expect: Expect{MinAttempts: 1, MaxAttempts: 6, Detect: killDetect, States: []string{waiting, running}},
		},
	}
}

// starveSlots kills task managers and gives them back one by one. Before the last one the job waits, and says
// for what.
func starveSlots(ctx context.Context, s *Scene, victims []string) error {
	s.Begin()
	for _, id := range victims {
		if err := s.KillTaskManager(id); err != nil {
			return err
		}
	}
	for _, id := range victims {
		job, err := s.state(ctx, waiting)
		if err != nil {
			return err
		}
		if !strings.Contains(job.Slots.Explain, fmt.Sprintf("need %d, have ", s.Workload.Slots())) {
			return fmt.Errorf("the job explains its waiting as %q, want need %d, have …", job.Slots.Explain, s.Workload.Slots())
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		if err := s.StartTaskManager(id); err != nil {
			return err
		}
	}
	_, err := s.state(ctx, running)
	return err
}

func flapWorker(ctx context.Context, s *Scene) error {
	id := rig.TaskManagerName(2)
	s.Begin()
	for range 4 {
		if err := s.KillTaskManager(id); err != nil {
			return err
		}
		if _, err := s.state(ctx, waiting); err != nil {
			return err
		}
		if err := s.StartTaskManager(id); err != nil {
			return err
		}
		if err := pause(ctx, time.Duration(s.Rand.IntN(2000))*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
