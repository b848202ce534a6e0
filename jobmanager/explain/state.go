package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

// state says what the job is doing, and for how long.
func (f *Facts) state() Finding {
	name := fmt.Sprintf("%s (%s)", f.Graph.Name, f.Record.State)
	since := "for " + span(f.Now.Sub(f.Since))
	found := Finding{Subject: OfState, Level: Waiting}
	if f.Broken != "" && !f.ended() {
		return Finding{Subject: OfState, Level: Problem, Text: fmt.Sprintf("%s, %s: the job manager does not run it.", name, since)}
	}
	switch f.Record.State {
	case job.Created:
		found.Text = fmt.Sprintf("%s was submitted and has not asked for slots yet, %s.", name, since)
	case job.WaitingForSlots:
		found.Text = fmt.Sprintf("%s waits for slots, %s%s.", name, since, f.attemptNote())
	case job.Deploying:
		found.Text = fmt.Sprintf("%s: attempt %d is being deployed, %s%s.", name, f.Record.Attempt, since, f.deployNote())
	case job.Running:
		found.Level = OK
		found.Text = fmt.Sprintf("%s runs, %s: attempt %d, %s on %s.", name, since, f.Record.Attempt, count(len(f.Subtasks), "subtask"), f.workers())
	case job.Restarting:
		found.Text = fmt.Sprintf("%s: attempt %d has ended; %s.", name, f.Record.Attempt, f.restartNote())
	case job.Finishing, job.Stopping, job.Canceling, job.Failing:
		found.Text = fmt.Sprintf("%s %s, %s%s.", name, f.doing(), since, after(": ", f.WaitsFor))
	default:
		return f.end(name)
	}
	return found
}

// doing says what a job does that is about to end.
func (f *Facts) doing() string {
	drawn := f.Checkpoints.Latest != nil && f.Checkpoints.Latest.Final
	switch {
	case f.Record.State == job.Canceling:
		return "was told to cancel and ends without a final checkpoint"
	case f.Record.State == job.Failing:
		return "has failed for good and is being ended"
	case f.Record.State == job.Finishing && drawn:
		return "has read its sources to the end, has drawn its final checkpoint and ends"
	case f.Record.State == job.Finishing:
		return "has read its sources to the end and draws its final checkpoint"
	case drawn:
		return "was told to stop, has drawn its final checkpoint and ends"
	case f.Record.Attempt == 0:
		return "was told to stop before it ran, and ends"
	default:
		return "was told to stop and draws its final checkpoint"
	}
}

// attemptNote says of a job that waits for slots whether it ran before, and what it has to do when it runs.
func (f *Facts) attemptNote() string {
	note := ""
	if f.Record.Attempt > 0 {
		note = fmt.Sprintf(", to go on after attempt %d", f.Record.Attempt)
	}
	return note + after("; ", f.WaitsFor)
}

func (f *Facts) deployNote() string {
	if f.HeldByCommits {
		return ": it waits until all that completed checkpoints name is committed"
	}
	return after(": ", f.WaitsFor)
}

func (f *Facts) restartNote() string {
	if wait := f.RestartAt.Sub(f.Now); wait > 0 {
		return "the next one begins in " + span(wait)
	}
	return cmp.Or(f.WaitsFor, "the next one is about to ask for slots")
}

// workers lists the task managers of the attempt.
func (f *Facts) workers() string {
	var names []string
	for _, s := range f.Subtasks {
		if !slices.Contains(names, string(s.Worker)) {
			names = append(names, string(s.Worker))
		}
	}
	slices.Sort(names)
	return list(names)
}

// end says how a job has ended, and how to go on from there.
func (f *Facts) end(name string) Finding {
	ago := span(f.Now.Sub(f.Since)) + " ago"
	newest := f.Checkpoints.Latest
	resume := ""
	if newest != nil && newest.Checkpoint > 0 {
		resume = fmt.Sprintf("to go on from checkpoint %d: sluice submit FILE --from-checkpoint %s/%d", newest.Checkpoint, f.ID, newest.Checkpoint)
	}
	switch f.Record.State {
	case job.Finished:
		return Finding{OfState, OK, fmt.Sprintf("%s ended %s: its sources were read to their ends and its output is complete.", name, ago), ""}
	case job.Stopped:
		if newest == nil && f.Damage != "" {
			return Finding{OfState, OK, fmt.Sprintf("%s was stopped %s.", name, ago), ""}
		}
		if newest == nil || !newest.Final {
			return Finding{OfState, OK, fmt.Sprintf("%s ended %s: it was stopped before it ran.", name, ago), ""}
		}
		return Finding{OfState, OK, fmt.Sprintf("%s ended %s with final checkpoint %d.", name, ago, newest.Checkpoint), resume}
	case job.Canceled:
		return Finding{OfState, OK, fmt.Sprintf("%s ended %s without a final checkpoint.", name, ago), resume}
	case job.FailedDataLoss:
		return Finding{OfState, Problem, fmt.Sprintf("%s ended %s: output of a completed checkpoint is lost.", name, ago),
			"the failure below names what is lost and the two ways to go on"}
	default:
		return Finding{OfState, Problem, fmt.Sprintf("%s ended %s: its restarts are used up, or none could help.", name, ago), resume}
	}
}

// slots says what is missing for the job to run.
func (f *Facts) slots() []Finding {
	e := f.Slots
	if e == nil || f.ending() {
		return nil
	}
	missing := max(e.Need-e.Have, 0)
	text := fmt.Sprintf("It needs %s at once and can have %d, for %s", count(e.Need, "slot"), e.Have, span(e.For))
	if len(e.Lost) > 0 {
		text += "; lost: " + list(texts(e.Lost))
	}
	if e.Kept > 0 {
		text += fmt.Sprintf("; %d more are free but kept for restarting jobs", e.Kept)
	}
	if e.Held > 0 {
		text += fmt.Sprintf("; its last attempt has not left %d yet", e.Held)
	}
	advice := fmt.Sprintf("start a task manager with %s (`taskmanager --slots %d`) or end another job; it begins by itself then, and waiting uses up no restart",
		count(missing, "slot"), missing)
	switch {
	case e.Registered == 0:
		text += "; no task manager is connected"
	case e.PassedOver:
		text += fmt.Sprintf("; all task managers together have %d, so other jobs go first", e.Registered)
	case e.Behind != "":
		text += fmt.Sprintf("; job %s is served first", e.Behind)
		advice = ""
	case missing == 0 || e.Have+e.Held >= e.Need:
		advice = ""
	}
	level := Waiting
	if e.PassedOver && e.Registered > 0 {
		level = Problem
	}
	return []Finding{{OfSlots, level, text + ".", advice}}
}

// failure says why the job, or its last attempt, failed, and who can mend it.
func (f *Facts) failure() []Finding {
	why := f.Record.Failure
	if why == nil {
		return nil
	}
	level := OK
	switch f.Record.State {
	case job.Failed, job.FailedDataLoss, job.Failing:
		level = Problem
	case job.Restarting, job.WaitingForSlots, job.Deploying:
		level = Waiting
	}
	text := fmt.Sprintf("The last failure, %s ago, was %s%s: %s", span(f.Now.Sub(why.At)), kinds[why.Class], after(" in ", why.Subtask), sentence(why.Message))
	if level == OK {
		return []Finding{{OfFailure, level, text, ""}}
	}
	return []Finding{{OfFailure, level, text, f.mend(why.Class)}}
}

// kinds say whose a failure is.
var kinds = map[job.Class]string{
	job.User:     "the job's or its data's (user)",
	job.External: "outside of the job (external)",
	job.Internal: "Sluice's own (internal)",
	job.Fenced:   "another user of its transactional ids (fenced)",
}

// mend says what can be done about a failure of a class.
func (f *Facts) mend(class job.Class) string {
	again := "it is tried again by itself"
	if f.ending() {
		again = "submit the job again when it is mended"
	}
	switch class {
	case job.User:
		return "correct the job file or the data; onError: skip passes over single records; " + again
	case job.External:
		return "look after what it names; " + again
	case job.Fenced:
		return "find who else uses these ids: a second job manager on a copy of the data directory, or a program of its own; " + again
	default:
		return "please report it with the logs of job manager and task managers; " + again
	}
}

// restarts says how often the job began again, and how much is left.
func (f *Facts) restarts() []Finding {
	policy := f.Graph.Restart
	used := f.Record.BudgetUsed
	if policy.Strategy == graph.NoRestart && !f.ending() {
		return []Finding{{OfRestarts, OK, "Its restart strategy is none: the first failure ends it.", ""}}
	}
	if f.Record.Restarts == 0 && used == 0 || f.Record.State == job.Finished || f.Record.State == job.Stopped {
		return nil
	}
	text := fmt.Sprintf("It was restarted %s; %d of %d count, because the job was not healthy for %s since", times(f.Record.Restarts), used, policy.Attempts, span(policy.HealthyAfter))
	if used == 0 {
		text = fmt.Sprintf("It was restarted %s; none counts against the %d allowed", times(f.Record.Restarts), policy.Attempts)
	}
	level := OK
	if used >= policy.Attempts && !f.ended() {
		level = Problem
		text += ": the next failure ends it"
	}
	return []Finding{{OfRestarts, level, strings.TrimSuffix(text, ".") + ".", ""}}
}
