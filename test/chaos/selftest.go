package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/test/chaos/fault"
	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// suspicion is a seeded bug and the faults that are to bring it to light, by name.
type suspicion struct {
	bug    failpoint.SeededBug
	kind   workload.Kind
	faults string
}

// rounds is how often the faults of a suspicion are run before the suite counts as blind to the bug.
const rounds = 3

// suspicions are the seeded bugs of the shells; those of the cores are found by the simulation.
var suspicions = []suspicion{
	{failpoint.CommitBeforeDurable, workload.A, "F4/jm/before-persist=crash"},
	{failpoint.RestorePrevious, workload.B, "F1/one"},
	{failpoint.NextIsLastPlusOne, workload.A, "F7"},
	{failpoint.AbortedFilterOff, workload.A, "F7"},
	{failpoint.PartialDeploy, workload.C, "F22/back"},
	{failpoint.RestoreFromOffsets, workload.B, "F1/one,F2/jm/before-announce"},
	{failpoint.AbortOnExpiry, workload.A, "F21"},
	{failpoint.FenceDuringWrite, workload.A, "F2/jm/before-persist"},
	{failpoint.ShareIDs, workload.A, "F6,F2/jm/before-commit,F1/one"},
	{failpoint.ResolveLatestAnew, workload.A, "F1/early"},
}

// inSimulation are found by the simulation, which runs the real cores; hundreds of schedules take a second.
var inSimulation = []failpoint.SeededBug{
	failpoint.AckBeforeFlush, failpoint.ReuseEpoch, failpoint.AcceptOldAck, failpoint.InitBeforeCommit, failpoint.AckOwnOnly,
	failpoint.AnnounceBeforeMark, failpoint.ReuseBurntID, failpoint.ExpireDuringWrite, failpoint.IgnoreOrderAcrossSeal,
}

// Finding is what became of a seeded bug.
type Finding struct {
	Bug failpoint.SeededBug `json:"bug"`
	// CaughtBy is a fault, or the simulation; empty: nothing noticed it.
	CaughtBy string `json:"caughtBy"`
	// Runs it took, or schedules of the simulation.
	Runs int `json:"runs"`
	// As is how it showed.
	As string `json:"as"`
	// Revision is the commit that it was seeded in.
	Revision string `json:"revision"`
}

// findings shows what is found as it comes, and keeps it.
type findings struct {
	stdout   io.Writer
	revision string
	all      []Finding
}

const bugRow = "%-42s %-30s %5v  %s\n"

func (f *findings) add(bug failpoint.SeededBug, caughtBy string, runs int, as string) {
	f.all = append(f.all, Finding{bug, caughtBy, runs, firstLine(as), f.revision})
	if caughtBy == "" {
		caughtBy, as = "-", "not noticed"
	}
	fmt.Fprintf(f.stdout, bugRow, bug, caughtBy, runs, firstLine(as))
}

// blind are the bugs that nothing noticed.
func (f *findings) blind() error {
	var names []string
	for _, found := range f.all {
		if found.CaughtBy == "" {
			names = append(names, string(found.Bug))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("the suite did not notice: %s", strings.Join(names, ", "))
}

// save writes them to a file, a JSON line each, for a report; without a path it does nothing.
func (f *findings) save(path string) error {
	if path == "" {
		return nil
	}
	var b bytes.Buffer
	for _, found := range f.all {
		if err := json.NewEncoder(&b).Encode(found); err != nil {
			return err
		}
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// savedFindings are those of a file; none without a path, or if there is no such file yet.
func savedFindings(path string) (all []Finding, err error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := json.NewDecoder(f); ; {
		var found Finding
		switch err := lines.Decode(&found); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, found)
	}
}

// simulate seeds bugs in the simulation.
func simulate(ctx context.Context, to *findings) error {
	output, failed := exec.CommandContext(ctx, "go", "test", "-count=1", "-tags", rig.BuildTag, "-run", "TestSeededBugsAreFound", "-v",
		"github.com/sluice-stream/sluice/test/sim").CombinedOutput()
	for _, bug := range inSimulation {
		_, rest, found := strings.Cut(string(output), string(bug)+" → found after ")
		number, why, parsed := strings.Cut(rest, " schedules: ")
		runs, err := strconv.Atoi(number)
		if !found || !parsed || err != nil {
			to.add(bug, "", 0, "")
			continue
		}
		to.add(bug, "simulation", runs, why)
	}
	if failed != nil && to.blind() == nil {
		return fmt.Errorf("the simulation with seeded bugs: %w: %s", failed, output)
	}
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return fmt.Sprintf("%.120s", line)
}

// suspected are the suspicions of these bugs; empty: all.
func suspected(bugs []string) ([]suspicion, error) {
	if len(bugs) == 0 {
		return suspicions, nil
	}
	var out []suspicion
	for _, bug := range bugs {
		i := slices.IndexFunc(suspicions, func(s suspicion) bool { return string(s.bug) == bug })
		if i < 0 {
			return nil, fmt.Errorf("--bugs: %q is not seeded in real processes, want some of %s", bug, strings.Join(bugNames(), ", "))
		}
		out = append(out, suspicions[i])
	}
	return out, nil
}

func bugNames() []string {
	var names []string
	for _, s := range suspicions {
		names = append(names, string(s.bug))
	}
	return names
}

// selfTest seeds one bug after the other and runs faults until the suite is red. A bug that stays unnoticed
// is an error.
func (s *Suite) selfTest(ctx context.Context, set settings, stdout io.Writer) error {
	suspects, err := suspected(set.bugs)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, bugRow, "seeded bug", "caught by", "runs", "as")
	found := &findings{stdout: stdout, revision: set.revision}
	if len(set.bugs) == 0 {
		if err := simulate(ctx, found); err != nil {
			return err
		}
	}
	for _, suspect := range suspects {
		faults, err := fault.Select(suspect.faults)
		if err != nil {
			return err
		}
		caught, runs := s.seek(ctx, suspect, faults)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if caught == nil {
			found.add(suspect.bug, "", runs, "")
			continue
		}
		found.add(suspect.bug, caught.Fault, runs, discovery(caught))
		by := slices.IndexFunc(faults, func(f fault.Fault) bool { return f.Name() == caught.Fault })
		if err := s.control(ctx, suspect, faults[by]); err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return errors.Join(found.save(set.seeded), found.blind()) // a self-test that was cut short leaves the file as it was
}

// damning are the beginnings of reasons that speak of wrong data or a broken rule.
var damning = []string{"lost", "duplicate", "out of order", "phantom", "wrong count", "reader mismatch", "decision", "transaction", "published offsets", oracle.HungLSO}

// discovery is the reason by which an outcome shows that something is broken, one that is damning if there is one: some bugs
// keep a job from its end rather than spoil data. Empty: it shows nothing, or only that the environment gave up or memory
// was not given back in time.
func discovery(o *Outcome) string {
	for _, reason := range o.Verdict {
		if slices.ContainsFunc(damning, func(beginning string) bool { return strings.HasPrefix(reason, beginning) }) {
			return reason
		}
	}
	for _, reason := range o.Verdict {
		if !strings.HasPrefix(reason, environment) && !strings.HasPrefix(reason, "leak") {
			return reason
		}
	}
	return ""
}

// control runs a fault without any bug: what is red all the same would prove nothing. One try may go wrong.
func (s *Suite) control(ctx context.Context, suspect suspicion, f fault.Fault) error {
	var o Outcome
	for seed := range int64(2) {
		if o = s.Run(ctx, Run{Fault: f, Kind: suspect.kind, Seed: seed + 1}); o.OK() {
			return nil
		}
	}
	return fmt.Errorf("%s is not right without any seeded bug: %s", f.Name(), strings.Join(o.Verdict, "; "))
}

// seek runs the faults of a suspicion until one shows the bug.
func (s *Suite) seek(ctx context.Context, suspect suspicion, faults []fault.Fault) (caught *Outcome, runs int) {
	s.env = []string{"SLUICE_SEEDED_BUG=" + string(suspect.bug)}
	defer func() { s.env = nil }()
	for seed := range int64(rounds) {
		for _, f := range faults {
			if ctx.Err() != nil {
				return nil, runs
			}
			runs++
			o := s.Run(ctx, Run{Fault: f, Kind: suspect.kind, Seed: seed + 1})
			if discovery(&o) != "" {
				return &o, runs
			}
		}
	}
	return nil, runs
}
