// Package coordination is what bench/scale measured: what coordination costs at several sizes of a job.
package coordination

import (
	"fmt"
	"io"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/test/machine"
)

// Report is everything that was measured; its JSON is what docs are written from.
type Report struct {
	// Benchmark is always coordination-scale: it tells this JSON from that of the benchmark of records.
	Benchmark string       `json:"benchmark"`
	Machine   machine.Host `json:"machine"`
	// Settings are the flags of the run.
	Settings map[string]any `json:"settings"`
	Steps    []Step         `json:"steps"`
	Goals    []Goal         `json:"goals"`
}

// Benchmark is Report.Benchmark.
const Benchmark = "coordination-scale"

// Step is one size of a job: its own job manager, its own task managers.
type Step struct {
	Subtasks            int    `json:"subtasks"`
	Guarantee           string `json:"guarantee"` // of the sink: at-least-once or exactly-once
	TaskManagers        int    `json:"taskManagers"`
	SlotsPerTaskManager int    `json:"slotsPerTaskManager"`
	// DeploymentMs is from the call of Submit until the job is RUNNING; SubmitMs is the call itself: the checks of
	// topics, the start offsets, the write of checkpoint 0.
	DeploymentMs figures.Sample `json:"deploymentMs"`
	SubmitMs     figures.Sample `json:"submitMs"`
	// CancelMs is from the call of Cancel until the job is CANCELED.
	CancelMs    figures.Sample   `json:"cancelMs"`
	Checkpoints CheckpointReport `json:"checkpoints"`
	// Idle is the job running without checkpoints; Busy is while the checkpoints above were drawn.
	Idle Window `json:"idle"`
	Busy Window `json:"busy"`
	// CPUPerCheckpoint is what one checkpoint costs the job manager, in seconds of user and system time: that of
	// Busy less what the same time costs when idle.
	CPUPerCheckpoint float64 `json:"cpuSecondsPerCheckpoint"`
	// FleetCPUPerCheckpoint is the same of the process that holds the simulated task managers (and kfake, not a real broker): in
	// a cluster it is spread over their machines, here it takes its turn on the same processors.
	FleetCPUPerCheckpoint float64 `json:"fleetCpuSecondsPerCheckpoint"`
	// PeakRSSBytes is the job manager's over the whole step; FleetPeakRSSBytes that of the simulated task managers'
	// process.
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
	BarrierMs   figures.Sample `json:"barrierMs"`
	DurableMs   figures.Sample `json:"durableMs"`
	CommittedMs figures.Sample `json:"committedMs"`
}

// Window is a span of time in which the job manager was watched.
type Window struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpuSeconds"` // of the job manager
	// FleetCPUSeconds is that of the process with the simulated task managers (and kfake), BrokerCPUSeconds that of a real
	// broker, as exactly-once sinks have; ForeignCPUSeconds that of all else on the machine: what disturbed the measurement.
	FleetCPUSeconds   float64 `json:"fleetCpuSeconds"`
	BrokerCPUSeconds  float64 `json:"brokerCpuSeconds"`
	ForeignCPUSeconds float64 `json:"foreignCpuSeconds"`
	RSSBytes          int64   `json:"rssBytes"` // of the job manager at its end
	// HeartbeatAgeMaxMs is the oldest newest heartbeat of a task manager that the job manager had at any look: the
	// interval of heartbeats, and their delay.
	HeartbeatAgeMaxMs float64 `json:"heartbeatAgeMaxMs"`
	// AnswerMs is how long the job manager took to list its task managers meanwhile.
	AnswerMs figures.Sample `json:"answerMs"`
}

// CPUPerSecond is the share of a processor that the job manager used.
func (w *Window) CPUPerSecond() float64 {
	if w.Seconds == 0 {
		return 0
	}
	return w.CPUSeconds / w.Seconds
}

// Slots are those of all task managers.
func (s *Step) Slots() int { return s.TaskManagers * s.SlotsPerTaskManager }

// String is one line about the machine.
func (r *Report) String() string {
	m := &r.Machine
	return fmt.Sprintf("%s, %d CPUs shared by the job manager and all simulated task managers, %.0f GiB, Linux %s, %s, revision %s, load %.1f before the first step, %s",
		m.CPU, m.CPUs, m.MemoryGiB, m.Kernel, m.Go, m.Revision, m.Load1, m.At.Format(time.DateTime))
}

// Print writes the tables.
func (r *Report) Print(w io.Writer) {
	r.printTimes(w)
	r.printCosts(w)
	r.printSlope(w)
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Failure != "" {
			fmt.Fprintf(w, "\nNot measured to its end: %d subtasks, %s: %s\n", s.Subtasks, s.Guarantee, s.Failure)
		}
	}
}

func (r *Report) printTimes(w io.Writer) {
	table := figures.NewTable(w, "SUBTASKS", "SINK", "TASK MANAGERS × SLOTS", "SUBMIT TO RUNNING, ms: median (max)", "CHECKPOINTS", "FAILED",
		"TRIGGER TO LAST BARRIER, ms: p50 / p99", "TO DURABLE", "TO COMMITTED AND TOLD", "HEARTBEAT AGE, ms: idle / busy, max", "LOST")
	for i := range r.Steps {
		s := &r.Steps[i]
		c := &s.Checkpoints
		table.Row(figures.Grouped(float64(s.Subtasks)), s.Guarantee, fmt.Sprintf("%d × %d", s.TaskManagers, s.SlotsPerTaskManager),
			fmt.Sprintf("%s (%s)", figures.Digits(s.DeploymentMs.Median), figures.Digits(s.DeploymentMs.Max)), fmt.Sprint(c.N), fmt.Sprint(c.Failed),
			quantiles(c.BarrierMs), quantiles(c.DurableMs), quantiles(c.CommittedMs),
			fmt.Sprintf("%s / %s", figures.Digits(s.Idle.HeartbeatAgeMaxMs), figures.Digits(s.Busy.HeartbeatAgeMaxMs)), fmt.Sprint(s.Lost))
	}
	table.End()
}

// quantiles are the median and the 99th percentile.
func quantiles(s figures.Sample) string {
	if s.N == 0 {
		return unknown
	}
	return figures.Digits(s.Median) + " / " + figures.Digits(s.P99)
}

func (r *Report) printCosts(w io.Writer) {
	table := figures.NewTable(w, "SUBTASKS", "SINK", "JOB MANAGER: CPU-ms PER CHECKPOINT", "CPU WHEN IDLE, %", "RSS, MiB: idle / peak",
		"SIMULATED TASK MANAGERS: CPU-ms PER CHECKPOINT", "PEAK RSS, MiB", "CANCEL TO CANCELED, ms", "LIST TASK MANAGERS, ms: p99", "BROKER CPU-S", "FOREIGN CPU-S", "LOAD")
	for i := range r.Steps {
		s := &r.Steps[i]
		foreign, watched := s.Idle.ForeignCPUSeconds+s.Busy.ForeignCPUSeconds, s.Idle.Seconds+s.Busy.Seconds
		table.Row(figures.Grouped(float64(s.Subtasks)), s.Guarantee, s.perCheckpoint(1000*s.CPUPerCheckpoint), figures.Digits(100*s.Idle.CPUPerSecond()),
			fmt.Sprintf("%s / %s", figures.Digits(figures.MiB(s.Idle.RSSBytes)), figures.Digits(figures.MiB(s.PeakRSSBytes))),
			s.perCheckpoint(1000*s.FleetCPUPerCheckpoint), figures.Digits(figures.MiB(s.FleetPeakRSSBytes)), figures.Digits(s.CancelMs.Median), figures.Digits(s.Busy.AnswerMs.P99), s.brokerCPU(),
			fmt.Sprintf("%.1f of %.0f s%s", foreign, watched, figures.Mark(figures.Disturbed(foreign, watched))), fmt.Sprintf("%.1f", s.Load1))
	}
	table.End()
}

// unknown stands where nothing was measured.
const unknown = "-"

// brokerCPU is what a real broker took while the step was watched; unknown of one in the process of the task managers.
func (s *Step) brokerCPU() string {
	used := s.Idle.BrokerCPUSeconds + s.Busy.BrokerCPUSeconds
	if used == 0 {
		return unknown
	}
	return fmt.Sprintf("%.1f", used)
}

// perCheckpoint is a figure of checkpoints; unknown if there were none.
func (s *Step) perCheckpoint(v float64) string {
	if s.Checkpoints.N == 0 {
		return unknown
	}
	return figures.Digits(v)
}

// printSlope shows what a subtask costs at each size: where that rises with the size, it is not linear.
func (r *Report) printSlope(w io.Writer) {
	table := figures.NewTable(w, "SUBTASKS", "SINK", "A SUBTASK COSTS: DEPLOYMENT, µs", "CHECKPOINT p50, µs", "JOB MANAGER'S CPU OF A CHECKPOINT, µs", "CPU OF AN IDLE SECOND, µs", "PEAK RSS, KiB")
	for i := range r.Steps {
		s := &r.Steps[i]
		n := float64(s.Subtasks)
		table.Row(figures.Grouped(n), s.Guarantee, figures.Digits(1000*s.DeploymentMs.Median/n), s.perCheckpoint(1000*s.Checkpoints.CommittedMs.Median/n),
			s.perCheckpoint(1e6*s.CPUPerCheckpoint/n), figures.Digits(1e6*s.Idle.CPUPerSecond()/n), figures.Digits(float64(s.PeakRSSBytes)/1024/n))
	}
	table.End()
}
