package daemon

import (
	"runtime/debug"
	"testing"
)

// TestSaveMemory: who sets GOGC decides.
func TestSaveMemory(t *testing.T) {
	before := debug.SetGCPercent(70)
	defer debug.SetGCPercent(before)
	saveMemory(Process{LookupEnv: func(name string) (string, bool) { return "70", name == "GOGC" }})
	if got := debug.SetGCPercent(70); got != 70 {
		t.Errorf("with GOGC set the heap grows by %d %%, want it left alone at 70", got)
	}
	saveMemory(Process{})
	if got := debug.SetGCPercent(70); got != heapGrowthPercent {
		t.Errorf("the heap grows by %d %%, want %d", got, heapGrowthPercent)
	}
}
