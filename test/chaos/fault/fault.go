// Package fault is the catalogue of the fault suite: what is broken, and what must be seen of it beside
// correct data. Each entry is one row of a table; the numbers are those of docs/RELIABILITY.md.
package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/chaos/workload"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

// Fault is one entry.
type Fault struct {
	// ID is the number of the fault, as F12; Variant is unique in it, empty if there is only one.
	ID, Variant string
	// What happens, in a few words.
	What string
	// Kinds are the workloads that feel it; nil: all.
	Kinds []workload.Kind
	// Tune changes how the run is set up; nil: nothing.
	Tune func(*Tuning)
	// Inject breaks something in a healthy run and mends it. It returns when nothing is broken any more, or
	// when the job has ended if that is expected.
	Inject func(context.Context, *Scene) error
	Expect Expect
	// Alone keeps the fault out of mixed runs: it needs spare slots, or a load that is as it was at first.
	Alone bool
	// NotRun is why the fault cannot be brought about here; Inject is nil then.
	NotRun string
}

// Name is ID/VARIANT.
func (f Fault) Name() string {
	if f.Variant == "" {
		return f.ID
	}
	return f.ID + "/" + f.Variant
}

// Tuning is how a run is set up.
type Tuning struct {
	// TaskManagers are started at first; every two of them have the slots that the job needs.
	TaskManagers int
	// JobManagerEnv and WorkerEnv (of tm-1) are for their first process only.
	JobManagerEnv, WorkerEnv []string
	// Cold injects as soon as the job runs, before its first checkpoint, and lets it start at the latest offsets of
	// an input that is still empty.
	Cold bool
	// DiskBytes, if set, is the size of the file system that holds the job manager's data directory.
	DiskBytes int64
	// Retain is how many checkpoints are kept; 0: as many as by default.
	Retain int
	// SourceProperties are further Kafka properties of the sources.
	SourceProperties map[string]string
	// Keys of the input and the length of each; 0: as the generator does by itself.
	Keys, KeyBytes int
	// CheckpointTimeout of the job; 0: the workload's. TransactionTimeout; 2 min at first: a fault that is no expiry
	// is to leave enough of it.
	CheckpointTimeout, TransactionTimeout time.Duration
	// OffsetStorage is where offsets are published: kafka, if empty, or zookeeper.
	OffsetStorage string
}

// Expect is the verdict on states. The data must be right in any case.
type Expect struct {
	// MinAttempts and MaxAttempts bound by how much the attempt rises.
	MinAttempts, MaxAttempts int64
	// States are seen in this order after the fault, others between them or not.
	States []string
	// Detect bounds the time from the fault until the job leaves RUNNING; 0: not judged.
	Detect time.Duration
	// Final is the state in which Inject leaves the job if it ends by the fault; empty: it runs on.
	Final string
	// Failure is part of the reason that the job gives; empty: not judged.
	Failure string
	// DataLoss says that loss is expected, and announced.
	DataLoss bool
}

// Scene is a run into which a fault is injected.
type Scene struct {
	*rig.Rig
	// Job is the id of the job.
	Job      string
	Workload *workload.Workload
	Rand     *rand.Rand
	// Outage is how long a long outage takes.
	Outage time.Duration
	// Begin tells that the fault begins now. Each fault calls it once.
	Begin func()
	// Mixed says that other faults come at the same time and soon after.
	Mixed bool
	// Drawn tells which faults a mixed run consists of.
	Drawn func(name string)
}

// Catalogue is every fault, in the order of its numbers.
func Catalogue() []Fault {
	all := slices.Concat(killFaults(), crashPoints(), hangFaults(), brokerFaults(), networkFaults(), diskFaults(), clockFaults(), stateFaults(),
		protocolFaults(), slotFaults(), transactionFaults(), kafkaFaults(), topicFaults(), securityFaults(), orderlyFaults(),
		zooKeeperFaults())
	return append(all, copies(all)...)
}

// copied are the faults that workload D runs, too: it passes batches on unopened, and writes and repeats them in another way
// than the others do.
var copied = []string{
	"F1/one", "F2/" + string(failpoint.BeforeCommit), "F3/alone", "F8/source-kill", "F8/sink-kill", "F8/sink-hang", "F8/transactions-kill", "F9/outage", "F25/move",
}

func copies(all []Fault) []Fault {
	var out []Fault
	for _, f := range all {
		if slices.Contains(copied, f.Name()) {
			f.Variant, f.What, f.Kinds = "copy-"+f.Variant, f.What+"; the job copies batches unopened", []workload.Kind{workload.D}
			out = append(out, f)
		}
	}
	return out
}

// Select finds the faults of a list of names, separated by commas: F4 for all of its variants, or F4/NAME; or all.
func Select(names string) ([]Fault, error) {
	all := Catalogue()
	if names == "all" {
		return all, nil
	}
	var selected []Fault
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, f := range all {
			if f.Name() == name || f.ID == name || strings.HasPrefix(f.Name(), name+"/") {
				selected, found = append(selected, f), true
			}
		}
		if !found {
			return nil, fmt.Errorf("fault %q is unknown; --list shows all", name)
		}
	}
	return selected, nil
}

const (
	// patience bounds every wait for a state. What it waits for takes seconds; the rest is a slow machine.
	patience = 90 * time.Second
	running  = "RUNNING"
	waiting  = "WAITING_FOR_SLOTS"
)

// pause waits, if ctx lets it.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// now is the status of the job. It outlasts a job manager that is down.
func (s *Scene) now(ctx context.Context) (cluster.Job, error) {
	return s.WaitFor(ctx, s.Job, "there", patience, func(*cluster.Job) bool { return true })
}

// host is a task manager with a subtask of the sink: of the last vertex, any subtask.
func (s *Scene) host(ctx context.Context) (string, error) {
	job, err := s.WaitFor(ctx, s.Job, running, patience, func(j *cluster.Job) bool { return j.State == running })
	if err != nil {
		return "", err
	}
	tasks := job.Vertices[len(job.Vertices)-1].Subtasks
	return tasks[s.Rand.IntN(len(tasks))].TaskManager, nil
}

// again waits until the job runs in a later attempt.
func (s *Scene) again(ctx context.Context, after int64) error {
	_, err := s.WaitFor(ctx, s.Job, "running again", patience, func(j *cluster.Job) bool { return j.State == running && j.Attempt > after })
	return err
}

// state waits until the job is in a state.
func (s *Scene) state(ctx context.Context, state string) (cluster.Job, error) {
	return s.WaitFor(ctx, s.Job, state, patience, func(j *cluster.Job) bool { return j.State == state })
}

// attempt is the attempt of the job.
func (s *Scene) attempt(ctx context.Context) (int64, error) {
	job, err := s.now(ctx)
	return job.Attempt, err
}
