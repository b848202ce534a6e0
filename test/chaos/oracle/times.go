package oracle

import (
	"slices"
	"time"
)

// lastOf is the time of the last note of an event, zero if there is none.
func lastOf(notes []note, event Event) time.Time {
	for _, n := range slices.Backward(notes) {
		if n.event == event {
			return n.at
		}
	}
	return time.Time{}
}

// measure takes the times of each episode, from one fault to the next, and reports the longest of each kind.
func measure(r *Report, notes []note, lines []Decision, nextArrival func(time.Time) (time.Time, bool)) {
	notes = slices.Clone(notes)
	slices.SortStableFunc(notes, func(a, b note) int { return a.at.Compare(b.at) })
	for i, n := range notes {
		if n.event != Fault {
			continue
		}
		e := episode{begin: n.at, notes: notes[i+1:], lines: lines}
		for _, next := range e.notes {
			if next.event == Fault {
				e.end = next.at
				break
			}
		}
		detected, any := e.find(Detected, e.begin, troubled)
		longest(&r.DetectMs, e.begin, detected, any)
		from := e.begin
		if any {
			from = detected
		}
		redeployed, any := e.find(Redeployed, from, func(d Decision) bool { return d.Event == "deploy" })
		longest(&r.RedeployMs, e.begin, redeployed, any)
		if any {
			from = e.firstCommit(redeployed)
		}
		output, any := e.find(FirstOutput, e.begin, func(Decision) bool { return false })
		if !any {
			output, any = nextArrival(from)
			any = any && e.within(output)
		}
		longest(&r.FirstOutputMs, e.begin, output, any)
	}
}

// troubled tells that a running job is given up, not ended by its user.
func troubled(d Decision) bool {
	return d.Event == "state" && d.From == "RUNNING" && slices.Contains([]string{"RESTARTING", "WAITING_FOR_SLOTS", "FAILING", "FAILED", "FAILED_DATA_LOSS"}, d.To)
}

// episode is the time from one fault to the next. A zero end is none.
type episode struct {
	begin, end time.Time
	notes      []note
	lines      []Decision
}

func (e *episode) within(at time.Time) bool {
	return !at.Before(e.begin) && (e.end.IsZero() || at.Before(e.end))
}

// find looks for a note, and else for the first line from a time on that fits.
func (e *episode) find(event Event, from time.Time, fits func(Decision) bool) (time.Time, bool) {
	for _, n := range e.notes {
		if n.event == event && e.within(n.at) {
			return n.at, true
		}
	}
	for _, d := range e.lines {
		if fits(d) && e.within(d.Time) && !d.Time.Before(from) {
			return d.Time, true
		}
	}
	return time.Time{}, false
}

// firstCommit is when the first transactions of the new deployment may be committed: what arrives between the
// deployment and that is left from before. Without transactions in the log it is the deployment itself.
func (e *episode) firstCommit(deployed time.Time) time.Time {
	var attempt int64
	for _, d := range e.lines {
		switch {
		case d.Time.Before(deployed):
		case d.Event == "deploy":
			attempt = d.Attempt
		case d.Event == "completed" && d.Attempt == attempt && len(d.Transactions) > 0:
			return d.Time
		}
	}
	return deployed
}

func longest(field **int64, begin, at time.Time, any bool) {
	if !any {
		return
	}
	if ms := at.Sub(begin).Milliseconds(); *field == nil || ms > **field {
		*field = &ms
	}
}
