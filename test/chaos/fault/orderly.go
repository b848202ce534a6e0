package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

const canceled = "CANCELED"

func orderlyFaults() []Fault {
	restart := Expect{MinAttempts: 1, MaxAttempts: 2, States: []string{running}}
	ends := Expect{MaxAttempts: 1, Final: canceled}
	return []Fault{
		{ID: "F29", Variant: "term-tm", What: "SIGTERM of a task manager; it comes back", Inject: termWorker, Expect: restart},
		{ID: "F29", Variant: "term-jm", What: "SIGTERM of the job manager; it comes back", Inject: termJobManager, Expect: restart},
		{
			ID: "F29", Variant: "cancel-checkpoint", What: "cancel while a checkpoint is being written; then the job manager is killed",
			Tune: func(t *Tuning) {
				t.JobManagerEnv = []string{passage(failpoint.BeforePersist, pauseOnce, passagesOf(failpoint.BeforePersist))}
			},
			Inject: func(ctx context.Context, s *Scene) error {
				if err := fired(ctx, s.JobManager(), failpoint.BeforePersist); err != nil {
					return err
				}
				s.Begin()
				return cancelForGood(ctx, s)
			},
			Expect: ends,
		},
		{
			ID: "F29", Variant: "cancel-restart", What: "cancel while the job waits for slots; then the slots come back and the job manager is killed",
			Tune: func(t *Tuning) { t.TaskManagers = 2 }, Inject: cancelWaiting, Expect: ends,
		},
		{ID: "F29", Variant: "submit-twice", What: "the same job is submitted again while it runs", Inject: submitAgain},
	}
}

func termWorker(ctx context.Context, s *Scene) error {
	victim, err := s.host(ctx)
	if err != nil {
		return err
	}
	before, err := s.attempt(ctx)
	if err != nil {
		return err
	}
	s.Begin()
	if err := s.Term(s.TaskManager(victim)); err != nil {
		return err
	}
	if err := s.again(ctx, before); err != nil {
		return err
	}
	return s.StartTaskManager(victim)
}

func termJobManager(ctx context.Context, s *Scene) error {
	s.Begin()
	if err := s.Term(s.JobManager()); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	return s.StartJobManager()
}

// cancelForGood cancels the job, kills the job manager and starts it again: the job must not come back.
func cancelForGood(ctx context.Context, s *Scene) error {
	result, err := s.Sluice(ctx, "cancel", s.Job)
	if err != nil {
		return err
	}
	if result.Code != 0 {
		return fmt.Errorf("cancel: exit code %d: %s", result.Code, result.Stderr)
	}
	if _, err := s.state(ctx, canceled); err != nil {
		return err
	}
	if err := s.KillJobManager(); err != nil {
		return err
	}
	if err := s.StartJobManager(); err != nil {
		return err
	}
	if err := s.startAll(); err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil { // long enough to be deployed
		return err
	}
	_, err = s.state(ctx, canceled)
	return err
}

func cancelWaiting(ctx context.Context, s *Scene) error {
	s.Begin()
	if err := s.KillTaskManager(rig.TaskManagerName(1)); err != nil {
		return err
	}
	if _, err := s.state(ctx, waiting); err != nil {
		return err
	}
	return cancelForGood(ctx, s)
}

// submitAgain must be refused, with the first job untouched.
func submitAgain(ctx context.Context, s *Scene) error {
	s.Begin()
	if id, err := s.Submit(ctx, "again", s.Workload.JobFile()); err == nil {
		return fmt.Errorf("a second job of the same name was accepted as %s", id)
	}
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	_, err = s.WaitFor(ctx, s.Job, "past a checkpoint", patience, func(j *cluster.Job) bool { return j.LatestID() > before.LatestID() })
	return err
}
