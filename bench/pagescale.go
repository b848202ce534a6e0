package main

import (
	"fmt"
	"io"
)

// scaleBenchmark is what bench/scale calls itself in its JSON.
const scaleBenchmark = "coordination-scale"

// scaleReport is the JSON of bench/scale, where the fields are documented.
type scaleReport struct {
	Benchmark string         `json:"benchmark"`
	Machine   Machine        `json:"machine"`
	Settings  map[string]any `json:"settings"`
	Steps     []scaleStep    `json:"steps"`
	Goals     []scaleGoal    `json:"goals"`
}

type scaleGoal struct {
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Limit    float64 `json:"limit"`
	Measured float64 `json:"measured"`
	Ratio    float64 `json:"ratio"`
	Met      bool    `json:"met"`
}

type scaleStep struct {
	Subtasks            int    `json:"subtasks"`
	Guarantee           string `json:"guarantee"`
	TaskManagers        int    `json:"taskManagers"`
	SlotsPerTaskManager int    `json:"slotsPerTaskManager"`
	DeploymentMs        Sample `json:"deploymentMs"`
	SubmitMs            Sample `json:"submitMs"`
	CancelMs            Sample `json:"cancelMs"`
	Checkpoints         struct {
		N           int     `json:"n"`
		Failed      int     `json:"failed"`
		IntervalMs  float64 `json:"intervalMs"`
		BarrierMs   Sample  `json:"barrierMs"`
		DurableMs   Sample  `json:"durableMs"`
		CommittedMs Sample  `json:"committedMs"`
	} `json:"checkpoints"`
	Idle                  scaleWindow `json:"idle"`
	Busy                  scaleWindow `json:"busy"`
	CPUPerCheckpoint      float64     `json:"cpuSecondsPerCheckpoint"`
	FleetCPUPerCheckpoint float64     `json:"fleetCpuSecondsPerCheckpoint"`
	PeakRSSBytes          int64       `json:"peakRssBytes"`
	FleetPeakRSSBytes     int64       `json:"fleetPeakRssBytes"`
	Restarts              int         `json:"restarts"`
	Lost                  int         `json:"taskManagersLost"`
	Load1                 float64     `json:"loadAverage1"`
	Failure               string      `json:"failure,omitempty"`
}

type scaleWindow struct {
	Seconds           float64 `json:"seconds"`
	CPUSeconds        float64 `json:"cpuSeconds"`
	FleetCPUSeconds   float64 `json:"fleetCpuSeconds"`
	ForeignCPUSeconds float64 `json:"foreignCpuSeconds"`
	RSSBytes          int64   `json:"rssBytes"`
	HeartbeatAgeMaxMs float64 `json:"heartbeatAgeMaxMs"`
	AnswerMs          Sample  `json:"answerMs"`
}

func (r *scaleReport) print(w io.Writer) {
	r.printTimes(w)
	r.printCosts(w)
	r.printSlope(w)
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Failure != "" {
			fmt.Fprintf(w, "\nNot measured to its end: %d subtasks, %s: %s\n", s.Subtasks, s.Guarantee, s.Failure)
		}
	}
}

func (r *scaleReport) printTimes(w io.Writer) {
	table := newTable(w, "SUBTASKS", "SINK", "TASK MANAGERS × SLOTS", "SUBMIT TO RUNNING, ms: median (max)", "CHECKPOINTS", "FAILED",
		"TRIGGER TO LAST BARRIER, ms: p50 / p99", "TO DURABLE", "TO COMMITTED AND TOLD", "HEARTBEAT AGE, ms: idle / busy, max", "LOST")
	for i := range r.Steps {
		s := &r.Steps[i]
		c := &s.Checkpoints
		table.row(grouped(float64(s.Subtasks)), s.Guarantee, fmt.Sprintf("%d × %d", s.TaskManagers, s.SlotsPerTaskManager),
			fmt.Sprintf("%s (%s)", digits(s.DeploymentMs.Median), digits(s.DeploymentMs.Max)), fmt.Sprint(c.N), fmt.Sprint(c.Failed),
			halfAndNines(c.BarrierMs), halfAndNines(c.DurableMs), halfAndNines(c.CommittedMs),
			fmt.Sprintf("%s / %s", digits(s.Idle.HeartbeatAgeMaxMs), digits(s.Busy.HeartbeatAgeMaxMs)), fmt.Sprint(s.Lost))
	}
	table.end()
}

func halfAndNines(s Sample) string { return digits(s.Median) + " / " + digits(s.P99) }

func (r *scaleReport) printCosts(w io.Writer) {
	table := newTable(w, "SUBTASKS", "SINK", "JOB MANAGER: CPU-ms PER CHECKPOINT", "CPU WHEN IDLE, %", "RSS, MiB: idle / peak",
		"SIMULATED TASK MANAGERS: CPU-ms PER CHECKPOINT", "PEAK RSS, MiB", "CANCEL TO CANCELED, ms", "LIST TASK MANAGERS, ms: p99", "FOREIGN CPU-S", "LOAD")
	for i := range r.Steps {
		s := &r.Steps[i]
		table.row(grouped(float64(s.Subtasks)), s.Guarantee, digits(1000*s.CPUPerCheckpoint), digits(100*s.Idle.cpuShare()),
			fmt.Sprintf("%s / %s", digits(mib(s.Idle.RSSBytes)), digits(mib(s.PeakRSSBytes))),
			digits(1000*s.FleetCPUPerCheckpoint), digits(mib(s.FleetPeakRSSBytes)), digits(s.CancelMs.Median), digits(s.Busy.AnswerMs.P99),
			fmt.Sprintf("%.1f of %.0f s%s", s.foreignSeconds(), s.watchedSeconds(), mark(s.disturbed())), fmt.Sprintf("%.1f", s.Load1))
	}
	table.end()
}

// printSlope shows what a subtask costs at each size: where that rises with the size, it is not linear.
func (r *scaleReport) printSlope(w io.Writer) {
	table := newTable(w, "SUBTASKS", "SINK", "A SUBTASK COSTS: DEPLOYMENT, µs", "CHECKPOINT p50, µs", "JOB MANAGER'S CPU OF A CHECKPOINT, µs", "CPU OF AN IDLE SECOND, µs", "PEAK RSS, KiB")
	for i := range r.Steps {
		s := &r.Steps[i]
		n := float64(s.Subtasks)
		table.row(grouped(n), s.Guarantee, digits(1000*s.DeploymentMs.Median/n), digits(1000*s.Checkpoints.CommittedMs.Median/n),
			digits(1e6*s.CPUPerCheckpoint/n), digits(1e6*s.Idle.cpuShare()/n), digits(float64(s.PeakRSSBytes)/1024/n))
	}
	table.end()
}

func (w *scaleWindow) cpuShare() float64 {
	if w.Seconds == 0 {
		return 0
	}
	return w.CPUSeconds / w.Seconds
}

func (s *scaleStep) foreignSeconds() float64 {
	return s.Idle.ForeignCPUSeconds + s.Busy.ForeignCPUSeconds
}
func (s *scaleStep) watchedSeconds() float64 { return s.Idle.Seconds + s.Busy.Seconds }
func (s *scaleStep) disturbed() bool         { return disturbed(s.foreignSeconds(), s.watchedSeconds()) }
