package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"

	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/chaos/rig"
)

// expectations compares states, attempts and times with what the fault lets expect.
func (st *stage) expectations(attempts int64, states []string) []string {
	var reasons []string
	expect := st.run.Fault.Expect
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
		if took, left := st.timeline.left(st.began); !left || took > expect.Detect {
			reasons = append(reasons, fmt.Sprintf("state: the job left RUNNING after %s (%t), want at most %s", took, left, expect.Detect))
		}
	}
	for _, crash := range st.rig.Crashes() {
		reasons = append(reasons, "crash: "+crash)
	}
	return reasons
}

// sampleTimeout bounds the question for the metrics of one process.
const sampleTimeout = 2 * time.Second

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
		goroutines, err := goroutinesOf(ctx, r.MetricsAddress(name))
		if err != nil {
			return nil, fmt.Errorf("asking %s for its metrics: %w", name, err)
		}
		samples = append(samples, oracle.Sample{Process: name, Goroutines: goroutines, FDs: descriptors, RSSBytes: int64(stat.ResidentMemory())})
	}
	return samples, nil
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

func goroutinesOf(ctx context.Context, address string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "go_goroutines "); found {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, fmt.Errorf("the metrics of %s hold no go_goroutines", address)
}
