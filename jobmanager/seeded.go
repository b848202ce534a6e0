package jobmanager

import (
	"context"
	"maps"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
)

// The bugs that the chaos suite seeds in the restoring of jobs. Without the build tag failpoints these
// functions return what they are given.

// seedRestore makes recovery fall back to the checkpoint before the newest.
func seedRestore(f *checkpoint.Facts) {
	if n := len(f.Found); failpoint.Bug(failpoint.RestorePrevious) && n > 1 {
		f.Found, f.Newest = f.Found[:n-1], f.Found[n-2].Checkpoint
	}
}

// seedPositions restores from published offsets, or resolves start offsets anew for each attempt.
func (r *runner) seedPositions(ctx context.Context, m *manifest.Manifest) *manifest.Manifest {
	again := failpoint.Bug(failpoint.ResolveLatestAnew) && m.Checkpoint == 0
	if !again && !failpoint.Bug(failpoint.RestoreFromOffsets) {
		return m
	}
	j := *r.graph
	j.Sources = append([]graph.Source(nil), j.Sources...)
	for i := range j.Sources {
		if k := *j.Sources[i].Kafka; !again {
			k.Startup.Mode = graph.StartCommitted
			j.Sources[i].Kafka = &k
		}
	}
	positions, _, err := r.m.connector.StartPositions(ctx, &j)
	if err != nil {
		return m
	}
	seeded := *m
	seeded.Positions = positions
	return &seeded
}

// seedDeploy leaves a task manager out.
func seedDeploy(all map[ident.WorkerID]message) map[ident.WorkerID]message {
	if !failpoint.Bug(failpoint.PartialDeploy) || len(all) < 2 {
		return all
	}
	some := maps.Clone(all)
	for w := range some {
		delete(some, w)
		break
	}
	return some
}

// seedAbort aborts what a checkpoint that failed has sealed, although the attempt goes on.
func (r *runner) seedAbort(ctx context.Context, fence ident.Fence) {
	if !failpoint.Bug(failpoint.AbortOnExpiry) || r.deployed == nil || r.deployed.fence != fence {
		return
	}
	for _, h := range r.deployed.handouts {
		for n := range h.Count {
			r.call(ctx, func(ctx context.Context) error {
				return r.m.connector.Fence(ctx, r.graph, h.Sink, h.Cluster, h.ID(n))
			}, r.logged("seeded bug"))
		}
	}
}
