package fault

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/test/chaos/proxy"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

const (
	// zooKeeperDown is the least time that ZooKeeper is away in F10.
	zooKeeperDown = time.Minute
	// goesOn is how many checkpoints at least complete while ZooKeeper is away.
	goesOn = 5
)

// zooKeeperFaults are F10, and the arrows of F4 and F12 that lead to ZooKeeper. The job never notices: it goes on with
// its checkpoints, says that its offsets are not published, and the newest are there soon after ZooKeeper is.
func zooKeeperFaults() []Fault {
	all := []Fault{
		{ID: "F10", Variant: "down", What: "ZooKeeper is down for a minute, or the outage if that is longer", Inject: withoutZooKeeper(downZooKeeper)},
		{ID: "F10", Variant: "hang", What: "ZooKeeper stands still for the outage", Inject: withoutZooKeeper(hangZooKeeper)},
		{ID: "F10", Variant: "wiped", What: "ZooKeeper loses its data", Inject: withoutZooKeeper(wipeZooKeeper)},
		{
			ID: "F10", Variant: "tampered", What: "others write numbers and other things into ZooKeeper, and a task manager is killed", Inject: tamper,
			Expect: Expect{MinAttempts: 1, MaxAttempts: 2, States: []string{running}},
		},
	}
	for _, silence := range silences {
		all = append(all, Fault{
			ID: "F12", Variant: "jm-zookeeper/" + silence.name + "-long", What: "silence (" + silence.name + ") between the job manager and ZooKeeper, the outage",
			Inject: withoutZooKeeper(func(ctx context.Context, s *Scene) error {
				s.Mesh.Set(proxy.Edge{From: rig.JobManager, To: rig.ZooKeeper}, silence.rule)
				return s.unpublished(ctx, s.Outage)
			}),
		})
	}
	for _, action := range []string{crash, failOnce, pauseOnce} {
		for _, point := range []failpoint.Point{failpoint.BeforePublish, failpoint.AfterPublish} {
			f := crashPoint(point, action, false)
			f.Variant, f.What = "zookeeper/"+f.Variant, f.What+", to ZooKeeper"
			f.Inject = inZooKeeperAfter(f.Inject)
			all = append(all, f)
		}
	}
	for i := range all {
		tune := all[i].Tune
		all[i].Tune = func(t *Tuning) {
			if tune != nil {
				tune(t)
			}
			t.OffsetStorage = "zookeeper"
		}
	}
	return all
}

// inZooKeeperAfter does something, and checks that the newest offsets are in ZooKeeper soon after.
func inZooKeeperAfter(harm func(context.Context, *Scene) error) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		if err := harm(ctx, s); err != nil {
			return err
		}
		return s.published(ctx)
	}
}

// withoutZooKeeper does something to a ZooKeeper that holds offsets, and mends it.
func withoutZooKeeper(harm func(context.Context, *Scene) error) func(context.Context, *Scene) error {
	return inZooKeeperAfter(func(ctx context.Context, s *Scene) error {
		if err := s.published(ctx); err != nil {
			return fmt.Errorf("before the fault: %w", err)
		}
		s.Begin()
		if err := harm(ctx, s); err != nil {
			return err
		}
		s.Mesh.Heal()
		return s.StartZooKeeper(ctx)
	})
}

func downZooKeeper(ctx context.Context, s *Scene) error {
	if err := s.KillZooKeeper(); err != nil {
		return err
	}
	return s.unpublished(ctx, max(s.Outage, zooKeeperDown))
}

func hangZooKeeper(ctx context.Context, s *Scene) error {
	if err := s.ZooKeeper().Pause(); err != nil {
		return err
	}
	return s.unpublished(ctx, s.Outage)
}

func wipeZooKeeper(_ context.Context, s *Scene) error {
	if err := s.KillZooKeeper(); err != nil {
		return err
	}
	return s.ZooKeeper().Wipe()
}

// unpublished lets some time pass in which the job has to say that its offsets are not published, and goes on.
func (s *Scene) unpublished(ctx context.Context, duration time.Duration) error {
	since, err := s.now(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, duration); err != nil {
		return err
	}
	job, err := s.now(ctx)
	switch {
	case err != nil:
		return err
	case job.LatestID() < since.LatestID()+goesOn:
		return fmt.Errorf("%d checkpoints in %s without ZooKeeper, want at least %d: %s", job.LatestID()-since.LatestID(), duration, goesOn, job)
	}
	for _, p := range job.Publications {
		if p.Storage != "zookeeper" || p.Error == "" || p.FailingSince == "" {
			return fmt.Errorf("the job does not say that it cannot publish offsets for %s: %+v", duration, job.Publications)
		}
	}
	return nil
}

// tamper writes into the nodes of the offsets what would do harm if a job restored from there, and has it restore.
func tamper(ctx context.Context, s *Scene) error {
	if err := s.published(ctx); err != nil {
		return fmt.Errorf("before the fault: %w", err)
	}
	store, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.close()
	const ahead, garbage = "999999999999", "x"
	nodes, err := store.nodes(s.Workload.In())
	if err != nil {
		return err
	}
	for i, node := range nodes {
		if err := store.set(node, []string{ahead, garbage}[i%2]); err != nil {
			return err
		}
	}
	if err := killOne(ctx, s); err != nil {
		return err
	}
	_, err = s.WaitFor(ctx, s.Job, "at odds with ZooKeeper", patience, func(j *cluster.Job) bool { return complains(j, `"x"`, "is no offset") })
	if err != nil {
		return err
	}
	for i, node := range nodes {
		if got, err := store.get(node); err != nil || got != []string{ahead, garbage}[i%2] {
			return fmt.Errorf("%s holds %q, %w; want what others wrote left alone", node, got, err)
		}
		if err := store.remove(node); err != nil {
			return err
		}
	}
	return s.published(ctx)
}
