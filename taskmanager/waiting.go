package taskmanager

import (
	"slices"
	"sync"
)

// waitingReasons holds, per part of a subtask, why it makes no progress.
type waitingReasons struct {
	mu      sync.Mutex
	reasons map[string]string
}

// set notes the reason of a part; empty: it makes progress again.
func (w *waitingReasons) set(part, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if reason == "" {
		delete(w.reasons, part)
		return
	}
	if w.reasons == nil {
		w.reasons = map[string]string{}
	}
	w.reasons[part] = reason
}

// String joins the reasons in the order of the parts.
func (w *waitingReasons) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	parts := make([]string, 0, len(w.reasons))
	for p := range w.reasons {
		parts = append(parts, p)
	}
	slices.Sort(parts)
	text := ""
	for _, p := range parts {
		if text != "" {
			text += "; "
		}
		text += p + ": " + w.reasons[p]
	}
	return text
}
