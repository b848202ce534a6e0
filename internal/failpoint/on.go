//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Enabled says whether this binary was built with the tag failpoints.
const Enabled = true

// pause is how long the action pause takes, unless it is told.
const pause = time.Second

// plan is what SLUICE_FAILPOINTS says of one point: what happens, how long a pause takes, and at which passage.
type plan struct {
	action string
	pause  time.Duration
	at     int // 1 is the first passage; 0 is every one
}

var state = struct {
	sync.Mutex
	plans  map[Point]plan
	passed map[Point]int
	bug    SeededBug
}{plans: parse(os.Getenv("SLUICE_FAILPOINTS")), passed: map[Point]int{}, bug: SeededBug(os.Getenv("SLUICE_SEEDED_BUG"))}

// parse reads "point=action@n,…"; actions are crash, error, pause and pause:DURATION; @n may be absent.
func parse(list string) map[Point]plan {
	plans := map[Point]plan{}
	for _, part := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		name, action, ok := strings.Cut(part, "=")
		action, number, _ := strings.Cut(action, "@")
		at, _ := strconv.Atoi(number)
		action, text, long := strings.Cut(action, ":")
		length, err := pause, error(nil)
		if long {
			length, err = time.ParseDuration(text)
		}
		if !ok || err != nil || action != "pause" && (long || action != "crash" && action != "error") {
			panic(fmt.Sprintf("SLUICE_FAILPOINTS: %q: want POINT=crash|error|pause[:DURATION][@N]", part))
		}
		plans[Point(name)] = plan{action, length, at}
	}
	return plans
}

// Hit crashes the process as kill -9 does, returns an error or waits, as SLUICE_FAILPOINTS says.
// The error is for places that can fail; others drop it.
func Hit(p Point) error {
	state.Lock()
	state.passed[p]++
	pl, ok := state.plans[p]
	due := ok && (pl.at == 0 || pl.at == state.passed[p])
	state.Unlock()
	if !due {
		return nil
	}
	fmt.Fprintf(os.Stderr, "failpoint %s: %s\n", p, pl.action)
	switch pl.action {
	case "crash":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail for oneself
		select {}
	case "pause":
		time.Sleep(pl.pause)
		return nil
	default:
		return fmt.Errorf("failpoint %s", p)
	}
}

// Bug says whether a bug is seeded: SLUICE_SEEDED_BUG names it, or Seed did.
func Bug(b SeededBug) bool {
	state.Lock()
	defer state.Unlock()
	return state.bug == b
}

// Seed seeds a bug in this process, none with the empty name.
func Seed(b SeededBug) {
	state.Lock()
	defer state.Unlock()
	state.bug = b
}
