package bubble

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// discovering is endless with a search for partitions each second.
func discovering(c *Cluster, records int) *graph.Job {
	c.Admin.Discovery = time.Second
	return endless(c, records)
}

// awaitAll waits until every record of `in` was counted, and checks that each was counted once.
func (c *Cluster) awaitAll(limit time.Duration) {
	c.t.Helper()
	want := len(c.Log.All("in"))
	c.Await(limit, fmt.Sprintf("%d records are counted", want), func() bool { return len(c.Log.All("out")) >= want })
	c.CheckNothingTwice()
	c.CheckCounts()
}

// positions is how many partitions the newest checkpoint holds.
func (c *Cluster) positions(name string) int {
	latest := c.Job(name).Checkpoints.Latest
	if latest == nil {
		return 0
	}
	return len(latest.Offsets["in"]["in"])
}

// grow adds partitions to `in` and writes records, also into them.
func (c *Cluster) grow(partitions, records int) {
	c.Log.Create("in", partitions)
	c.Log.Fill("in", records, 100)
}

func TestNewPartitionsAreReadWithoutARestart(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Submit(discovering(c, 2000))
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		c.grow(5, 3000)
		c.Await(10*time.Second, "all partitions are in the checkpoints", func() bool { return c.positions("count") == 9 })
		c.awaitAll(30 * time.Second)
		if j := c.Job("count"); j.Attempt != 1 || j.Restarts != 0 {
			t.Errorf("attempt %d, %d restarts: new partitions need none", j.Attempt, j.Restarts)
		}
		c.Cancel("count")
		c.AwaitState(time.Minute, "count", "CANCELED")
	})
}

// TestFoundPartitionsSurvive has something break around the moment in which partitions are found: before the first
// checkpoint that holds them, and after. Every record is counted once.
func TestFoundPartitionsSurvive(t *testing.T) {
	found := func(c *Cluster) {
		c.Await(20*time.Second, "partitions are found", func() bool { return c.Logged("partition found") >= 3 })
		c.Admin.Retain(100) // who finds them again begins too late
	}
	tests := []struct {
		name string
		lose func(c *Cluster)
	}{
		{"a task manager is lost before a checkpoint holds them", func(c *Cluster) {
			c.Log.HoldAcks(true) // so no checkpoint completes
			c.grow(3, 2000)
			found(c)
			c.KillTaskManager("tm-2")
			c.Log.HoldAcks(false)
			c.StartTaskManager("tm-2", 2)
		}},
		{"the job manager is lost before a checkpoint holds them", func(c *Cluster) {
			c.Log.HoldAcks(true)
			c.grow(3, 2000)
			found(c)
			c.CrashJobManager()
			c.Log.HoldAcks(false)
			c.StartJobManager()
		}},
		{"a task manager is lost after a checkpoint", func(c *Cluster) {
			c.grow(3, 2000)
			c.Await(20*time.Second, "a checkpoint holds them", func() bool { return c.positions("count") == 7 })
			c.KillTaskManager("tm-1")
			c.StartTaskManager("tm-1", 2)
		}},
		{"a session is resumed while they are delivered", func(c *Cluster) {
			c.Network.Isolate("tm-1")
			c.Network.Isolate("tm-2")
			c.grow(3, 2000)
			found(c)
			c.Network.Reset("tm-1", jmHost) // what was on its way is lost
			c.Network.Reset("tm-2", jmHost)
			c.Network.Heal("tm-1")
			c.Network.Heal("tm-2")
		}},
		{"the job manager is away while they come", func(c *Cluster) {
			c.CrashJobManager()
			c.grow(3, 2000)
			c.StartJobManager()
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			Run(t, func(c *Cluster) {
				job := discovering(c, 2000)
				job.Checkpoint.TolerableFailures = 100
				c.Submit(job)
				c.AwaitCheckpoints(10*time.Second, "count", 2)
				test.lose(c)
				c.awaitAll(2 * time.Minute)
				c.Await(20*time.Second, "all partitions are in the checkpoints", func() bool { return c.positions("count") == 7 })
				c.Cancel("count")
				c.AwaitState(time.Minute, "count", "CANCELED")
			})
		})
	}
}

// TestJobManagerCrashesAroundFoundPartitions crashes the job manager at one step of its writes after the other
// while partitions are found, stored and delivered.
func TestJobManagerCrashesAroundFoundPartitions(t *testing.T) {
	stride := 4
	if testing.Short() || raceDetector {
		stride = 16
	}
	for n := 1; n <= 40; n += stride {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.Submit(discovering(c, 2000))
				c.AwaitCheckpoints(10*time.Second, "count", 1)
				c.grow(3, 2000)
				c.disk.crashAfter(n)
				c.AwaitCrash(time.Minute)
				c.StartJobManager()
				c.awaitAll(2 * time.Minute)
				c.Cancel("count")
				c.AwaitState(time.Minute, "count", "CANCELED")
			})
		})
	}
}

func TestFailedListingsDoNotHarmTheJob(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Submit(discovering(c, 2000))
		c.AwaitCheckpoints(10*time.Second, "count", 1)
		c.Admin.FailListings(errors.New("the broker has no time"))
		c.Await(20*time.Second, "the reason is shown", func() bool {
			return strings.Contains(strings.Join(c.Job("count").Waiting, "; "), "source in: new partitions are not found: the broker has no time")
		})
		c.grow(2, 2000)
		c.AwaitCheckpoints(10*time.Second, "count", 3)
		c.Admin.FailListings(nil)
		c.awaitAll(2 * time.Minute)
		c.Await(20*time.Second, "nothing is waited for", func() bool { return len(c.Job("count").Waiting) == 0 })
		if j := c.Job("count"); j.Attempt != 1 {
			t.Errorf("attempt %d", j.Attempt)
		}
		c.Cancel("count")
		c.AwaitState(time.Minute, "count", "CANCELED")
	})
}

// TestDiscoveryChaos is TestExactChaos with partitions that are added all along.
func TestDiscoveryChaos(t *testing.T) {
	seeds := []uint64{1, 2, 3}
	if testing.Short() || raceDetector {
		seeds = seeds[2:]
	}
	for range *chaosFresh {
		seeds = append(seeds, rand.Uint64())
	}
	if *chaosSeed != 0 {
		seeds = []uint64{*chaosSeed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			Run(t, func(c *Cluster) { runDiscoveryChaos(c, seed) })
		})
	}
}

func runDiscoveryChaos(c *Cluster, seed uint64) {
	x := &chaos{c: c, rand: rand.New(rand.NewPCG(seed, 2)), tms: []string{"tm-1", "tm-2", "tm-3"}, exactly: true}
	for _, id := range x.tms {
		c.StartTaskManager(id, 2)
	}
	c.Admin.Discovery = 700 * time.Millisecond
	c.CountJob("count", 4)
	job := ExactlyOnce(c.CountJob("count", 4))
	job.Checkpoint.TolerableFailures = 100
	job.Restart = graph.Restart{Strategy: graph.ExponentialDelay, Max: time.Second, Attempts: 1000, HealthyAfter: time.Minute}
	c.Submit(job)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		time.Sleep(x.between(time.Millisecond, 3*time.Second))
		x.reap()
		x.heal(false)
		x.step()
		partitions := 0
		if c.Log.partitions("in") < 40 {
			partitions = x.rand.IntN(3)
		}
		c.grow(partitions, 500)
	}
	if c.jm != nil {
		c.disk.crashAfter(0)
	}
	x.reap()
	x.heal(true)
	x.say("healed")
	c.awaitAll(3 * time.Minute)
	c.Await(time.Minute, "all partitions are in the checkpoints", func() bool { return c.positions("count") == c.Log.partitions("in") })
	c.Cancel("count")
	c.AwaitState(time.Minute, "count", "CANCELED")
}
