package bubble

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/web"
)

// refuseCommits lets the job manager reach the broker for nothing, until it is called with false.
func (c *Cluster) refuseCommits(on bool) {
	if !on {
		c.Log.OnCall(nil)
		return
	}
	c.Log.OnCall(func(call Call) Fate { return Fate{Refused: call.Host == jmHost} })
}

func waits(j web.Job, text string) bool {
	return slices.ContainsFunc(j.Waiting, func(w string) bool { return strings.Contains(w, text) })
}

// TestCommitsWait keeps the job manager from the broker for minutes: the job runs on until its ids are used
// up: then it still runs, in the transactions that are open, and says what its checkpoints wait for. None fails,
// and they go on by themselves.
func TestCommitsWait(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Connectors.BatchRecords = 1
		job := exact(c, 60_000)
		job.Checkpoint.TolerableFailures = 2 // a cap of 5 ids
		c.Submit(job)
		c.AwaitCheckpoints(10*time.Second, "count", 1)
		c.refuseCommits(true)
		before := c.Job("count").Checkpoints.Completed
		c.Await(time.Minute, "checkpoints wait for commits", func() bool {
			return waits(c.Job("count"), "has no transaction ready: it waits for commits or for a producer id")
		})
		if n := c.Job("count").Checkpoints.Completed - before; n != 4 {
			t.Errorf("%d checkpoints without a commit: of the 5 ids of a sink one is for the transaction that is open", n)
		}
		stopped := len(c.Log.All("out"))
		time.Sleep(3 * time.Minute)
		j := c.Job("count")
		if j.State != "RUNNING" || j.Attempt != 1 || j.Checkpoints.Failed != 0 {
			t.Errorf("%s in attempt %d with %d failed checkpoints", j.State, j.Attempt, j.Checkpoints.Failed)
		}
		if !waits(j, "transactions of completed checkpoints are not committed after 3m") || !waits(j, "connection refused") {
			t.Errorf("the job says that it waits for %q", j.Waiting)
		}
		if n := len(c.Log.All("out")); n != stopped {
			t.Errorf("%d records became visible without commits", n-stopped)
		}
		c.refuseCommits(false)
		c.AwaitState(10*time.Minute, "count", "FINISHED")
		c.CheckExact()
		if j := c.Job("count"); j.Attempt != 1 || j.Checkpoints.Failed != 0 {
			t.Errorf("attempt %d with %d failed checkpoints", j.Attempt, j.Checkpoints.Failed)
		}
	})
}

// TestFailedCheckpointLosesNothing lets checkpoints expire because one task manager cannot write; its
// transactions, and those of the others, travel with the next one.
func TestFailedCheckpointLosesNothing(t *testing.T) {
	Run(t, func(c *Cluster) {
		job := exact(c, 24_000)
		job.Checkpoint.Timeout = 2 * time.Second
		c.Submit(job)
		for range 2 {
			c.AwaitCheckpoints(30*time.Second, "count", 2)
			failed := c.Job("count").Checkpoints.Failed
			c.Log.OnCall(func(call Call) Fate { return Fate{Lost: call.Host == "tm-2" && call.API == Produce} })
			c.Await(20*time.Second, "a checkpoint fails", func() bool { return c.Job("count").Checkpoints.Failed > failed })
			c.Log.OnCall(nil)
		}
		c.AwaitState(2*time.Minute, "count", "FINISHED")
		if j := c.Job("count"); j.Attempt != 1 {
			t.Errorf("attempt %d, %+v", j.Attempt, j.Failure)
		}
		c.CheckExact()
	})
}

// TestBurntIDs loses answers to InitProducerId, whose requests arrive late: an id that such a request is under
// way for is never used, so nothing is ever fenced.
func TestBurntIDs(t *testing.T) {
	Run(t, func(c *Cluster) {
		var n, ends atomic.Int64
		c.Log.OnCall(func(call Call) Fate {
			switch {
			case call.API == InitProducerID && call.Host != jmHost && n.Add(1)%3 == 0:
				return Fate{Late: 4*time.Second + time.Duration(n.Load()%5)*time.Second}
			case call.API == EndTxn && ends.Add(1)%2 == 0:
				return Fate{Refused: true} // commits take a while
			}
			return Fate{}
		})
		c.Submit(exact(c, 20_000))
		c.AwaitState(3*time.Minute, "count", "FINISHED")
		if j := c.Job("count"); j.Attempt != 1 {
			t.Errorf("attempt %d, %+v", j.Attempt, j.Failure)
		}
		if n := len(c.Log.TransactionalIDs()); n <= 16 {
			t.Errorf("%d transactional ids were used: none was burnt", n)
		}
		c.CheckExact()
	})
}

// TestAllIDsBurntWhileTheDiskIsFull leaves the sinks without any id at a time when no new ones can be handed
// out: they get some as soon as there is room.
func TestAllIDsBurntWhileTheDiskIsFull(t *testing.T) {
	Run(t, func(c *Cluster) {
		job := endless(c, 8000)
		job.Checkpoint.Interval = time.Hour // what else is written would bring it to light
		c.Log.OnCall(func(call Call) Fate { return Fate{Unanswered: call.API == InitProducerID} })
		c.Submit(job)
		c.AwaitState(time.Second, "count", "RUNNING")
		time.Sleep(100 * time.Millisecond) // that is durable
		c.disk.fill(true)
		c.Await(2*time.Minute, "the sinks want more ids", func() bool { return c.Logged("hand out transactional ids") > 0 })
		time.Sleep(2 * time.Minute)
		if j := c.Job("count"); j.State != "RUNNING" || !waits(j, "another transactional id from the job manager") {
			t.Errorf("%s, waiting for %q", j.State, j.Waiting)
		}
		c.Log.OnCall(nil)
		c.disk.fill(false)
		c.AwaitCheckpoints(time.Minute, "count", 1)
		c.Await(time.Minute, "everything is read", func() bool { return c.read() == 8000 })
		c.Stop("count", true)
		c.AwaitState(time.Minute, "count", "STOPPED")
		c.CheckExact()
	})
}

// TestFullDisk fills the disk of the job manager for a minute while checkpoints are drawn and ids are wanted.
func TestFullDisk(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Connectors.BatchRecords = 2
		c.Submit(exact(c, 40_000))
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		c.disk.fill(true)
		time.Sleep(time.Minute)
		j := c.Job("count")
		if j.State != "RUNNING" || j.Attempt != 1 || !waits(j, "no space left") {
			t.Errorf("%s in attempt %d, waiting for %q", j.State, j.Attempt, j.Waiting)
		}
		c.disk.fill(false)
		c.AwaitState(2*time.Minute, "count", "FINISHED")
		if j := c.Job("count"); j.Attempt != 1 {
			t.Errorf("attempt %d, %+v", j.Attempt, j.Failure)
		}
		c.CheckExact()
	})
}

// TestCommitsGoOnWithoutSpace loses a task manager while the disk is full and commits are waiting for the broker: the job
// cannot go on, as its record cannot be written, but what is durable is committed before the broker's patience ends.
func TestCommitsGoOnWithoutSpace(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Submit(endless(c, 40_000))
		c.AwaitCheckpoints(10*time.Second, "count", 3)
		c.refuseCommits(true)
		c.AwaitCheckpoints(10*time.Second, "count", 1)
		c.disk.fill(true)
		c.KillTaskManager("tm-1")
		c.Await(20*time.Second, "the record of the job cannot be written", func() bool { return c.Logged("store job record") > 0 })
		visible := len(c.Log.All("out"))
		c.refuseCommits(false)
		c.Await(20*time.Second, "the completed checkpoint is committed", func() bool { return len(c.Log.All("out")) > visible })
		time.Sleep(time.Minute)
		if j := c.Job("count"); !waits(j, "the job cannot go on") {
			t.Errorf("%s, waiting for %q", j.State, j.Waiting)
		}
		c.endWithSpace()
	})
}

// TestEndedOnlyWhenDurable: a job whose end cannot be written has not ended, for nobody.
func TestEndedOnlyWhenDurable(t *testing.T) {
	Run(t, func(c *Cluster) {
		job := endless(c, 40_000)
		job.Sinks[0].Kafka.Guarantee = graph.AtLeastOnce
		c.Submit(job)
		c.AwaitCheckpoints(10*time.Second, "count", 3)
		c.KillTaskManager("tm-1") // its lease has to run out
		c.Cancel("count")
		c.AwaitState(time.Second, "count", "CANCELING")
		time.Sleep(time.Second)
		c.disk.fill(true)
		c.Await(time.Minute, "the end cannot be written", func() bool { return c.Logged("store job record") > 0 })
		time.Sleep(10 * time.Second)
		if j := c.Job("count"); j.State != "CANCELING" || !waits(j, "the job cannot go on") {
			t.Errorf("%s, waiting for %q", j.State, j.Waiting)
		}
		c.disk.fill(false)
		c.AwaitState(time.Minute, "count", "CANCELED")
	})
}

// endWithSpace gives the disk room again and the job its task manager, which then ends with nothing written twice.
func (c *Cluster) endWithSpace() {
	c.disk.fill(false)
	c.StartTaskManager("tm-1", 2)
	c.AwaitCheckpoints(30*time.Second, "count", 2)
	c.Stop("count", true)
	c.AwaitState(time.Minute, "count", "STOPPED")
	c.CheckNothingTwice()
}

// TestLastManifestIsCommitted loses a task manager while a manifest is on its way to the disk, which is full right after:
// what the manifest names is committed though the loop that is to take note of it waits for room for the job's record.
func TestLastManifestIsCommitted(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Submit(endless(c, 40_000))
		c.AwaitCheckpoints(10*time.Second, "count", 3)
		c.refuseCommits(true)
		c.AwaitCheckpoints(10*time.Second, "count", 1)
		c.disk.slowDown(time.Second)
		c.Await(10*time.Second, "a manifest is being written", c.disk.busy)
		c.KillTaskManager("tm-1")
		time.Sleep(1500 * time.Millisecond) // the manifest is durable, the record is being written
		c.disk.fill(true)
		c.disk.slowDown(0)
		c.Await(20*time.Second, "the record of the job cannot be written", func() bool { return c.Logged("store job record") > 0 })
		c.refuseCommits(false)
		sinks := 4 // each of which has one transaction that is not sealed
		c.Await(20*time.Second, "all that is durable is committed", func() bool { return len(c.Log.Open()) <= sinks })
		if j := c.Job("count"); !waits(j, "the job cannot go on") {
			t.Errorf("%s, waiting for %q", j.State, j.Waiting)
		}
		c.endWithSpace()
	})
}

// TestDataLoss has a foreign producer take over an id between its checkpoint and its commit: the job ends and says
// what is lost and what can be done.
func TestDataLoss(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Submit(endless(c, 40_000))
		c.AwaitCheckpoints(10*time.Second, "count", 3)
		var seized atomic.Value
		c.Log.OnCall(func(call Call) Fate {
			if call.API == EndTxn && seized.CompareAndSwap(nil, call.ID) {
				c.Log.Seize(call.ID)
			}
			return Fate{}
		})
		c.AwaitState(time.Minute, "count", "FAILED_DATA_LOSS")
		j := c.Job("count")
		id, _ := seized.Load().(string)
		for _, want := range []string{
			"Kafka refused to commit 1 of its transactions (" + id, "the output that is lost: out/", "its input is within in/",
			"--from-checkpoint " + j.ID + "/", "loses nothing and writes at most", "writes nothing twice and loses at most",
		} {
			if j.Failure == nil || !strings.Contains(j.Failure.Message, want) {
				t.Errorf("the failure does not say %q: %+v", want, j.Failure)
			}
		}
		c.Await(5*time.Second, "no transaction is open", func() bool { return len(c.Log.Open()) == 0 })
	})
}

// TestFencedThreeTimes has a foreign producer take over whatever id is used.
func TestFencedThreeTimes(t *testing.T) {
	Run(t, func(c *Cluster) {
		job := endless(c, 40_000)
		job.Restart = graph.Restart{Strategy: graph.ExponentialDelay, Max: time.Second, Attempts: 100, HealthyAfter: time.Hour}
		c.Submit(job)
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		c.Log.OnCall(func(call Call) Fate {
			if call.API == AddPartitions {
				c.Log.Seize(call.ID)
			}
			return Fate{}
		})
		c.AwaitState(time.Minute, "count", "FAILED")
		j := c.Job("count")
		if j.Attempt != 3 || j.Failure == nil || j.Failure.Class != "fenced" || !strings.Contains(j.Failure.Message, "3 attempts in a row were fenced") {
			t.Errorf("attempt %d, %+v", j.Attempt, j.Failure)
		}
		c.CheckNothingTwice()
	})
}

// TestOldTransactionFailsTheAttempt lets a checkpoint take so long that the broker may abort its transactions
// before they are committed: the attempt fails instead, and nothing is lost.
func TestOldTransactionFailsTheAttempt(t *testing.T) {
	Run(t, func(c *Cluster) {
		job := exact(c, 20_000)
		job.Checkpoint.Timeout = 2 * time.Minute
		job.Sinks[0].Kafka.Properties[propTransactionTimeout] = "60000"
		c.Submit(job)
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		c.Log.HoldAcks(true)
		time.Sleep(40 * time.Second)
		c.Log.HoldAcks(false)
		c.Await(10*time.Second, "attempt 2 runs", func() bool { return c.Job("count").Attempt == 2 && c.Job("count").State == "RUNNING" })
		if j := c.Job("count"); j.Failure == nil || !strings.Contains(j.Failure.Message, "transaction") {
			t.Errorf("the failure %+v", j.Failure)
		}
		c.AwaitState(time.Minute, "count", "FINISHED")
		c.CheckExact()
	})
}

// TestExpiredTransaction lets the broker abort transactions that are open for too long.
func TestExpiredTransaction(t *testing.T) {
	Run(t, func(c *Cluster) {
		job := exact(c, 20_000)
		job.Checkpoint.Timeout = 5 * time.Minute
		job.Sinks[0].Kafka.Properties[propTransactionTimeout] = "60000"
		c.Submit(job)
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		c.Log.HoldAcks(true)
		time.Sleep(90 * time.Second)
		c.Log.HoldAcks(false)
		c.AwaitState(2*time.Minute, "count", "FINISHED")
		if j := c.Job("count"); j.Attempt != 2 {
			t.Errorf("attempt %d, %+v", j.Attempt, j.Failure)
		}
		c.CheckExact()
	})
}

// read is how many records the sources of the job have read in this attempt.
func (c *Cluster) read() (n int64) {
	for _, v := range c.Job("count").Vertices {
		if v.Name == "in" {
			for _, s := range v.Subtasks {
				n += s.RecordsIn
			}
		}
	}
	return n
}
