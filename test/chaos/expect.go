package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"

	"github.com/sluice-stream/sluice/test/chaos/fault"
	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/chaos/rig"
)

// expectations compares what was seen of a run with what its fault lets expect.
func (st *stage) expectations(attempts int64) []string {
	reasons := stateFaults(st.timeline, st.began, st.run.Fault.Expect, attempts)
	for _, crash := range st.rig.Crashes() {
		reasons = append(reasons, "crash: "+crash)
	}
	return reasons
}

// stateFaults compares states, attempts and times.
func stateFaults(line *timeline, began time.Time, expect fault.Expect, attempts int64) []string {
	var reasons []string
	states := line.states(began)
	if attempts < expect.MinAttempts || attempts > expect.MaxAttempts {
		reasons = append(reasons, fmt.Sprintf("state: the attempt rose by %d, want %d to %d; states %v", attempts, expect.MinAttempts, expect.MaxAttempts, states))
	}
	rest := states
	for _, want := range expect.States {
		i := slices.IndexFunc(rest, func(s string) bool { return strings.HasPrefix(s, want+"@") })
		if i < 0 {
			reasons = append(reasons, fmt.Sprintf("state: %s was not seen in its turn; states %v", want, states))
			break
		}
		rest = rest[i+1:]
	}
	if expect.Detect > 0 {
		if took, left := line.left(began); !left || took > expect.Detect {
			reasons = append(reasons, fmt.Sprintf("state: the job left RUNNING after %s (%t), want at most %s", took, left, expect.Detect))
		}
	}
	return reasons
}

// sample takes what every process of a run holds.
func sample(ctx context.Context, r *rig.Rig) ([]oracle.Sample, error) {
	var samples []oracle.Sample
	for name, p := range r.Processes() {
		proc, err := procfs.NewProc(p.Pid())
		if err != nil {
			return nil, fmt.Errorf("looking at %s: %w", name, err)
		}
		stat, err := proc.Stat()
		if err != nil {
			return nil, fmt.Errorf("looking at %s: %w", name, err)
		}
		descriptors, err := proc.FileDescriptorsLen()
		if err != nil {
			return nil, fmt.Errorf("looking at %s: %w", name, err)
		}
		metrics, err := r.Metrics(ctx, name)
		if err != nil {
			return nil, err
		}
		goroutines, err := goroutinesIn(metrics)
		if err != nil {
			return nil, fmt.Errorf("looking at %s: %w", name, err)
		}
		samples = append(samples, oracle.Sample{Process: name, Goroutines: goroutines, FDs: descriptors, RSSBytes: int64(stat.ResidentMemory())})
	}
	return samples, nil
}

// settleTimeout is how long processes may take to give back what catching up took: memory goes back to the
// system in the background.
const settleTimeout = 45 * time.Second

// settledSample samples until nothing seems to leak, or it has had its time.
func settledSample(ctx context.Context, r *rig.Rig, before []oracle.Sample) ([]oracle.Sample, error) {
	deadline := time.Now().Add(settleTimeout)
	for {
		samples, err := sample(ctx, r)
		if err != nil || len(oracle.Leaks(before, samples)) == 0 || time.Now().After(deadline) {
			return samples, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// anyRole gives each task manager the most that any of them holds: after a fault one may do what another did.
func anyRole(samples []oracle.Sample) []oracle.Sample {
	var most oracle.Sample
	for _, s := range samples {
		if s.Process != rig.JobManager {
			most = oracle.Sample{Goroutines: max(most.Goroutines, s.Goroutines), FDs: max(most.FDs, s.FDs), RSSBytes: max(most.RSSBytes, s.RSSBytes)}
		}
	}
	for i, s := range samples {
		if s.Process != rig.JobManager {
			samples[i] = oracle.Sample{Process: s.Process, Goroutines: most.Goroutines, FDs: most.FDs, RSSBytes: most.RSSBytes}
		}
	}
	return samples
}

// takeOverConnections are what a job manager may have opened as it took over: it commits and fences up to 16 ids at
// once, on three brokers, and keeps connections for the next time. The one before it had no reason to.
const takeOverConnections = 16 * rig.Brokers

// takenOver lets the job manager hold these connections, each with a descriptor and a goroutine.
func takenOver(samples []oracle.Sample) []oracle.Sample {
	for i := range samples {
		if samples[i].Process == rig.JobManager {
			samples[i].FDs += takeOverConnections
			samples[i].Goroutines += takeOverConnections
		}
	}
	return samples
}

// goroutinesIn is how many goroutines a process has, by its metrics.
func goroutinesIn(metrics string) (int, error) {
	for line := range strings.Lines(metrics) {
		if value, found := strings.CutPrefix(line, "go_goroutines "); found {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, errors.New("the metrics hold no go_goroutines")
}
