package main

import (
	"fmt"
	"strings"

	"github.com/sluice-stream/sluice/bench/figures"
)

// Goal is one figure to reach: at most its limit, or at least.
type Goal struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"atLeast,omitempty"` // the limit is a lower one
	// Verdict is met, missed or not measured. Measured and Ratio, measured / limit, are 0 if not measured.
	Verdict  string  `json:"verdict"`
	Measured float64 `json:"measured"`
	// Low and High are the least and the largest of what Measured sums up; both are 0 where that is one value.
	Low   float64 `json:"low,omitempty"`
	High  float64 `json:"high,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
}

// The verdicts.
const (
	verdictMet         = "met"
	verdictMissed      = "missed"
	verdictNotMeasured = "not measured"
)

// The units.
const (
	unitMs    = "ms"
	unitRatio = "x"
	unitMiB   = "MiB"
	unitEach  = "per record"
)

// figure finds a measured figure, and what it sums up: an empty sample says that it was not measured.
type figure func(r *Report) (float64, figures.Sample)

// goal is a figure with its limit.
type goal struct {
	name    string
	unit    string
	limit   float64
	atLeast bool
	of      figure
}

func atMost(name, unit string, limit float64, of figure) goal {
	return goal{name, unit, limit, false, of}
}
func atLeast(name, unit string, limit float64, of figure) goal {
	return goal{name, unit, limit, true, of}
}

// judge compares what was measured with what is to be reached.
func (g *goal) judge(r *Report) Goal {
	out := Goal{Name: g.name, Unit: g.unit, Limit: g.limit, AtLeast: g.atLeast, Verdict: verdictNotMeasured}
	measured, of := g.of(r)
	if of.N == 0 {
		return out
	}
	if of.N > 1 {
		out.Low, out.High = of.Min, of.Max
	}
	out.Measured, out.Ratio, out.Verdict = measured, measured/g.limit, verdictMet
	if measured > g.limit && !g.atLeast || measured < g.limit && g.atLeast {
		out.Verdict = verdictMissed
	}
	return out
}

// goalsOf judges every goal. A process also allocates for its start, batches, requests and checkpoints, so that its
// allocations per record are never 0 and cannot prove that a record costs none: tests of the data path do that.
func goalsOf(r *Report) []Goal {
	var out []Goal
	for _, g := range goals() {
		out = append(out, g.judge(r))
	}
	return out
}

func (g *Goal) limitText() string {
	sign := "≤"
	if g.AtLeast {
		sign = "≥"
	}
	return fmt.Sprintf("%s %.4g %s", sign, g.Limit, g.Unit)
}

func (g *Goal) measuredText() string {
	if g.Verdict == verdictNotMeasured {
		return "-"
	}
	return fmt.Sprintf("%.4g %s", g.Measured, g.Unit)
}

func (g *Goal) spreadText() string {
	if g.Low == 0 && g.High == 0 {
		return "-"
	}
	return fmt.Sprintf("%.4g–%.4g", g.Low, g.High)
}

func (g *Goal) ratioText() string {
	if g.Verdict == verdictNotMeasured {
		return "-"
	}
	return fmt.Sprintf("%.2f", g.Ratio)
}

// verdictText shouts what was missed.
func (g *Goal) verdictText() string {
	if g.Verdict == verdictMissed {
		return strings.ToUpper(g.Verdict)
	}
	return g.Verdict
}
