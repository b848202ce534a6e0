package bubble

import (
	"fmt"
	"testing"
	"time"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// TestJobsThatWereTakenOverAreDropped: each job goes on from the last checkpoint of the one before, which is dropped when
// the next one has ended, over a crash of the job manager, too. Nothing is lost and nothing is written twice.
func TestJobsThatWereTakenOverAreDropped(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StopJobManager()
		c.KeepEndedJobs = 1
		c.StartJobManager()
		job := endless(c, 20_000)
		from := ""
		var ids []string
		for i := range 4 {
			ctx, cancel := c.Ctx()
			job.SetDefaults()
			if _, err := c.Jobs.Submit(ctx, &pb.SubmitRequest{Job: wire.JobToProto(job), FromCheckpoint: from}); err != nil {
				t.Fatal(err)
			}
			cancel()
			c.AwaitCheckpoints(10*time.Second, "count", 2)
			if i == 2 {
				c.CrashJobManager()
				c.StartJobManager()
				c.AwaitCheckpoints(time.Minute, "count", 1)
			}
			if i == 3 {
				c.Await(time.Minute, "everything is read", func() bool { return len(c.Log.All("out")) == 20_000 })
			}
			c.Stop("count", false)
			c.AwaitState(time.Minute, "count", "STOPPED")
			last := c.Job("count")
			ids, from = append(ids, last.ID), fmt.Sprintf("%s/%d", last.ID, last.Checkpoints.Latest.ID)
			c.Await(10*time.Second, "one ended job is left", func() bool {
				ctx, cancel := c.Ctx()
				defer cancel()
				all, err := c.Jobs.List(ctx, &pb.ListRequest{})
				return err == nil && len(all.GetJobs()) == 1 && all.GetJobs()[0].GetId() == last.ID
			})
		}
		c.CheckExact()
		if n := c.Logged("dropped an ended job"); n != 3 {
			t.Errorf("%d of jobs %v were dropped", n, ids)
		}
	})
}
