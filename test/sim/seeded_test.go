//go:build failpoints

package sim

import (
	"os"
	"testing"

	"github.com/sluice-stream/sluice/internal/failpoint"
)

// seeded are the bugs that the cores themselves can be told to have; the others live in the shells around
// them, and TestMistakesAreFound makes their like.
var seeded = []failpoint.SeededBug{
	failpoint.AckBeforeFlush, failpoint.ReuseEpoch, failpoint.AcceptOldAck, failpoint.InitBeforeCommit, failpoint.AckOwnOnly,
	failpoint.AnnounceBeforeMark, failpoint.ReuseBurntID, failpoint.ExpireDuringWrite, failpoint.IgnoreOrderAcrossSeal,
}

// TestSeededBugsAreFound seeds one bug after the other; one at a time, as a seed is for the whole process.
func TestSeededBugsAreFound(t *testing.T) {
	const limit = 20_000
	if os.Getenv("SLUICE_SEEDED_BUG") != "" {
		t.Skip("a bug is seeded from outside")
	}
	defer failpoint.Seed("")
	for _, b := range seeded {
		t.Run(string(b), func(t *testing.T) {
			failpoint.Seed(b)
			for seed := range uint64(limit) {
				if o := simulate(seed, bugNone, false); o.found != "" {
					t.Logf("%s → found after %d schedules: %s", b, seed+1, o.found)
					return
				}
			}
			t.Errorf("not found in %d schedules", limit)
		})
	}
}
