package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is everything that was measured; its JSON is what docs are written from. A part that was not run
// is absent. Each Sample has n, min, median, p99 and max.
type Report struct {
	Machine     Machine            `json:"machine"`
	Settings    map[string]any     `json:"settings"`
	Startup     *StartupReport     `json:"startup,omitempty"`
	Runs        []Run              `json:"runs,omitempty"`        // Sluice beside a franz-go loop
	ExactlyOnce []Run              `json:"exactlyOnce,omitempty"` // beside checkpoints off and a bare transactional loop
	Ratios      []ThroughputRatio  `json:"exactlyOnceRatios,omitempty"`
	Latency     []LatencyReport    `json:"latency,omitempty"`
	Checkpoints []CheckpointReport `json:"checkpoints,omitempty"`
	Recovery    *RecoveryReport    `json:"recovery,omitempty"`
	Goals       []Goal             `json:"goals"`
}

func (o *options) settings() map[string]any {
	return map[string]any{
		"parts": o.parts, "cases": o.cases, "sizes": o.sizes, "records": o.records, "repeats": o.repeats, "kills": o.kills,
		"starts": o.starts, "checkpoints": o.checkpoints, "checkpointInterval": o.interval.String(), "partitions": partitions,
		"taskManagers": partitions / slotsPerTM, "slotsPerTaskManager": slotsPerTM, "compression": "none", "guarantee": o.guarantee, "latencySeconds": o.latency.Seconds(),
		"brokerHeapMiB": brokerHeapMiB, "recoveryRecordsPerSecond": recoveryRate, "checkpointRecordsPerSecond": o.rates,
	}
}

// wrong names the runs whose output was not as it must be.
func (r *Report) wrong() error {
	var errs []error
	for _, run := range slices.Concat(r.Runs, r.ExactlyOnce) {
		if run.Wrong != "" {
			errs = append(errs, fmt.Errorf("%s, %s, %d-byte values: wrong output: %s", run.Contestant, run.Case, run.ValueBytes, run.Wrong))
		}
	}
	return errors.Join(errs...)
}

// of selects the valid runs of one contestant in one case.
func (r *Report) of(name string, valueBytes int, contestant string) []Run {
	return runsOf(r.Runs, name, valueBytes, contestant)
}

func runsOf(runs []Run, name string, valueBytes int, contestant string) []Run {
	var out []Run
	for _, run := range runs {
		if run.Case == name && run.ValueBytes == valueBytes && run.Contestant == contestant && run.Wrong == "" {
			out = append(out, run)
		}
	}
	return out
}

// sizesOf and namesOf list the sizes and contestants in the order of the runs.
func sizesOf(runs []Run) []int {
	return distinct(runs, func(r *Run) int { return r.ValueBytes })
}

func namesOf(runs []Run) []string {
	return distinct(runs, func(r *Run) string { return r.Contestant })
}

func distinct[T comparable](runs []Run, of func(*Run) T) []T {
	var out []T
	for i := range runs {
		if v := of(&runs[i]); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// pairs lists every case and size that was run, in the order of the runs.
func (r *Report) pairs() []Run {
	var out []Run
	for _, run := range r.Runs {
		if !slices.ContainsFunc(out, func(o Run) bool { return o.Case == run.Case && o.ValueBytes == run.ValueBytes }) {
			out = append(out, run)
		}
	}
	return out
}

func cpuPerMillion(r *Run) float64 { return r.CPUPerMillion }
func recordsPerSec(r *Run) float64 { return r.RecordsPerSec }

// print writes the tables for people.
func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", r.Machine)
	r.printStartup(w)
	r.printRuns(w)
	r.printExactlyOnce(w)
	r.printLatency(w)
	r.printCheckpoints(w)
	r.printRecovery(w)
	r.printGoals(w)
}

func (r *Report) printGoals(w io.Writer) {
	if len(r.Goals) == 0 {
		return
	}
	table := newTable(w, "GOAL", "LIMIT", "MEASURED", "MEASURED / LIMIT", "")
	for _, g := range r.Goals {
		table.row(g.Name, g.limitText(), fmt.Sprintf("%.4g %s", g.Measured, g.Unit), g.ratioText(), g.verdict())
	}
	table.end()
}

func (r *Report) printRuns(w io.Writer) {
	if len(r.Runs) == 0 {
		return
	}
	table := newTable(w, "JOB", "VALUE", "CONTESTANT", "RECORDS/S median (min–max)", "MiB/S", "CPU-S PER MILLION median (min–max)", "BROKER", "FOREIGN CPU-S", "ALLOC/RECORD", "PEAK RSS MiB", "CHECKPOINTS")
	for _, pair := range r.pairs() {
		for _, contestant := range []string{sluiceName, franzName} {
			runs := r.of(pair.Case, pair.ValueBytes, contestant)
			if len(runs) == 0 {
				table.row(pair.Case, fmt.Sprintf("%d B", pair.ValueBytes), contestant, "no valid run")
				continue
			}
			speed, cpu := sampleOf(runs, recordsPerSec), sampleOf(runs, cpuPerMillion)
			table.row(pair.Case, fmt.Sprintf("%d B", pair.ValueBytes), contestant,
				thousands(speed),
				fmt.Sprintf("%.0f", speed.Median*float64(pair.ValueBytes)/(1<<20)),
				thirdDigit(cpu),
				fmt.Sprintf("%.2f", sampleOf(runs, func(r *Run) float64 { return r.BrokerPerM }).Median),
				fmt.Sprintf("%.1f", sampleOf(runs, func(r *Run) float64 { return r.ForeignCPU }).Median),
				fmt.Sprintf("%.4f", sampleOf(runs, func(r *Run) float64 { return r.AllocsPerRecord }).Median),
				peakText(runs), checkpointText(runs))
		}
	}
	table.end()
	r.printRatios(w)
}

func (r *Report) printRatios(w io.Writer) {
	table := newTable(w, "JOB", "VALUE", "SLUICE / FRANZ-GO: CPU PER RECORD", "RECORDS/S")
	for _, pair := range r.pairs() {
		ours, theirs := r.of(pair.Case, pair.ValueBytes, sluiceName), r.of(pair.Case, pair.ValueBytes, franzName)
		if len(ours) == 0 || len(theirs) == 0 {
			continue
		}
		table.row(pair.Case, fmt.Sprintf("%d B", pair.ValueBytes),
			fmt.Sprintf("%.2f", sampleOf(ours, cpuPerMillion).Median/sampleOf(theirs, cpuPerMillion).Median),
			fmt.Sprintf("%.2f", sampleOf(ours, recordsPerSec).Median/sampleOf(theirs, recordsPerSec).Median))
	}
	table.end()
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
		parts = append(parts, fmt.Sprintf("%s %.0f", name, mib(peaks[name])))
	}
	return strings.Join(parts, ", ")
}

func checkpointText(runs []Run) string {
	if runs[0].Contestant != sluiceName {
		return "-"
	}
	return fmt.Sprintf("%.0f of %.0f ms", sampleOf(runs, func(r *Run) float64 { return float64(r.Checkpoints) }).Median,
		sampleOf(runs, func(r *Run) float64 { return r.CheckpointMs }).Median)
}

func (r *Report) printStartup(w io.Writer) {
	s := r.Startup
	if s == nil {
		return
	}
	table := newTable(w, "START AND IDLE", "MEDIAN (MIN–MAX)")
	table.row("job manager: process to ready", milliseconds(s.JobManagerReadyMs))
	table.row("task manager: process to ready", milliseconds(s.TaskManagerReadyMs))
	table.row("job manager and two task managers: until the slots are free", milliseconds(s.SlotsReadyMs))
	table.row("sluice version: the whole run", milliseconds(s.SluiceVersionMs))
	table.row("job manager, idle", fmt.Sprintf("%.1f MiB", mib(s.JobManagerIdle)))
	table.row("task manager, idle", fmt.Sprintf("%.1f MiB", mib(s.TaskManagerIdle)))
	table.end()
}

func (r *Report) printCheckpoints(w io.Writer) {
	if len(r.Checkpoints) == 0 {
		return
	}
	table := newTable(w, "CHECKPOINT, TRIGGER TO DURABLE", "EVERY", "N", "FAILED", "P50", "P99", "MIN–MAX", "A WRITE TO THE SAME BROKER: P50", "P99", "LOAD")
	for _, c := range r.Checkpoints {
		d, write := c.DurationMs, []string{"-", "-"}
		if c.WriteMs.N > 0 {
			write = []string{fmt.Sprintf("%.1f ms", c.WriteMs.Median), fmt.Sprintf("%.1f ms", c.WriteMs.P99)}
		}
		table.row(fmt.Sprintf("at %d records/s", c.RecordsPerSec), fmt.Sprintf("%.0f ms", c.IntervalMs), fmt.Sprint(d.N), fmt.Sprint(c.Failed),
			fmt.Sprintf("%.1f ms", d.Median), fmt.Sprintf("%.1f ms", d.P99), fmt.Sprintf("%.1f–%.1f ms", d.Min, d.Max), write[0], write[1], fmt.Sprintf("%.1f", c.Load1))
	}
	table.end()
}

func milliseconds(s Sample) string {
	return fmt.Sprintf("%.0f ms (%.0f–%.0f)", s.Median, s.Min, s.Max)
}

// table aligns columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, header ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t.w)
	t.row(header...)
	return t
}

func (t *table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

// end writes the table. Errors of stdout show in the next write that matters, the JSON.
func (t *table) end() { _ = t.w.Flush() }
