package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/test/chaos/fault"
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

// suspicions are all seeded bugs.
var suspicions = []suspicion{
	{failpoint.AckBeforeFlush, workload.A, "F8/sink-kill,F1/one"},
	{failpoint.CommitBeforeDurable, workload.A, "F4/jm/before-persist=crash,F14"},
	{failpoint.RestorePrevious, workload.B, "F1/one"},
	{failpoint.ReuseEpoch, workload.A, "F8/transactions-hang,F1/one"},
	{failpoint.AcceptOldAck, workload.B, "F6,F20/late"},
	{failpoint.InitBeforeCommit, workload.A, "F2/jm/before-commit,F23/in-time"},
	{failpoint.NextIsLastPlusOne, workload.A, "F1/one,F3/alone"},
	{failpoint.AbortedFilterOff, workload.A, "F7"},
	{failpoint.PartialDeploy, workload.C, "F22"},
	{failpoint.RestoreFromOffsets, workload.B, "F1/one,F2/jm/before-announce"},
	{failpoint.AckOwnOnly, workload.A, "F21"},
	{failpoint.AbortOnExpiry, workload.A, "F21"},
	{failpoint.FenceDuringWrite, workload.A, "F2/jm/before-persist"},
	{failpoint.AnnounceBeforeMark, workload.A, "F4/jm/before-mark=crash,F1/one"},
	{failpoint.ReuseBurntID, workload.A, "F4/tm/after-init-producer=error,F8/transactions-hang"},
	{failpoint.ShareIDs, workload.A, "F6,F2/jm/before-commit"},
	{failpoint.ExpireDuringWrite, workload.A, "F16,F14"},
	{failpoint.IgnoreOrderAcrossSeal, workload.A, "F8/sink-kill,F26/throttle"},
	{failpoint.ResolveLatestAnew, workload.A, "F1/all"},
}

// selfTest seeds one bug after the other and runs faults until the suite is red. A bug that stays unnoticed
// is an error.
func (s *Suite) selfTest(ctx context.Context, stdout io.Writer) error {
	const row = "%-42s %-34s %5v  %s\n"
	fmt.Fprintf(stdout, row, "seeded bug", "caught by", "runs", "as")
	var blind []string
	for _, suspect := range suspicions {
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
			fmt.Fprintf(stdout, row, suspect.bug, "-", runs, "not noticed")
			continue
		}
		fmt.Fprintf(stdout, row, suspect.bug, caught.Fault, runs, strings.SplitN(caught.Verdict[0], "\n", 2)[0])
	}
	if len(blind) > 0 {
		return fmt.Errorf("the suite did not notice: %s", strings.Join(blind, ", "))
	}
	return nil
}

// seek runs the faults of a suspicion until one is red.
func (s *Suite) seek(ctx context.Context, suspect suspicion, faults []fault.Fault) (caught *Outcome, runs int) {
	s.env = []string{"SLUICE_SEEDED_BUG=" + string(suspect.bug)}
	defer func() { s.env = nil }()
	for seed := range int64(rounds) {
		for _, f := range faults {
			if ctx.Err() != nil {
				return nil, runs
			}
			runs++
			if o := s.Run(ctx, Run{Fault: f, Kind: suspect.kind, Seed: seed + 1}); !o.OK() {
				return &o, runs
			}
		}
	}
	return nil, runs
}
