package job

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// threadCPU is the processor time of this thread, which other load on the machine does not change.
func threadCPU(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// A report of a subtask costs about the same in a job of ten times as many subtasks: were all of them looked at for
// each report, it would cost ten times as much.
func TestReportsCostTheSameInALargeJob(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	perReport := func(n int) time.Duration {
		least := time.Hour
		for range 3 {
			began := threadCPU(t)
			deployAndCancel(t, n)
			least = min(least, (threadCPU(t)-began)/time.Duration(3*n))
		}
		return least
	}
	small, large := perReport(1000), perReport(10_000)
	t.Logf("a report costs %s in a job of 1,000 subtasks, %s in one of 10,000", small, large)
	if large > 5*small+time.Microsecond {
		t.Errorf("a report costs %s in a job of 1,000 subtasks and %s in one of 10,000: the cost of an event depends on the size of the job", small, large)
	}
}

// deployAndCancel takes a job of n subtasks through its life, three reports of each.
func deployAndCancel(t *testing.T, n int) {
	t.Helper()
	const workers = 100
	var slots []ident.Slot
	var subtasks []ident.Subtask
	for i := range n {
		slots = append(slots, ident.Slot{Worker: ident.WorkerID(fmt.Sprintf("w-%02d", i%workers)), Index: i / workers})
		subtasks = append(subtasks, ident.Subtask{Vertex: "v", Index: i})
	}
	m := New(Config{Epoch: 1, Slots: n, Subtasks: subtasks, Sources: subtasks, Restart: graph.DefaultRestart()}, NewRecord())
	m.Step(epochStart, Submitted{})
	m.Step(epochStart, SlotsGranted{Attempt: 1, Slots: slots})
	fence := ident.Fence{Epoch: 1, Attempt: 1}
	report := func(state SubtaskState) {
		for _, s := range subtasks {
			m.Step(epochStart, SubtaskStatus{Fence: fence, Subtask: s, State: state})
		}
	}
	report(SubtaskDeploying)
	report(SubtaskRunning)
	if m.State() != Running {
		t.Fatalf("the job is %s, all subtasks run", m.State())
	}
	m.Step(epochStart, Cancel{})
	m.Step(epochStart, CheckpointSettled{Fence: fence})
	report(SubtaskCanceled)
	m.Step(epochStart, CleanedUp{})
	if m.State() != Canceled {
		t.Fatalf("the job is %s, all subtasks have ended", m.State())
	}
}
