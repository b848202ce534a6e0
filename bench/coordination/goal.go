package coordination

import (
	"fmt"
	"io"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/graph"
)

// Goal is one figure to reach: at most its limit.
type Goal struct {
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Limit    float64 `json:"limit"`
	Measured float64 `json:"measured"`
	Ratio    float64 `json:"ratio"` // measured / limit
	Met      bool    `json:"met"`
}

// The limits. Those of the size hold at goalSubtasks only.
const (
	goalSubtasks      = 10_000
	limitCommittedMs  = 1000
	limitDeploymentMs = 5000
	limitRSSMiB       = 300
	limitSlope        = 1.5 // what a subtask costs at one size against a tenth of it; 1 is linear
)

// smallestSlopeStep is the least size with which a larger one is compared: what is there without any subtask outweighs
// small ones. That of exactly-once sinks is the second largest that is measured.
func smallestSlopeStep(guarantee string) int {
	if guarantee == string(graph.ExactlyOnce) {
		return 100
	}
	return 1000
}

func newGoal(name, unit string, limit, measured float64) Goal {
	return Goal{Name: name, Unit: unit, Limit: limit, Measured: measured, Ratio: measured / limit, Met: measured <= limit}
}

// GoalsOf compares what was measured with what is to be reached. What was not measured is left out; a step that
// could not be measured to its end misses its goals.
func GoalsOf(steps []Step) []Goal {
	goals := []Goal{}
	for i := range steps {
		s := &steps[i]
		name := fmt.Sprintf("%d subtasks, %s", s.Subtasks, s.Guarantee)
		if s.Failure != "" {
			goals = append(goals, Goal{Name: name + ": measured to the end", Unit: "failures", Measured: 1})
			continue
		}
		if s.Subtasks == goalSubtasks {
			goals = append(goals,
				newGoal(name+": checkpoint p99, trigger to committed and told", "ms", limitCommittedMs, s.Checkpoints.CommittedMs.P99),
				newGoal(name+": deployment, submit to RUNNING, median", "ms", limitDeploymentMs, s.DeploymentMs.Median),
				newGoal(name+": peak RSS of the job manager", "MiB", limitRSSMiB, figures.MiB(s.PeakRSSBytes)))
		}
		goals = append(goals, slopeGoals(steps[:i], s)...)
	}
	return goals
}

// slopeGoals compare the cost of a subtask with that in the step of a tenth of the subtasks.
func slopeGoals(before []Step, s *Step) (goals []Goal) {
	for i := range before {
		b := &before[i]
		if b.Failure != "" || b.Guarantee != s.Guarantee || b.Subtasks*10 != s.Subtasks || b.Subtasks < smallestSlopeStep(s.Guarantee) {
			continue
		}
		add := func(what string, of func(*Step) float64) {
			if of(b) > 0 {
				goals = append(goals, newGoal(fmt.Sprintf("%s of a subtask at %d against %d, %s", what, s.Subtasks, b.Subtasks, s.Guarantee), "x", limitSlope, of(s)/of(b)/10))
			}
		}
		add("deployment time", func(s *Step) float64 { return s.DeploymentMs.Median })
		add("checkpoint time, p50,", func(s *Step) float64 { return s.Checkpoints.CommittedMs.Median })
		add("job manager's CPU per checkpoint", func(s *Step) float64 { return s.CPUPerCheckpoint })
	}
	return goals
}

// Verdict is met or MISSED.
func (g *Goal) Verdict() string {
	if g.Met {
		return "met"
	}
	return "MISSED"
}

// PrintGoals writes a table of goals, if there are any.
func PrintGoals(w io.Writer, goals []Goal) {
	if len(goals) == 0 {
		return
	}
	table := figures.NewTable(w, "GOAL", "LIMIT", "MEASURED", "MEASURED / LIMIT", "")
	for i := range goals {
		g := &goals[i]
		table.Row(g.Name, fmt.Sprintf("%g %s", g.Limit, g.Unit), fmt.Sprintf("%.4g %s", g.Measured, g.Unit), fmt.Sprintf("%.2f", g.Ratio), g.Verdict())
	}
	table.End()
}
