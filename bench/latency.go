package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/test/machine"
	"github.com/sluice-stream/sluice/web"
)

const (
	latencyTick = time.Millisecond
	// latencyWarmUp is how long the job runs before it is timed, so that all code is loaded and compiled.
	latencyWarmUp = 5 * time.Second
	// latencyGrace is for what is not timed: start, warm-up, the last records, end.
	latencyGrace = time.Minute
	// probeFor is how long the sustainable rate is measured.
	probeFor = 5 * time.Second
	// slowestRate is what a share of the sustainable rate is at least.
	slowestRate = 100
)

// latencyRate is how fast records become due: so many per second, or a share of what is sustainable.
type latencyRate struct {
	perSec  int
	percent int // of the sustainable rate, instead
}

// String is how the flag names it: 1000, 50%.
func (r latencyRate) String() string {
	if r.percent > 0 {
		return strconv.Itoa(r.percent) + "%"
	}
	return strconv.Itoa(r.perSec)
}

func parseLatencyRates(texts []string) ([]latencyRate, error) {
	var out []latencyRate
	for _, text := range texts {
		number, isShare := strings.CutSuffix(text, "%")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil || n <= 0:
			return nil, fmt.Errorf("--latency-rates: %q is none: want records per second or a share of the sustainable rate, such as 1000 or 50%%", text)
		case isShare && n > 100:
			return nil, fmt.Errorf("--latency-rates: %s is not sustainable: want at most 100%%", text)
		case isShare:
			out = append(out, latencyRate{percent: n})
		default:
			out = append(out, latencyRate{perSec: n})
		}
	}
	return out, nil
}

// LatencyReport is about a pass-through job under a steady stream whose records are due at fixed times, written
// by then or not (an open loop). Times are in milliseconds.
type LatencyReport struct {
	// Rate is as asked for: records per second, or a share of SustainablePerSec, which is how many records per
	// second the same job passed on to the same reader from a generator without a schedule. All of them share the
	// machine, so that it is less than what the throughput part shows.
	Rate              string  `json:"rate"`
	RecordsPerSec     int     `json:"recordsPerSecond"`
	SustainablePerSec float64 `json:"sustainableRecordsPerSecond,omitempty"`
	Mode              string  `json:"mode"`
	Guarantee         string  `json:"guarantee"`
	IntervalMs        float64 `json:"intervalMs"` // of checkpoints
	Round             int     `json:"round"`
	Seconds           float64 `json:"seconds"`
	// LatencyMs is from when a record was due until a read_committed reader has its copy, of all records that
	// became due in that time.
	LatencyMs Distribution `json:"latencyMs"`
	// MarkerMs is what the broker alone takes for the last part of that, at the same time: from a bare
	// producer's call to commit, once each interval, until a read_committed reader has the record. Of
	// exactly-once only.
	MarkerMs figures.Sample `json:"markerMs"`
	// WriteMs is how long the generator's writes to the source took, and LateMs how long after their time it
	// began them.
	WriteMs figures.Sample `json:"writeMs"`
	LateMs  figures.Sample `json:"lateMs"`
	// CheckpointMs is the mean from trigger to durable.
	CheckpointMs float64 `json:"checkpointMeanMs"`
	ForeignCPU   float64 `json:"foreignCpuSeconds"`
	Load1        float64 `json:"loadAverage1"` // at the end
}

// latency repeats the measurements, each time with a cluster of its own.
func (b *bench) latency(ctx context.Context) ([]LatencyReport, error) {
	var out []LatencyReport
	sustainable := map[mode]float64{}
	if len(b.opts.latencyModes) == 0 {
		return out, nil
	}
	// The first transactions of a broker have code to load and compile: one run that does not count.
	if _, err := b.latencyRun(ctx, b.opts.latencyModes[0], latencyRate{perSec: slowestRate}, sustainable); err != nil {
		return out, fmt.Errorf("the run that does not count: %w", err)
	}
	for round := range b.opts.repeats {
		for _, m := range b.opts.latencyModes {
			for _, rate := range b.opts.latencyRates {
				report, err := b.latencyRun(ctx, m, rate, sustainable)
				if err != nil {
					return out, fmt.Errorf("%s at %s: %w", m, rate, err)
				}
				report.Round = round + 1
				b.say("%s", report.line())
				out = append(out, report)
			}
		}
	}
	return out, nil
}

func (r *LatencyReport) line() string {
	return fmt.Sprintf("latency, %s at %d records/s: p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, max %.0f ms; marker p99 %.1f ms",
		r.Mode, r.RecordsPerSec, r.LatencyMs.Median, r.LatencyMs.P99, r.LatencyMs.P999, r.LatencyMs.Max, r.MarkerMs.P99)
}

// latencyRun measures once. What is sustainable is found out when it is first needed.
func (b *bench) latencyRun(ctx context.Context, m mode, rate latencyRate, sustainable map[mode]float64) (report LatencyReport, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.opts.latency+latencyGrace, errors.New("the run took too long"))
	defer cancel()
	report = LatencyReport{Rate: rate.String(), RecordsPerSec: rate.perSec, Mode: m.String(), Guarantee: m.guarantee, IntervalMs: figures.Ms(m.interval), Seconds: b.opts.latency.Seconds()}
	if rate.percent > 0 {
		if sustainable[m] == 0 {
			if sustainable[m], err = b.sustainable(ctx, m); err != nil {
				return report, fmt.Errorf("looking for the sustainable rate: %w", err)
			}
			b.say("latency, %s: %.0f records/s are sustainable", m, sustainable[m])
		}
		report.SustainablePerSec = sustainable[m]
		report.RecordsPerSec = max(slowestRate, int(sustainable[m])*rate.percent/100)
	}
	err = b.passing(ctx, m, report.RecordsPerSec, func(cl *cluster, t *traffic) error { return b.timeLatency(ctx, &report, cl, t) })
	return report, err
}

// sustainable measures how many records per second arrive at the reader when the generator keeps no schedule.
func (b *bench) sustainable(ctx context.Context, m mode) (perSec float64, err error) {
	err = b.passing(ctx, m, unlimited, func(_ *cluster, t *traffic) error {
		if err := pause(ctx, latencyWarmUp); err != nil {
			return err
		}
		perSec, err = t.readRate(ctx, probeFor)
		return err
	})
	if err == nil && perSec == 0 {
		err = fmt.Errorf("no record was read in %s", probeFor)
	}
	return perSec, err
}

// passing does something while a job of a cluster of its own passes a traffic on.
func (b *bench) passing(ctx context.Context, m mode, rate int, do func(*cluster, *traffic) error) (err error) {
	cl, err := startCluster(b.programs, partitions/slotsPerTM)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cl.close()) }()
	b.topics++
	t, err := startTraffic(ctx, b.broker, fmt.Sprintf("latency-%d", b.topics), rate, latencyTick)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, t.close(), b.broker.deleteTopic(ctx, t.source), b.broker.deleteTopic(ctx, t.target))
	}()
	spec := jobSpec{broker: b.broker.addr, source: t.source, target: t.target, startup: "latest", interval: m.interval, guarantee: m.guarantee}
	if _, err := cl.submit(ctx, spec.yaml()); err != nil {
		return err
	}
	const checkpoints = 5
	if _, err := cl.waitJob(ctx, "past its first checkpoints", func(j *web.Job) bool { return j.Checkpoints.Completed >= checkpoints || m.interval == 0 }); err != nil {
		return err
	}
	if err := do(cl, t); err != nil {
		return fmt.Errorf("%w\n%s", err, cl.logs())
	}
	return nil
}

func (b *bench) timeLatency(ctx context.Context, report *LatencyReport, cl *cluster, t *traffic) (err error) {
	var probe *markerProbe
	if report.Guarantee == exactlyOnce {
		if probe, err = startMarkerProbe(ctx, b.broker, t.source+"-marker", time.Duration(report.IntervalMs*float64(time.Millisecond))); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, probe.close()) }()
	}
	if err := pause(ctx, latencyWarmUp); err != nil {
		return err
	}
	before, err := b.latencyState(cl)
	if err != nil {
		return err
	}
	t.beginTiming()
	t.ackTimes()
	if probe != nil {
		probe.times()
	}
	if err := pause(ctx, b.opts.latency); err != nil {
		return err
	}
	if probe != nil {
		report.MarkerMs = probe.times()
	}
	report.WriteMs, report.Load1 = t.ackTimes(), machine.LoadAverage()
	after, err := b.latencyState(cl)
	if err != nil {
		return err
	}
	report.CheckpointMs = checkpointTimes{count: after.checkpoints.count - before.checkpoints.count, sum: after.checkpoints.sum - before.checkpoints.sum}.meanMs()
	report.ForeignCPU = max(0, (after.foreign - before.foreign).Seconds())
	report.LatencyMs, report.LateMs, err = t.endTiming(ctx)
	return err
}

// latencyState is what is read before and after the timed part.
type latencyState struct {
	checkpoints checkpointTimes
	foreign     time.Duration // processor time of the machine, but of what belongs to the measurement
}

func (b *bench) latencyState(cl *cluster) (s latencyState, err error) {
	others, err := b.others()
	if err != nil {
		return s, err
	}
	s.foreign = others.machine - others.broker - others.self
	for _, p := range cl.processes() {
		u, err := machine.UsageOf(p.Pid())
		if err != nil {
			return s, err
		}
		s.foreign -= u.CPU
	}
	s.checkpoints, err = cl.checkpointTimes()
	return s, err
}

// what names the mode and the rate.
func (r *LatencyReport) what() string {
	out := fmt.Sprintf("%s at %s records/s", r.Mode, figures.Grouped(float64(r.RecordsPerSec)))
	if r.SustainablePerSec > 0 {
		out += fmt.Sprintf(", %s of what is sustainable", r.Rate)
	}
	return out
}

func millisOrNone(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", v)
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
	table := figures.NewTable(w, "LATENCY, DUE TO COMMITTED AND READ", "N", "P50", "P99", "P99.9", "MAX", "MARKER P50", "MARKER P99", "WRITE P99", "LATE P99", "CHECKPOINT MEAN", "FOREIGN CPU-S", "LOAD")
	for _, l := range r.Latency {
		d := l.LatencyMs
		row := []string{l.what(), figures.Grouped(float64(d.N))}
		for _, v := range []float64{d.Median, d.P99, d.P999, d.Max, l.MarkerMs.Median, l.MarkerMs.P99, l.WriteMs.P99, l.LateMs.P99, l.CheckpointMs} {
			row = append(row, millisOrNone(v))
		}
		table.Row(append(row, fmt.Sprintf("%.1f%s", l.ForeignCPU, figures.Mark(figures.Disturbed(l.ForeignCPU, l.Seconds))), fmt.Sprintf("%.1f", l.Load1))...)
	}
	table.End()
}
