package explain

import (
	"cmp"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/jobmanager/job"
)

const (
	// late is how long something may be under way before it is worth a word.
	late = time.Second
	// overdue is how many intervals may pass without a checkpoint before that is a problem, and the least.
	overdue    = 5
	overdueMin = 10 * time.Second
)

// store says what the job manager itself cannot do.
func (f *Facts) store() []Finding {
	switch {
	case f.Broken != "":
		return []Finding{{OfStore, Problem, "Nothing here moves any more: " + sentence(f.Broken), ""}}
	case f.Damage != "":
		return []Finding{{OfStore, Problem, "Damage: " + sentence(f.Damage), ""}}
	case f.StoreError == "":
		return nil
	}
	return []Finding{{OfStore, Problem, "The job manager cannot store what it must: " + sentence(f.StoreError), "make room on its disk, or mend it; it tries again by itself"}}
}

// broker says which subtasks make no progress, each reason once.
func (f *Facts) broker() []Finding {
	if f.ended() {
		return nil
	}
	var out []Finding
	at := map[string]int{}
	more := map[string]int{}
	for _, w := range f.Waits {
		if _, seen := at[w.Reason]; seen {
			more[w.Reason]++
			continue
		}
		at[w.Reason] = len(out)
		out = append(out, Finding{OfBroker, Waiting, fmt.Sprintf("Subtask %s on %s waits, for %s", w.Subtask, w.Worker, span(f.Now.Sub(w.Since))), ""})
	}
	for reason, i := range at {
		switch n := more[reason]; {
		case n == 1:
			out[i].Text += ", and so does 1 other"
		case n > 1:
			out[i].Text += fmt.Sprintf(", and so do %d others", n)
		}
		out[i].Text += ": " + sentence(reason)
		out[i].Advice = "it goes on by itself when that is over; no restart is used up"
	}
	return out
}

// commits says what of completed checkpoints cannot be seen yet, and what is still to be fenced.
func (f *Facts) commits() []Finding {
	c := f.Commits
	var out []Finding
	if age := f.Now.Sub(c.Since); c.Uncommitted > 0 && (age > late || f.ending()) {
		out = append(out, Finding{OfCommit, Waiting, fmt.Sprintf("%s of completed checkpoints %s not committed yet, for %s%s.",
			count(c.Uncommitted, "transaction"), are(c.Uncommitted), span(age), after(": ", c.Reason)),
			"readers of committed records see that output when it is; it must be within transaction.timeout.ms"})
	}
	if c.Unfenced > 0 && (c.Reason != "" || f.ending()) {
		out = append(out, Finding{OfCommit, Waiting, fmt.Sprintf("%s of ended attempts %s not fenced yet%s.",
			count(c.Unfenced, "transactional id"), are(c.Unfenced), after(": ", c.Reason)), ""})
	}
	if c.Lost > 0 {
		out = append(out, Finding{OfCommit, Problem, fmt.Sprintf("%s can never be committed.", count(c.Lost, "transaction")), ""})
	}
	return out
}

func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// checkpoints says how old the newest one is, why the next one is late and why one failed.
func (f *Facts) checkpoints() []Finding {
	s := &f.Checkpoints
	interval := f.Graph.Checkpoint.Interval
	out := []Finding{f.newest(interval)}
	if f.ended() {
		return out
	}
	if p := s.InFlight; p != nil {
		age := f.Now.Sub(p.TriggeredAt)
		text := fmt.Sprintf("Checkpoint %d has been under way for %s", p.Checkpoint, span(age))
		switch {
		case p.Writing:
			text += ": its manifest is being written"
		case len(p.Missing) > 0:
			text += fmt.Sprintf(": %d of %s have not acknowledged it, first %s%s", len(p.Missing), count(p.Expected, "subtask"), p.Missing[0], f.on(p.Missing[0].String()))
		}
		if age > late || p.Reason != "" {
			out = append(out, Finding{OfCheckpoint, Waiting, text + after("; ", p.Reason) + ".", ""})
		}
	}
	if s.Waiting != "" {
		out = append(out, Finding{OfCheckpoint, Waiting, "The next checkpoint is due and not begun: " + sentence(s.Waiting), ""})
	}
	if l := s.LastFailure; l != nil {
		text := fmt.Sprintf("Checkpoint %d failed %s ago: %s", l.Checkpoint, span(f.Now.Sub(l.At)), sentence(l.Why))
		if s.FailuresInRow > 0 {
			text += fmt.Sprintf(" %d failed in a row; ", s.FailuresInRow)
			if interval == 0 && f.Graph.CheckpointInterval() > 0 { // drawn only for what it says about offsets
				text += "that restarts nothing, the published offsets stay where they are."
			} else {
				text += fmt.Sprintf("more than %d restart the job.", f.Graph.Checkpoint.TolerableFailures)
			}
			out = append(out, Finding{OfCheckpoint, Problem, text, "nothing is lost: the next one that completes covers it"})
		} else {
			out = append(out, Finding{OfCheckpoint, OK, text, ""})
		}
	}
	return out
}

// on names the task manager of a subtask.
func (f *Facts) on(subtask string) string {
	for _, s := range f.Subtasks {
		if s.ID.String() == subtask && s.Worker != "" {
			return " on " + string(s.Worker)
		}
	}
	return ""
}

// newest is about the newest completed checkpoint.
func (f *Facts) newest(interval time.Duration) Finding {
	l := f.Checkpoints.Latest
	off := ""
	if interval == 0 {
		off = " Checkpoints are off: only a final one is drawn."
		if every := f.Graph.CheckpointInterval(); every > 0 {
			off = fmt.Sprintf(" Checkpoints are off: what the sinks have acknowledged is noted every %s, to publish it.", span(every))
		}
	}
	if l == nil && (f.Damage != "" || f.Broken != "") {
		return Finding{OfCheckpoint, Problem, fmt.Sprintf("The newest checkpoint cannot be read; %d completed, %d failed.", f.Checkpoints.Completed, f.Checkpoints.Failed), ""}
	}
	if (l == nil || l.Checkpoint == 0) && f.ended() {
		return Finding{OfCheckpoint, OK, "No checkpoint was completed.", ""}
	}
	if l == nil || l.Checkpoint == 0 {
		return Finding{OfCheckpoint, OK, "No checkpoint is completed yet." + off, ""}
	}
	age := f.Now.Sub(l.CompletedAt)
	text := fmt.Sprintf("Checkpoint %d was completed %s ago and took %s; %d completed, %d failed.%s",
		l.Checkpoint, span(age), span(f.Checkpoints.LatestDuration), f.Checkpoints.Completed, f.Checkpoints.Failed, off)
	if every := f.Graph.CheckpointInterval(); f.Record.State == job.Running && every > 0 && age > max(overdue*every, overdueMin) {
		return Finding{OfCheckpoint, Problem, text, "a failure now repeats the work since then; what holds up the next one is said here"}
	}
	return Finding{OfCheckpoint, OK, text, ""}
}

// lag names the partition that is the furthest behind, and those of which that is not known.
func (f *Facts) lag() []Finding {
	all := f.Lag.Partitions
	if len(all) == 0 {
		return nil
	}
	var out []Finding
	known := len(all) - f.Lag.Unknown
	if far := all[0]; known > 0 && far.Lag > 0 {
		text := fmt.Sprintf("The furthest behind is %s: %s", &far, count64(far.Lag, "record"))
		if far.End >= 0 {
			text += fmt.Sprintf(" (position %d, end %d)", far.Position, far.End)
		}
		if far.Worker != "" {
			text += fmt.Sprintf(", read by %s on %s", far.Subtask, far.Worker)
		} else if !f.ended() {
			text += ", read by nobody now"
		}
		if len(all) > 1 {
			text += fmt.Sprintf("; all %d partitions together: %d", known, f.Lag.Total)
		}
		found := Finding{OfLag, OK, text + ".", ""}
		if far.Held() && !f.ended() {
			found.Level = Waiting
			found.Text += fmt.Sprintf(" It has read all that is committed: what follows offset %d waits for a producer to end its transaction.", far.Stable)
		}
		out = append(out, found)
	} else if known > 0 {
		out = append(out, Finding{OfLag, OK, fmt.Sprintf("%s read to the end.", subjectOf(known)), ""})
	}
	if n := f.Lag.Unknown; n > 0 {
		first := all[len(all)-n]
		out = append(out, Finding{OfLag, Waiting, fmt.Sprintf("How far %s is behind is not known%s: %s", &first, others(n), sentence(cmp.Or(first.Note, "nobody told"))), ""})
	}
	return out
}

func subjectOf(partitions int) string {
	if partitions == 1 {
		return "The partition is"
	}
	return fmt.Sprintf("All %d partitions are", partitions)
}

func others(n int) string {
	switch n {
	case 1:
		return ""
	case 2:
		return ", nor that of 1 other"
	default:
		return fmt.Sprintf(", nor that of %d others", n-1)
	}
}

func count64(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func (f *Facts) topics() []Finding {
	var out []Finding
	for _, text := range f.Discovery {
		out = append(out, Finding{OfTopics, Problem, sentence(text), ""})
	}
	return out
}

// offsets says how old the published offsets are.
func (f *Facts) offsets() []Finding {
	var out []Finding
	for _, p := range f.Offsets {
		newest := "none since the job manager started"
		if p.Checkpoint > 0 {
			newest = fmt.Sprintf("of checkpoint %d, %s ago", p.Checkpoint, span(f.Now.Sub(p.At)))
		}
		switch {
		case p.Error != "" && !f.ended():
			out = append(out, Finding{OfOffsets, Waiting, fmt.Sprintf("The offsets of source %s cannot be published in %s, for %s: %s The newest there: %s.",
				p.Source, p.Storage, span(f.Now.Sub(p.FailedSince)), sentence(p.Error), newest), "the job does not depend on it; the newest are written when it answers"})
		case p.Error != "":
			out = append(out, Finding{OfOffsets, Problem, fmt.Sprintf("The last offsets of source %s were not published in %s: %s The newest there: %s.",
				p.Source, p.Storage, sentence(p.Error), newest), "a job that begins at startup: committed repeats what lies between; --from-checkpoint does not"})
		case p.Checkpoint > 0:
			out = append(out, Finding{OfOffsets, OK, fmt.Sprintf("The offsets of source %s were published in %s %s.", p.Source, p.Storage, newest), ""})
		}
	}
	return out
}

// records says what did not come out because the error policy said so.
func (f *Facts) records() []Finding {
	var out []Finding
	if n := f.Skipped; n > 0 {
		out = append(out, Finding{OfRecords, Problem, fmt.Sprintf("%s skipped since attempt %d began, by onError: skip.", were(n), f.Record.Attempt),
			"onError: {deadLetter: TOPIC} keeps such records; fail stops at the first"})
	}
	if n := f.DeadLettered; n > 0 {
		out = append(out, Finding{OfRecords, Problem, fmt.Sprintf("%s sent to the dead letter topic since attempt %d began.", were(n), f.Record.Attempt),
			"their headers say why and from where"})
	}
	if n := f.Failed; n > 0 {
		out = append(out, Finding{OfRecords, Problem, fmt.Sprintf("%s lost since attempt %d began: brokers did not take them, and their sink has the guarantee none.", were(n), f.Record.Attempt),
			"guarantee: at-least-once retries them"})
	}
	return out
}

func were(n int64) string {
	if n == 1 {
		return "1 record was"
	}
	return fmt.Sprintf("%d records were", n)
}
