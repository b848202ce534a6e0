// Package publish decides when the offsets of completed checkpoints are written where a job wants them
// published. It is pure; package jobmanager carries its effects out.
//
// What is to be published is a level, not a queue: each place gets the newest offsets there are, one write at
// a time, and what came in between is left out. A place that does not answer is asked again until it does,
// beside the job: nothing waits for it but the end of the job, for a bounded time.
package publish

import (
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

const (
	// retryMin and retryMax bound the pause before a write that failed is repeated.
	retryMin, retryMax = 250 * time.Millisecond, 10 * time.Second
	// writeTimeout bounds one write, endTimeout what the end of a job waits for its last offsets.
	writeTimeout, endTimeout = 10 * time.Second, 10 * time.Second
)

// Machine is the publishing of one job.
type Machine struct {
	places []place
	newest *manifest.Manifest
	// endBy is when the job ends whatever is not published; zero: it goes on.
	endBy time.Time
	ended bool
	out   []Effect
}

// place is where offsets are published.
type place struct {
	graph.Publication
	// sending is the checkpoint whose offsets are being written; 0: none.
	sending     ident.CheckpointID
	published   ident.CheckpointID
	publishedAt time.Time
	failures    int // in a row, for the pause
	failedSince time.Time
	retryAt     time.Time
	lastError   string
}

// New makes the publishing of a job. Newest is the newest checkpoint of an earlier start of the job manager
// whose transactions are all committed: it is published again; nil: none.
func New(places []graph.Publication, newest *manifest.Manifest) *Machine {
	m := &Machine{newest: newest}
	for _, p := range places {
		m.places = append(m.places, place{Publication: p})
	}
	return m
}

// Step applies one event and returns what must now be done, in order.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.out = nil
	switch ev := ev.(type) {
	case Announced:
		if m.newest == nil || ev.Manifest.Checkpoint > m.newest.Checkpoint {
			m.newest = ev.Manifest
		}
	case Published:
		m.onPublished(now, ev)
	case Ending:
		m.onEnding(now)
	case Tick:
	}
	m.advance(now)
	return m.out
}

// Deadline is when Step wants a Tick next; zero for never.
func (m *Machine) Deadline() time.Time {
	if m.ended {
		return time.Time{}
	}
	at := m.endBy
	for i := range m.places {
		p := &m.places[i]
		if p.sending == 0 && m.stale(p) && !p.retryAt.IsZero() && (at.IsZero() || p.retryAt.Before(at)) {
			at = p.retryAt
		}
	}
	return at
}

// stale says that something newer than what a place holds is to be published there.
func (m *Machine) stale(p *place) bool { return m.newest != nil && p.published < m.newest.Checkpoint }

func (m *Machine) onPublished(now time.Time, ev Published) {
	for i := range m.places {
		p := &m.places[i]
		if p.Publication != ev.To || p.sending != ev.Checkpoint {
			continue
		}
		p.sending = 0
		if ev.Err == nil {
			p.published, p.publishedAt = ev.Checkpoint, now
			p.failures, p.failedSince, p.retryAt, p.lastError = 0, time.Time{}, time.Time{}, ""
			continue
		}
		if p.lastError = ev.Err.Error(); p.failedSince.IsZero() {
			p.failedSince = now
		}
		p.retryAt = now.Add(pauseAfter(p.failures))
		p.failures++
	}
}

// onEnding has what waits for its next try written at once, and tried anew at short pauses.
func (m *Machine) onEnding(now time.Time) {
	if !m.endBy.IsZero() {
		return
	}
	m.endBy = now.Add(endTimeout)
	for i := range m.places {
		m.places[i].failures, m.places[i].retryAt = 0, time.Time{}
	}
}

// advance begins the writes that are due, and ends when there is nothing left to do.
func (m *Machine) advance(now time.Time) {
	if m.ended {
		return
	}
	over := !m.endBy.IsZero() && !now.Before(m.endBy)
	busy := false
	for i := range m.places {
		p := &m.places[i]
		if p.sending == 0 && m.stale(p) && !now.Before(p.retryAt) && !over {
			p.sending = m.newest.Checkpoint
			m.out = append(m.out, Publish{To: p.Publication, Manifest: m.newest, Timeout: m.timeout(now)})
		}
		busy = busy || p.sending != 0 || m.stale(p) && !over
	}
	if !m.endBy.IsZero() && !busy {
		m.ended = true
		m.out = append(m.out, Ended{})
	}
}

// timeout is what a write that begins now may take.
func (m *Machine) timeout(now time.Time) time.Duration {
	if m.endBy.IsZero() {
		return writeTimeout
	}
	return min(writeTimeout, m.endBy.Sub(now))
}

// pauseAfter doubles with each failure in a row.
func pauseAfter(failures int) time.Duration {
	d := retryMin
	for range failures {
		if d *= 2; d >= retryMax {
			return retryMax
		}
	}
	return d
}

// Status is what is known of one place.
type Status struct {
	graph.Publication
	// Checkpoint is the one whose offsets were published last, at At; 0: none since the start of the job manager.
	Checkpoint ident.CheckpointID
	At         time.Time
	// Error is why the newest write failed, FailedSince when the first in a row did; empty: it did not.
	Error       string
	FailedSince time.Time
}

// Status lists all places.
func (m *Machine) Status() []Status {
	out := make([]Status, 0, len(m.places))
	for i := range m.places {
		p := &m.places[i]
		out = append(out, Status{Publication: p.Publication, Checkpoint: p.published, At: p.publishedAt, Error: p.lastError, FailedSince: p.failedSince})
	}
	return out
}

// Waiting says, for people, what the end of the job waits for; empty: for nothing here.
func (m *Machine) Waiting() string {
	if m.endBy.IsZero() || m.ended {
		return ""
	}
	for i := range m.places {
		if p := &m.places[i]; m.stale(p) {
			return "the last offsets of " + p.String() + " are not published yet" + reason(p.lastError)
		}
	}
	return ""
}

func reason(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}
