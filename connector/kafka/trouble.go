package kafka

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// trouble collects why parts of a source or sink make no progress, and reports the whole in one line
// whenever it changes; an empty line is the end of all trouble.
type trouble struct {
	report func(reason string)

	mu      sync.Mutex
	reasons map[string]string // by what is in trouble
	said    string
}

func newTrouble(report func(string)) *trouble {
	if report == nil {
		report = func(string) {}
	}
	return &trouble{report: report, reasons: map[string]string{}}
}

// set says why something is in trouble; an empty reason ends it.
func (t *trouble) set(what, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reasons[what] == reason {
		return
	}
	if reason == "" {
		delete(t.reasons, what)
	} else {
		t.reasons[what] = reason
	}
	// reported under the lock, so that the newest state is the last one that is heard of
	if text := t.text(); text != t.said {
		t.said = text
		t.report(text)
	}
}

func (t *trouble) text() string {
	if len(t.reasons) == 0 {
		return ""
	}
	first := slices.Min(slices.Collect(maps.Keys(t.reasons)))
	if more := len(t.reasons) - 1; more > 0 {
		return fmt.Sprintf("%s: %s (and %d more)", first, t.reasons[first], more)
	}
	return first + ": " + t.reasons[first]
}
