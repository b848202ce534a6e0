package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sluice-stream/sluice/web"
)

const (
	latencyRate     = 1000
	latencyTick     = time.Millisecond
	latencyInterval = 100 * time.Millisecond
	// latencyWarmUp is how long the job runs before it is timed, so that all code is loaded and compiled.
	latencyWarmUp = 5 * time.Second
	// latencyGrace is for what is not timed: start, warm-up, end.
	latencyGrace = time.Minute
)

// LatencyReport is about a pass-through job under a steady stream whose records are due at fixed times.
// Times are in milliseconds.
type LatencyReport struct {
	RecordsPerSec int     `json:"recordsPerSecond"`
	IntervalMs    float64 `json:"intervalMs"` // of checkpoints
	Guarantee     string  `json:"guarantee"`
	Seconds       float64 `json:"seconds"`
	// LatencyMs is from when a record was due until a read_committed reader has its copy.
	LatencyMs Sample `json:"latencyMs"`
	// MarkerMs is what the broker alone takes for the last part of that, at the same time: from a bare
	// producer's call to commit, once each interval, until a read_committed reader has the record.
	MarkerMs Sample `json:"markerMs"`
	// WriteMs is how long the generator's writes to the source took.
	WriteMs Sample `json:"writeMs"`
	// CheckpointMs is the mean from trigger to durable.
	CheckpointMs float64 `json:"checkpointMeanMs"`
	Load1        float64 `json:"loadAverage1"` // at the end
}

// latency repeats the measurement, each time with a cluster of its own.
func (b *bench) latency(ctx context.Context) ([]LatencyReport, error) {
	var out []LatencyReport
	for i := range b.opts.repeats {
		runCtx, cancel := context.WithTimeoutCause(ctx, b.opts.latency+latencyGrace, errors.New("the latency run took too long"))
		report, err := b.latencyOnce(runCtx, fmt.Sprintf("latency-%d", i+1))
		cancel()
		if err != nil {
			return out, err
		}
		b.say("latency at %d records/s: p50 %.0f ms, p99 %.0f ms, max %.0f ms; marker p99 %.1f ms",
			report.RecordsPerSec, report.LatencyMs.Median, report.LatencyMs.P99, report.LatencyMs.Max, report.MarkerMs.P99)
		out = append(out, report)
	}
	return out, nil
}

func (b *bench) latencyOnce(ctx context.Context, name string) (report LatencyReport, err error) {
	cl, err := startCluster(b.programs, partitions/slotsPerTM)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, cl.close()) }()
	t, err := startTraffic(ctx, b.broker, name, latencyRate, latencyTick)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	spec := jobSpec{broker: b.broker.addr, source: t.source, target: t.target, startup: "latest", interval: latencyInterval, guarantee: b.opts.guarantee}
	if _, err := cl.submit(ctx, spec.yaml()); err != nil {
		return report, err
	}
	if _, err := cl.waitJob(ctx, "past its first checkpoints", func(j *web.Job) bool { return j.Checkpoints.Completed >= 5 }); err != nil {
		return report, err
	}
	probe, err := startMarkerProbe(ctx, b.broker, name+"-marker", latencyInterval)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, probe.close()) }()
	if err := pause(ctx, latencyWarmUp); err != nil {
		return report, err
	}
	return b.timeLatency(ctx, cl, t, probe)
}

func (b *bench) timeLatency(ctx context.Context, cl *cluster, t *traffic, probe *markerProbe) (LatencyReport, error) {
	report := LatencyReport{RecordsPerSec: latencyRate, IntervalMs: ms(latencyInterval), Guarantee: b.opts.guarantee, Seconds: b.opts.latency.Seconds()}
	before, err := cl.checkpointTimes()
	if err != nil {
		return report, err
	}
	t.times()
	t.ackTimes()
	probe.times()
	if err := pause(ctx, b.opts.latency); err != nil {
		return report, err
	}
	if report.LatencyMs, err = t.timed(); err != nil {
		return report, err
	}
	report.MarkerMs, report.WriteMs, report.Load1 = probe.times(), t.ackTimes(), loadAverage()
	after, err := cl.checkpointTimes()
	report.CheckpointMs = checkpointTimes{count: after.count - before.count, sum: after.sum - before.sum}.meanMs()
	if want := int(latencyRate * b.opts.latency.Seconds()); err == nil && report.LatencyMs.N < want*9/10 {
		err = fmt.Errorf("only %d of some %d records were read in time\n%s", report.LatencyMs.N, want, cl.logs())
	}
	return report, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Report) printLatency(w io.Writer) {
	if len(r.Latency) == 0 {
		return
	}
	table := newTable(w, "LATENCY, DUE TO COMMITTED AND READ", "CHECKPOINTS", "N", "P50", "P99", "MAX", "MARKER P50", "MARKER P99", "WRITE P99", "CHECKPOINT MEAN", "LOAD")
	for _, l := range r.Latency {
		table.row(fmt.Sprintf("%s at %d records/s", l.Guarantee, l.RecordsPerSec), fmt.Sprintf("%.0f ms", l.IntervalMs), fmt.Sprint(l.LatencyMs.N),
			fmt.Sprintf("%.0f ms", l.LatencyMs.Median), fmt.Sprintf("%.0f ms", l.LatencyMs.P99), fmt.Sprintf("%.0f ms", l.LatencyMs.Max),
			fmt.Sprintf("%.1f ms", l.MarkerMs.Median), fmt.Sprintf("%.1f ms", l.MarkerMs.P99), fmt.Sprintf("%.1f ms", l.WriteMs.P99),
			fmt.Sprintf("%.1f ms", l.CheckpointMs), fmt.Sprintf("%.1f", l.Load1))
	}
	table.end()
}
