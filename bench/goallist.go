package main

import (
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/bench/figures"
)

// inFlightMiB is what a task manager may hold on top of its own 64 MiB: for each slot what a source reads ahead
// of one partition, 4 MiB, and what a sink has waiting, 2 MiB.
const inFlightMiB = slotsPerTM * (4 + 2)

// allocationLimit is what TestPassThroughAllocates allows, too: a record's own are none.
const allocationLimit = 0.05

// inEveryMode stands for all of the modes that goals are about.
const inEveryMode = ""

// cpuGoals are the limits of Sluice's CPU per record against a rival's, of which the rival that knows
// checkpoints does the same mode.
var cpuGoals = []struct {
	job         string
	valueBytes  int
	compression string
	mode        string
	rival       string
	limit       float64
}{
	{casePass, 100, noCompression, atLeastOnce + "/1s", flinkName, 1. / 4},
	{casePass, 100, noCompression, exactlyOnce + "/1s", flinkName, 1. / 5},
	{casePass, 100, noCompression, inEveryMode, franzName, 1. / 4},
	{casePass, 100, noCompression, inEveryMode, bareName, 1.1},
	{casePass, 100, lz4, inEveryMode, flinkName, 1. / 10},
	{casePass, 100, lz4, inEveryMode, franzName, 1. / 8},
	{casePass, 100, lz4, inEveryMode, bareName, 1.2},
	{casePass, 1024, noCompression, inEveryMode, flinkName, 1 / 2.5},
	{casePass, 1024, noCompression, inEveryMode, franzName, 1 / 1.5},
	{casePass, 1024, noCompression, inEveryMode, bareName, 1},
	{casePass, 1024, lz4, inEveryMode, flinkName, 1. / 5},
	{casePass, 1024, lz4, inEveryMode, franzName, 1. / 4},
	{casePass, 1024, lz4, inEveryMode, bareName, 1},
	{caseFilter, 100, noCompression, inEveryMode, flinkName, 1. / 3},
	{caseFilter, 100, noCompression, inEveryMode, recodeName, 1.1},
	{caseJSON, objectBytes, noCompression, inEveryMode, flinkName, 1. / 2},
	{caseCount, keyedBytes, noCompression, inEveryMode, flinkName, 1. / 4},
}

// speedGoals are the limits of Sluice's records per second, steady, in pass-through of every kind of topic. The
// bare loop opens no record: who is as fast is bound by the broker and the machine that they share.
var speedGoals = []struct {
	mode      string
	rival     string
	rivalMode string
	limit     float64
}{
	{exactlyOnce + "/1s", sluiceName, "off", 0.97},
	{exactlyOnce + "/100ms", sluiceName, "off", 0.90},
	{exactlyOnce + "/1s", txnName, exactlyOnce + "/1s", 0.97},
	{exactlyOnce + "/100ms", txnName, exactlyOnce + "/100ms", 0.97},
	{atLeastOnce + "/1s", bareName, "", 0.95},
}

// otherGoals are the rest.
var otherGoals = []goal{
	atMost("peak memory of all processes against flink's, pass-through", unitRatio, 1./20, memoryAgainst(flinkName, casePass)),
	atMost("peak memory of all processes against flink's, filter", unitRatio, 1./20, memoryAgainst(flinkName, caseFilter)),
	atMost("peak memory of all processes against flink's, JSON", unitRatio, 1./20, memoryAgainst(flinkName, caseJSON)),
	atMost("peak memory of all processes against flink's, count", unitRatio, 1./20, memoryAgainst(flinkName, caseCount)),
	atMost("peak memory of a task manager, largest of all jobs", unitMiB, 64+inFlightMiB, taskManagerMiB),
	atMost("allocations per record, pass, 100 B none, with those of start, requests and checkpoints", unitEach, allocationLimit, allocationsOf(casePass)),
	atMost("allocations per record, filter, 100 B none, with those of start, requests and checkpoints", unitEach, allocationLimit, allocationsOf(caseFilter)),
	atMost("latency at 1,000 records/s, exactly-once/100ms: p50", unitMs, 90, latencyOf(exactlyOnce+"/100ms", func(l *LatencyReport) float64 { return l.LatencyMs.Median })),
	atMost("latency at 1,000 records/s, exactly-once/100ms: p99", unitMs, 200, latencyOf(exactlyOnce+"/100ms", func(l *LatencyReport) float64 { return l.LatencyMs.P99 })),
	atMost("latency at 1,000 records/s, at-least-once: p99", unitMs, 20, latencyOf(atLeastOnce, func(l *LatencyReport) float64 { return l.LatencyMs.P99 })),
	atMost("kill -9 of a task manager with spare slots: first new committed output, median", unitMs, 1500, killOf(spares, firstMs, median)),
	atMost("the same, max", unitMs, 3000, killOf(spares, firstMs, largest)),
	atMost("missing slots there: first new committed output, median", unitMs, 1000, killOf(missing, func(k *Recovery) float64 { return k.SlotToFirstMs }, median)),
	atMost("kill -9 of the job manager, started at once: first new committed output, max", unitMs, 5000, killOf(managers, firstMs, largest)),
	atMost("start of the job manager", unitMs, 300, startOf(func(s *StartupReport) float64 { return s.JobManagerReadyMs.Median })),
	atMost("start of the task manager", unitMs, 300, startOf(func(s *StartupReport) float64 { return s.TaskManagerReadyMs.Median })),
	atMost("start of a job manager and two task managers: slots free", unitMs, 500, startOf(func(s *StartupReport) float64 { return s.SlotsReadyMs.Median })),
	atMost("submit: first output, at-least-once, warm broker", unitMs, 300, firstOutput),
	atMost("idle job manager", unitMiB, 40, startOf(func(s *StartupReport) float64 { return figures.MiB(s.JobManagerIdle) })),
	atMost("idle task manager", unitMiB, 40, startOf(func(s *StartupReport) float64 { return figures.MiB(s.TaskManagerIdle) })),
	atMost("checkpoint p50 at 1,000 records/s, trigger to durable", unitMs, 20, checkpointAt(1000)),
	atMost("checkpoint p50 at 10,000 records/s, trigger to durable", unitMs, 20, checkpointAt(10_000)),
}

// goals lists every goal, with those of a kind in the order of their tables.
func goals() []goal {
	var out []goal
	for _, c := range cpuGoals {
		modes := []string{c.mode}
		if c.mode == inEveryMode {
			modes = []string{atLeastOnce + "/1s", exactlyOnce + "/1s"}
		}
		for _, mode := range modes {
			of := selection{c.job, c.valueBytes, c.compression, sluiceName, mode}
			out = append(out, atMost(fmt.Sprintf("%s, %s, %s: CPU per record against %s", c.job, of.values(), mode, c.rival), unitRatio, c.limit, cpuRatio(of, c.rival)))
		}
	}
	for _, size := range []int{100, 1024} {
		for _, compression := range []string{noCompression, lz4} {
			for _, s := range speedGoals {
				of := selection{casePass, size, compression, sluiceName, s.mode}
				to := of.by(s.rival, s.rivalMode)
				name := fmt.Sprintf("pass, %s, %s: records/s, steady, against %s", of.values(), s.mode, to.who())
				out = append(out, atLeast(name, unitRatio, s.limit, func(r *Report) (float64, figures.Sample) {
					return middle(ratio(r.Runs, of, to).Steady)
				}))
			}
		}
	}
	return append(out, otherGoals...)
}

// cpuRatio compares medians, with the rival in the same mode or in none.
func cpuRatio(of selection, rival string) figure {
	return func(r *Report) (float64, figures.Sample) {
		compared := ratio(r.Runs, of, of.by(rival, of.mode))
		if compared.CPU.N == 0 {
			compared = ratio(r.Runs, of, of.by(rival, ""))
		}
		return middle(compared.CPU)
	}
}

// runsOf are the valid runs of a contestant.
func runsOf(r *Report, contestant string) []Run {
	return slices.DeleteFunc(slices.Clone(r.Runs), func(run Run) bool { return run.Contestant != contestant || run.Wrong != "" })
}

// memoryAgainst compares the largest of all runs of a job.
func memoryAgainst(rival, job string) figure {
	return func(r *Report) (float64, figures.Sample) {
		others := func(run Run) bool { return run.Case != job }
		ours := figures.SampleOf(slices.DeleteFunc(runsOf(r, sluiceName), others), (*Run).peakRSS)
		theirs := figures.SampleOf(slices.DeleteFunc(runsOf(r, rival), others), (*Run).peakRSS)
		if ours.N == 0 || theirs.N == 0 {
			return 0, figures.Sample{}
		}
		return one(ours.Max / theirs.Max)
	}
}

// allocationsOf is the middle of a job's runs with short values that are not compressed, whatever their mode.
func allocationsOf(job string) figure {
	return func(r *Report) (float64, figures.Sample) {
		others := func(run Run) bool {
			return run.Case != job || run.ValueBytes > 256 || run.Compression != noCompression || run.AllocsPerRecord == 0
		}
		return middle(figures.SampleOf(slices.DeleteFunc(runsOf(r, sluiceName), others), allocsPerRecord))
	}
}

func taskManagerMiB(r *Report) (float64, figures.Sample) {
	var most int64
	for _, run := range runsOf(r, sluiceName) {
		for name, bytes := range run.PeakRSSBytes {
			if name != jobManagerName {
				most = max(most, bytes)
			}
		}
	}
	if most == 0 {
		return 0, figures.Sample{}
	}
	return one(figures.MiB(most))
}

// one is a figure of a single value.
func one(v float64) (float64, figures.Sample) { return v, figures.NewSample([]float64{v}) }

// middle is a median.
func middle(s figures.Sample) (float64, figures.Sample) { return s.Median, s }

// latencyOf is the median over the runs at 1,000 records per second in a mode, or in all of a guarantee.
func latencyOf(mode string, of func(*LatencyReport) float64) figure {
	return func(r *Report) (float64, figures.Sample) {
		some := slices.DeleteFunc(slices.Clone(r.Latency), func(l LatencyReport) bool {
			return l.RecordsPerSec != 1000 || l.Mode != mode && l.Guarantee != mode
		})
		return middle(figures.SampleOf(some, of))
	}
}

func startOf(of func(*StartupReport) float64) figure {
	return func(r *Report) (float64, figures.Sample) {
		if r.Startup == nil {
			return 0, figures.Sample{}
		}
		return one(of(r.Startup))
	}
}

func firstOutput(r *Report) (float64, figures.Sample) { return middle(r.FirstOutputMs) }

func checkpointAt(rate int) figure {
	return func(r *Report) (float64, figures.Sample) {
		for _, c := range r.Checkpoints {
			if c.RecordsPerSec == rate && c.DurationMs.N > 0 {
				return middle(c.DurationMs)
			}
		}
		return 0, figures.Sample{}
	}
}

func firstMs(k *Recovery) float64      { return k.FirstMs }
func median(s figures.Sample) float64  { return s.Median }
func largest(s figures.Sample) float64 { return s.Max }

func spares(r *RecoveryReport) []Recovery   { return r.SpareSlots }
func missing(r *RecoveryReport) []Recovery  { return r.MissingSlot }
func managers(r *RecoveryReport) []Recovery { return r.JobManager }

func killOf(kind func(*RecoveryReport) []Recovery, of func(*Recovery) float64, sum func(figures.Sample) float64) figure {
	return func(r *Report) (float64, figures.Sample) {
		if r.Recovery == nil {
			return 0, figures.Sample{}
		}
		sample := figures.SampleOf(kind(r.Recovery), of)
		return sum(sample), sample
	}
}
