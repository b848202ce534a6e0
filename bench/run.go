package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-stream/sluice/bench/figures"
)

// Run is one run of one contestant. CPU is user and system time of the contestant's processes: over their
// whole life up to the end of the run, or, of those that stay from one run to the next, over the run. The
// broker stands apart. Runs with equal Case, ValueBytes, Compression, Contestant and Mode repeat each other.
type Run struct {
	Case        string `json:"case"` // the name of the job
	ValueBytes  int    `json:"valueBytes"`
	Compression string `json:"compression"` // of input and output: none or lz4
	Contestant  string `json:"contestant"`
	// Mode is off, at-least-once/INTERVAL or exactly-once/INTERVAL; "" of a contestant that knows no
	// checkpoints. Guarantee and IntervalMs, of checkpoints or transactions, are its parts; 0: none.
	Mode       string  `json:"mode"`
	Guarantee  string  `json:"guarantee"`
	IntervalMs float64 `json:"intervalMs"`
	// Round counts the repeats; in a round every contestant runs once.
	Round      int     `json:"round"`
	RecordsIn  int64   `json:"recordsIn"`
	RecordsOut int64   `json:"recordsOut"`
	Seconds    float64 `json:"seconds"`
	// RecordsPerSec is over the whole run, from before the contestant's start, or the submission of the job,
	// to its end. SteadyPerSec is from a tenth to nine tenths of the output, as seen in the output topic.
	// Both count records of the input.
	RecordsPerSec float64 `json:"recordsPerSecond"`
	SteadyPerSec  float64 `json:"steadyRecordsPerSecond"`
	MiBPerSec     float64 `json:"mibPerSecond"` // of values, uncompressed
	CPUSeconds    float64 `json:"cpuSeconds"`
	// CPUSecondsOf has the parts of CPUSeconds by process, where there are several.
	CPUSecondsOf    map[string]float64 `json:"cpuSecondsOf,omitempty"`
	CPUPerMillion   float64            `json:"cpuSecondsPerMillion"`
	BrokerPerM      float64            `json:"brokerCpuSecondsPerMillion"`
	ForeignCPU      float64            `json:"foreignCpuSeconds"`
	PeakRSSBytes    map[string]int64   `json:"peakRssBytes"`         // by process
	AllocsPerRecord float64            `json:"allocationsPerRecord"` // 0: unknown
	Checkpoints     int64              `json:"checkpoints"`
	CheckpointMs    float64            `json:"checkpointMeanMs"`
	// Transactions and StalledMs, the sum of all waits for an id, are what a bare transactional loop counts.
	Transactions int64   `json:"transactions,omitempty"`
	StalledMs    float64 `json:"stalledMs,omitempty"`
	// Wrong says what is wrong with the output; "" if nothing. A wrong run counts nowhere.
	Wrong string `json:"wrong,omitempty"`
}

func newRun(t *trial, out outcome) Run {
	n := float64(t.data.records)
	return Run{
		Case: t.job.name, ValueBytes: t.data.valueBytes, Compression: t.data.compression, Contestant: t.by.name,
		Mode: t.mode.String(), IntervalMs: figures.Ms(t.mode.interval), Guarantee: t.mode.guarantee,
		RecordsIn: int64(t.data.records), RecordsOut: t.job.want(t.data).total(),
		Seconds: out.elapsed.Seconds(), RecordsPerSec: n / out.elapsed.Seconds(),
		MiBPerSec:  n * float64(t.data.valueBytes) / (1 << 20) / out.elapsed.Seconds(),
		CPUSeconds: out.cpu.Seconds(), CPUPerMillion: out.cpu.Seconds() / n * 1e6,
		PeakRSSBytes: out.peak, CPUSecondsOf: out.cpuOf, AllocsPerRecord: float64(out.mallocs) / n,
		Checkpoints: out.checkpoints.count, CheckpointMs: out.checkpoints.meanMs(),
		Transactions: out.transactions, StalledMs: figures.Ms(out.stalled),
	}
}

func (r *Run) line() string {
	verdict := "output ok"
	if r.Wrong != "" {
		verdict = "DISQUALIFIED: " + r.Wrong
	}
	return fmt.Sprintf("%-8s %-12s %-28s %9.0f records/s (steady %.0f), %6.3f CPU-s per million (broker %.2f), %.4f allocations per record, %s",
		r.Case, r.values(), r.who(), r.RecordsPerSec, r.SteadyPerSec, r.CPUPerMillion, r.BrokerPerM, r.AllocsPerRecord, verdict)
}

func (r *Run) values() string { return r.selection().values() }
func (r *Run) who() string    { return r.selection().who() }

// perPartition is how many transactions each partition got: one for each checkpoint of a job. Fewer than the
// interval allows are longer ones.
func (r *Run) perPartition() float64 {
	if r.Guarantee != exactlyOnce {
		return 0
	}
	return float64(r.Checkpoints) + float64(r.Transactions)/partitions
}

// peakRSS is the sum over the processes.
func (r *Run) peakRSS() float64 {
	var sum int64
	for _, bytes := range r.PeakRSSBytes {
		sum += bytes
	}
	return float64(sum)
}

func cpuPerMillion(r *Run) float64 { return r.CPUPerMillion }
func recordsPerSec(r *Run) float64 { return r.RecordsPerSec }
func steadyPerSec(r *Run) float64  { return r.SteadyPerSec }

// selection picks runs that repeat each other.
type selection struct {
	job         string
	valueBytes  int
	compression string
	contestant  string
	mode        string
}

// of picks the valid runs.
func (s selection) of(runs []Run) []Run {
	var out []Run
	for _, r := range runs {
		if r.Wrong == "" && r.selection() == s {
			out = append(out, r)
		}
	}
	return out
}

// values is how tables name the data.
func (s selection) values() string { return fmt.Sprintf("%d B %s", s.valueBytes, s.compression) }

// who is the contestant with its mode.
func (s selection) who() string { return strings.TrimSpace(s.contestant + " " + s.mode) }

func (r *Run) selection() selection {
	return selection{r.Case, r.ValueBytes, r.Compression, r.Contestant, r.Mode}
}

// by is the same done by someone else.
func (s selection) by(contestant, mode string) selection {
	s.contestant, s.mode = contestant, mode
	return s
}

// selectionsOf lists what was run, in the order of the runs.
func selectionsOf(runs []Run) []selection {
	var out []selection
	for i := range runs {
		if s := runs[i].selection(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
