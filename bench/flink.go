package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/bench/rivals/flink"
	"github.com/sluice-stream/sluice/test/machine"
)

const (
	// flinkLinger gives Flink's producers time to fill large batches.
	flinkLinger = 10 * time.Millisecond
	// A JVM compiles what runs often: the first time that a job is done, it is done again until it costs hardly
	// less CPU, and none of that counts.
	flinkWarmUps = 5
	hardlyLess   = 0.95
)

// flinkRival is Flink as a standalone cluster: a job manager and as many task managers and slots as Sluice has. It
// keeps running from one trial to the next, so that its code is compiled; idle meanwhile.
var flinkRival = newFlinkContestant()

// flinkKinds are the jobs that it can do.
var flinkKinds = map[string]flink.Kind{casePass: flink.Pass, caseFilter: flink.Filter, caseJSON: flink.JSON, caseCount: flink.Count}

// flinkCluster is what stays.
type flinkCluster struct {
	cluster *flink.Cluster
	warm    []string // names of the jobs that have been done
}

func newFlinkContestant() *contestant {
	c := &flinkCluster{}
	var names []string
	for _, name := range jobNames() {
		if _, ok := flinkKinds[name]; ok {
			names = append(names, name)
		}
	}
	return &contestant{name: flinkName, jobs: names, modes: everyMode, missing: flink.Missing, prepare: c.prepare, run: c.once, close: c.close}
}

// flinkSettings are those that the report tells; the Java sources have the others.
func flinkSettings() map[string]string {
	version, err := flink.Version()
	if err != nil {
		version = "unknown: " + err.Error()
	}
	out := flink.Memory()
	out["version"], out["linger.ms"] = version, fmt.Sprint(flinkLinger.Milliseconds())
	return out
}

func (c *flinkCluster) start(ctx context.Context, b *bench) error {
	if c.cluster != nil {
		return nil
	}
	b.say("starting Flink")
	distribution, err := flink.Fetch(ctx)
	if err != nil {
		return fmt.Errorf("%w; without Flink: --contestants with a list that does not name it", err)
	}
	c.warm = nil
	c.cluster, err = flink.Start(ctx, flink.Options{Distribution: distribution, TaskManagers: partitions / slotsPerTM, SlotsPerTaskManager: slotsPerTM})
	return err
}

func (c *flinkCluster) close() error {
	if c.cluster == nil {
		return nil
	}
	err := c.cluster.Close()
	c.cluster = nil
	return err
}

// prepare starts the cluster and does the job until it is compiled: in its first mode until that costs hardly less, in each
// other mode once, as a mode has code of its own.
func (c *flinkCluster) prepare(ctx context.Context, b *bench, t *trial) error {
	if err := c.start(ctx, b); err != nil {
		return err
	}
	job, inMode := t.job.name, t.job.name+" "+t.mode.String()
	if slices.Contains(c.warm, inMode) {
		return nil
	}
	times := flinkWarmUps
	if slices.Contains(c.warm, job) {
		times = 1
	}
	c.warm = append(c.warm, job, inMode)
	return c.warmUp(ctx, b, t, times)
}

// warmUp does the trial so often, or until it costs hardly less than before, into topics of its own.
func (c *flinkCluster) warmUp(ctx context.Context, b *bench, t *trial, times int) error {
	var last time.Duration
	for range times {
		again := *t
		var out outcome
		err := b.withTarget(ctx, &again, func(ctx context.Context) (err error) {
			out, err = c.once(ctx, b, &again)
			return err
		})
		if err != nil {
			return err
		}
		b.say("warming Flink up: %s, %s of CPU", t, out.cpu)
		if last > 0 && float64(out.cpu) > float64(last)*hardlyLess {
			return nil
		}
		last = out.cpu
	}
	return nil
}

// once does the trial. The time is from before the submission until the job has finished, after its last checkpoint.
func (c *flinkCluster) once(ctx context.Context, b *bench, t *trial) (out outcome, err error) {
	before, err := c.usage(true)
	if err != nil {
		return out, err
	}
	start := time.Now()
	id, err := c.cluster.Submit(ctx, c.job(b, t))
	if err == nil {
		err = c.cluster.WaitFinished(ctx, id)
	}
	out.elapsed = time.Since(start)
	if err != nil {
		return out, err
	}
	after, err := c.usage(false)
	if err != nil {
		return out, err
	}
	out.peak = map[string]int64{}
	for name, u := range after {
		out.cpu += u.CPU - before[name].CPU
		out.peak[name] = u.PeakRSSBytes
	}
	checkpoints, err := c.cluster.Checkpoints(ctx, id)
	out.checkpoints = checkpointTimes{count: checkpoints.Completed, sum: time.Duration(checkpoints.Completed) * checkpoints.Mean}
	return out, err
}

func (c *flinkCluster) job(b *bench, t *trial) flink.Job {
	return flink.Job{
		Kind: flinkKinds[t.job.name], Brokers: b.broker.addr, Source: t.data.topic, Target: t.target, Prefix: infoStart, Bounded: true,
		Parallelism: partitions, Interval: t.mode.interval, ExactlyOnce: t.mode.guarantee == exactlyOnce, Compression: t.data.compression, Linger: flinkLinger,
	}
}

// usage is that of every process of the cluster; forget makes the peak of memory begin anew.
func (c *flinkCluster) usage(forget bool) (map[string]machine.Usage, error) {
	out := map[string]machine.Usage{}
	var errs []error
	for name, p := range c.cluster.Processes() {
		if forget {
			errs = append(errs, forgetPeak(p.Pid()))
		}
		u, err := machine.UsageOf(p.Pid())
		out[name] = u
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// forgetPeak makes VmHWM of a process what it uses now.
func forgetPeak(pid int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return fmt.Errorf("resetting the peak of memory of process %d: %w", pid, err)
	}
	return nil
}
