package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"testing"
)

// TestSaveMemory: a task manager sets the garbage collector; who sets GOGC decides.
func TestSaveMemory(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	run := func(want int) {
		t.Helper()
		before := debug.SetGCPercent(70)
		defer debug.SetGCPercent(before)
		if err := TaskManager(ended, process(nil, "--data-listen", "127.0.0.1:0", "--http", "", "--work-dir", t.TempDir())); err != nil {
			t.Fatal(err)
		}
		if got := debug.SetGCPercent(70); got != want {
			t.Errorf("the heap grows by %d %%, want %d", got, want)
		}
	}
	t.Setenv("GOGC", "70")
	run(70)
	if err := os.Unsetenv("GOGC"); err != nil {
		t.Fatal(err)
	}
	run(heapGrowthPercent)
}
