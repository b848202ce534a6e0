package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/test/machine"
)

// idleFor is how long a cluster does nothing before its memory is read.
const idleFor = 5 * time.Second

// StartupReport is about processes without a job. Memory is the resident set, in bytes, the pages of the
// program file that are in use included.
type StartupReport struct {
	JobManagerReadyMs  figures.Sample `json:"jobManagerReadyMs"`
	TaskManagerReadyMs figures.Sample `json:"taskManagerReadyMs"`
	SluiceVersionMs    figures.Sample `json:"sluiceVersionMs"` // a whole run of `sluice version`
	// SlotsReadyMs is from before the job manager's process is made until the slots of two task managers
	// are free.
	SlotsReadyMs    figures.Sample `json:"slotsReadyMs"`
	JobManagerIdle  int64          `json:"jobManagerIdleRssBytes"`
	TaskManagerIdle int64          `json:"taskManagerIdleRssBytes"`
}

// startup starts clusters and lets the last one idle.
func (b *bench) startup(ctx context.Context) (report StartupReport, err error) {
	var jm, tm, version, slots []float64
	for range b.opts.starts {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		times, err := startOnce(b.programs)
		if err != nil {
			return report, err
		}
		jm, tm, slots = append(jm, times.jm), append(tm, times.tms...), append(slots, times.slots)
		began := time.Now()
		if output, err := exec.CommandContext(ctx, b.programs.path("sluice"), "version").CombinedOutput(); err != nil {
			return report, fmt.Errorf("sluice version: %w: %s", err, output)
		}
		version = append(version, figures.Ms(time.Since(began)))
	}
	report.JobManagerReadyMs, report.TaskManagerReadyMs = figures.NewSample(jm), figures.NewSample(tm)
	report.SluiceVersionMs, report.SlotsReadyMs = figures.NewSample(version), figures.NewSample(slots)
	b.say("ready after: job manager %.0f ms, task manager %.0f ms; slots of two task managers free after %.0f ms", report.JobManagerReadyMs.Median, report.TaskManagerReadyMs.Median, report.SlotsReadyMs.Median)
	report.JobManagerIdle, report.TaskManagerIdle, err = b.idle(ctx)
	return report, err
}

type startTimes struct {
	jm, slots float64
	tms       []float64
}

func startOnce(p *programs) (t startTimes, err error) {
	dir, err := os.MkdirTemp("", "sluice-bench-start-")
	if err != nil {
		return t, fmt.Errorf("making a directory for a cluster: %w", err)
	}
	c := newCluster(p, dir)
	defer func() { err = errors.Join(err, c.close()) }()
	began := time.Now()
	if err := c.startJobManager("127.0.0.1:0", "127.0.0.1:0"); err != nil {
		return t, err
	}
	t.jm = figures.Ms(time.Since(began))
	for i := range partitions / slotsPerTM {
		tm, err := c.startTaskManager(fmt.Sprintf("tm-%d", i+1))
		if err != nil {
			return t, err
		}
		t.tms = append(t.tms, figures.Ms(tm.ready.Sub(tm.started)))
	}
	err = c.waitSlots(partitions)
	t.slots = figures.Ms(time.Since(began))
	return t, err
}

// idle reads the memory of a cluster that has nothing to do; of the task managers the larger.
func (b *bench) idle(ctx context.Context) (jm, tm int64, err error) {
	c, err := startCluster(b.programs, partitions/slotsPerTM)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	select {
	case <-time.After(idleFor):
	case <-ctx.Done():
		return 0, 0, context.Cause(ctx)
	}
	for name, p := range c.processes() {
		u, err := machine.UsageOf(p.Pid())
		if err != nil {
			return jm, tm, err
		}
		if name == jobManagerName {
			jm = u.RSSBytes
		} else {
			tm = max(tm, u.RSSBytes)
		}
	}
	b.say("idle: job manager %.1f MiB, task manager %.1f MiB", figures.MiB(jm), figures.MiB(tm))
	return jm, tm, nil
}
