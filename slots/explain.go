package slots

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// Explanation says why a job waits for slots.
type Explanation struct {
	// Need is what the job asked for, Have how many slots it could take now, Registered how many there are.
	Need, Have, Registered int
	// Kept is how many free slots are reserved for jobs that are served first.
	Kept int
	// Held is how many slots an older attempt of the job has not left yet.
	Held int
	// For is how long the job has been waiting.
	For time.Duration
	// Lost are the workers that were lost while the job held slots of them.
	Lost []ident.WorkerID
	// PassedOver says that the job needs more than all registered slots, so that others go first.
	PassedOver bool
	// Behind is the waiter that must be served first; empty if there is none.
	Behind ident.JobID
}

// Explain says why a job waits; false when it does not wait.
func (p *Pool) Explain(job ident.JobID, now time.Time) (Explanation, bool) {
	t := p.jobs[job]
	if t == nil || !t.waiting {
		return Explanation{}, false
	}
	e := Explanation{
		Need: t.Slots, Have: len(p.available(t)), Registered: p.total(), Held: len(p.Held(job)),
		For: now.Sub(t.Since), Lost: append([]ident.WorkerID(nil), t.lost...),
	}
	e.Kept = p.Totals().Free - e.Have
	e.PassedOver = e.Need > e.Registered
	for _, before := range p.line() {
		if before == t {
			break
		}
		holdsUp := before.Slots <= e.Registered || p.settling && before.Restarting && !t.Restarting
		if holdsUp && !e.PassedOver {
			e.Behind = before.Job
			break
		}
	}
	return e, true
}

// String prints `need 6, have 4, since 12 s, tm-3 lost` and what else holds the job up.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "need %d, have %d, since %s", e.Need, e.Have, waited(e.For))
	for _, w := range e.Lost {
		fmt.Fprintf(&b, ", %s lost", w)
	}
	if e.Kept > 0 {
		fmt.Fprintf(&b, ", %d more kept for restarting jobs", e.Kept)
	}
	if e.Held > 0 {
		fmt.Fprintf(&b, ", %d not yet left by the last attempt", e.Held)
	}
	if e.PassedOver {
		fmt.Fprintf(&b, ", passed over: all task managers together have %d", e.Registered)
	}
	if e.Behind != "" {
		fmt.Fprintf(&b, ", job %s is served first", e.Behind)
	}
	return b.String()
}

// waited prints whole seconds, from two minutes on minutes and seconds.
func waited(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	if d < 2*time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}
