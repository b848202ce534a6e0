// Package demo is `sluice demo`: the main job of Sluice on an embedded broker with real processes, one of
// which is killed, and an independent count of what came out.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/web"
)

// Options are the flags of sluice demo.
type Options struct {
	Records int
	// Submit hands the job file to the job manager at that address, Status asks it for the job.
	Submit func(ctx context.Context, jobManager, jobFile string) (jobID string, err error)
	Status func(ctx context.Context, jobManager, jobID string) (web.Job, error)
	Show   Progress
}

// Progress shows what happens. Say is for what is worth a line, Tick for the state of now.
type Progress interface {
	Say(format string, args ...any)
	Tick(text string)
}

// Result is the outcome; its JSON is that of `sluice demo -o json`.
type Result struct {
	RecordsIn          int    `json:"recordsIn"`
	Expected           int    `json:"expected"`
	RecordsOut         int    `json:"recordsOut"`
	Lost               int    `json:"lost"`
	Duplicates         int    `json:"duplicates"`
	Restarts           int32  `json:"restarts"`
	RestoredCheckpoint uint64 `json:"restoredCheckpoint"`
	WaitingForSlotsMs  int64  `json:"waitingForSlotsMs"`
	RecoverMs          int64  `json:"recoverMs"`
	DowntimeMs         int64  `json:"downtimeMs"`
	RecordsPerSecond   int64  `json:"recordsPerSecond"`
	ElapsedMs          int64  `json:"elapsedMs"`
	Guarantee          string `json:"guarantee"`
	Broker             string `json:"broker"`
	OK                 bool   `json:"ok"`
	Problem            string `json:"problem,omitempty"`
}

// MinRecords is the least that can be generated; the number is rounded down to a multiple of it, so that
// every key and partition gets the same.
const MinRecords = partitions * keys * 10

const (
	parallelism    = 4
	slotsPerWorker = 2
	stepTimeout    = 60 * time.Second
	pollEvery      = 20 * time.Millisecond
	// held is the share of the input that is held back until the job runs again, so that the kill is in the
	// middle however fast the machine is.
	heldFrom = 0.6
)

// run is one demonstration.
type run struct {
	opts     Options
	broker   *broker
	load     *workload
	dir      string
	daemons  *launcher
	jm       *process
	jobID    string
	output   outputWatch
	started  time.Time
	result   Result
	killedAt time.Time
}

// Run demonstrates. The result is complete unless err is non-nil; a wrong output is not an error but a
// result that is not OK. Nothing is left behind, whatever happens.
func Run(ctx context.Context, opts Options) (res Result, err error) {
	r := &run{opts: opts, started: time.Now(), load: newWorkload(opts.Records - opts.Records%MinRecords)}
	if r.dir, err = os.MkdirTemp("", "sluice-demo-"); err != nil {
		return res, fmt.Errorf("make a working directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if r.broker, err = startBroker(); err != nil {
		return res, err
	}
	defer r.broker.cluster.Close()
	if r.daemons, err = newLauncher(); err != nil {
		return res, err
	}
	defer r.daemons.close()
	watchCtx, stopWatch := context.WithCancel(ctx)
	g := errgroup.Group{}
	g.Go(func() error { return r.output.run(watchCtx, r.broker.addr) })
	err = r.play(ctx)
	stopWatch()
	if err = errors.Join(err, g.Wait()); err != nil {
		return res, err
	}
	return r.result, nil
}

func (r *run) play(ctx context.Context) error {
	for _, step := range []func(context.Context) error{r.start, r.killOne, r.replace, r.finish, r.verify} {
		stepCtx, cancel := context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("a step of the demo took longer than %s", stepTimeout))
		err := step(stepCtx)
		cause := context.Cause(stepCtx)
		cancel()
		if err != nil && cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		if err != nil {
			return r.withLogs(err)
		}
	}
	return nil
}

// withLogs adds the last lines of the job manager's log to an error.
func (r *run) withLogs(err error) error {
	if r.jm == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w\nlast lines of the job manager's log:\n%s", err, r.jm.stderr)
}

// start brings the cluster up, submits the job and generates the first part of the input.
func (r *run) start(ctx context.Context) error {
	r.opts.Show.Say("broker: kfake, an embedded imitation of Kafka, at %s", r.broker.addr)
	var err error
	r.jm, err = r.daemons.start(ctx, "job manager", "jobmanager", "--listen", "127.0.0.1:0", "--http", "", "--data-dir", filepath.Join(r.dir, "jm"), "--log-level", "info")
	if err != nil {
		return err
	}
	for _, id := range []string{"tm-1", "tm-2"} {
		if err := r.startWorker(ctx, id); err != nil {
			return err
		}
	}
	r.opts.Show.Say("cluster: 1 job manager, 2 task managers with %d slots each, as processes", slotsPerWorker)
	file := filepath.Join(r.dir, "demo.yaml")
	if err := os.WriteFile(file, []byte(jobFile(r.broker.addr, perPartition(r.load.total))), 0o600); err != nil {
		return fmt.Errorf("write the job file: %w", err)
	}
	if err := r.load.produce(ctx, r.broker.addr, 0, r.firstPart()); err != nil {
		return err
	}
	r.opts.Show.Say("input: %d keyed records, %d of them generated now", r.load.total, r.firstPart())
	r.jobID, err = r.opts.Submit(ctx, r.jm.fields["grpc"], file)
	if err != nil {
		return err
	}
	r.opts.Show.Say("job: filter → count per key → sink, parallelism %d, checkpoint every 500 ms, at-least-once", parallelism)
	return nil
}

func (r *run) firstPart() int {
	n := int(float64(r.load.total) * heldFrom)
	return n - n%partitions
}

func (r *run) startWorker(ctx context.Context, id string) error {
	_, err := r.daemons.start(ctx, id, "taskmanager", "--jobmanager", r.jm.fields["grpc"], "--id", id, "--slots", fmt.Sprint(slotsPerWorker), "--http", "", "--work-dir", r.dir)
	return err
}

// killOne waits for a checkpoint in the middle of the input and kills a task manager as kill -9 does.
func (r *run) killOne(ctx context.Context) error {
	_, err := r.until(ctx, func(j *web.Job) bool {
		return j.State == "RUNNING" && j.Checkpoints.Latest != nil && r.output.records.Load() > int64(r.load.expected)/10
	})
	if err != nil {
		return err
	}
	r.killedAt = time.Now()
	r.daemons.byName("tm-2").kill9()
	r.opts.Show.Say("kill -9 of tm-2 after %d of %d records out", r.output.records.Load(), r.load.expected)
	j, err := r.until(ctx, func(j *web.Job) bool { return j.State == "WAITING_FOR_SLOTS" })
	if err != nil {
		return err
	}
	r.opts.Show.Say("job is WAITING_FOR_SLOTS: %s (noticed %d ms after the kill)", j.Slots.Explain, time.Since(r.killedAt).Milliseconds())
	return nil
}

// lookPause lets a person see the waiting job.
const lookPause = time.Second

// replace starts a new task manager and waits until the job writes again.
func (r *run) replace(ctx context.Context) error {
	waited := time.Now()
	pause := time.After(lookPause)
	if _, err := r.until(ctx, func(j *web.Job) bool {
		select {
		case <-pause:
			return true
		default:
			return j.State != "WAITING_FOR_SLOTS"
		}
	}); err != nil {
		return err
	}
	r.opts.Show.Say("starting tm-3 as replacement")
	if err := r.startWorker(ctx, "tm-3"); err != nil {
		return err
	}
	replaced := time.Now()
	j, err := r.until(ctx, func(j *web.Job) bool { return j.State != "WAITING_FOR_SLOTS" })
	if err != nil {
		return err
	}
	left := time.Now()
	r.result.WaitingForSlotsMs = left.Sub(waited).Milliseconds()
	before := r.output.records.Load()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.load.produce(gctx, r.broker.addr, r.firstPart(), r.load.total) })
	if _, err := r.until(ctx, func(*web.Job) bool { return r.output.records.Load() > before }); err != nil {
		return errors.Join(err, g.Wait())
	}
	grown := time.UnixMilli(r.output.grownAt.Load())
	r.result.RecoverMs = max(0, grown.Sub(replaced).Milliseconds())
	r.result.DowntimeMs = grown.Sub(r.killedAt).Milliseconds()
	if j, err = r.until(ctx, func(j *web.Job) bool { return j.State == "RUNNING" || j.State == "FINISHING" || j.State == "FINISHED" }); err != nil {
		return errors.Join(err, g.Wait())
	}
	r.result.RestoredCheckpoint = j.Checkpoints.Restored
	r.opts.Show.Say("job restarted from checkpoint %d; first new output %d ms after the replacement was there", r.result.RestoredCheckpoint, r.result.RecoverMs)
	return g.Wait()
}

func (r *run) finish(ctx context.Context) error {
	j, err := r.until(ctx, func(j *web.Job) bool { return j.State == "FINISHED" })
	if err != nil {
		return err
	}
	r.result.Restarts = j.Restarts
	r.opts.Show.Say("job is FINISHED after %d checkpoints", j.Checkpoints.Completed)
	return nil
}

func (r *run) verify(ctx context.Context) error {
	running := time.Since(r.started)
	v, err := r.load.verify(ctx, r.broker.addr)
	if err != nil {
		return err
	}
	res := &r.result
	res.RecordsIn, res.Expected, res.RecordsOut, res.Lost, res.Duplicates = r.load.total, r.load.expected, v.out, v.lost, v.duplicates
	res.RecordsPerSecond = int64(float64(r.load.total) / running.Seconds())
	res.ElapsedMs = time.Since(r.started).Milliseconds()
	res.Guarantee, res.Broker = "at-least-once", "kfake (embedded imitation of Kafka)"
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
		if j.State == "FAILED" || j.State == "FAILED_DATA_LOSS" || j.State == "CANCELED" || j.State == "FINISHED" {
			why := ""
			if j.Failure != nil {
				why = j.Failure.Message
			}
			return j, fmt.Errorf("the job is %s: %s", j.State, why)
		}
		r.opts.Show.Tick(fmt.Sprintf("%-17s %9d in  %9d out of %d  checkpoint %d  %s", j.State, r.load.produced.Load(), r.output.records.Load(), r.load.expected,
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
