package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/web"
)

// start brings the cluster up and submits the job. The input has begun to flow.
func (r *run) start(ctx context.Context) error {
	r.opts.Show.Say("%s", r.broker.introduction())
	if err := r.startJobManager(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	for _, id := range []string{"tm-1", "tm-2"} {
		if err := r.startWorker(ctx, id); err != nil {
			return err
		}
	}
	r.opts.Show.Say("cluster: 1 job manager, 2 task managers with %d slots each, as processes", slotsPerWorker)
	file := filepath.Join(r.dir, "demo.yaml")
	if err := os.WriteFile(file, []byte(jobFile(r.broker, perPartition(r.load.total))), 0o600); err != nil {
		return fmt.Errorf("write the job file: %w", err)
	}
	var err error
	r.jobID, err = r.opts.Submit(ctx, r.jm.fields["grpc"], file)
	if err != nil {
		return err
	}
	r.opts.Show.Say("job: filter → count per key → sink over %d keyed records, parallelism %d, checkpoint every 500 ms, %s", r.load.total, parallelism, guarantee)
	return nil
}

func (r *run) startJobManager(ctx context.Context, listen string) (err error) {
	r.jm, err = r.daemons.start(ctx, "job manager", "jobmanager", "--listen", listen, "--http", "", "--data-dir", filepath.Join(r.dir, "jm"), "--log-level", "info")
	return err
}

func (r *run) startWorker(ctx context.Context, id string) error {
	_, err := r.daemons.start(ctx, id, "taskmanager", "--jobmanager", r.jm.fields["grpc"], "--id", id, "--slots", fmt.Sprint(slotsPerWorker), "--http", "", "--work-dir", r.dir)
	return err
}

// kill waits until the job is in the middle of its input, past a checkpoint, and kills as kill -9 does.
func (r *run) kill(ctx context.Context) error {
	j, err := r.until(ctx, func(j *web.Job) bool {
		return j.State == "RUNNING" && j.Checkpoints.Latest != nil && r.output.count() > int64(r.load.expected)/10
	})
	if err != nil {
		return err
	}
	defer r.release()
	r.attempt, r.killedAt, r.result.Killed = j.Attempt, time.Now(), r.opts.Kill
	var killed []string
	if r.opts.Kill.taskManager() {
		r.daemons.byName("tm-2").kill9()
		killed = append(killed, "tm-2")
	}
	address := r.jm.fields["grpc"]
	if r.opts.Kill.jobManager() {
		r.jm.kill9()
		killed = append(killed, "the job manager")
	}
	if len(killed) > 0 {
		r.opts.Show.Say("kill -9 of %s after %d of %d records out", strings.Join(killed, " and "), r.output.count(), r.load.expected)
	}
	if r.opts.Kill.jobManager() {
		if err := r.startJobManager(ctx, address); err != nil {
			return err
		}
		r.result.JobManagerMs = time.Since(r.killedAt).Milliseconds()
		r.opts.Show.Say("job manager serves again %d ms after the kill, on the same data directory and port", r.result.JobManagerMs)
	}
	r.backAt = time.Now()
	return nil
}

// lookPause lets a person see the waiting job.
const lookPause = time.Second

// recover sees the job through its restart, up to its first new output.
func (r *run) recover(ctx context.Context) error {
	if r.opts.Kill == KillNone {
		return nil
	}
	if r.opts.Kill.taskManager() {
		if err := r.replace(ctx); err != nil {
			return err
		}
	}
	j, err := r.until(ctx, func(j *web.Job) bool { return j.Attempt > r.attempt && slices.Contains(running, j.State) })
	if err != nil {
		return err
	}
	r.result.RestoredCheckpoint = j.Checkpoints.Restored
	covered, err := r.covered(ctx, j.Checkpoints.Restored)
	if err != nil {
		return err
	}
	r.opts.Show.Say("job restarted from checkpoint %d, which covers %d records out", j.Checkpoints.Restored, covered)
	if _, err := r.until(ctx, func(*web.Job) bool { return !r.output.passed(covered).IsZero() }); err != nil {
		return err
	}
	first := r.output.passed(covered)
	r.result.DowntimeMs = first.Sub(r.killedAt).Milliseconds()
	r.result.RecoverMs = first.Sub(r.backAt).Milliseconds()
	r.opts.Show.Say("first new committed output %d ms after the kill, %d ms after all processes were there", r.result.DowntimeMs, r.result.RecoverMs)
	return nil
}

// covered is how many records come out of the input that a checkpoint covers.
func (r *run) covered(ctx context.Context, id uint64) (int64, error) {
	kept, err := r.opts.Checkpoints(ctx, r.jm.fields["grpc"], r.jobID)
	if err != nil {
		return 0, err
	}
	for _, c := range kept {
		if c.ID == id {
			return r.load.covered(c.Offsets[source][r.broker.input]), nil
		}
	}
	return 0, fmt.Errorf("the job restarted from checkpoint %d, which is not among the %d that the job manager keeps", id, len(kept))
}

// running are the states of a job that has been restarted.
var running = []string{"RUNNING", "FINISHING", "FINISHED"}

// replace shows the job that waits for slots and starts a new task manager.
func (r *run) replace(ctx context.Context) error {
	waiting := func(j *web.Job) bool { return j.State == "WAITING_FOR_SLOTS" }
	if _, err := r.until(ctx, waiting); err != nil {
		return err
	}
	waited := time.Now()
	r.result.NoticedMs = waited.Sub(r.killedAt).Milliseconds()
	pause := time.After(lookPause)
	j, err := r.until(ctx, func(j *web.Job) bool {
		select {
		case <-pause:
			return true
		default:
			return !waiting(j)
		}
	})
	if err != nil {
		return err
	}
	r.opts.Show.Say("job is WAITING_FOR_SLOTS since %d ms after the kill: %s", r.result.NoticedMs, j.Slots.Explain)
	r.opts.Show.Say("starting tm-3 as replacement")
	if err := r.startWorker(ctx, "tm-3"); err != nil {
		return err
	}
	r.backAt = time.Now()
	_, err = r.until(ctx, func(j *web.Job) bool { return !waiting(j) })
	r.result.WaitingForSlotsMs = time.Since(waited).Milliseconds()
	return err
}

func (r *run) finish(ctx context.Context) error {
	j, err := r.until(ctx, func(j *web.Job) bool { return j.State == "FINISHED" })
	if err != nil {
		return err
	}
	r.result.Restarts = j.Restarts
	r.opts.Show.Say("job is FINISHED with checkpoint %d", checkpointOf(&j))
	return nil
}

// verify judges all of the output and fills the result.
func (r *run) verify(ctx context.Context) error {
	running := time.Since(r.started)
	v, err := r.load.verify(ctx, r.broker)
	if err != nil {
		return err
	}
	v.live = r.output.await(ctx, int64(v.records))
	res := &r.result
	res.RecordsIn, res.Expected, res.RecordsOut = r.load.total, r.load.expected, v.out
	res.Lost, res.Duplicates, res.OutOfOrder, res.OpenOffsets = v.lost, v.duplicates, v.outOfOrder, v.open
	res.RecordsPerSecond = int64(float64(r.load.total) / running.Seconds())
	res.ElapsedMs = time.Since(r.started).Milliseconds()
	res.Guarantee, res.Broker = guarantee, r.broker.name()
	res.Problem = v.problem()
	res.OK = res.Problem == ""
	return nil
}

// until polls the job until it is as wanted. It fails when the job ends otherwise.
func (r *run) until(ctx context.Context, wanted func(*web.Job) bool) (web.Job, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		j, err := r.opts.Status(ctx, r.jm.fields["grpc"], r.jobID)
		if err != nil {
			return j, err
		}
		if wanted(&j) {
			return j, nil
		}
		if j.EndedAt != nil {
			why := ""
			if j.Failure != nil {
				why = j.Failure.Message
			}
			return j, fmt.Errorf("the job is %s: %s", j.State, why)
		}
		r.opts.Show.Tick(fmt.Sprintf("%-17s %9d in  %9d out of %d  checkpoint %d  %s", j.State, r.load.produced.Load(), r.output.count(), r.load.expected,
			checkpointOf(&j), waitsFor(&j)))
		select {
		case <-ctx.Done():
			return j, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// waitsFor is what the job says that it waits for.
func waitsFor(j *web.Job) string {
	if j.Slots.Explain != "" {
		return j.Slots.Explain
	}
	return strings.Join(j.Waiting, "; ")
}

func checkpointOf(j *web.Job) uint64 {
	if j.Checkpoints.Latest == nil {
		return 0
	}
	return j.Checkpoints.Latest.ID
}
