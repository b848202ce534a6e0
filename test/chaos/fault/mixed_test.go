package fault

import (
	"math/rand/v2"
	"testing"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// Every subset of sides is drawn, and never two faults of one side.
func TestDraw(t *testing.T) {
	from := mixable(workload.A)
	for of, faults := range from {
		if len(faults) < 3 {
			t.Errorf("side %d has %d faults", of, len(faults))
		}
	}
	subsets, random := map[int]bool{}, rand.New(rand.NewPCG(1, 2))
	for range 500 {
		subset := 0
		for _, f := range draw(from, random) {
			of, ok := sideOf(f)
			if !ok || f.ID == "F13" || subset&(1<<of) != 0 {
				t.Fatalf("%s is drawn beside another of its side, or is not for mixed runs of this workload", f.Name())
			}
			subset |= 1 << of
		}
		subsets[subset] = true
	}
	if len(subsets) != 1<<sides-1 || subsets[0] {
		t.Errorf("%d subsets were drawn, want %d", len(subsets), 1<<sides-1)
	}
}
