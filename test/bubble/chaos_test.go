package bubble

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// chaos does one harmful thing after another to a cluster.
type chaos struct {
	c    *Cluster
	rand *rand.Rand
	tms  []string
	// heals are what is to be undone, and when.
	heals []heal
}

type heal struct {
	at   time.Time
	undo func()
}

func (x *chaos) say(format string, args ...any) {
	x.c.logger.Info("CHAOS " + fmt.Sprintf(format, args...))
}

func (x *chaos) later(after time.Duration, undo func()) {
	x.heals = append(x.heals, heal{time.Now().Add(after), undo})
}

func (x *chaos) between(low, high time.Duration) time.Duration {
	return low + time.Duration(x.rand.Int64N(int64(high-low)))
}

// heal undoes what is due; all: everything.
func (x *chaos) heal(all bool) {
	due := x.heals
	x.heals = nil
	for _, h := range due {
		if all || !time.Now().Before(h.at) {
			h.undo()
		} else {
			x.heals = append(x.heals, h)
		}
	}
}

func (x *chaos) step() {
	c, id := x.c, x.tms[x.rand.IntN(len(x.tms))]
	switch x.rand.IntN(7) {
	case 0:
		x.killTaskManager(id)
	case 1:
		x.say("isolate %s", id)
		c.Network.Isolate(id)
		x.later(x.between(50*time.Millisecond, 9*time.Second), func() { c.Network.Heal(id) })
	case 2:
		x.say("reset %s", id)
		c.Network.Reset(id, jmHost)
	case 3:
		other := x.tms[x.rand.IntN(len(x.tms))]
		x.say("reset %s and %s", id, other)
		c.Network.Reset(id, other)
	case 4:
		x.say("lose what is under way to %s", id)
		c.Network.Isolate(id)
		time.Sleep(x.between(time.Millisecond, 2*time.Second))
		c.Network.Reset(id, jmHost)
		c.Network.Heal(id)
	case 5:
		if c.jm == nil {
			return
		}
		x.say("kill the job manager")
		c.KillJobManager()
		x.later(x.between(time.Millisecond, 9*time.Second), c.StartJobManager)
	case 6:
		x.say("hold acks")
		c.Log.HoldAcks(true)
		x.later(x.between(50*time.Millisecond, 4*time.Second), func() { c.Log.HoldAcks(false) })
	}
}

// killTaskManager ends one and starts another on its host, mostly under its old id.
func (x *chaos) killTaskManager(id string) {
	c := x.c
	if c.tms[id] == nil {
		return
	}
	x.say("kill %s", id)
	c.Network.Kill(id)
	_ = c.tms[id].end() // it may have given up already: its id was taken, or its subtasks did not end in time
	delete(c.tms, id)
	x.later(x.between(time.Millisecond, 5*time.Second), func() { c.tms[id] = c.taskManager(id, id, 2) })
}

var (
	chaosSeed  = flag.Uint64("chaos.seed", 0, "run the chaos of this seed alone")
	chaosFresh = flag.Int("chaos.fresh", 1, "how many seeds that nobody has seen are tried")
)

// TestChaos lets a bounded job run while things break, and then checks every count. A failing seed stands in the
// name of its test and can be run alone: -chaos.seed SEED.
func TestChaos(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	if testing.Short() || raceDetector {
		seeds = seeds[6:]
	}
	for range *chaosFresh {
		seeds = append(seeds, rand.Uint64())
	}
	if *chaosSeed != 0 {
		seeds = []uint64{*chaosSeed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			Run(t, func(c *Cluster) { runChaos(c, seed) })
		})
	}
}

func runChaos(c *Cluster, seed uint64) {
	x := &chaos{c: c, rand: rand.New(rand.NewPCG(seed, 0)), tms: []string{"tm-1", "tm-2", "tm-3"}}
	for _, id := range x.tms {
		c.StartTaskManager(id, 2)
	}
	c.CountJob("count", 4)
	if seed%4 == 0 { // state goes through files
		c.Connectors.Pace = 50 * time.Millisecond
		c.fillLarge()
	} else {
		c.Log.Fill("in", 60_000, 100)
	}
	job := c.BoundedCountJob("count", 4)
	job.Checkpoint.TolerableFailures = 100
	job.Restart = graph.Restart{Strategy: graph.ExponentialDelay, Max: time.Second, Attempts: 1000, HealthyAfter: time.Minute}
	c.Submit(job)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		time.Sleep(x.between(time.Millisecond, 3*time.Second))
		x.heal(false)
		x.step()
	}
	x.heal(true)
	x.say("healed")
	c.AwaitState(3*time.Minute, "count", "FINISHED")
	c.CheckCounts()
	c.Await(10*time.Second, "nothing runs any more", func() bool {
		n := 0
		for _, id := range x.tms {
			n += c.Connectors.Running(id)
		}
		return n == 0
	})
}
