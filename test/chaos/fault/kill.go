package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/integration/process"
)

// leaseEnds bounds how long a task manager without a job manager goes on: twice its heartbeat timeout, and a slow machine.
const leaseEnds = 2*rig.HeartbeatTimeout + 4*time.Second

// killDetect bounds how long a killed process stays unnoticed: its port refuses, so no heartbeat is waited for.
const killDetect = rig.HeartbeatTimeout

func killFaults() []Fault {
	restart := Expect{MinAttempts: 1, MaxAttempts: 2, Detect: killDetect, States: []string{running}}
	starved := restart
	starved.States = []string{waiting, running}
	all := []Fault{
		{ID: "F1", Variant: "one", What: "kill -9 of a task manager with spare slots", Inject: killOne, Expect: restart},
		{ID: "F1", Variant: "all", What: "kill -9 of all task managers", Inject: killAll, Expect: starved},
		{
			ID: "F1", Variant: "early", What: "kill -9 of the job manager before the first checkpoint; the job starts at the latest offsets",
			Tune: func(t *Tuning) { t.Cold, t.JobManagerEnv = true, []string{passage(failpoint.ReceiveAck, pauseOnce, 0)} },
			Inject: func(ctx context.Context, s *Scene) error {
				if err := fired(ctx, s.JobManager(), failpoint.ReceiveAck); err != nil {
					return err
				}
				if err := killJobManager(ctx, s); err != nil { // the next one meets no crash point
					return err
				}
				return s.again(ctx, 1)
			},
			Expect: Expect{MinAttempts: 1, MaxAttempts: 2, States: []string{running}},
		},
	}
	for _, point := range []failpoint.Point{failpoint.BeforePersist, failpoint.AfterPersist, failpoint.BeforeCommit, failpoint.BeforeAnnounce} {
		all = append(all, Fault{
			ID: "F2", Variant: string(point), What: "kill -9 of a task manager between its ack and the announcement, at " + string(point),
			Tune: func(t *Tuning) { t.JobManagerEnv = []string{passage(point, pauseOnce, passagesOf(point))} },
			Inject: func(ctx context.Context, s *Scene) error {
				if err := fired(ctx, s.JobManager(), point); err != nil {
					return err
				}
				return killOne(ctx, s)
			},
			Expect: restart,
		})
	}
	return append(all,
		Fault{ID: "F3", Variant: "alone", What: "kill -9 of the job manager", Inject: killJobManager, Expect: Expect{MinAttempts: 1, MaxAttempts: 2, States: []string{running}}},
		Fault{
			ID: "F3", Variant: "long", What: "kill -9 of the job manager; it comes back when the task managers have stopped the job", Inject: outlastLease,
			Expect: Expect{MinAttempts: 1, MaxAttempts: 2, States: []string{running}},
		},
		Fault{ID: "F3", Variant: "all", What: "kill -9 of everything at once", Inject: killEverything, Expect: Expect{MinAttempts: 1, MaxAttempts: 3, States: []string{running}}},
	)
}

func killOne(ctx context.Context, s *Scene) error {
	victim, err := s.host(ctx)
	if err != nil {
		return err
	}
	before, err := s.attempt(ctx)
	if err != nil {
		return err
	}
	s.Begin()
	if err := s.KillTaskManager(victim); err != nil {
		return err
	}
	if err := s.again(ctx, before); err != nil {
		return err
	}
	return s.StartTaskManager(victim)
}

func killAll(ctx context.Context, s *Scene) error {
	s.Begin()
	for _, id := range s.TaskManagers() {
		if err := s.KillTaskManager(id); err != nil {
			return err
		}
	}
	if _, err := s.state(ctx, waiting); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	return s.startAll()
}

func (s *Scene) startAll() error {
	for _, id := range s.TaskManagers() {
		if !s.TaskManager(id).Running() {
			if err := s.StartTaskManager(id); err != nil {
				return err
			}
		}
	}
	return nil
}

func killJobManager(ctx context.Context, s *Scene) error {
	s.Begin()
	if err := s.KillJobManager(); err != nil {
		return err
	}
	if err := pause(ctx, time.Duration(s.Rand.IntN(5000))*time.Millisecond); err != nil {
		return err
	}
	return s.StartJobManager()
}

// outlastLease leaves the job manager away until no task manager runs any subtask. None of them ends.
func outlastLease(ctx context.Context, s *Scene) error {
	before := map[string]int{}
	for _, id := range s.TaskManagers() {
		before[id] = s.TaskManager(id).Pid()
	}
	s.Begin()
	if err := s.KillJobManager(); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, leaseEnds)
	defer cancel()
	for _, id := range s.TaskManagers() {
		for {
			running, err := s.RunningSubtasks(within, id)
			if err != nil {
				return err
			}
			if running == 0 {
				break
			}
			if err := pause(within, 100*time.Millisecond); err != nil {
				return fmt.Errorf("%s still runs %d subtasks %s after the end of the job manager", id, running, leaseEnds)
			}
		}
	}
	for id, pid := range before {
		if p := s.TaskManager(id); !p.Running() || p.Pid() != pid {
			return fmt.Errorf("%s ended without its job manager; it should stop its subtasks and stay", id)
		}
	}
	return s.StartJobManager()
}

func killEverything(ctx context.Context, s *Scene) error {
	s.Begin()
	err := s.KillJobManager()
	for _, id := range s.TaskManagers() {
		err = errors.Join(err, s.KillTaskManager(id))
	}
	if err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if err := s.StartJobManager(); err != nil {
		return err
	}
	if _, err := s.state(ctx, waiting); err != nil {
		return err
	}
	return s.startAll()
}

// passage is the environment that makes a process act at the n-th passage of a crash point; 0: at each.
func passage(point failpoint.Point, action string, n int) string {
	text := fmt.Sprintf("SLUICE_FAILPOINTS=%s=%s", point, action)
	if n > 0 {
		text += fmt.Sprintf("@%d", n)
	}
	return text
}

// fired waits until a process says that it has come to its crash point.
func fired(ctx context.Context, p *process.Process, point failpoint.Point) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(p.Stderr(), "failpoint "+string(point)+": ") {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("crash point %s was not passed: %w", point, ctx.Err())
		}
	}
	return nil
}
