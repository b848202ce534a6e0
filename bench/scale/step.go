package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/bench/coordination"
	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/machine"
)

const (
	// never is the checkpoint interval of a job that is to be idle: its first checkpoint is drawn at once all the same,
	// and one of eight minutes is refused for an exactly-once sink.
	never = 7 * time.Minute
	// settleTime is how long a job runs before it is watched.
	settleTime = 2 * time.Second
	// warmUp are the first checkpoints of a job, which are not timed.
	warmUp    = 3
	pollEvery = 10 * time.Millisecond
)

// step measures one size of a job.
type step struct {
	opts    *options
	program string
	say     func(format string, args ...any)
	out     coordination.Step

	dir    string
	broker *broker
	jm     *jobManager
	fleet  *fleet
	times  *timeline
	jobs   int // submitted so far
	// deployments, submits and cancels are in milliseconds.
	deployments, submits, cancels []float64
}

// measure runs the step. What it could not do to its end is told in Step.Failure; an error is one of the benchmark.
func (s *step) measure(parent context.Context) (out coordination.Step, err error) {
	ctx, cancel := context.WithTimeoutCause(parent, s.opts.timeout, fmt.Errorf("the step took longer than %s", s.opts.timeout))
	defer cancel()
	// Linux forgets this process's peak of memory, which would be that of an earlier step (proc(5), clear_refs).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return s.out, fmt.Errorf("resetting the peak of memory: %w", err)
	}
	if s.dir, err = os.MkdirTemp("", "sluice-scale-"); err != nil {
		return s.out, fmt.Errorf("making a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	failure := s.start(ctx)
	if failure == nil {
		failure = s.run(ctx)
	}
	if failure != nil && parent.Err() == nil {
		s.out.Failure = s.explain(failure)
	}
	s.sumUp()
	return s.out, errors.Join(parent.Err(), s.close())
}

// start brings up a broker, the job manager and the task managers.
func (s *step) start(ctx context.Context) (err error) {
	if s.broker, err = startBroker(ctx, s.kafka(), int32(s.out.Subtasks)); err != nil {
		return err
	}
	if s.jm, err = startJobManager(s.program, s.dir, s.opts.profile != ""); err != nil {
		return err
	}
	s.times = newTimeline()
	s.fleet, err = startFleet(fleetConfig{
		jobManager: s.jm.grpc, dir: s.dir, n: s.out.TaskManagers, slots: s.out.SlotsPerTaskManager, times: s.times, pace: s.interval() / 2,
	})
	if err != nil {
		return err
	}
	return s.waitSlots(ctx, func(c cluster) bool { return c.slots == s.out.Slots() })
}

// kafka is the kind of the broker. At-least-once sinks of this benchmark write nowhere: kfake is enough for them.
func (s *step) kafka() kafkaenv.Kind {
	if s.out.Guarantee == string(graph.ExactlyOnce) {
		return kafkaenv.Kind(s.opts.kafka)
	}
	return kafkaenv.Fake
}

func (s *step) waitSlots(ctx context.Context, wanted func(cluster) bool) error {
	return s.poll(ctx, "slots", func() (bool, error) {
		c, err := s.jm.client.cluster(ctx)
		return wanted(c), err
	})
}

// interval is that of the checkpoints that are timed: large jobs need a longer one, so that one ends before the next.
func (s *step) interval() time.Duration {
	if s.out.Subtasks <= s.opts.smallSubtasks {
		return s.opts.smallInterval
	}
	return s.opts.interval
}

// run measures: deployments of an idle job, its last one idle, then a job with checkpoints.
func (s *step) run(ctx context.Context) (err error) {
	for i := range s.opts.deployments {
		if err := s.submit(ctx, never); err != nil {
			return err
		}
		if err := s.waitTold(ctx, 1); err != nil {
			return err
		}
		if i == s.opts.deployments-1 {
			if err := pause(ctx, settleTime); err != nil {
				return err
			}
			s.out.Idle, err = s.jm.watch(ctx, s.broker.pid, func(ctx context.Context) error { return pause(ctx, s.opts.idle) })
			if err != nil {
				return err
			}
		}
		if err := s.cancel(ctx); err != nil {
			return err
		}
	}
	if err := s.submit(ctx, s.interval()); err != nil {
		return err
	}
	if err := s.checkpoints(ctx); err != nil {
		return err
	}
	return s.cancel(ctx)
}

// job reads a topic with a partition for each subtask and writes to another.
func (s *step) job(interval time.Duration) *graph.Job {
	bootstrap := s.broker.bootstrap
	name := fmt.Sprintf("scale-%d", s.jobs)
	j := &graph.Job{
		Name: name, Parallelism: s.out.Subtasks,
		Checkpoint: graph.Checkpointing{Interval: interval, Timeout: 2 * time.Minute, Retain: 3, TolerableFailures: 5},
		Sources: []graph.Source{{Name: "in", Kafka: &graph.KafkaSource{
			Topics: []string{"in"}, Startup: graph.Startup{Mode: graph.StartEarliest}, Properties: map[string]string{"bootstrap.servers": bootstrap, "group.id": name},
		}}},
		Sinks: []graph.Sink{{Name: "out", From: []string{"in"}, Kafka: &graph.KafkaSink{
			Topic: "out", Guarantee: graph.Guarantee(s.out.Guarantee), Properties: map[string]string{"bootstrap.servers": bootstrap},
		}}},
	}
	j.SetDefaults()
	return j
}

// submit submits a job and waits until it is RUNNING.
func (s *step) submit(ctx context.Context, interval time.Duration) error {
	s.jobs++
	s.times.begin(s.out.Subtasks)
	s.jm.journal.begin()
	began := time.Now()
	if err := s.jm.client.submit(ctx, s.job(interval)); err != nil {
		return err
	}
	submitted := time.Since(began)
	at, err := s.waitState(ctx, "RUNNING")
	if err != nil {
		return err
	}
	s.submits = append(s.submits, figures.Ms(submitted))
	s.deployments = append(s.deployments, figures.Ms(at.Sub(began)))
	s.say("%d subtasks, %s: RUNNING after %s", s.out.Subtasks, s.out.Guarantee, at.Sub(began).Round(time.Millisecond))
	return nil
}

// cancel cancels the job and waits until its slots are free.
func (s *step) cancel(ctx context.Context) error {
	began := time.Now()
	if err := s.jm.client.cancel(ctx, fmt.Sprintf("scale-%d", s.jobs)); err != nil {
		return err
	}
	at, err := s.waitState(ctx, "CANCELED")
	if err != nil {
		return err
	}
	s.cancels = append(s.cancels, figures.Ms(at.Sub(began)))
	return s.waitSlots(ctx, func(c cluster) bool { return c.freeSlots == s.out.Slots() })
}

// waitState is when the job came to a state.
func (s *step) waitState(ctx context.Context, state string) (at time.Time, err error) {
	err = s.poll(ctx, "the job to be "+state, func() (bool, error) {
		err := s.jm.journal.read()
		if _, failed := s.jm.journal.state["FAILED"]; failed {
			return false, errors.New("the job has failed")
		}
		at = s.jm.journal.state[state]
		return !at.IsZero(), err
	})
	return at, err
}

// waitTold waits until all subtasks have heard of n checkpoints of the job.
func (s *step) waitTold(ctx context.Context, n int) error {
	for {
		told, changed := s.times.toldSoFar()
		if told >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d checkpoints, %d so far: %w", n, told, context.Cause(ctx))
		}
	}
}

// checkpoints times the checkpoints of the running job after its first ones.
func (s *step) checkpoints(ctx context.Context) (err error) {
	if err := s.waitTold(ctx, warmUp); err != nil {
		return err
	}
	s.out.Busy, err = s.jm.watch(ctx, s.broker.pid, func(ctx context.Context) error {
		return s.profiled(ctx, func() error { return s.waitTold(ctx, warmUp+s.opts.checkpoints) })
	})
	return errors.Join(err, s.jm.journal.read())
}

// profiled takes a CPU profile of the job manager while f runs, if asked to, and one of its memory at the end.
func (s *step) profiled(ctx context.Context, f func() error) error {
	if s.opts.profile == "" {
		return f()
	}
	name := filepath.Join(s.opts.profile, fmt.Sprintf("%s-%d", s.out.Guarantee, s.out.Subtasks))
	taken := make(chan error, 1)
	length := max(time.Duration(s.opts.checkpoints)*s.interval()*4/5, time.Second)
	go func() {
		taken <- s.jm.saveProfile(ctx, fmt.Sprintf("profile?seconds=%d", int(length.Seconds())), name+".cpu")
	}()
	err := f()
	return errors.Join(err, <-taken, s.jm.saveProfile(ctx, "heap", name+".heap"))
}

// sumUp turns what was seen into figures.
func (s *step) sumUp() {
	o := &s.out
	o.DeploymentMs, o.SubmitMs, o.CancelMs = figures.NewSample(s.deployments), figures.NewSample(s.submits), figures.NewSample(s.cancels)
	o.Load1 = machine.LoadAverage()
	if s.jm == nil {
		return
	}
	if u, err := machine.UsageOf(s.jm.process.Pid()); err == nil { // it may have ended, which is the failure then
		o.PeakRSSBytes = u.PeakRSSBytes
	}
	if u, err := machine.UsageOf(os.Getpid()); err == nil {
		o.FleetPeakRSSBytes = u.PeakRSSBytes
	}
	j := s.jm.journal
	o.Restarts, o.Lost = len(j.restarts), len(j.lost)
	o.Checkpoints = s.checkpointReport()
	if n := float64(o.Checkpoints.N); n > 0 && o.Busy.Seconds > 0 {
		o.CPUPerCheckpoint = max(o.Busy.CPUSeconds-o.Idle.CPUPerSecond()*o.Busy.Seconds, 0) / n
		o.FleetCPUPerCheckpoint = max(o.Busy.FleetCPUSeconds-o.Idle.FleetCPUSeconds/max(o.Idle.Seconds, 1)*o.Busy.Seconds, 0) / n
	}
	s.say("%d subtasks, %s: %d checkpoints, p50 %.1f ms, p99 %.1f ms; job manager %.1f ms CPU each, peak %.0f MiB; heartbeats at most %.0f ms old", o.Subtasks, o.Guarantee,
		o.Checkpoints.N, o.Checkpoints.CommittedMs.Median, o.Checkpoints.CommittedMs.P99, 1000*o.CPUPerCheckpoint, figures.MiB(o.PeakRSSBytes), o.Busy.HeartbeatAgeMaxMs)
}

// checkpointReport joins what the job manager logged of the checkpoints that were timed with what the subtasks saw.
func (s *step) checkpointReport() coordination.CheckpointReport {
	j := s.jm.journal
	r := coordination.CheckpointReport{IntervalMs: figures.Ms(s.interval()), Failed: len(j.failed)}
	complete := s.times.complete()
	ids := slices.Sorted(maps.Keys(complete))
	if len(ids) <= warmUp {
		return r
	}
	var barrier, durable, committed []float64
	for _, id := range ids[warmUp:] {
		at, logged := j.triggered[id]
		took, stored := j.durable[id]
		if !logged || !stored || len(barrier) == s.opts.checkpoints {
			continue
		}
		c := complete[id]
		barrier, durable, committed = append(barrier, figures.Ms(c.lastBarrier.Sub(at))), append(durable, figures.Ms(took)), append(committed, figures.Ms(c.lastCommit.Sub(at)))
	}
	r.N, r.BarrierMs, r.DurableMs, r.CommittedMs = len(committed), figures.NewSample(barrier), figures.NewSample(durable), figures.NewSample(committed)
	return r
}

// explain says why the step could not be measured to its end, with what the processes said last.
func (s *step) explain(failure error) string {
	text := failure.Error()
	if s.jm == nil {
		return text
	}
	if err := s.jm.journal.read(); err != nil {
		text += "\n" + err.Error()
	}
	j := s.jm.journal
	for _, list := range [][]string{j.restarts, j.failed, j.lost} {
		if len(list) > 0 {
			text += fmt.Sprintf("\n%d times: %s", len(list), list[len(list)-1])
		}
	}
	return text
}

// close ends everything, in the order in which nothing has to wait for what is gone.
func (s *step) close() error {
	var errs []error
	if s.fleet != nil {
		errs = append(errs, s.fleet.close())
	}
	if s.jm != nil {
		errs = append(errs, s.jm.close())
	}
	if s.broker != nil {
		errs = append(errs, s.broker.close())
	}
	return errors.Join(errs...)
}

// poll waits until isSo, which is asked every few milliseconds.
func (s *step) poll(ctx context.Context, what string, isSo func() (bool, error)) error {
	for {
		so, err := isSo()
		if err != nil || so {
			return err
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
