package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/sluice-stream/sluice/bench/figures"
)

// summaryMode is the one mode of the summary, if it was run.
const summaryMode = exactlyOnce + "/1s"

// printSummary shows every contestant in a column: one glance, where printRuns has every figure.
func (r *Report) printSummary(w io.Writer) {
	var rows, columns []selection
	all := slices.DeleteFunc(selectionsOf(r.Runs), func(s selection) bool {
		return s.mode != "" && s.mode != summaryMode || len(s.of(r.Runs)) == 0
	})
	for _, s := range all {
		rows = appendNew(rows, s.by("", ""))
		columns = appendNew(columns, selection{contestant: s.contestant, mode: s.mode})
	}
	if len(rows) == 0 {
		return
	}
	header := []string{"CPU-S PER MILLION, RECORDS/S STEADY"}
	for _, c := range columns {
		header = append(header, c.who())
	}
	table := figures.NewTable(w, header...)
	for _, row := range rows {
		cells := []string{row.job + ", " + row.values()}
		for _, c := range columns {
			cells = append(cells, summaryCell(row.by(c.contestant, c.mode).of(r.Runs)))
		}
		table.Row(cells...)
	}
	table.End()
}

func appendNew(to []selection, s selection) []selection {
	if slices.Contains(to, s) {
		return to
	}
	return append(to, s)
}

func summaryCell(runs []Run) string {
	if len(runs) == 0 {
		return "-"
	}
	cpu := figures.Digits(figures.SampleOf(runs, cpuPerMillion).Median)
	steady := figures.SampleOf(runs, steadyPerSec).Median
	if steady == 0 { // nothing is written: there is no output to watch
		return cpu + ", -"
	}
	return fmt.Sprintf("%s, %s M", cpu, figures.Digits(steady/1e6))
}
