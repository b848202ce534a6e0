package linear

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of the jobs that are compared.
const (
	smallJob = 1000
	largeJob = 10_000
)

// Check fails when what is to cost the same for each of n things costs much more in a job of ten times as many: were
// all of them looked at for each, it would be ten times as much, and five times is refused. Of three tries the cheapest
// counts, by the processor time of this thread, which other load on the machine hardly changes.
func Check(t *testing.T, what string, work func(n int)) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	small, large := perThing(t, smallJob, work), perThing(t, largeJob, work)
	t.Logf("%s costs %s in a job of %d subtasks, %s in one of %d", what, small, smallJob, large, largeJob)
	if large > 5*small+time.Microsecond {
		t.Errorf("%s costs %s in a job of %d subtasks and %s in one of %d: the cost depends on the size of the job", what, small, smallJob, large, largeJob)
	}
}

func perThing(t *testing.T, n int, work func(n int)) time.Duration {
	t.Helper()
	least := time.Hour
	for range 3 {
		began := threadCPU(t)
		work(n)
		least = min(least, (threadCPU(t)-began)/time.Duration(n))
	}
	return least
}

func threadCPU(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
