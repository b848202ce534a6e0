package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
	"github.com/sluice-stream/sluice/test/machine"
	"github.com/sluice-stream/sluice/web"
)

// sluice is a job manager and two task managers as processes.
var sluice = &contestant{name: sluiceName, jobs: wholeJobs(), modes: everyMode, run: runSluice}

// runSluice starts a fresh cluster, so that peak memory is that of this run, and waits for the bounded
// job to finish. The time is that of `sluice submit --wait`.
func runSluice(ctx context.Context, b *bench, t *trial) (out outcome, err error) {
	cl, err := startCluster(b.programs, partitions/slotsPerTM)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, cl.close()) }()
	profiled := b.profile(ctx, cl, t)
	start := time.Now()
	answer, err := cl.submit(ctx, jobOf(b, t).yaml(), "--wait")
	out.elapsed, out.commands = time.Since(start), cl.commands
	if err = errors.Join(err, profiled()); err != nil {
		return out, err
	}
	var job web.Job
	if err := json.Unmarshal(answer, &job); err != nil {
		return out, fmt.Errorf("reading the final state of the job: %w", err)
	}
	if job.State != "FINISHED" {
		return out, fmt.Errorf("the job is %s, want FINISHED\n%s", job.State, cl.logs())
	}
	out.peak, out.cpuOf = map[string]int64{}, map[string]float64{}
	for name, p := range cl.processes() {
		u, err := machine.UsageOf(p.Pid())
		if err != nil {
			return out, err
		}
		out.cpu += u.CPU
		out.peak[name], out.cpuOf[name] = u.PeakRSSBytes, u.CPU.Seconds()
	}
	if out.mallocs, err = cl.mallocs(); err != nil {
		return out, err
	}
	out.checkpoints, err = cl.checkpointTimes()
	return out, err
}

// jobOf is the job file of a trial; the job ends where the source ends now.
func jobOf(b *bench, t *trial) jobSpec {
	return jobSpec{
		broker: b.broker.addr, source: t.data.topic, target: t.target, compression: t.data.compression,
		operators: t.job.operators, last: t.job.last, format: t.job.format, keyFormat: t.job.keyFormat, partitioner: t.job.partitioner,
		startup: "earliest", bounded: true, interval: t.mode.interval, guarantee: t.mode.guarantee,
	}
}

// processes is every process by name.
func (c *cluster) processes() map[string]*process.Process {
	all := map[string]*process.Process{jobManagerName: c.jm}
	for _, tm := range c.tms {
		all[tm.id] = tm.process
	}
	return all
}
