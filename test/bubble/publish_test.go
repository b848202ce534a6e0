package bubble

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/web"
)

// publishingJob publishes to Kafka and ZooKeeper, after each checkpoint or, with none, every five seconds.
func publishingJob(c *Cluster, checkpoints bool) *graph.Job {
	j := c.CountJob("count", 1)
	k := j.Sources[0].Kafka
	k.Offsets = graph.OffsetsBoth
	k.Properties["zookeeper.connect"] = "zk:2181"
	if j.Checkpoint.Interval = 5 * time.Second; !checkpoints {
		j.Checkpoint.Interval = 0
		k.Properties["auto.commit.interval.ms"] = "5000"
	}
	return j
}

func publicationIn(j *web.Job, storage graph.OffsetStorage) web.Publication {
	for _, p := range j.Publications {
		if p.Storage == string(storage) {
			return p
		}
	}
	return web.Publication{}
}

// zooKeeperHangs has the publications to ZooKeeper get no answer. They are counted.
func zooKeeperHangs(c *Cluster) *atomic.Int32 {
	var asked atomic.Int32
	c.Admin.OnPublish(func(ctx context.Context, to graph.Publication) error {
		if to.Storage != graph.OffsetsZooKeeper {
			return nil
		}
		asked.Add(1)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	return &asked
}

// TestPublishingHangs: ZooKeeper does not answer for a minute or ten. The job runs on and draws its checkpoints,
// Kafka gets each, and ZooKeeper the newest when it is back.
func TestPublishingHangs(t *testing.T) {
	for _, down := range []time.Duration{time.Minute, 10 * time.Minute} {
		t.Run(down.String(), func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.StartTaskManager("tm-1", 1)
				job := publishingJob(c, true)
				c.Log.Fill("in", 100, 10)
				asked := zooKeeperHangs(c)
				c.Submit(job)
				c.AwaitCheckpoints(10*time.Second, "count", 1)
				time.Sleep(down)
				j := c.Job("count")
				if want := int64(down / (5 * time.Second)); j.State != "RUNNING" || j.Attempt != 1 || j.Checkpoints.Failed != 0 || j.Checkpoints.Completed < want {
					t.Errorf("attempt %d is %s, %d checkpoints completed and %d failed, want %d", j.Attempt, j.State, j.Checkpoints.Completed, j.Checkpoints.Failed, want)
				}
				if p := publicationIn(&j, graph.OffsetsKafka); p.Checkpoint+1 < j.Checkpoints.Latest.ID || p.Error != "" {
					t.Errorf("checkpoint %d is published in Kafka, the latest is %d: %s", p.Checkpoint, j.Checkpoints.Latest.ID, p.Error)
				}
				p := publicationIn(&j, graph.OffsetsZooKeeper)
				if p.Checkpoint != 0 || !strings.Contains(p.Error, "deadline") || p.FailingSince == nil || time.Since(*p.FailingSince) < down-20*time.Second {
					t.Errorf("in ZooKeeper: %+v", p)
				}
				if n, most := time.Duration(asked.Load()), down/(10*time.Second)+1; n == 0 || n > most {
					t.Errorf("it was asked %d times, want at most %d", n, most)
				}
				c.Admin.OnPublish(nil)
				latest := j.Checkpoints.Latest.ID
				c.Await(25*time.Second, "published in ZooKeeper", func() bool {
					j := c.Job("count")
					p := publicationIn(&j, graph.OffsetsZooKeeper)
					return p.Checkpoint >= latest && p.Error == "" && p.FailingSince == nil
				})
			})
		})
	}
}

// TestEndWhilePublishingHangs: the end of a job waits for its last offsets for ten seconds more than for what is on
// its way.
func TestEndWhilePublishingHangs(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 1)
		job := publishingJob(c, true)
		zooKeeperHangs(c)
		c.Submit(job)
		c.AwaitCheckpoints(10*time.Second, "count", 1)
		c.Stop("count", false)
		c.Await(5*time.Second, "waiting for the last offsets", func() bool {
			return strings.Contains(strings.Join(c.Job("count").Waiting, "\n"), "the last offsets of in in zookeeper are not published yet")
		})
		c.AwaitState(21*time.Second, "count", "STOPPED")
	})
}

// TestPublishedAnew: a start of the job manager publishes what the one before could not.
func TestPublishedAnew(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 1)
		job := publishingJob(c, true)
		job.Checkpoint.Interval = time.Hour
		zooKeeperHangs(c)
		c.Submit(job)
		latest := c.AwaitCheckpoints(10*time.Second, "count", 1)
		c.KillTaskManager("tm-1")
		c.KillJobManager()
		c.StartJobManager()
		c.Admin.OnPublish(nil)
		c.Await(25*time.Second, "published in ZooKeeper", func() bool {
			j := c.Job("count")
			return publicationIn(&j, graph.OffsetsZooKeeper).Checkpoint == latest.ID
		})
	})
}

// TestPublishingWithoutCheckpoints: what is published is what a restart goes on from.
func TestPublishingWithoutCheckpoints(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 1)
		job := publishingJob(c, false)
		c.Log.Fill("in", 100, 10)
		c.Submit(job)
		c.Await(time.Minute, "published", func() bool {
			j := c.Job("count")
			l := j.Checkpoints.Latest
			return l != nil && l.Offsets["in"]["in"]["0"] > 0 && publicationIn(&j, graph.OffsetsZooKeeper).Checkpoint == l.ID
		})
		c.KillTaskManager("tm-1")
		c.StartTaskManager("tm-2", 1)
		c.Await(time.Minute, "running again", func() bool { j := c.Job("count"); return j.State == "RUNNING" && j.Attempt > 1 })
		if j := c.Job("count"); j.Checkpoints.Restored == 0 {
			t.Errorf("the restart began at the start offsets: %+v", j.Checkpoints)
		}
	})
}
