// Package explain says in sentences how a job is, what it waits for and what can be done, and how far each
// partition is behind. It is pure: package jobmanager gathers the facts.
package explain

import (
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/jobmanager/publish"
	"github.com/sluice-stream/sluice/slots"
)

// Facts is what is known of a job at one moment.
type Facts struct {
	Now    time.Time
	ID     ident.JobID
	Graph  *graph.Job
	Record job.Record
	// Since is when the job came into its state; for one that has ended, when it ended.
	Since time.Time
	// RestartAt is when the delay that runs is over; zero: none runs.
	RestartAt time.Time
	// WaitsFor is what the state waits for, as the job's machine says.
	WaitsFor string
	// HeldByCommits says that the deployment waits until completed checkpoints are committed.
	HeldByCommits bool
	// SlotsNeeded is how many the job needs; Slots is why it waits for them, nil: it does not.
	SlotsNeeded int
	Slots       *slots.Explanation
	// Subtasks are those of the newest attempt; Waits says which of them make no progress.
	Subtasks []Subtask
	Waits    []Wait
	// StoreError is why the job manager cannot write down what it must; Broken why it no longer runs the job.
	StoreError, Broken string
	// Damage is what of an ended job cannot be read, in a sentence.
	Damage string
	// Checkpoints, and whether all that the newest names is committed.
	Checkpoints checkpoint.Status
	Commits     commit.Status
	// Offsets is how the publishing of offsets goes.
	Offsets []publish.Status
	// Discovery is what is wrong with the topics of the sources, in sentences.
	Discovery []string
	Lag       Lag
	// Skipped, DeadLettered and Failed (in sinks without a guarantee) count records since the attempt began.
	Skipped, DeadLettered, Failed int64
}

// Subtask is one subtask of an attempt.
type Subtask struct {
	ID     ident.Subtask
	Worker ident.WorkerID
	State  string
}

// Wait is why a subtask makes no progress, and since when.
type Wait struct {
	Subtask ident.Subtask
	Worker  ident.WorkerID
	Reason  string
	Since   time.Time
}

// Level says how much a finding matters.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Waiting Level = "waiting"
	Problem Level = "problem"
)

// Subject says what a finding is about.
type Subject string

// The subjects.
const (
	OfState      Subject = "state"
	OfSlots      Subject = "slots"
	OfStore      Subject = "store"
	OfBroker     Subject = "broker"
	OfCommit     Subject = "commit"
	OfCheckpoint Subject = "checkpoint"
	OfLag        Subject = "lag"
	OfTopics     Subject = "topics"
	OfOffsets    Subject = "offsets"
	OfRecords    Subject = "records"
	OfFailure    Subject = "failure"
	OfRestarts   Subject = "restarts"
	OfSink       Subject = "sink"
)

// Finding is one fact in a sentence, and what can be done about it.
type Finding struct {
	Subject Subject
	Level   Level
	Text    string
	// Advice is empty if nothing has to be done.
	Advice string
}

// Explain says how a job is: the state first, then what is wrong, what it waits for, and what is well.
func Explain(f *Facts) []Finding {
	out := []Finding{f.state()}
	rest := slices.Concat(f.slots(), f.store(), f.broker(), f.commits(), f.checkpoints(), f.lag(), f.topics(), f.offsets(), f.records(),
		f.failure(), f.restarts(), f.sinks())
	rank := map[Level]int{Problem: 0, Waiting: 1, OK: 2}
	slices.SortStableFunc(rest, func(a, b Finding) int { return rank[a.Level] - rank[b.Level] })
	return append(out, rest...)
}

// ended says that the job is in a terminal state.
func (f *Facts) ended() bool { return f.Record.State.Terminal() }

// ending says that the job will not run again, whatever happens.
func (f *Facts) ending() bool {
	switch f.Record.State {
	case job.Canceling, job.Failing:
		return true
	default:
		return f.ended()
	}
}
