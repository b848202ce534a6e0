package main

import "fmt"

// Goal is one figure to reach: at most its limit, or at least.
type Goal struct {
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Limit    float64 `json:"limit"`
	AtLeast  bool    `json:"atLeast,omitempty"` // the limit is a lower one
	Measured float64 `json:"measured"`
	Ratio    float64 `json:"ratio,omitempty"` // measured / limit; absent when the limit is 0
	Met      bool    `json:"met"`
}

// The units.
const (
	unitMs    = "ms"
	unitRatio = "x"
	unitMiB   = "MiB"
)

// The limits.
const (
	limitCPURatio     = 1.0 // of the franz-go loop
	limitLatencyMs    = 200
	limitSpareMs      = 1500
	limitSpareMaxMs   = 3000
	limitManagerMs    = 5000
	limitSlotMs       = 1000
	limitIdleMiB      = 40
	limitReadyMs      = 300
	limitCheckpointMs = 20
)

func newGoal(name, unit string, limit, measured float64) Goal {
	g := Goal{Name: name, Unit: unit, Limit: limit, Measured: measured, Met: measured <= limit}
	if limit > 0 {
		g.Ratio = measured / limit
	}
	return g
}

func newGoalAtLeast(name, unit string, limit, measured float64) Goal {
	g := newGoal(name, unit, limit, measured)
	g.AtLeast, g.Met = true, measured >= limit
	return g
}

func (g *Goal) limitText() string {
	if g.AtLeast {
		return fmt.Sprintf("≥ %g %s", g.Limit, g.Unit)
	}
	return fmt.Sprintf("%g %s", g.Limit, g.Unit)
}

func (g *Goal) ratioText() string {
	if g.Limit == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", g.Ratio)
}

func (g *Goal) verdict() string {
	if g.Met {
		return "met"
	}
	return "MISSED"
}

// goalsOf compares what was measured with what is to be reached; what was not measured is left out. So are
// the allocations per record: a process also allocates for its start, batches, requests and checkpoints,
// so its figure is never 0 and cannot prove that a record costs none. Tests of the data path do that.
func goalsOf(r *Report) []Goal {
	goals := []Goal{}
	for _, ratio := range r.Ratios {
		if ratio.Case == casePass && ratio.To == franzName {
			goals = append(goals, newGoal(fmt.Sprintf("pass-through, %d B: CPU per record against franz-go", ratio.ValueBytes), unitRatio, limitCPURatio, ratio.CPU.Median))
		}
	}
	if s := r.Startup; s != nil {
		goals = append(goals,
			newGoal("start of the job manager", unitMs, limitReadyMs, s.JobManagerReadyMs.Median),
			newGoal("start of the task manager", unitMs, limitReadyMs, s.TaskManagerReadyMs.Median),
			newGoal("idle job manager", unitMiB, limitIdleMiB, mib(s.JobManagerIdle)),
			newGoal("idle task manager", unitMiB, limitIdleMiB, mib(s.TaskManagerIdle)))
	}
	for _, c := range r.Checkpoints {
		if c.RecordsPerSec > 0 && c.DurationMs.N > 0 {
			goals = append(goals, newGoal(fmt.Sprintf("checkpoint p50 at %d records/s, trigger to durable", c.RecordsPerSec), unitMs, limitCheckpointMs, c.DurationMs.Median))
		}
	}
	if runs := r.latencyOf(exactlyOnce, 1000); len(runs) > 0 {
		goals = append(goals, newGoal("latency p99, scheduled to committed and read, median of the runs", unitMs, limitLatencyMs,
			sampleOf(runs, func(l *LatencyReport) float64 { return l.LatencyMs.P99 }).Median))
	}
	return append(goals, recoveryGoals(r.Recovery)...)
}

func recoveryGoals(r *RecoveryReport) (goals []Goal) {
	if r == nil {
		return nil
	}
	first := func(r *Recovery) float64 { return r.FirstMs }
	if len(r.SpareSlots) > 0 {
		s := sampleOf(r.SpareSlots, first)
		goals = append(goals,
			newGoal("kill -9 of a task manager with spare slots: first new committed output, median", unitMs, limitSpareMs, s.Median),
			newGoal("the same, max", unitMs, limitSpareMaxMs, s.Max))
	}
	if len(r.MissingSlot) > 0 {
		goals = append(goals, newGoal("missing slots there: first new committed output, median", unitMs, limitSlotMs,
			sampleOf(r.MissingSlot, func(r *Recovery) float64 { return r.SlotToFirstMs }).Median))
	}
	if len(r.JobManager) > 0 {
		goals = append(goals, newGoal("kill -9 of the job manager, started at once: first new committed output, max", unitMs, limitManagerMs, sampleOf(r.JobManager, first).Max))
	}
	return goals
}
