package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-stream/sluice/bench/coordination"
	"github.com/sluice-stream/sluice/bench/figures"
)

// goalTable is every goal with its figure.
type goalTable struct {
	Table                    string // Markdown
	Met, Missed, NotMeasured int
	Notes                    []missedNote
}

// goalRow is a goal with the run that its figure is from.
type goalRow struct {
	goal Goal
	run  int
}

func (r goalRow) text() string { return fmt.Sprintf("%s (run %d)", r.goal.Name, r.run) }

// goalTableOf has a row for each run that has measured a goal.
func goalTableOf(sources []*source, notes string) goalTable {
	var t goalTable
	var m figures.Markdown
	var missed []string
	rows := goalRows(sources)
	if len(rows) == 0 {
		return t
	}
	table := figures.NewTable(&m, "GOAL", "LIMIT", "MEASURED", "MIN–MAX", "MEASURED / LIMIT", "", "RUN")
	for _, r := range rows {
		run := fmt.Sprint(r.run)
		switch r.goal.Verdict {
		case verdictMet:
			t.Met++
		case verdictMissed:
			t.Missed++
			missed = append(missed, r.text())
		default:
			t.NotMeasured++
			run = ""
		}
		table.Row(r.goal.Name, r.goal.limitText(), r.goal.measuredText(), r.goal.spreadText(), r.goal.ratioText(), r.goal.verdictText(), run)
	}
	table.End()
	t.Table = strings.Trim(m.String(), "\n")
	t.Notes = notesFor(missed, notesIn(notes))
	return t
}

// goalRows keeps the order of the goals, and of the runs. What no run has measured has one row.
func goalRows(sources []*source) []goalRow {
	var names []string
	byName := map[string][]goalRow{}
	for _, s := range sources {
		for _, g := range s.goals() {
			if byName[g.Name] == nil {
				names = append(names, g.Name)
			}
			byName[g.Name] = append(byName[g.Name], goalRow{g, s.number})
		}
	}
	var out []goalRow
	for _, name := range names {
		rows := byName[name]
		measured := slices.DeleteFunc(slices.Clone(rows), func(r goalRow) bool { return r.goal.Verdict == verdictNotMeasured })
		if len(measured) == 0 {
			measured = rows[:1]
		}
		out = append(out, measured...)
	}
	return out
}

// goals are those of the run. They are judged again, by today's limits.
func (s *source) goals() []Goal {
	if s.records != nil {
		return goalsOf(s.records)
	}
	var out []Goal
	for _, g := range coordination.GoalsOf(s.scale.Steps) {
		verdict := verdictMissed
		if g.Met {
			verdict = verdictMet
		}
		out = append(out, Goal{Name: g.Name, Unit: g.Unit, Limit: g.Limit, Verdict: verdict, Measured: g.Measured, Ratio: g.Ratio})
	}
	return out
}
