package sim

import (
	"slices"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
)

// disk is what survives a crash of the job manager.
type disk struct {
	epoch ident.LeaderEpoch
	jobs  map[ident.JobID]*stored
}

// stored is one job on disk.
type stored struct {
	record    jobcore.Record
	reserved  ident.CheckpointID
	newest    ident.CheckpointID
	manifests []*manifest.Manifest // oldest first
	marks     map[manifest.TransactionKey]bool
	handouts  []commit.Handout // not fenced for good, in the order in which they came
}

func newDisk() *disk { return &disk{jobs: map[ident.JobID]*stored{}} }

// facts are what the recovery decision is made from.
func (s *stored) facts(id ident.JobID) checkpoint.Facts {
	f := checkpoint.Facts{Job: id, Identity: identity, Parallelism: 1, MaxParallelism: 128, Witness: checkpoint.WitnessAgrees, Newest: s.newest, Marked: s.marked}
	for _, m := range s.manifests {
		f.Found = append(f.Found, checkpoint.Found{Checkpoint: m.Checkpoint, Manifest: m})
	}
	return f
}

func (s *stored) latest() *manifest.Manifest { return s.manifests[len(s.manifests)-1] }

func (s *stored) marked(k manifest.TransactionKey) bool { return s.marks[k] }

// put makes a manifest durable.
func (s *stored) put(m *manifest.Manifest, reserve ident.CheckpointID) {
	s.manifests = append(s.manifests, m)
	s.newest, s.reserved = m.Checkpoint, max(s.reserved, reserve)
}

// retain drops what retention does not keep; by mistake it takes everything for committed.
func (s *stored) retain(blind bool) {
	marked := s.marked
	if blind {
		marked = func(manifest.TransactionKey) bool { return true }
	}
	drop := checkpoint.Retention(s.manifests, retained, marked).Drop
	s.manifests = slices.DeleteFunc(s.manifests, func(m *manifest.Manifest) bool { return slices.Contains(drop, m.Checkpoint) })
}

// raiseHandout notes that more ids were handed out, unless the hand-out is forgotten.
func (s *stored) raiseHandout(h commit.Handout) bool {
	i := slices.IndexFunc(s.handouts, func(o commit.Handout) bool { return o.HandoutKey == h.HandoutKey })
	if i >= 0 {
		s.handouts[i].Count = max(s.handouts[i].Count, h.Count)
	}
	return i >= 0
}

const (
	identity = "graph"
	retained = 2
)
