package checkpoint

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Zero is checkpoint 0 of a job: the offsets that were resolved at its submission (DESIGN rule 2).
func Zero(job ident.JobID, identity string, positions []manifest.Position, now time.Time) *manifest.Manifest {
	positions = slices.Clone(positions)
	slices.SortFunc(positions, func(a, b manifest.Position) int { return a.Compare(b.Split) })
	return &manifest.Manifest{Job: job, Identity: identity, Positions: positions, TriggeredAt: now, CompletedAt: now}
}

// Heir is the job that takes over the checkpoint of another one.
type Heir struct {
	Job      ident.JobID
	Identity string
	// Stateful says whether the job has a keyed operator of this name, Reads whether it has the source and
	// that reads the split.
	Stateful func(operator string) bool
	Reads    func(manifest.Split) bool
	// AllowDropped lets state and positions go that the job has no use for; otherwise they are refused.
	AllowDropped   bool
	MaxParallelism int
}

// Adopt makes checkpoint 0 of the heir from a checkpoint of another job, which must have ended and have
// committed every transaction. Blobs keep their names; the caller gives them the heir's.
func Adopt(m *manifest.Manifest, heir Heir, now time.Time) (*manifest.Manifest, error) {
	z := Zero(heir.Job, heir.Identity, nil, now)
	var dropped []string
	for _, p := range m.Positions {
		if heir.Reads(p.Split) {
			z.Positions = append(z.Positions, p)
		} else {
			dropped = append(dropped, fmt.Sprintf("position of source %s, topic %s", p.Source, p.Topic))
		}
	}
	for _, s := range m.State {
		if heir.Stateful(s.Operator) {
			z.State = append(z.State, s)
		} else {
			dropped = append(dropped, "state of operator "+s.Operator)
		}
	}
	slices.Sort(dropped)
	if dropped = slices.Compact(dropped); len(dropped) > 0 && !heir.AllowDropped {
		return nil, fmt.Errorf("checkpoint %s/%d holds what the job has no use for: %s; pass --allow-dropped-state if it may be lost",
			m.Job, m.Checkpoint, strings.Join(dropped, ", "))
	}
	if was, is := keyGroupsIn(m.Identity), keyGroupsIn(heir.Identity); len(z.State) > 0 && was != "" && is != "" && was != is {
		return nil, fmt.Errorf("take over checkpoint %s/%d: its state has %s key groups, the job %s: maxParallelism is fixed when state is first written; set it to %s",
			m.Job, m.Checkpoint, was, is, was)
	}
	if why := checkKeyGroups(z, heir.MaxParallelism); why != "" {
		return nil, fmt.Errorf("take over checkpoint %s/%d: %s", m.Job, m.Checkpoint, why)
	}
	return z, nil
}

// keyGroupsIn finds the number of key groups in the identity of a job; empty: it does not tell.
func keyGroupsIn(identity string) string {
	for word := range strings.FieldsSeq(identity) {
		if n, ok := strings.CutPrefix(word, "keyGroups="); ok {
			return n
		}
	}
	return ""
}
