package job

import (
	"fmt"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/linear"
)

// A report of a subtask costs about the same in a job of ten times as many subtasks: were all of them looked at for
// each report, it would cost ten times as much.
func TestReportsCostTheSameInALargeJob(t *testing.T) {
	linear.Check(t, "three reports of a subtask", func(n int) { deployAndCancel(t, n) })
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
