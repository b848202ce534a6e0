package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/clock"
	"github.com/sluice-stream/sluice/test/chaos/rig"
)

const (
	// wrongFor is how long a clock stays wrong: longer than a lease, and than a line of the exchange may be silent.
	wrongFor = 2*rig.HeartbeatTimeout + 2*time.Second
	// An hour is what the reference asks for; a lease, a timeout or a backoff by the wall clock would run out, or
	// never end.
	hourSeconds = 3600
	// driftStep is added to a clock every driftEvery.
	driftStep, driftEvery = 10 * time.Millisecond, 100 * time.Millisecond
)

// clockFaults are F17: nothing may come of it, no restart and no failed checkpoint.
func clockFaults() []Fault {
	all := []Fault{
		{
			ID: "F17", Variant: "jobmanager", What: "the wall clock of the job manager jumps an hour ahead, then two hours back, then to the truth",
			Inject: func(ctx context.Context, s *Scene) error {
				return jumpClock(ctx, s, s.JobManager().Pid(), s.logIsAhead, hourSeconds, -hourSeconds, 0)
			},
		},
		{ID: "F17", Variant: "ahead", What: "the wall clock of a task manager jumps an hour ahead", Inject: jumpWorker(hourSeconds)},
		{ID: "F17", Variant: "back", What: "the wall clock of a task manager jumps an hour back", Inject: jumpWorker(-hourSeconds)},
		{ID: "F17", Variant: "drift", What: "all clocks of a task manager run a tenth faster for nine seconds", Inject: drift},
	}
	for i := range all {
		all[i].Alone = true // what follows in a mixed run would be judged by the log of a wrong clock
		if !clock.Supported {
			all[i].Inject, all[i].NotRun = nil, "the clock of a process can be made wrong on linux/amd64 only. Leases are tested on virtual time (test/bubble)."
		}
	}
	return all
}

// jumpWorker makes the wall clock of a task manager wrong, so many seconds, for good.
func jumpWorker(seconds int64) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		victim, err := s.host(ctx)
		if err != nil {
			return err
		}
		return jumpClock(ctx, s, s.TaskManager(victim).Pid(), nil, seconds)
	}
}

// jumpClock makes the wall clock of a process wrong, once for each number of seconds. shows, if given, checks that the
// process has noticed.
func jumpClock(ctx context.Context, s *Scene, pid int, shows func(time.Duration) error, jumps ...int64) (err error) {
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	c, err := clock.Take(pid)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	s.Begin()
	for _, seconds := range jumps {
		if err := c.Jump(seconds); err != nil {
			return err
		}
		if err := pause(ctx, wrongFor); err != nil {
			return err
		}
		if shows == nil {
			continue
		}
		if err := shows(time.Duration(seconds) * time.Second); err != nil {
			return err
		}
	}
	return s.noneFailed(ctx, before.Checkpoints.Failed)
}

// drift lets the clocks of a task manager, and with them its timers, run faster than those of the others.
func drift(ctx context.Context, s *Scene) (err error) {
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	victim, err := s.host(ctx)
	if err != nil {
		return err
	}
	c, err := clock.Take(s.TaskManager(victim).Pid())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	s.Begin()
	for ahead := driftStep; ahead < 900*time.Millisecond; ahead += driftStep {
		if err := c.Ahead(ahead); err != nil {
			return err
		}
		if err := pause(ctx, driftEvery); err != nil {
			return err
		}
	}
	return s.noneFailed(ctx, before.Checkpoints.Failed)
}

// noneFailed checks that no more checkpoints failed than before.
func (s *Scene) noneFailed(ctx context.Context, before int64) error {
	job, err := s.now(ctx)
	if err == nil && job.Checkpoints.Failed != before {
		err = fmt.Errorf("%d checkpoints failed, before the fault %d", job.Checkpoints.Failed, before)
	}
	return err
}

// logIsAhead checks that the newest line of the decision log was written by a clock that is so far ahead.
func (s *Scene) logIsAhead(want time.Duration) error {
	lines, err := s.decisions(s.Job)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		return errors.New("the decision log is empty")
	}
	const near = time.Minute
	if got := time.Until(lines[len(lines)-1].Time); (got - want).Abs() > near {
		return fmt.Errorf("the clock of the job manager is %s ahead, want %s: the fault has no effect", got.Round(time.Second), want)
	}
	return nil
}
