package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
)

const (
	// profiledFunctions is how many functions of a profile are reported.
	profiledFunctions = 12
	pprofTimeout      = time.Minute
)

// Profile is where the CPU time of a job went, of all processes of a kind and all rounds together.
type Profile struct {
	// Of is the job, the values, the contestant and its mode.
	Of string `json:"of"`
	// Processes are those that were profiled.
	Processes string `json:"processes"`
	// CPUSeconds is how much the profile has seen; 0: not known.
	CPUSeconds float64 `json:"cpuSeconds,omitempty"`
	// Functions are those with the most time of their own, the largest first.
	Functions []ProfiledFunction `json:"functions"`
}

// ProfiledFunction is a function with its share of the CPU time in percent.
type ProfiledFunction struct {
	Name string `json:"name"`
	// Own is spent in the function itself, WithCallees in what it calls too.
	Own         float64 `json:"ownPercent"`
	WithCallees float64 `json:"withCalleesPercent"`
}

// profiledProcesses are those of each contestant, with what their files are named.
var profiledProcesses = map[string][]struct{ processes, files string }{
	sluiceName:  {{"task managers", "tm-*"}, {"job manager", jobManagerName}},
	bareName:    {{"loop", "bare"}},
	recodeName:  {{"loop", "bare"}},
	txnName:     {{"loop", "txn"}},
	kafkaGoName: {{"loop", "kafkago"}},
}

// profilesOf sums up the CPU profiles that the rounds of runs left in a directory.
func profilesOf(ctx context.Context, runs []Run, dir string) ([]Profile, error) {
	var out []Profile
	for _, s := range selectionsOf(runs) {
		for _, p := range profiledProcesses[s.contestant] {
			of := fmt.Sprintf("%s, %s, %s", s.job, s.values(), s.who())
			files, err := filepath.Glob(filepath.Join(dir, profileNameOf(s, p.files+"-[1-9]*")))
			if err != nil {
				return nil, fmt.Errorf("looking for profiles in %s: %w", dir, err)
			}
			if len(files) == 0 {
				return nil, fmt.Errorf("the run of %s left no profile of its %s in %s", of, p.processes, dir)
			}
			cpu, functions, err := topOf(ctx, files)
			if err != nil {
				return nil, fmt.Errorf("summing up the profiles of %s: %w", of, err)
			}
			out = append(out, Profile{of, p.processes, cpu.Seconds(), functions})
		}
	}
	return out, nil
}

func topOf(ctx context.Context, files []string) (cpu time.Duration, top []ProfiledFunction, err error) {
	ctx, cancel := context.WithTimeout(ctx, pprofTimeout)
	defer cancel()
	args := append([]string{"tool", "pprof", "-top", "-nodecount", strconv.Itoa(profiledFunctions)}, files...)
	command := exec.CommandContext(ctx, "go", args...)
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return 0, nil, fmt.Errorf("go tool pprof: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return parseTop(string(out))
}

// parseTop reads what `go tool pprof -top` prints: a header that has the time in all samples and ends in the names of the
// columns, and rows of
//
//	1.20s 28.57% 28.57%      1.30s 30.95%  internal/runtime/syscall.Syscall6
func parseTop(text string) (cpu time.Duration, out []ProfiledFunction, err error) {
	header, rows, found := strings.Cut(text, "cum%\n")
	if !found {
		return 0, nil, fmt.Errorf("go tool pprof printed no table: %.200q", text)
	}
	_, total, _ := strings.Cut(header, "Total samples = ")
	total, _, _ = strings.Cut(total, " ")
	if cpu, err = time.ParseDuration(total); err != nil {
		return 0, nil, fmt.Errorf("go tool pprof printed the header %q: %w", header, err)
	}
	for row := range strings.Lines(rows) {
		fields := strings.Fields(row)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 6 {
			return 0, nil, fmt.Errorf("go tool pprof printed the row %q, want six columns", row)
		}
		own, err := strconv.ParseFloat(strings.TrimSuffix(fields[1], "%"), 64)
		if err != nil {
			return 0, nil, fmt.Errorf("go tool pprof printed the row %q: %w", row, err)
		}
		all, err := strconv.ParseFloat(strings.TrimSuffix(fields[4], "%"), 64)
		if err != nil {
			return 0, nil, fmt.Errorf("go tool pprof printed the row %q: %w", row, err)
		}
		out = append(out, ProfiledFunction{strings.Join(fields[5:], " "), own, all})
	}
	return cpu, out, nil
}

// leastSeconds of samples, a hundred of them, a profile must have to be shown.
const leastSeconds = 1

func (r *Report) printProfiles(w io.Writer) {
	for _, p := range r.Profiles {
		if p.CPUSeconds < leastSeconds && (p.CPUSeconds > 0 || len(p.Functions) == 0) {
			fmt.Fprintf(w, "\nNot shown: the %s of %s: %.2f s of samples say little.\n", p.Processes, p.Of, p.CPUSeconds)
			continue
		}
		title := fmt.Sprintf("CPU OF THE %s: %s", strings.ToUpper(p.Processes), p.Of)
		if p.CPUSeconds > 0 {
			title += fmt.Sprintf(", %.1f s of samples", p.CPUSeconds)
		}
		table := figures.NewTable(w, title, "OWN", "WITH CALLEES")
		for _, f := range p.Functions {
			table.Row(f.Name, fmt.Sprintf("%.1f %%", f.Own), fmt.Sprintf("%.1f %%", f.WithCallees))
		}
		table.End()
	}
}
