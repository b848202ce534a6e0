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
	// exactly: the broker and the disk are harmed as well.
	exactly bool
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
	kinds := 7
	if x.exactly {
		kinds = 14
	}
	kind := x.rand.IntN(kinds)
	if kind >= 7 {
		x.harmBroker(kind, id)
		return
	}
	switch kind {
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
		if x.exactly {
			c.CrashJobManager()
		} else {
			c.KillJobManager()
		}
		x.later(x.between(time.Millisecond, 9*time.Second), c.StartJobManager)
	case 6:
		x.say("hold acks")
		c.Log.HoldAcks(true)
		x.later(x.between(50*time.Millisecond, 4*time.Second), func() { c.Log.HoldAcks(false) })
	}
}

// harmBroker does what only transactions have to fear.
func (x *chaos) harmBroker(kind int, id string) {
	c := x.c
	length := x.between(50*time.Millisecond, 9*time.Second)
	switch kind {
	case 7:
		x.say("the broker loses calls for %s", length)
		x.fates(length, func(r *rand.Rand, _ Call) Fate { return anyFate(r) })
	case 8:
		x.say("what %s sends to the broker hangs for %s", id, length)
		c.Log.Freeze(id)
		x.later(length, func() { c.Log.Thaw(id) })
	case 9:
		x.say("the job manager cannot reach the broker for %s", length)
		x.fates(length, func(_ *rand.Rand, call Call) Fate { return Fate{Refused: call.Host == jmHost} })
	case 10:
		if c.jm == nil {
			return
		}
		n := 1 + x.rand.IntN(20)
		x.say("crash the job manager %d steps on", n)
		c.disk.crashAfter(n)
	case 11:
		if c.jm == nil {
			return
		}
		x.say("the disk is full for %s", length)
		d := c.disk
		d.fill(true)
		x.later(length, func() { d.fill(false) })
	case 12:
		x.say("%s hangs for %s", id, length)
		c.Log.Freeze(id)
		c.Network.Isolate(id)
		x.later(length, func() {
			c.Network.Heal(id)
			c.Log.Thaw(id)
		})
	case 13:
		if c.jm == nil {
			return
		}
		each := x.between(time.Millisecond, 300*time.Millisecond)
		x.say("each write of the disk takes %s for %s", each, length)
		d := c.disk
		d.slowDown(each)
		x.later(length, func() { d.slowDown(0) })
	}
}

// fates decides for a while what becomes of calls.
func (x *chaos) fates(length time.Duration, decide func(*rand.Rand, Call) Fate) {
	r := rand.New(rand.NewPCG(x.rand.Uint64(), 1)) // its own: it is used from other goroutines
	x.c.Log.OnCall(func(call Call) Fate { return decide(r, call) })
	x.later(length, func() { x.c.Log.OnCall(nil) })
}

func anyFate(r *rand.Rand) Fate {
	switch r.IntN(12) {
	case 0:
		return Fate{Lost: true}
	case 1:
		return Fate{Unanswered: true}
	case 2:
		return Fate{Late: time.Duration(r.Int64N(int64(20 * time.Second)))}
	case 3:
		return Fate{Code: codeNotCoordinator}
	case 4:
		return Fate{Refused: true}
	default:
		return Fate{}
	}
}

// reap notices that the job manager has crashed by itself.
func (x *chaos) reap() {
	c := x.c
	if c.jm == nil || !c.disk.isDead() {
		return
	}
	x.say("the job manager has crashed")
	c.CrashJobManager()
	x.later(x.between(time.Millisecond, 5*time.Second), c.StartJobManager)
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
			Run(t, func(c *Cluster) { runChaos(c, seed, false) })
		})
	}
}

// TestExactChaos is TestChaos with an exactly-once job; the broker, its connections and the disk of the job
// manager break as well.
func TestExactChaos(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6}
	if testing.Short() || raceDetector {
		seeds = seeds[4:]
	}
	for range *chaosFresh {
		seeds = append(seeds, rand.Uint64())
	}
	if *chaosSeed != 0 {
		seeds = []uint64{*chaosSeed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			Run(t, func(c *Cluster) { runChaos(c, seed, true) })
		})
	}
}

func runChaos(c *Cluster, seed uint64, exactly bool) {
	x := &chaos{c: c, rand: rand.New(rand.NewPCG(seed, 0)), tms: []string{"tm-1", "tm-2", "tm-3"}, exactly: exactly}
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
	if exactly {
		job = ExactlyOnce(job)
		job.Checkpoint.TolerableFailures = 20 - int(seed%20)
	}
	job.Restart = graph.Restart{Strategy: graph.ExponentialDelay, Max: time.Second, Attempts: 1000, HealthyAfter: time.Minute}
	c.Submit(job)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		time.Sleep(x.between(time.Millisecond, 3*time.Second))
		x.reap()
		x.heal(false)
		x.step()
	}
	if c.jm != nil {
		c.disk.crashAfter(0)
	}
	x.reap()
	x.heal(true)
	x.say("healed")
	c.AwaitState(3*time.Minute, "count", "FINISHED")
	if exactly {
		c.CheckExact()
	}
	c.CheckCounts()
	c.Await(10*time.Second, "nothing runs any more", func() bool {
		n := 0
		for _, id := range x.tms {
			n += c.Connectors.Running(id)
		}
		return n == 0
	})
}
