package bubble

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// exact starts two task managers with two slots each and fills `in`; the job counts exactly once.
func exact(c *Cluster, records int) *graph.Job {
	c.StartTaskManager("tm-1", 2)
	c.StartTaskManager("tm-2", 2)
	c.CountJob("count", 4)
	c.Log.Fill("in", records, 100)
	return ExactlyOnce(c.BoundedCountJob("count", 4))
}

// endless is exact without an end.
func endless(c *Cluster, records int) *graph.Job {
	job := exact(c, records)
	job.Sources[0].Kafka.Bounded.Mode = graph.BoundNone
	return job
}

func TestExactlyOnceFinishes(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Submit(exact(c, 20_000))
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		if n := len(c.Log.All("out")); n == 0 || n == 20_000 {
			t.Errorf("%d records are visible while the job runs", n)
		}
		c.AwaitState(time.Minute, "count", "FINISHED")
		c.CheckExact()
		j := c.Job("count")
		if j.Attempt != 1 || j.Checkpoints.Failed != 0 || !j.Checkpoints.Latest.Committed {
			t.Errorf("attempt %d, checkpoints %+v", j.Attempt, j.Checkpoints)
		}
		if n := len(c.Log.TransactionalIDs()); n != 16 {
			t.Errorf("%d transactional ids were used by 4 sink subtasks, want 4 each", n)
		}
	})
}

// TestExactlyOnceThroughLoss loses a task manager, or the job manager, or both.
func TestExactlyOnceThroughLoss(t *testing.T) {
	tests := []struct {
		name string
		lose func(c *Cluster)
	}{
		{"task manager", func(c *Cluster) {
			c.KillTaskManager("tm-2")
			c.StartTaskManager("tm-2", 2)
		}},
		{"job manager", func(c *Cluster) {
			c.CrashJobManager()
			c.StartJobManager()
		}},
		{"job manager for a minute", func(c *Cluster) {
			c.CrashJobManager()
			time.Sleep(time.Minute)
			c.StartJobManager()
		}},
		{"both", func(c *Cluster) {
			c.CrashJobManager()
			c.KillTaskManager("tm-2")
			c.StartJobManager()
			c.StartTaskManager("tm-2", 2)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.Submit(exact(c, 20_000))
				c.AwaitCheckpoints(10*time.Second, "count", 3)
				test.lose(c)
				c.AwaitState(time.Minute, "count", "FINISHED")
				if j := c.Job("count"); j.Attempt < 2 {
					t.Errorf("attempt %d", j.Attempt)
				}
				c.CheckExact()
			})
		})
	}
}

// TestJobManagerCrashesAnywhere crashes the job manager at one step of its writes after the other: before a
// write, between the database and its witness, and after both.
func TestJobManagerCrashesAnywhere(t *testing.T) {
	stride := 4 // a write has three steps, so all of them are met
	if testing.Short() || raceDetector {
		stride = 16
	}
	for n := 1; n <= 60; n += stride {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.Submit(exact(c, 12_000))
				c.AwaitCheckpoints(10*time.Second, "count", 1)
				c.disk.crashAfter(n)
				c.AwaitCrash(time.Minute)
				c.StartJobManager()
				c.AwaitState(time.Minute, "count", "FINISHED")
				c.CheckExact()
			})
		})
	}
}

// TestEndWaitsForCommits has the job manager end while it is told of lost task managers and commits are on their
// way: when it has ended nothing of it runs any more, so that the next one is alone.
func TestEndWaitsForCommits(t *testing.T) {
	for n := range 6 { // it depends on what the loop does at that moment
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.Submit(exact(c, 8000))
				c.AwaitCheckpoints(10*time.Second, "count", 1)
				c.Log.OnCall(func(call Call) Fate { return Fate{Lost: call.Host == jmHost} })
				time.Sleep(time.Second)
				c.Await(10*time.Second, "a commit is on its way", func() bool { return c.Admin.calls.Load() > 0 })
				c.StopTaskManager("tm-1")
				c.StopTaskManager("tm-2")
				c.StopJobManager()
				if n := c.Admin.calls.Load(); n != 0 {
					t.Errorf("%d calls to the broker are on their way although the job manager has ended", n)
				}
				c.Log.OnCall(nil)
				c.StartJobManager()
				c.StartTaskManager("tm-1", 2)
				c.StartTaskManager("tm-2", 2)
				c.AwaitState(time.Minute, "count", "FINISHED")
				c.CheckExact()
			})
		})
	}
}

// TestLossDuringAWrite loses a task manager at different moments of the write of a checkpoint: nothing that it
// names is fenced before it is committed.
func TestLossDuringAWrite(t *testing.T) {
	for after := time.Duration(0); after < 800*time.Millisecond; after += 100 * time.Millisecond {
		t.Run(after.String(), func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.Submit(exact(c, 12_000))
				c.AwaitCheckpoints(10*time.Second, "count", 2)
				c.disk.slowDown(300 * time.Millisecond)
				c.AwaitCheckpoints(20*time.Second, "count", 1)
				time.Sleep(after)
				c.KillTaskManager("tm-2")
				c.StartTaskManager("tm-2", 2)
				c.Await(time.Minute, "attempt 2 runs", func() bool { return c.Job("count").Attempt == 2 && c.Job("count").State == "RUNNING" })
				c.disk.slowDown(0)
				c.AwaitState(time.Minute, "count", "FINISHED")
				c.CheckExact()
			})
		})
	}
}
