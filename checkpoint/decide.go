package checkpoint

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Witness is how the database and the file beside it agreed when the store was opened (DESIGN rule 5).
type Witness int

// The states of the witness.
const (
	// WitnessAgrees: both hold the same sequence number, or the store is new.
	WitnessAgrees Witness = iota + 1
	// WitnessAdvanced: the database was one ahead, as after a crash between the two; it was caught up.
	WitnessAdvanced
	// WitnessDisagrees: the database is older or much newer than the witness, or the witness is gone.
	WitnessDisagrees
)

// Found is one manifest of a job as the store holds it.
type Found struct {
	Checkpoint ident.CheckpointID
	// Manifest is nil if Err says why it cannot be read.
	Manifest *manifest.Manifest
	Err      error
}

// Facts are all that the recovery decision depends on.
type Facts struct {
	Job ident.JobID
	// Identity, Parallelism (the largest of a stateful operator) and MaxParallelism are those of the
	// graph to be deployed.
	Identity                    string
	Parallelism, MaxParallelism int
	Witness                     Witness
	// Found are the job's manifests, in any order.
	Found []Found
	// Newest is the id that the store recorded with the newest completed checkpoint; 0 if none but
	// checkpoint 0 ever completed. A manifest of this id must be among Found unless it is 0.
	Newest ident.CheckpointID
	Marked Marked
}

// Action is what recovery does.
type Action int

// The actions. Restore and end take Decision.Checkpoint.
const (
	// StartFresh: the job has no checkpoint yet; start offsets are resolved and stored as checkpoint 0.
	StartFresh Action = iota + 1
	// Restore: deploy from the checkpoint.
	Restore
	// CommitThenRestore: commit what manifests name and no mark covers, then as Restore.
	CommitThenRestore
	// End: the checkpoint is final; the job never deploys again.
	End
	// CommitThenEnd: commit what manifests name and no mark covers, then as End.
	CommitThenEnd
	// Refuse: an operator has to look; Decision.Why says at what.
	Refuse
)

// String names the action in messages and tables.
func (a Action) String() string {
	names := [...]string{StartFresh: "start-fresh", Restore: "restore", CommitThenRestore: "commit-then-restore",
		End: "end", CommitThenEnd: "commit-then-end", Refuse: "refuse"}
	if a < StartFresh || int(a) >= len(names) {
		return fmt.Sprintf("action(%d)", int(a))
	}
	return names[a]
}

// Decision is the outcome of Decide.
type Decision struct {
	Action     Action
	Checkpoint ident.CheckpointID
	// Manifest is that of Checkpoint; nil for StartFresh and Refuse.
	Manifest *manifest.Manifest
	// Commit are the transactions to commit first, of all manifests, oldest first.
	Commit []manifest.Transaction
	// Why is the reason of Refuse.
	Why string
}

// String prints the decision for logs.
func (d Decision) String() string {
	switch d.Action {
	case StartFresh:
		return d.Action.String()
	case Refuse:
		return d.Action.String() + ": " + d.Why
	case CommitThenRestore, CommitThenEnd:
		return fmt.Sprintf("%s %d (%d transactions)", d.Action, d.Checkpoint, len(d.Commit))
	default:
		return fmt.Sprintf("%s %d", d.Action, d.Checkpoint)
	}
}

// Decide says how a job goes on after its attempt, or the job manager, ended (DESIGN rule 6). It never
// falls back to an older checkpoint than the newest: the output after that one was already visible
// and would be written a second time.
func Decide(f Facts) Decision {
	if f.Witness == WitnessDisagrees {
		return refuse("the checkpoint database is not the one that was last written (its witness file disagrees)")
	}
	found := slices.Clone(f.Found)
	slices.SortFunc(found, func(a, b Found) int { return cmp.Compare(a.Checkpoint, b.Checkpoint) })
	d := Decision{Action: Restore}
	for i, fd := range found {
		if why := checkFound(&f, fd); why != "" {
			return refuse("%s", why)
		}
		if i > 0 && found[i-1].Checkpoint == fd.Checkpoint {
			return refuse("checkpoint %d is stored twice", fd.Checkpoint)
		}
		d.Commit = append(d.Commit, Unmarked(fd.Manifest, f.Marked)...)
		d.Checkpoint, d.Manifest = fd.Checkpoint, fd.Manifest
	}
	switch {
	case len(found) == 0 && f.Newest == 0:
		return Decision{Action: StartFresh}
	case d.Checkpoint != f.Newest || d.Manifest == nil:
		return refuse("the newest completed checkpoint is %d, but the newest one stored is %s; going back would repeat output",
			f.Newest, newestText(found))
	case d.Manifest.Final:
		d.Action = End
	default:
		if why := checkGraph(&f, d.Manifest); why != "" {
			return refuse("%s", why)
		}
	}
	if len(d.Commit) > 0 {
		d.Action++ // Restore, End → the same after a commit
	}
	return d
}

func newestText(found []Found) string {
	if len(found) == 0 {
		return "none"
	}
	return fmt.Sprint(found[len(found)-1].Checkpoint)
}

func refuse(format string, args ...any) Decision {
	return Decision{Action: Refuse, Why: fmt.Sprintf(format, args...)}
}

// checkFound refuses a manifest that cannot be read or belongs elsewhere. An unreadable old one is
// refused as well: it may name transactions that must be committed.
func checkFound(f *Facts, fd Found) string {
	switch {
	case fd.Err != nil:
		return fmt.Sprintf("checkpoint %d of job %s cannot be read: %v", fd.Checkpoint, f.Job, fd.Err)
	case fd.Manifest == nil:
		return fmt.Sprintf("checkpoint %d of job %s is empty", fd.Checkpoint, f.Job)
	case fd.Manifest.Job != f.Job:
		return fmt.Sprintf("checkpoint %d is stored under job %s but is of job %s", fd.Checkpoint, f.Job, fd.Manifest.Job)
	case fd.Manifest.Checkpoint != fd.Checkpoint:
		return fmt.Sprintf("checkpoint %d of job %s says that it is checkpoint %d", fd.Checkpoint, f.Job, fd.Manifest.Checkpoint)
	}
	return ""
}

// checkGraph refuses a graph that cannot take over the state of m.
func checkGraph(f *Facts, m *manifest.Manifest) string {
	if m.Identity != f.Identity {
		return fmt.Sprintf("checkpoint %d was drawn by a graph of identity %q, the job's is %q: names of stateful operators, "+
			"key groups and state schemas must not change", m.Checkpoint, m.Identity, f.Identity)
	}
	if f.Parallelism > f.MaxParallelism {
		return fmt.Sprintf("parallelism %d is above maxParallelism %d, which is frozen since the first checkpoint",
			f.Parallelism, f.MaxParallelism)
	}
	return checkKeyGroups(m, f.MaxParallelism)
}

// checkKeyGroups refuses state that lies outside of the key groups, or that two pieces claim.
func checkKeyGroups(m *manifest.Manifest, maxParallelism int) string {
	states := slices.Clone(m.State)
	slices.SortFunc(states, func(a, b manifest.State) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.FirstKeyGroup, b.FirstKeyGroup))
	})
	for i, s := range states {
		if s.FirstKeyGroup < 0 || s.LastKeyGroup < s.FirstKeyGroup || s.LastKeyGroup >= maxParallelism {
			return fmt.Sprintf("checkpoint %d: state of %s by %s has key groups %d to %d, the job has 0 to %d",
				m.Checkpoint, s.Operator, s.Subtask, s.FirstKeyGroup, s.LastKeyGroup, maxParallelism-1)
		}
		if i > 0 && states[i-1].Operator == s.Operator && states[i-1].LastKeyGroup >= s.FirstKeyGroup {
			return fmt.Sprintf("checkpoint %d: key group %d of %s is claimed by %s and by %s",
				m.Checkpoint, s.FirstKeyGroup, s.Operator, states[i-1].Subtask, s.Subtask)
		}
	}
	return ""
}
