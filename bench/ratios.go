package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/sluice-stream/sluice/bench/figures"
)

// Ratio compares two contestants, or two modes of one, in each round.
type Ratio struct {
	Case        string `json:"case"`
	ValueBytes  int    `json:"valueBytes"`
	Compression string `json:"compression"`
	Of          string `json:"of"` // contestant and mode
	To          string `json:"to"`
	// CPU compares the CPU per record, Steady the records per second of the steady parts of the runs, Whole
	// those of the runs with their start and end, which for a job are submission, deployment, the last
	// checkpoint and fencing: they do not grow with its length.
	CPU    figures.Sample `json:"cpu"`
	Steady figures.Sample `json:"steady"`
	Whole  figures.Sample `json:"whole"`
}

// ratio compares valid runs of the same round; n is 0 if there is none.
func ratio(runs []Run, of, to selection) Ratio {
	var cpu, steady, whole []float64
	others := to.of(runs)
	for _, a := range of.of(runs) {
		i := slices.IndexFunc(others, func(r Run) bool { return r.Round == a.Round })
		if i < 0 {
			continue
		}
		b := &others[i]
		cpu = append(cpu, a.CPUPerMillion/b.CPUPerMillion)
		steady, whole = append(steady, a.SteadyPerSec/b.SteadyPerSec), append(whole, a.RecordsPerSec/b.RecordsPerSec)
	}
	return Ratio{
		Case: of.job, ValueBytes: of.valueBytes, Compression: of.compression, Of: of.who(), To: to.who(),
		CPU: figures.NewSample(cpu), Steady: figures.NewSample(steady), Whole: figures.NewSample(whole),
	}
}

// ratiosOf compares Sluice in each mode with every rival in the same mode or without one, and with itself
// without checkpoints.
func ratiosOf(runs []Run) []Ratio {
	var out []Ratio
	all := selectionsOf(runs)
	for _, of := range all {
		if of.contestant != sluiceName {
			continue
		}
		for _, to := range all {
			same := to.by(of.contestant, of.mode) == of
			comparable := to.mode == of.mode || to.mode == "" || to.contestant == sluiceName && to.mode == off.String()
			if !same || to == of || !comparable {
				continue
			}
			if r := ratio(runs, of, to); r.CPU.N > 0 {
				out = append(out, r)
			}
		}
	}
	return out
}

func (r *Report) printRatios(w io.Writer) {
	if len(r.Ratios) == 0 {
		return
	}
	table := figures.NewTable(w, "RATIO", "JOB", "VALUE", "CPU PER RECORD median (min–max)", "RECORDS/S, STEADY", "WHOLE RUN")
	for _, ratio := range r.Ratios {
		table.Row(ratio.Of+" / "+ratio.To, ratio.Case, fmt.Sprintf("%d B %s", ratio.ValueBytes, ratio.Compression),
			thirdDigit(ratio.CPU), thirdDigit(ratio.Steady), thirdDigit(ratio.Whole))
	}
	table.End()
}

func thousands(s figures.Sample) string {
	return fmt.Sprintf("%.0f k (%.0f–%.0f)", s.Median/1e3, s.Min/1e3, s.Max/1e3)
}

func thirdDigit(s figures.Sample) string {
	return fmt.Sprintf("%.3f (%.3f–%.3f)", s.Median, s.Min, s.Max)
}
