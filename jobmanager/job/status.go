package job

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// RestartAt is when the delay before the next attempt is over; zero: none runs.
func (m *Machine) RestartAt() time.Time {
	if m.rec.State == Restarting {
		return m.restartAt
	}
	return time.Time{}
}

// Waiting says, for people, what the job waits for beside slots; empty if it is nothing.
func (m *Machine) Waiting(now time.Time) string {
	switch m.rec.State {
	case WaitingForSlots:
		if m.rec.Intent == IntentStop || m.rec.Intent == IntentDrain {
			return "to stop, the job must run once more and draw its final checkpoint; cancel ends it at once at its newest completed one"
		}
		return ""
	case Deploying:
		if m.current == nil {
			return "the job manager has just started"
		}
		return fmt.Sprintf("subtask %s is not running yet", m.firstBelow(SubtaskRunning))
	case Restarting:
		if m.awaiting != (ident.Fence{}) {
			return "a checkpoint is being written"
		}
		return fmt.Sprintf("restart in %s", max(m.restartAt.Sub(now), 0).Round(time.Second))
	case Finishing, Stopping:
		if !m.final && m.rec.Attempt > 0 {
			return "the final checkpoint is not complete yet"
		}
		return m.endWaits()
	case Canceling, Failing:
		return m.endWaits()
	default:
		return ""
	}
}

// endWaits says what a job that is about to end waits for.
func (m *Machine) endWaits() string {
	switch {
	case m.cleaning:
		return "transactions are being committed and fenced"
	case m.awaiting != (ident.Fence{}):
		return "a checkpoint is being written"
	}
	for _, r := range m.leaving {
		for _, p := range r.parts {
			switch {
			case p.over:
			case p.lost:
				return fmt.Sprintf("%s is lost; its subtasks have ended by %s at the latest", p.worker, p.goneAt.Format(time.TimeOnly))
			default:
				return fmt.Sprintf("%s has not confirmed the end of attempt %d: %d subtasks", p.worker, r.fence.Attempt, p.running)
			}
		}
	}
	if !m.foreignUntil.IsZero() {
		return fmt.Sprintf("what ran before the start of the job manager has ended by %s at the latest", m.foreignUntil.Format(time.TimeOnly))
	}
	return ""
}
