// Command supervise runs one program as systemd runs a service: it reads the unit file and starts the program
// again whenever it ends, after RestartSec, unless the unit says otherwise. It stands in for systemd where tests
// run without it, and knows only what the units in deploy/systemd say.
//
//	supervise UNIT-FILE OUTPUT-DIR PROGRAM [ARGUMENT…]
//
// A line on standard output tells each start and each end. SIGTERM ends the program, within TimeoutStopSec, and
// supervise with it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "supervise:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("want UNIT-FILE OUTPUT-DIR PROGRAM [ARGUMENT…], got %q", args)
	}
	unit, err := readUnit(args[0])
	if err != nil {
		return err
	}
	var starts []time.Time
	for number := 1; ; number++ {
		if starts = append(starts, time.Now()); unit.tooOften(starts) {
			return fmt.Errorf("started too often: %d times within %s", len(starts), unit.startLimitInterval)
		}
		p, err := process.Start(process.Spec{Name: fmt.Sprintf("%02d", number), Path: args[2], Args: args[3:], Dir: args[1]})
		if err != nil {
			return err
		}
		tell("started %d pid %d", number, p.Pid())
		select {
		case <-p.Done():
		case <-ctx.Done():
			_, err := p.Stop(unit.timeoutStop)
			return err
		}
		tell("ended %d code %d", number, p.ExitCode())
		if !unit.restarts(p.ExitCode()) {
			return fmt.Errorf("exit code %d: the unit does not restart it", p.ExitCode())
		}
		if !pause(ctx, unit.restart) {
			return nil
		}
	}
}

// tell prints a line with the time in milliseconds.
func tell(format string, args ...any) {
	fmt.Printf("%d %s\n", time.Now().UnixMilli(), fmt.Sprintf(format, args...))
}

// pause waits; false: ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// unit is what a unit file says about restarts.
type unit struct {
	policy             string // Restart=
	restart            time.Duration
	preventCodes       []int
	startLimitInterval time.Duration
	timeoutStop        time.Duration
}

// startLimitBurst is systemd's default.
const startLimitBurst = 5

// restarts says whether the program is started again; a signal is code -1.
func (u *unit) restarts(code int) bool {
	switch {
	case slices.Contains(u.preventCodes, code):
		return false
	case u.policy == "on-failure":
		return code != 0
	default:
		return u.policy == "always"
	}
}

// tooOften says whether systemd would give up; an interval of 0 means never.
func (u *unit) tooOften(starts []time.Time) bool {
	if u.startLimitInterval == 0 || len(starts) <= startLimitBurst {
		return false
	}
	return time.Since(starts[len(starts)-startLimitBurst-1]) < u.startLimitInterval
}

func readUnit(path string) (*unit, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the unit: %w", err)
	}
	settings, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	u := &unit{policy: settings["Service.Restart"]}
	for name, d := range map[string]*time.Duration{
		"Service.RestartSec": &u.restart, "Unit.StartLimitIntervalSec": &u.startLimitInterval, "Service.TimeoutStopSec": &u.timeoutStop,
	} {
		if *d, err = seconds(settings[name], defaults[name]); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, name, err)
		}
	}
	if code := settings["Service.RestartPreventExitStatus"]; code != "" {
		n, err := strconv.Atoi(code)
		if err != nil {
			return nil, fmt.Errorf("%s: RestartPreventExitStatus: %w", path, err)
		}
		u.preventCodes = append(u.preventCodes, n)
	}
	return u, nil
}

// defaults are systemd's.
var defaults = map[string]time.Duration{
	"Service.RestartSec": 100 * time.Millisecond, "Unit.StartLimitIntervalSec": 10 * time.Second, "Service.TimeoutStopSec": 90 * time.Second,
}
