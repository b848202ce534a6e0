// Package ident holds the small names and numbers by which the parts of a cluster speak of each other.
//
// It is pure: values, their order, their text and their validation; nothing here does I/O.
package ident

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// JobID names one submission for ever; it is random and never reused, so that everything derived
// from it (files, transactional ids) belongs to this submission alone.
type JobID string

// WorkerID names a task manager; the operator chooses it, it is stable over restarts of the process.
type WorkerID string

// Incarnation is one run of a task manager process; two runs with the same WorkerID differ in it.
type Incarnation string

// LeaderEpoch counts the starts of the job manager. It rises durably before the first message of
// that start, so a message of an older leader is recognised and dropped.
type LeaderEpoch uint64

// Attempt counts the runs of one job. It rises, durably, before each deployment.
type Attempt uint64

// CheckpointID numbers the checkpoints of one job over all attempts; it only rises. Checkpoint 0 is
// the start offsets that were resolved at submission.
type CheckpointID uint64

// ParseCheckpoint reads JOBID/N, where a name may stand in the place of the id.
func ParseCheckpoint(text string) (job string, n CheckpointID, err error) {
	job, number, ok := strings.Cut(text, "/")
	id, err := strconv.ParseUint(number, 10, 63)
	if !ok || job == "" || err != nil {
		return "", 0, fmt.Errorf("checkpoint %q: want JOBID/N, as `sluice checkpoints` prints it", text)
	}
	return job, CheckpointID(id), nil
}

// Fence is carried by everything that belongs to one attempt, on the wire and on disk.
type Fence struct {
	Epoch   LeaderEpoch
	Attempt Attempt
}

// String prints the fence as epoch.attempt.
func (f Fence) String() string { return fmt.Sprintf("%d.%d", f.Epoch, f.Attempt) }

// Subtask is one parallel instance of a vertex.
type Subtask struct {
	Vertex string
	Index  int
}

// String prints the subtask as vertex/index.
func (s Subtask) String() string { return s.Vertex + "/" + strconv.Itoa(s.Index) }

// Compare orders subtasks by vertex name, then by index.
func (s Subtask) Compare(o Subtask) int {
	return cmp.Or(strings.Compare(s.Vertex, o.Vertex), cmp.Compare(s.Index, o.Index))
}

// ParseSubtask reads what String printed.
func ParseSubtask(text string) (Subtask, error) {
	vertex, index, ok := strings.Cut(text, "/")
	n, err := strconv.Atoi(index)
	if !ok || err != nil || n < 0 || CheckName(vertex) != nil {
		return Subtask{}, fmt.Errorf("subtask %q: want NAME/INDEX", text)
	}
	return Subtask{Vertex: vertex, Index: n}, nil
}

// Slot is one place of a task manager in which one subtask of every vertex of a job can run.
type Slot struct {
	Worker WorkerID
	Index  int
}

// String prints the slot as worker#index.
func (s Slot) String() string { return string(s.Worker) + "#" + strconv.Itoa(s.Index) }

// Compare orders slots by worker, then by index.
func (s Slot) Compare(o Slot) int {
	return cmp.Or(strings.Compare(string(s.Worker), string(o.Worker)), cmp.Compare(s.Index, o.Index))
}

// maxNameBytes is the longest name.
const maxNameBytes = 128

// ErrName is returned for a name that is not [A-Za-z0-9._-]{1,128}.
var ErrName = errors.New("want 1 to 128 of the characters A-Z a-z 0-9 . _ -")

// CheckName says whether a job, vertex, operator or task manager may be called this. Slashes are
// excluded because transactional ids and file names are built from names.
func CheckName(name string) error {
	ok := 0 < len(name) && len(name) <= maxNameBytes && name != "." && name != ".."
	for i := 0; ok && i < len(name); i++ { // not a pattern: every record of the store has a name in its key
		c := name[i]
		ok = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	if !ok {
		return fmt.Errorf("name %.140q: %w", name, ErrName)
	}
	return nil
}
