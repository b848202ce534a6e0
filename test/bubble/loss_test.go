package bubble

import (
	"strings"
	"testing"
	"time"
)

// TestTaskManagerLossWithoutSpareSlots is the main promise: the job waits, says why, burns no restart, and
// goes on from the newest checkpoint as soon as the missing slots are there.
func TestTaskManagerLossWithoutSpareSlots(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		c.StartTaskManager("tm-2", 2)
		c.CountJob("count", 4)
		c.Log.Fill("in", 20_000, 100)
		job := c.BoundedCountJob("count", 4)
		job.Restart.Attempts = 1
		job.SetDefaults()
		c.Submit(job)
		c.AwaitCheckpoints(10*time.Second, "count", 3)
		c.KillTaskManager("tm-2")
		if took := c.AwaitState(5*time.Second, "count", "WAITING_FOR_SLOTS"); took > time.Second {
			t.Errorf("the loss was noticed after %s", took)
		}
		time.Sleep(10 * time.Minute)
		j := c.Job("count")
		if j.State != "WAITING_FOR_SLOTS" || j.Restarts != 1 {
			t.Errorf("after ten minutes the job is %s with %d restarts", j.State, j.Restarts)
		}
		if s := j.Slots; s.Needed != 4 || s.Held != 0 || s.Free != 2 || s.WaitingSince == nil ||
			!strings.HasPrefix(s.Explain, "need 4, have 2, since 10 min") || !strings.Contains(s.Explain, "tm-2 lost") {
			t.Errorf("slots %+v", s)
		}
		if state := c.TaskManager("tm-2").State; state != "LOST" {
			t.Errorf("tm-2 is %s", state)
		}
		newest := j.Checkpoints.Latest.ID
		c.StartTaskManager("tm-3", 2)
		if took := c.AwaitState(5*time.Second, "count", "RUNNING"); took > time.Second {
			t.Errorf("the job ran %s after the slots were there", took)
		}
		if j = c.Job("count"); j.Checkpoints.Restored != newest || j.Attempt != 2 || j.Restarts != 1 {
			t.Errorf("restored %d, newest was %d, attempt %d, restarts %d", j.Checkpoints.Restored, newest, j.Attempt, j.Restarts)
		}
		c.AwaitState(time.Minute, "count", "FINISHED")
		c.CheckCounts()
	})
}

func TestTaskManagerLossWithSpareSlots(t *testing.T) {
	Run(t, func(c *Cluster) {
		for _, id := range []string{"tm-1", "tm-2", "tm-3"} {
			c.StartTaskManager(id, 2)
		}
		c.CountJob("count", 4)
		c.Log.Fill("in", 10_000, 100)
		c.Submit(c.BoundedCountJob("count", 4))
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		newest := c.Job("count").Checkpoints.Latest.ID
		c.KillTaskManager("tm-2")
		took := c.Await(5*time.Second, "attempt 2 runs", func() bool {
			j := c.Job("count")
			return j.Attempt == 2 && j.State == "RUNNING"
		})
		if took > 2*time.Second {
			t.Errorf("the job ran again after %s", took)
		}
		if got := c.Job("count").Checkpoints.Restored; got < newest {
			t.Errorf("restored %d, %d was complete", got, newest)
		}
		c.AwaitState(time.Minute, "count", "FINISHED")
		c.CheckCounts()
	})
}

// TestIsolatedTaskManager cuts a task manager off without a word. Both sides come to the same end by their
// own clocks: the task manager stops its subtasks before the job manager takes it for gone.
func TestIsolatedTaskManager(t *testing.T) {
	tests := []struct {
		name string
		cut  func(n *Network)
	}{
		{"black hole", func(n *Network) { n.Isolate("tm-2") }},
		{"reset, then black hole", func(n *Network) {
			n.Reset("tm-2", jmHost)
			n.Isolate("tm-2")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.StartTaskManager("tm-1", 2)
				c.StartTaskManager("tm-2", 2)
				c.CountJob("count", 4)
				c.Log.Fill("in", 24_000, 100)
				c.Submit(c.BoundedCountJob("count", 4))
				c.AwaitCheckpoints(10*time.Second, "count", 2)
				test.cut(c.Network)
				began := time.Now()
				c.Await(7*time.Second, "tm-2 has ended its subtasks", func() bool { return c.Connectors.Running("tm-2") == 0 })
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("tm-2 ran on for %s; its lease is 5 s", took)
				}
				c.AwaitState(10*time.Second, "count", "WAITING_FOR_SLOTS")
				if took := time.Since(began); took > 7*time.Second {
					t.Errorf("the job manager noticed after %s", took)
				}
				time.Sleep(time.Minute)
				c.Network.Heal("tm-2")
				c.AwaitState(10*time.Second, "count", "RUNNING")
				if j := c.Job("count"); j.Attempt != 2 {
					t.Errorf("attempt %d", j.Attempt)
				}
				c.AwaitState(time.Minute, "count", "FINISHED")
				c.CheckCounts()
			})
		})
	}
}

// TestResetResumes resets the connection of a living task manager, and loses on the way, in turn, a trigger and
// acks. Nothing restarts, and the checkpoint that was pending completes.
func TestResetResumes(t *testing.T) {
	tests := []struct {
		name string
		// lose brings about that something is under way to or from tm-2, which is isolated.
		lose func(c *Cluster)
	}{
		{"nothing", func(*Cluster) {}},
		{"trigger", func(c *Cluster) { time.Sleep(600 * time.Millisecond) }},
		{"acks", func(c *Cluster) {
			c.Log.HoldAcks(false)
			time.Sleep(100 * time.Millisecond)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.StartTaskManager("tm-1", 2)
				c.StartTaskManager("tm-2", 2)
				c.CountJob("count", 4)
				c.Log.Fill("in", 24_000, 100)
				c.Submit(c.BoundedCountJob("count", 4))
				c.AwaitCheckpoints(10*time.Second, "count", 2)
				if test.name == "acks" {
					c.Log.HoldAcks(true)
					time.Sleep(time.Second) // a checkpoint is pending, its barrier is everywhere
				}
				before := c.Job("count").Checkpoints
				c.Network.Isolate("tm-2")
				test.lose(c)
				c.Network.Reset("tm-2", jmHost)
				c.Network.Heal("tm-2")
				resumed := func() bool { return c.Logged("resumed=true") > 0 && c.TaskManager("tm-2").State == "CONNECTED" }
				if took := c.Await(5*time.Second, "tm-2 has resumed", resumed); took > 2*time.Second {
					t.Errorf("resumed after %s", took)
				}
				c.AwaitCheckpoints(5*time.Second, "count", 2)
				j := c.Job("count")
				if j.Attempt != 1 || j.Restarts != 0 || j.Checkpoints.Failed != before.Failed {
					t.Errorf("attempt %d, restarts %d, failed checkpoints %d (before %d)", j.Attempt, j.Restarts, j.Checkpoints.Failed, before.Failed)
				}
				c.AwaitState(time.Minute, "count", "FINISHED")
				c.CheckCounts()
			})
		})
	}
}

// TestJobManagerRestart kills the job manager and starts it on the same directory, before and after the
// leases of the task managers have run out.
func TestJobManagerRestart(t *testing.T) {
	for _, down := range []time.Duration{0, time.Second, time.Minute} {
		t.Run(down.String(), func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.StartTaskManager("tm-1", 2)
				c.StartTaskManager("tm-2", 2)
				c.CountJob("count", 4)
				c.Log.Fill("in", 20_000, 100)
				c.Submit(c.BoundedCountJob("count", 4))
				newest := c.AwaitCheckpoints(10*time.Second, "count", 3).ID
				c.KillJobManager()
				time.Sleep(down)
				if n := c.Connectors.Running("tm-1") + c.Connectors.Running("tm-2"); down > 6*time.Second && n > 0 {
					t.Errorf("%d sources and sinks run although every lease is over", n)
				}
				c.StartJobManager()
				c.Await(10*time.Second, "attempt 2 runs", func() bool { return c.Job("count").Attempt == 2 && c.Job("count").State == "RUNNING" })
				if j := c.Job("count"); j.Checkpoints.Restored < newest {
					t.Errorf("restored %d, %d was complete", j.Checkpoints.Restored, newest)
				}
				c.AwaitState(time.Minute, "count", "FINISHED")
				c.CheckCounts()
				c.KillJobManager()
				c.StartJobManager()
				if state := c.Job("count").State; state != "FINISHED" {
					t.Errorf("after another start the job is %s", state)
				}
			})
		})
	}
}
