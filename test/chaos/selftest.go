package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
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

// bugRow is a line of the table: bug, what caught it, after how many runs, what it said.
const bugRow = "%-42s %-30s %5v  %s\n"

// simulate seeds bugs in the simulation and says which it did not find.
func simulate(ctx context.Context, stdout io.Writer) (blind []string, err error) {
	output, failed := exec.CommandContext(ctx, "go", "test", "-count=1", "-tags", rig.BuildTag, "-run", "TestSeededBugsAreFound", "-v",
		"github.com/sluice-stream/sluice/test/sim").CombinedOutput()
	for _, bug := range inSimulation {
		_, rest, found := strings.Cut(string(output), string(bug)+" → found after ")
		runs, why, parsed := strings.Cut(rest, " schedules: ")
		if !found || !parsed {
			blind = append(blind, string(bug))
			fmt.Fprintf(stdout, bugRow, bug, "-", "-", "not noticed")
			continue
		}
		fmt.Fprintf(stdout, bugRow, bug, "simulation", runs, firstLine(why))
	}
	if failed != nil && len(blind) == 0 {
		return nil, fmt.Errorf("the simulation with seeded bugs: %w: %s", failed, output)
	}
	return blind, nil
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
func (s *Suite) selfTest(ctx context.Context, bugs []string, stdout io.Writer) error {
	suspects, err := suspected(bugs)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, bugRow, "seeded bug", "caught by", "runs", "as")
	var blind []string
	if len(bugs) == 0 {
		if blind, err = simulate(ctx, stdout); err != nil {
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
			blind = append(blind, string(suspect.bug))
			fmt.Fprintf(stdout, bugRow, suspect.bug, "-", runs, "not noticed")
			continue
		}
		fmt.Fprintf(stdout, bugRow, suspect.bug, caught.Fault, runs, firstLine(discovery(caught)))
		by := slices.IndexFunc(faults, func(f fault.Fault) bool { return f.Name() == caught.Fault })
		if err := s.control(ctx, suspect, faults[by]); err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	if len(blind) > 0 {
		return fmt.Errorf("the suite did not notice: %s", strings.Join(blind, ", "))
	}
	return nil
}

// damning are the beginnings of reasons that speak of wrong data or a broken rule.
var damning = []string{"lost", "duplicate", "out of order", "phantom", "wrong count", "reader mismatch", "decision", "transaction", oracle.HungLSO}

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
