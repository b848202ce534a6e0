package fault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/integration/process"
)

// The actions of a crash point.
const (
	crash      = "crash"
	failOnce   = "error"
	pauseOnce  = "pause"
	endsWithin = 3 * time.Second // after which a process that met an error counts as alive
)

// pauseFor is a pause that is longer.
func pauseFor(d time.Duration) string { return fmt.Sprintf("%s:%s", pauseOnce, d) }

// steady are the points that every checkpoint passes: armed from the start, they act in a later passage.
var steady = []failpoint.Point{
	failpoint.Trigger, failpoint.Barrier, failpoint.Snapshot, failpoint.Seal, failpoint.Flushed, failpoint.SendAck,
	failpoint.ReceiveAck, failpoint.BeforePersist, failpoint.BetweenWitness, failpoint.AfterPersist, failpoint.BeforeCommit,
	failpoint.AfterCommit, failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforeAnnounce, failpoint.BeforePublish,
	failpoint.AfterPublish, failpoint.BeforeRetention, failpoint.AfterRetention, failpoint.BeforeInit, failpoint.AfterInit,
}

// onRestart are the points that an attempt passes as it begins or ends: armed in a job manager that takes
// over a running job.
var onRestart = []failpoint.Point{failpoint.BeforeFence, failpoint.BeforeHandOut, failpoint.AfterHandOut}

// tolerated are the points at which an error is no reason to end the attempt: the step is made again, or its checkpoint fails
// alone.
var tolerated = []failpoint.Point{
	failpoint.Snapshot, failpoint.SendAck, failpoint.ReceiveAck, failpoint.BeforePersist, failpoint.BeforeCommit, failpoint.AfterCommit,
	failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforePublish, failpoint.AfterPublish, failpoint.BeforeRetention,
	failpoint.AfterRetention, failpoint.BeforeInit, failpoint.AfterInit,
}

// crashPoints is F4: every arrow of a checkpoint, and every way to fail there.
func crashPoints() []Fault {
	var all []Fault
	for _, action := range []string{crash, failOnce, pauseOnce} {
		for _, point := range steady {
			all = append(all, crashPoint(point, action, false))
		}
		for _, point := range onRestart {
			all = append(all, crashPoint(point, action, true))
		}
	}
	return all
}

// passagesOf is the passage in which a point acts: after the three checkpoints in which a run gets warm, and not
// long after. Most points are passed once per subtask or transaction.
func passagesOf(point failpoint.Point) int {
	switch point {
	case failpoint.BeforePersist, failpoint.AfterPersist, failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforeAnnounce,
		failpoint.BeforePublish, failpoint.AfterPublish, failpoint.BeforeRetention, failpoint.AfterRetention, failpoint.Trigger:
		return 10 // once per checkpoint
	case failpoint.Seal, failpoint.Flushed:
		return 10 // once or twice, in one task manager
	case failpoint.BeforeInit, failpoint.AfterInit:
		return 16 // the same, and some before the first checkpoint
	case failpoint.ReceiveAck:
		return 80 // every subtask of every vertex
	default:
		return 24
	}
}

func crashPoint(point failpoint.Point, action string, restart bool) Fault {
	passages := passagesOf(point)
	f := Fault{
		ID: "F4", Variant: fmt.Sprintf("%s=%s", point, action), What: fmt.Sprintf("%s at %s", action, point),
		Expect: Expect{MaxAttempts: 3},
	}
	switch {
	case action == crash:
		f.Expect.MinAttempts = 1
	case restart: // the new job manager starts an attempt as it is, and one more if the step fails in it
		f.Expect.MinAttempts, f.Expect.MaxAttempts = 1, 2
	case action == pauseOnce:
		f.Expect.MaxAttempts = 0 // a second is less than any timeout
	case slices.Contains(tolerated, point):
		f.Expect.MaxAttempts = 0
	default:
		f.Expect.MinAttempts, f.Expect.MaxAttempts = 1, 1
	}
	if restart {
		f.Inject = func(ctx context.Context, s *Scene) error { return atTakeOver(ctx, s, point, action) }
		return f
	}
	if strings.HasPrefix(string(point), "tm/") {
		f.Tune = func(t *Tuning) { t.TaskManagers, t.WorkerEnv = 2, []string{passage(point, action, passages)} }
		f.Inject = func(ctx context.Context, s *Scene) error {
			id := rig.TaskManagerName(1)
			return survive(ctx, s, s.TaskManager(id), point, func() error { return s.StartTaskManager(id) })
		}
		return f
	}
	f.Tune = func(t *Tuning) { t.JobManagerEnv = []string{passage(point, action, passages)} }
	f.Inject = func(ctx context.Context, s *Scene) error {
		return survive(ctx, s, s.JobManager(), point, func() error { return s.StartJobManager() })
	}
	return f
}

// survive waits until the process has come to the point, and starts it again if that ended it.
func survive(ctx context.Context, s *Scene, p *process.Process, point failpoint.Point, start func() error) error {
	if err := fired(ctx, p, point); err != nil {
		return err
	}
	s.Begin()
	timer := time.NewTimer(endsWithin)
	defer timer.Stop()
	select {
	case <-p.Done():
		return start()
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// atTakeOver kills the job manager, and lets the next one meet the point as it takes over.
func atTakeOver(ctx context.Context, s *Scene, point failpoint.Point, action string) error {
	if err := s.KillJobManager(); err != nil {
		return err
	}
	if err := s.StartJobManager(passage(point, action, 1)); err != nil && s.JobManager().Running() {
		return err
	}
	return survive(ctx, s, s.JobManager(), point, func() error { return s.StartJobManager() })
}
