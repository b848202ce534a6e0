package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/test/machine"
	"github.com/sluice-stream/sluice/web"
)

const (
	checkpointInterval = 200 * time.Millisecond
	checkpointTimeout  = 5 * time.Minute
	// scrapeEvery is well below the interval, so that each checkpoint is seen alone.
	scrapeEvery = 20 * time.Millisecond
)

// CheckpointReport is about a pass-through job at a steady rate. Durations are from the trigger until the
// checkpoint is durable, in milliseconds, as the job manager's metrics count them.
type CheckpointReport struct {
	RecordsPerSec int            `json:"recordsPerSecond"`
	IntervalMs    float64        `json:"intervalMs"`
	DurationMs    figures.Sample `json:"durationMs"`
	Failed        int64          `json:"failed"`
	// WriteMs is how long the generator's writes to the same broker took meanwhile: a checkpoint waits for
	// at least one write of each sink.
	WriteMs figures.Sample `json:"writeMs"`
	Load1   float64        `json:"loadAverage1"` // at the end
	Values  []float64      `json:"values"`
}

// checkpointTimes is the state of the job manager's histogram.
type checkpointTimes struct {
	count int64
	sum   time.Duration
}

func (t checkpointTimes) meanMs() float64 {
	if t.count == 0 {
		return 0
	}
	return figures.Ms(t.sum) / float64(t.count)
}

// checkpointTimes reads the histogram: from the trigger to the durability. The durations that the command
// line lists end at the last ack, before the write.
func (c *cluster) checkpointTimes() (checkpointTimes, error) {
	const histogram, labels = "sluice_checkpoint_duration_seconds", `{job="` + jobName + `"}`
	values, err := c.metrics(c.http, histogram+"_count"+labels, histogram+"_sum"+labels) // of one moment
	if err != nil {
		return checkpointTimes{}, err
	}
	return checkpointTimes{count: int64(values[0]), sum: time.Duration(values[1] * float64(time.Second))}, nil
}

// checkpoints measures at each rate. Without records it is what the coordination alone takes.
func (b *bench) checkpoints(ctx context.Context) ([]CheckpointReport, error) {
	var out []CheckpointReport
	for _, rate := range b.opts.rates {
		report, err := b.checkpointsAt(ctx, rate)
		if err != nil {
			return out, fmt.Errorf("checkpoints at %d records/s: %w", rate, err)
		}
		out = append(out, report)
	}
	return out, nil
}

// checkpointsAt measures the checkpoints of a job that passes a steady stream on.
func (b *bench) checkpointsAt(ctx context.Context, rate int) (report CheckpointReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	cl, err := startCluster(b.programs, partitions/slotsPerTM)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, cl.close()) }()
	t, err := startTraffic(ctx, b.broker, fmt.Sprintf("checkpoints-%d", rate), rate, trafficTick)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	spec := jobSpec{broker: b.broker.addr, source: t.source, target: t.target, startup: "latest", interval: checkpointInterval, guarantee: atLeastOnce}
	if _, err := cl.submit(ctx, spec.yaml()); err != nil {
		return report, err
	}
	if _, err := cl.waitJob(ctx, "past its first checkpoints", func(j *web.Job) bool { return j.Checkpoints.Completed >= 5 }); err != nil {
		return report, err
	}
	report.RecordsPerSec, report.IntervalMs = rate, figures.Ms(checkpointInterval)
	t.ackTimes()
	if report.Values, err = cl.collectCheckpoints(ctx, b.opts.checkpoints); err != nil {
		return report, err
	}
	report.DurationMs, report.WriteMs = figures.NewSample(report.Values), t.ackTimes()
	report.Load1 = machine.LoadAverage()
	job, err := cl.waitJob(ctx, "RUNNING", func(j *web.Job) bool { return j.State == "RUNNING" })
	report.Failed = job.Checkpoints.Failed
	b.say("%d checkpoints at %d records/s: p50 %.1f ms, p99 %.1f ms; a write p50 %.1f ms, p99 %.1f ms",
		report.DurationMs.N, rate, report.DurationMs.Median, report.DurationMs.P99, report.WriteMs.Median, report.WriteMs.P99)
	return report, err
}

// collectCheckpoints takes the durations of the next n checkpoints out of the differences of the
// histogram. Two that fall between two looks share their mean.
func (c *cluster) collectCheckpoints(ctx context.Context, n int) ([]float64, error) {
	before, err := c.checkpointTimes()
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(scrapeEvery)
	defer tick.Stop()
	var out []float64
	for len(out) < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return out, fmt.Errorf("waiting for checkpoints, %d of %d so far: %w\n%s", len(out), n, context.Cause(ctx), c.logs())
		}
		now, err := c.checkpointTimes()
		if err != nil {
			return out, err
		}
		fresh := checkpointTimes{count: now.count - before.count, sum: now.sum - before.sum}
		for range fresh.count {
			out = append(out, fresh.meanMs())
		}
		before = now
	}
	return out, nil
}
