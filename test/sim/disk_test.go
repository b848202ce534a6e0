package sim

import (
	"slices"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
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
}

func newDisk() *disk { return &disk{jobs: map[ident.JobID]*stored{}} }

// facts are what the recovery decision is made from.
func (s *stored) facts(id ident.JobID) checkpoint.Facts {
	f := checkpoint.Facts{Job: id, Identity: identity, Parallelism: 1, MaxParallelism: 128, Witness: checkpoint.WitnessAgrees, Newest: s.newest}
	for _, m := range s.manifests {
		f.Found = append(f.Found, checkpoint.Found{Checkpoint: m.Checkpoint, Manifest: m})
	}
	return f
}

func (s *stored) latest() *manifest.Manifest { return s.manifests[len(s.manifests)-1] }

// put makes a manifest durable and lets retention run.
func (s *stored) put(m *manifest.Manifest, reserve ident.CheckpointID) {
	s.manifests = append(s.manifests, m)
	s.newest, s.reserved = m.Checkpoint, max(s.reserved, reserve)
	drop := checkpoint.Retention(s.manifests, retain, nil).Drop
	s.manifests = slices.DeleteFunc(s.manifests, func(m *manifest.Manifest) bool { return slices.Contains(drop, m.Checkpoint) })
}

const (
	identity = "graph"
	retain   = 2
)
