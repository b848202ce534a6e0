package oracle

import "fmt"

// Sample is what one process holds.
type Sample struct {
	// Process is a name that stays over the run; a process that was started anew keeps it.
	Process    string
	Goroutines int
	FDs        int
	RSSBytes   int64
}

// What a process may hold more after a fault than before, beside a tenth: pools and caches fill up. Memory is
// the coarse one: catching up fills the buffers for fetched and produced records, tens of MiB in each subtask, and
// the heap gives memory back only in minutes.
const (
	slackGoroutines = 15
	slackFDs        = 15
	slackRSSBytes   = 96 << 20
)

// Leaks says which processes hold more than a tenth, and the slack, above what they held before. A process
// without a sample on both sides cannot be judged and is named as well.
func Leaks(before, after []Sample) []string {
	was := map[string]Sample{}
	for _, s := range before {
		was[s.Process] = s
	}
	var leaks []string
	for _, now := range after {
		old, known := was[now.Process]
		if !known {
			leaks = append(leaks, fmt.Sprintf("leak: %s has no sample from before the fault", now.Process))
			continue
		}
		delete(was, now.Process)
		for _, m := range []struct {
			what          string
			old, now, max int64
		}{
			{"goroutines", int64(old.Goroutines), int64(now.Goroutines), slackGoroutines},
			{"file descriptors", int64(old.FDs), int64(now.FDs), slackFDs},
			{"resident bytes", old.RSSBytes, now.RSSBytes, slackRSSBytes},
		} {
			if m.now > m.old+m.old/10+m.max {
				leaks = append(leaks, fmt.Sprintf("leak: %s holds %d %s, %d before", now.Process, m.now, m.what, m.old))
			}
		}
	}
	for _, s := range before {
		if _, missing := was[s.Process]; missing && len(after) > 0 {
			leaks = append(leaks, fmt.Sprintf("leak: %s has no sample from after the fault", s.Process))
		}
	}
	return leaks
}
