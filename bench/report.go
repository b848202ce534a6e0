package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluice-stream/sluice/bench/figures"
)

// recordsBenchmark tells the JSON of this benchmark from that of others.
const recordsBenchmark = "records"

// Report is everything that was measured; its JSON is what docs are written from. A part that was not run
// is absent. Each Sample has n, min, median, p99 and max.
type Report struct {
	// Benchmark is always recordsBenchmark.
	Benchmark string         `json:"benchmark"`
	Machine   Machine        `json:"machine"`
	Settings  map[string]any `json:"settings"`
	Startup   *StartupReport `json:"startup,omitempty"`
	// FirstOutputMs is from before the submission of a job, at-least-once on an idle cluster and a warm broker,
	// until a reader has its first record.
	FirstOutputMs figures.Sample     `json:"firstOutputMs,omitzero"`
	Runs          []Run              `json:"runs,omitempty"`     // of all contestants, in the order of time
	Ratios        []Ratio            `json:"ratios,omitempty"`   // from Runs
	LeftOut       map[string]string  `json:"leftOut,omitempty"`  // contestants asked for, and what the machine lacks for them
	Profiles      []Profile          `json:"profiles,omitempty"` // with --profile
	Latency       []LatencyReport    `json:"latency,omitempty"`
	Checkpoints   []CheckpointReport `json:"checkpoints,omitempty"`
	Recovery      *RecoveryReport    `json:"recovery,omitempty"`
	Goals         []Goal             `json:"goals"`
}

func (o *options) settings() map[string]any {
	out := map[string]any{
		"flags": o.flags, "parts": o.parts, "contestants": o.contestants, "cases": o.cases, "sizes": o.sizes, "compressions": o.compressions, "modes": modeTexts(o.modes),
		"records": o.records, "repeats": o.repeats, "kills": o.kills, "flinkKills": o.flinkKills, "starts": o.starts, "checkpoints": o.checkpoints,
		"interval": o.interval.String(), "guarantee": o.guarantee, "latencySeconds": o.latency.Seconds(), "latencyModes": modeTexts(o.latencyModes), "latencyRates": fmt.Sprint(o.latencyRates),
		"partitions": partitions, "taskManagers": partitions / slotsPerTM, "slotsPerTaskManager": slotsPerTM, "keys": keyedKeys,
		"brokerHeapMiB": brokerHeapMiB, "recoveryRecordsPerSecond": recoveryRate, "checkpointRecordsPerSecond": o.rates,
	}
	if slices.Contains(o.contestants, flinkName) {
		out["flink"] = flinkSettings()
	}
	return out
}

// wrong names the runs whose output was not as it must be.
func (r *Report) wrong() error {
	var errs []error
	for i := range r.Runs {
		if run := &r.Runs[i]; run.Wrong != "" {
			errs = append(errs, fmt.Errorf("%s, %s, %s: wrong output: %s", run.who(), run.Case, run.values(), run.Wrong))
		}
	}
	return errors.Join(errs...)
}

// print writes the tables for people.
func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", r.Machine)
	r.printStartup(w)
	r.printRuns(w)
	r.printRatios(w)
	r.printProfiles(w)
	r.printLatency(w)
	r.printCheckpoints(w)
	r.printRecovery(w)
	r.printGoals(w)
}

func (r *Report) printGoals(w io.Writer) {
	if len(r.Goals) == 0 {
		return
	}
	table := figures.NewTable(w, "GOAL", "LIMIT", "MEASURED", "MEASURED / LIMIT", "")
	for _, g := range r.Goals {
		table.Row(g.Name, g.limitText(), g.measuredText(), g.ratioText(), g.verdictText())
	}
	table.End()
}

func (r *Report) printRuns(w io.Writer) {
	if len(r.Runs) == 0 {
		return
	}
	table := figures.NewTable(w, "JOB", "VALUE", "CONTESTANT", "RECORDS/S, STEADY median (min–max)", "WHOLE RUN", "MiB/S", "CPU-S PER MILLION median (min–max)",
		"BROKER", "FOREIGN CPU-S", "ALLOC/RECORD", "PEAK RSS MiB", "CHECKPOINTS")
	for _, s := range selectionsOf(r.Runs) {
		runs := s.of(r.Runs)
		if len(runs) == 0 {
			table.Row(s.job, s.values(), s.who(), "no valid run")
			continue
		}
		median := func(figure func(*Run) float64) float64 { return figures.SampleOf(runs, figure).Median }
		table.Row(s.job, s.values(), s.who(), orDash(median(steadyPerSec), thousands(figures.SampleOf(runs, steadyPerSec))), thousands(figures.SampleOf(runs, recordsPerSec)),
			fmt.Sprintf("%.0f", median(func(r *Run) float64 { return r.MiBPerSec })),
			thirdDigit(figures.SampleOf(runs, cpuPerMillion)),
			fmt.Sprintf("%.2f", median(func(r *Run) float64 { return r.BrokerPerM })),
			fmt.Sprintf("%.1f%s", median(func(r *Run) float64 { return r.ForeignCPU }), disturbedMark(runs)),
			orDash(median(allocsPerRecord), fmt.Sprintf("%.4f", median(allocsPerRecord))),
			peakText(runs), checkpointText(runs))
	}
	table.End()
	for name, why := range r.LeftOut {
		fmt.Fprintf(w, "\nleft out: %s; this machine lacks %s\n", name, why)
	}
}

// disturbedMark stands behind the foreign CPU of runs of which one was disturbed.
func disturbedMark(runs []Run) string {
	return figures.Mark(slices.ContainsFunc(runs, func(r Run) bool { return figures.Disturbed(r.ForeignCPU, r.Seconds) }))
}

func allocsPerRecord(r *Run) float64 { return r.AllocsPerRecord }

// orDash is for figures that are 0 when they are unknown.
func orDash(value float64, text string) string {
	if value == 0 {
		return "-"
	}
	return text
}

// peakText shows the largest resident set of each process in any of the runs.
func peakText(runs []Run) string {
	peaks := map[string]int64{}
	for _, run := range runs {
		for name, bytes := range run.PeakRSSBytes {
			peaks[name] = max(peaks[name], bytes)
		}
	}
	var names, parts []string
	for name := range peaks {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s %.0f", name, figures.MiB(peaks[name])))
	}
	return strings.Join(parts, ", ")
}

func checkpointText(runs []Run) string {
	count := func(r *Run) float64 { return float64(r.Checkpoints) }
	switch {
	case runs[0].Transactions > 0:
		return fmt.Sprintf("%.0f transactions of a partition", figures.SampleOf(runs, func(r *Run) float64 { return r.perPartition() }).Median)
	case runs[0].IntervalMs == 0:
		return "-"
	}
	return fmt.Sprintf("%.0f of %.0f ms", figures.SampleOf(runs, count).Median, figures.SampleOf(runs, func(r *Run) float64 { return r.CheckpointMs }).Median)
}

func (r *Report) printStartup(w io.Writer) {
	if first := r.FirstOutputMs; first.N > 0 {
		fmt.Fprintf(w, "\nfirst output after submission, at-least-once: %s\n", milliseconds(first))
	}
	s := r.Startup
	if s == nil {
		return
	}
	table := figures.NewTable(w, "START AND IDLE", "MEDIAN (MIN–MAX)")
	table.Row("job manager: process to ready", milliseconds(s.JobManagerReadyMs))
	table.Row("task manager: process to ready", milliseconds(s.TaskManagerReadyMs))
	table.Row("job manager and two task managers: until the slots are free", milliseconds(s.SlotsReadyMs))
	table.Row("sluice version: the whole run", milliseconds(s.SluiceVersionMs))
	table.Row("job manager, idle", fmt.Sprintf("%.1f MiB", figures.MiB(s.JobManagerIdle)))
	table.Row("task manager, idle", fmt.Sprintf("%.1f MiB", figures.MiB(s.TaskManagerIdle)))
	table.End()
}

func (r *Report) printCheckpoints(w io.Writer) {
	if len(r.Checkpoints) == 0 {
		return
	}
	table := figures.NewTable(w, "CHECKPOINT, TRIGGER TO DURABLE", "EVERY", "N", "FAILED", "P50", "P99", "MIN–MAX", "A WRITE TO THE SAME BROKER: P50", "P99", "LOAD")
	for _, c := range r.Checkpoints {
		d, write := c.DurationMs, []string{"-", "-"}
		if c.WriteMs.N > 0 {
			write = []string{fmt.Sprintf("%.1f ms", c.WriteMs.Median), fmt.Sprintf("%.1f ms", c.WriteMs.P99)}
		}
		table.Row(fmt.Sprintf("at %d records/s", c.RecordsPerSec), fmt.Sprintf("%.0f ms", c.IntervalMs), fmt.Sprint(d.N), fmt.Sprint(c.Failed),
			fmt.Sprintf("%.1f ms", d.Median), fmt.Sprintf("%.1f ms", d.P99), fmt.Sprintf("%.1f–%.1f ms", d.Min, d.Max), write[0], write[1], fmt.Sprintf("%.1f", c.Load1))
	}
	table.End()
}

func milliseconds(s figures.Sample) string {
	return fmt.Sprintf("%.0f ms (%.0f–%.0f)", s.Median, s.Min, s.Max)
}
