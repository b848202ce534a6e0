//go:build failpoints

package transaction

import (
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/internal/failpoint"
)

// TestSeededBugs: the walk finds every bug that can be seeded here.
func TestSeededBugs(t *testing.T) {
	defer failpoint.Seed("")
	for bug, want := range map[failpoint.SeededBug]string{
		failpoint.ReuseEpoch:            "serves two transactions",
		failpoint.AckBeforeFlush:        "batches on their way",
		failpoint.AckOwnOnly:            "does not list",
		failpoint.ReuseBurntID:          "is used after an answer was lost",
		failpoint.IgnoreOrderAcrossSeal: "overtake",
	} {
		failpoint.Seed(bug)
		found := 0
		for seed := range uint64(50) {
			if err := newWalk(seed).run(); err != nil && strings.Contains(err.Error(), want) {
				found++
			}
		}
		if t.Logf("%s: found by %d of 50 walks", bug, found); found == 0 {
			t.Errorf("%s is not found", bug)
		}
	}
}
