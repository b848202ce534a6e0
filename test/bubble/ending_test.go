package bubble

import (
	"fmt"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// TestEndWhileCommitsWait cancels, stops and drains a job whose commits cannot be made: it ends only when they are,
// with the output of its last checkpoint and no transaction that is open. The job manager may crash meanwhile.
func TestEndWhileCommitsWait(t *testing.T) {
	ways := []struct {
		name, during, state string
		end                 func(c *Cluster)
	}{
		{"cancel", "CANCELING", "CANCELED", func(c *Cluster) { c.Cancel("count") }},
		{"stop", "STOPPING", "STOPPED", func(c *Cluster) { c.Stop("count", false) }},
		{"drain", "STOPPING", "STOPPED", func(c *Cluster) { c.Stop("count", true) }},
	}
	for _, way := range ways {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, crash %v", way.name, crash), func(t *testing.T) {
				Run(t, func(c *Cluster) {
					c.Submit(endless(c, 40_000))
					c.AwaitCheckpoints(10*time.Second, "count", 2)
					c.refuseCommits(true)
					c.AwaitCheckpoints(10*time.Second, "count", 1)
					way.end(c)
					if crash {
						time.Sleep(2 * time.Second)
						c.CrashJobManager()
						c.StartJobManager()
					}
					time.Sleep(time.Minute)
					if j := c.Job("count"); j.State != way.during || !waits(j, "connection refused") {
						t.Errorf("after a minute the job is %s, waiting for %q", j.State, j.Waiting)
					}
					c.refuseCommits(false)
					c.AwaitState(20*time.Second, "count", way.state)
					c.CheckNothingTwice()
					latest := c.Job("count").Checkpoints.Latest
					read := int64(0)
					for _, next := range latest.Offsets["in"]["in"] {
						read += next
					}
					if n := int64(len(c.Log.All("out"))); n != read || !latest.Committed {
						t.Errorf("checkpoint %d covers %d records, %d are visible, committed %v", latest.ID, read, n, latest.Committed)
					}
				})
			})
		}
	}
}

// TestCrashWhileFinishing crashes the job manager between the final checkpoint and its commit.
func TestCrashWhileFinishing(t *testing.T) {
	Run(t, func(c *Cluster) {
		job := exact(c, 8000)
		job.Checkpoint.Interval = 2 * time.Second // the ids last until the final one
		c.Submit(job)
		c.AwaitCheckpoints(10*time.Second, "count", 1)
		c.refuseCommits(true)
		c.AwaitState(time.Minute, "count", "FINISHING")
		c.Await(time.Minute, "the final checkpoint is complete", func() bool { return c.Job("count").Checkpoints.Latest.Final })
		attempt := c.Job("count").Attempt
		for range 2 {
			c.CrashJobManager()
			c.StartJobManager()
			time.Sleep(30 * time.Second)
			if j := c.Job("count"); j.State != "FINISHING" || j.Attempt != attempt {
				t.Errorf("the job is %s in attempt %d", j.State, j.Attempt)
			}
		}
		c.refuseCommits(false)
		c.AwaitState(20*time.Second, "count", "FINISHED")
		c.CheckExact()
	})
}

// TestEndWaitsForTheLease cancels a job one of whose task managers cannot be reached: as long as its lease runs it
// may open transactions, so the job is not over before.
func TestEndWaitsForTheLease(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Submit(endless(c, 40_000))
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		c.Log.Freeze("tm-2") // what it sends now arrives after its end
		c.Network.Isolate("tm-2")
		began := time.Now()
		c.Cancel("count")
		c.AwaitState(20*time.Second, "count", "CANCELED")
		if took := time.Since(began); took < 5*time.Second || took > 7*time.Second {
			t.Errorf("canceled after %s; tm-2 is lost after 5 s without a heartbeat, and its lease ends a second later", took)
		}
		c.CheckNothingTwice()
		c.Log.Thaw("tm-2")
		c.Network.Heal("tm-2")
		time.Sleep(10 * time.Second)
		c.CheckNothingTwice()
	})
}

// TestZombie lets a task manager hang longer than its lease while another one takes over, and come back: what it
// sends then is refused.
func TestZombie(t *testing.T) {
	for _, length := range []time.Duration{4 * time.Second, 6 * time.Second, 30 * time.Second} {
		t.Run(length.String(), func(t *testing.T) {
			Run(t, func(c *Cluster) {
				job := exact(c, 40_000)
				c.StartTaskManager("tm-3", 2)
				c.Submit(job)
				c.AwaitCheckpoints(30*time.Second, "count", 3)
				c.Log.Freeze("tm-2")
				c.Network.Isolate("tm-2")
				time.Sleep(length)
				c.Log.Thaw("tm-2")
				c.Network.Heal("tm-2")
				c.AwaitState(2*time.Minute, "count", "FINISHED")
				c.CheckExact()
			})
		})
	}
}

// TestResumeRepeatsLevelsAndHandOuts cuts sessions while sinks grow their pools: nothing restarts, and nobody waits
// for a level or a hand-out that was lost on the way.
func TestResumeRepeatsLevelsAndHandOuts(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Submit(exact(c, 40_000))
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		for range 5 {
			c.refuseCommits(true) // pools grow
			time.Sleep(1700 * time.Millisecond)
			c.Network.Isolate("tm-2")
			time.Sleep(300 * time.Millisecond)
			c.Network.Reset("tm-2", jmHost)
			c.Network.Heal("tm-2")
			c.refuseCommits(false)
			c.AwaitCheckpoints(10*time.Second, "count", 2)
		}
		c.AwaitState(2*time.Minute, "count", "FINISHED")
		if j := c.Job("count"); j.Attempt != 1 || c.Logged("resumed=true") == 0 {
			t.Errorf("attempt %d, %+v", j.Attempt, j.Failure)
		}
		if n := len(c.Log.TransactionalIDs()); n <= 16 {
			t.Errorf("%d transactional ids were used: no pool grew", n)
		}
		c.CheckExact()
	})
}

// TestDeploymentWaitsForCommits restarts a job whose newest checkpoint is not committed: it is deployed when that
// is done. Meanwhile it is cancelled, loses a task manager, or the job manager.
func TestDeploymentWaitsForCommits(t *testing.T) {
	tests := []struct {
		name string
		do   func(c *Cluster)
		end  string
	}{
		{"nothing", func(*Cluster) {}, "FINISHED"},
		{"cancel", func(c *Cluster) { c.Cancel("count") }, "CANCELED"},
		{"loss", func(c *Cluster) {
			c.KillTaskManager("tm-2")
			time.Sleep(time.Second)
			c.StartTaskManager("tm-2", 2)
		}, "FINISHED"},
		{"loss, and longer than a deployment may take", func(c *Cluster) { // each attempt that waits has its time
			c.KillTaskManager("tm-2")
			time.Sleep(time.Second)
			c.StartTaskManager("tm-2", 2)
			time.Sleep(20 * time.Second)
			before := c.Job("count")
			time.Sleep(12 * time.Minute) // transactions live for 15
			if j := c.Job("count"); j.Attempt != before.Attempt || j.Restarts != before.Restarts || j.State != "DEPLOYING" {
				c.t.Errorf("attempt %d (%d restarts) waited for commits; it is attempt %d (%d) now, %s: %+v", before.Attempt, before.Restarts, j.Attempt, j.Restarts, j.State, j.Failure)
			}
		}, "FINISHED"},
		{"loss and no spare slots", func(c *Cluster) {
			c.KillTaskManager("tm-2")
			c.KillTaskManager("tm-3")
			c.AwaitState(10*time.Second, "count", "WAITING_FOR_SLOTS")
			c.refuseCommits(false)
			c.Await(10*time.Second, "the checkpoint is committed", func() bool { return c.Job("count").Checkpoints.Latest.Committed })
			c.StartTaskManager("tm-2", 2)
		}, "FINISHED"},
		{"crash", func(c *Cluster) {
			c.CrashJobManager()
			time.Sleep(time.Second)
			c.StartJobManager()
		}, "FINISHED"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			Run(t, func(c *Cluster) {
				job := exact(c, 20_000)
				c.StartTaskManager("tm-3", 2)
				c.Submit(job)
				c.AwaitCheckpoints(10*time.Second, "count", 2)
				c.refuseCommits(true)
				c.AwaitCheckpoints(10*time.Second, "count", 1)
				c.KillTaskManager("tm-1")
				c.Await(20*time.Second, "the deployment waits", func() bool { return c.Logged("the deployment waits for commits") > 0 })
				c.StartTaskManager("tm-1", 2)
				time.Sleep(5 * time.Second)
				if j := c.Job("count"); j.State != "DEPLOYING" || !waits(j, "connection refused") {
					t.Errorf("%s, waiting for %q", j.State, j.Waiting)
				}
				test.do(c)
				time.Sleep(5 * time.Second)
				c.refuseCommits(false)
				c.AwaitState(time.Minute, "count", test.end)
				c.CheckNothingTwice()
				if test.end == "FINISHED" {
					c.CheckExact()
				}
			})
		})
	}
}

// TestWaysOutOfDataLoss takes each of the two ways out of a loss that its message names, and finds what it says.
func TestWaysOutOfDataLoss(t *testing.T) {
	for what, lose := range map[string]func(*Cluster){"one": loseOne, "several": loseSeveral} {
		for way, name := range []string{"back", "on"} {
			t.Run(what+"/"+name, func(t *testing.T) {
				Run(t, func(c *Cluster) {
					c.Submit(endless(c, 40_000))
					c.AwaitCheckpoints(10*time.Second, "count", 3)
					lose(c)
					c.AwaitState(time.Minute, "count", "FAILED_DATA_LOSS")
					takeWayOut(t, c, way)
				})
			})
		}
	}
}

// loseOne gives the transaction that is committed next to somebody else.
func loseOne(c *Cluster) {
	var seized atomic.Bool
	c.Log.OnCall(func(call Call) Fate {
		if call.API == EndTxn && seized.CompareAndSwap(false, true) {
			c.Log.Seize(call.ID)
		}
		return Fate{}
	})
}

// loseSeveral cuts the committer off for some checkpoints, and gives transactions of the first and of the last of them to
// somebody else. What is of the others is committed after all.
func loseSeveral(c *Cluster) {
	var mu sync.Mutex
	var waiting []string
	c.Log.OnCall(func(call Call) Fate {
		mu.Lock()
		defer mu.Unlock()
		if call.API == EndTxn && !slices.Contains(waiting, call.ID) {
			waiting = append(waiting, call.ID)
		}
		return Fate{Refused: call.API == EndTxn}
	})
	c.AwaitCheckpoints(20*time.Second, "count", c.Job("count").Checkpoints.Completed+4)
	time.Sleep(5 * time.Second) // longer than the committer pauses
	mu.Lock()
	defer mu.Unlock()
	c.Log.Seize(waiting[0])
	c.Log.Seize(waiting[len(waiting)-1])
	c.Log.OnCall(func(Call) Fate { return Fate{} })
}

// takeWayOut goes back (0) or on (1), and compares what that gives with what the message of the loss says.
func takeWayOut(t *testing.T, c *Cluster, way int) {
	message := c.Job("count").Failure.Message
	from := regexp.MustCompile(`--from-checkpoint (\S+/\d+)`).FindAllStringSubmatch(message, -1)
	cost := regexp.MustCompile(`at most (\d+) records`).FindAllStringSubmatch(message, -1)
	if len(from) != 2 || len(cost) != 2 {
		t.Fatalf("the message names %d ways out: %s", len(from), message)
	}
	var most int
	fmt.Sscan(cost[way][1], &most)
	ctx, cancel := c.Ctx()
	defer cancel()
	again := ExactlyOnce(c.BoundedCountJob("count", 4))
	again.SetDefaults()
	if _, err := c.Jobs.Submit(ctx, &pb.SubmitRequest{Job: wire.JobToProto(again), FromCheckpoint: from[way][1]}); err != nil {
		t.Fatal(err)
	}
	c.AwaitState(time.Minute, "count", "FINISHED")
	lost, twice := c.compare()
	if way == 1 && (lost == 0 || lost > most || twice != 0) || way == 0 && (lost != 0 || twice > most) {
		t.Errorf("%d records are lost and %d come twice: %s", lost, twice, message)
	}
}

// compare counts what is missing in the output of a running count, and what is there more than once.
func (c *Cluster) compare() (lost, twice int) {
	seen := map[Message]int{}
	for _, m := range c.Log.All("out") {
		seen[m]++
	}
	for _, n := range seen {
		twice += n - 1
	}
	return len(c.Log.All("in")) - len(seen), twice
}

// TestBrokenExchangeEndsItsSubtask breaks the line between two task managers, of which one runs a single subtask. When
// the job is over nothing of it runs any more: a subtask that is reported as failed has ended, though it was not it that
// broke.
func TestBrokenExchangeEndsItsSubtask(t *testing.T) {
	Run(t, func(c *Cluster) {
		job := c.CountJob("count", 1)
		job.Restart.Strategy = graph.NoRestart
		job.Sources[0].Parallelism = 2 // with one slot each, in/1 is alone
		job.Sinks = append(job.Sinks, graph.Sink{Name: "raw", From: []string{"in"}, Parallelism: 2, Kafka: &graph.KafkaSink{Topic: "raw"}})
		c.Log.Create("raw", 4)
		c.Log.Fill("in", 400, 100) // soon read: whoever has nothing to send does not notice
		c.StartTaskManager("tm-1", 1)
		c.StartTaskManager("tm-2", 1)
		c.Submit(job)
		c.AwaitCheckpoints(10*time.Second, "count", 5)
		if c.Connectors.Running("tm-1") == 0 || c.Connectors.Running("tm-2") == 0 {
			t.Fatal("the job is not spread over both task managers")
		}
		c.Network.Reset("tm-1", "tm-2")
		c.AwaitState(20*time.Second, "count", "FAILED")
		if n, m := c.Connectors.Running("tm-1"), c.Connectors.Running("tm-2"); n+m > 0 {
			t.Errorf("the job is FAILED, and %d and %d sources and sinks run", n, m)
		}
	})
}
