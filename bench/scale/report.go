package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// Report is everything that was measured; its JSON is what docs are written from.
type Report struct {
	// Benchmark is always coordination-scale: it tells this JSON from that of the benchmark of records.
	Benchmark string  `json:"benchmark"`
	Machine   Machine `json:"machine"`
	// Settings are the flags of the run.
	Settings map[string]any `json:"settings"`
	Steps    []Step         `json:"steps"`
	Goals    []Goal         `json:"goals"`
}

// benchmarkName is Report.Benchmark.
const benchmarkName = "coordination-scale"

// Step is one size of a job: its own job manager, its own task managers.
type Step struct {
	Subtasks            int    `json:"subtasks"`
	Guarantee           string `json:"guarantee"` // of the sink: at-least-once or exactly-once
	TaskManagers        int    `json:"taskManagers"`
	SlotsPerTaskManager int    `json:"slotsPerTaskManager"`
	// DeploymentMs is from the call of Submit until the job is RUNNING; SubmitMs is the call itself: the checks of
	// topics, the start offsets, the write of checkpoint 0.
	DeploymentMs Sample `json:"deploymentMs"`
	SubmitMs     Sample `json:"submitMs"`
	// CancelMs is from the call of Cancel until the job is CANCELED.
	CancelMs    Sample           `json:"cancelMs"`
	Checkpoints CheckpointReport `json:"checkpoints"`
	// Idle is the job running without checkpoints; Busy is while the checkpoints above were drawn.
	Idle Window `json:"idle"`
	Busy Window `json:"busy"`
	// CPUPerCheckpoint is what one checkpoint costs the job manager, in seconds of user and system time: that of
	// Busy less what the same time costs when idle.
	CPUPerCheckpoint float64 `json:"cpuSecondsPerCheckpoint"`
	// FleetCPUPerCheckpoint is the same of the process that holds the simulated task managers (and the broker): in
	// a cluster it is spread over their machines, here it takes its turn on the same processors.
	FleetCPUPerCheckpoint float64 `json:"fleetCpuSecondsPerCheckpoint"`
	// PeakRSSBytes is the job manager's over the whole step; FleetPeakRSSBytes that of the simulated task managers'
	// process over the steps so far.
	PeakRSSBytes      int64   `json:"peakRssBytes"`
	FleetPeakRSSBytes int64   `json:"fleetPeakRssBytes"`
	Restarts          int     `json:"restarts"` // deployments that were lost again
	Lost              int     `json:"taskManagersLost"`
	Load1             float64 `json:"loadAverage1"` // at the end
	// Failure is why the step could not be measured to its end; empty: it was. A step with one meets no goal.
	Failure string `json:"failure,omitempty"`
}

// CheckpointReport is about the checkpoints of a job, each timed from its trigger in the job manager, in milliseconds.
type CheckpointReport struct {
	N          int     `json:"n"`
	Failed     int     `json:"failed"`
	IntervalMs float64 `json:"intervalMs"`
	// BarrierMs is until the last subtask has passed its barrier and says so, DurableMs until the manifest is durable,
	// CommittedMs until the last subtask has heard that it is durable and committed.
	BarrierMs   Sample `json:"barrierMs"`
	DurableMs   Sample `json:"durableMs"`
	CommittedMs Sample `json:"committedMs"`
}

// Window is a span of time in which the job manager was watched.
type Window struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpuSeconds"` // of the job manager
	// FleetCPUSeconds is that of the process with the simulated task managers; ForeignCPUSeconds that of all else on
	// the machine: what disturbed the measurement.
	FleetCPUSeconds   float64 `json:"fleetCpuSeconds"`
	ForeignCPUSeconds float64 `json:"foreignCpuSeconds"`
	RSSBytes          int64   `json:"rssBytes"` // of the job manager at its end
	// HeartbeatAgeMaxMs is the oldest newest heartbeat of a task manager that the job manager had at any look: the
	// interval of heartbeats, and their delay.
	HeartbeatAgeMaxMs float64 `json:"heartbeatAgeMaxMs"`
	// AnswerMs is how long the job manager took to list its task managers meanwhile.
	AnswerMs Sample `json:"answerMs"`
}

func (w *Window) cpuPerSecond() float64 {
	if w.Seconds == 0 {
		return 0
	}
	return w.CPUSeconds / w.Seconds
}

func (s *Step) slots() int { return s.TaskManagers * s.SlotsPerTaskManager }

// print writes the tables for people.
func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", r.Machine)
	r.printTimes(w)
	r.printCosts(w)
	r.printSlope(w)
	printGoals(w, r.Goals)
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Failure != "" {
			fmt.Fprintf(w, "\n%d subtasks, %s: %s\n", s.Subtasks, s.Guarantee, s.Failure)
		}
	}
}

func (r *Report) printTimes(w io.Writer) {
	table := newTable(w, "SUBTASKS", "SINK", "TASK MANAGERS x SLOTS", "SUBMIT → RUNNING median (max)", "CHECKPOINTS", "FAILED",
		"TRIGGER → LAST BARRIER p50 / p99", "→ DURABLE p50 / p99", "→ COMMITTED, TOLD p50 / p99", "HEARTBEAT AGE idle / busy, max", "LOST")
	for i := range r.Steps {
		s := &r.Steps[i]
		c := &s.Checkpoints
		table.row(fmt.Sprint(s.Subtasks), s.Guarantee, fmt.Sprintf("%d x %d", s.TaskManagers, s.SlotsPerTaskManager),
			fmt.Sprintf("%.0f ms (%.0f)", s.DeploymentMs.Median, s.DeploymentMs.Max), fmt.Sprint(c.N), fmt.Sprint(c.Failed),
			quantiles(c.BarrierMs), quantiles(c.DurableMs), quantiles(c.CommittedMs),
			fmt.Sprintf("%.0f / %.0f ms", s.Idle.HeartbeatAgeMaxMs, s.Busy.HeartbeatAgeMaxMs), fmt.Sprint(s.Lost))
	}
	table.end()
}

func quantiles(s Sample) string { return fmt.Sprintf("%.1f / %.1f ms", s.Median, s.P99) }

func (r *Report) printCosts(w io.Writer) {
	table := newTable(w, "SUBTASKS", "SINK", "JM: CPU PER CHECKPOINT", "JM: CPU IDLE", "JM: RSS idle / peak", "SIMULATED TMs: CPU PER CHECKPOINT", "PEAK RSS",
		"CANCEL → CANCELED median", "LIST TASK MANAGERS p99", "FOREIGN CPU", "LOAD")
	for i := range r.Steps {
		s := &r.Steps[i]
		table.row(fmt.Sprint(s.Subtasks), s.Guarantee,
			fmt.Sprintf("%.1f ms", 1000*s.CPUPerCheckpoint), fmt.Sprintf("%.2f %%", 100*s.Idle.cpuPerSecond()),
			fmt.Sprintf("%.0f / %.0f MiB", mib(s.Idle.RSSBytes), mib(s.PeakRSSBytes)),
			fmt.Sprintf("%.1f ms", 1000*s.FleetCPUPerCheckpoint), fmt.Sprintf("%.0f MiB", mib(s.FleetPeakRSSBytes)),
			fmt.Sprintf("%.0f ms", s.CancelMs.Median), fmt.Sprintf("%.1f ms", s.Busy.AnswerMs.P99),
			fmt.Sprintf("%.1f s of %.0f", s.Idle.ForeignCPUSeconds+s.Busy.ForeignCPUSeconds, s.Idle.Seconds+s.Busy.Seconds), fmt.Sprintf("%.1f", s.Load1))
	}
	table.end()
}

// printSlope shows what a subtask costs at each size: where that rises with the size, it is not linear.
func (r *Report) printSlope(w io.Writer) {
	table := newTable(w, "PER SUBTASK", "SINK", "DEPLOYMENT", "CHECKPOINT p50", "JM CPU OF A CHECKPOINT", "JM CPU OF AN IDLE SECOND", "JM PEAK RSS")
	for i := range r.Steps {
		s := &r.Steps[i]
		n := float64(s.Subtasks)
		table.row(fmt.Sprintf("of %d", s.Subtasks), s.Guarantee,
			fmt.Sprintf("%.1f µs", 1000*s.DeploymentMs.Median/n), fmt.Sprintf("%.1f µs", 1000*s.Checkpoints.CommittedMs.Median/n),
			fmt.Sprintf("%.2f µs", 1e6*s.CPUPerCheckpoint/n), fmt.Sprintf("%.2f µs", 1e6*s.Idle.cpuPerSecond()/n),
			fmt.Sprintf("%.1f KiB", float64(s.PeakRSSBytes)/1024/n))
	}
	table.end()
}

// writeJSON writes to a file, or to stdout without one.
func (r *Report) writeJSON(path string, stdout io.Writer) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	text = append(text, '\n')
	if path == "" {
		_, err = stdout.Write(text)
	} else {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// table aligns columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, header ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t.w)
	t.row(header...)
	return t
}

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, cell)
	}
	fmt.Fprintln(t.w)
}

// end writes the table. Errors of stdout show in the next write that matters, the JSON.
func (t *table) end() { _ = t.w.Flush() }
