package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/ident"
	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
)

// The times of the cluster; they are those of the real one, and the same for every seed.
const (
	heartbeatTimeout = 5 * time.Second
	leaseMargin      = time.Second
	resumeWindow     = 2 * time.Second
	killAfter        = 30 * time.Second // a task manager whose cancel hangs ends itself
	healPhase        = 10 * time.Minute
)

// start is time zero of every schedule.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// odds are the likelihoods of one schedule, drawn from its seed: whole classes of faults are off in many.
type odds struct {
	breakStream, cutStream, killTM, crashJM float64 // per second
	crashAtEffect                           float64 // per effect
	loseLate                                float64 // of what is in flight when a stream breaks
	repeatUp                                float64 // per message
	failSubtask, decline, diskFull          float64 // per second, per ack, per write
	hangCancel                              float64 // per cancel
	slow                                    float64 // per message
	loseData                                float64 // per clean-up, and per second while the job lives
	slowDisk                                float64 // per write
	pauseTM                                 float64 // per second
	foreign                                 float64 // per second: somebody else uses the transactional ids
	badSource                               float64 // per second: the input of a job is another topic now
	// Per request to Kafka: not a byte of it is sent; it is lost; it is carried out after the client has given
	// up; its answer is lost; it is carried out twice; it is slow; the coordinator is still loading.
	unsent, lostRequest, lateRequest, lostAnswer, repeatRequest, slowKafka, busyBroker float64
}

func drawOdds(rng *rand.Rand) odds {
	some := func(most float64) float64 {
		if rng.IntN(2) == 0 {
			return 0
		}
		return most * rng.Float64()
	}
	o := odds{
		breakStream: some(0.4), cutStream: some(0.1), killTM: some(0.15), crashJM: some(0.1), crashAtEffect: some(0.02),
		loseLate: rng.Float64(), repeatUp: some(0.3), failSubtask: some(0.2), decline: some(0.1), diskFull: some(0.2),
		hangCancel: some(0.1), slow: some(0.2), loseData: some(0.02),
		slowDisk: some(0.6), pauseTM: some(0.1),
		unsent: some(0.1), lostRequest: some(0.1), lateRequest: some(0.1), lostAnswer: some(0.15), repeatRequest: some(0.1),
		slowKafka: some(0.2), busyBroker: some(0.05),
	}
	if rng.IntN(50) == 0 {
		o.foreign = rng.Float64()
	}
	if rng.IntN(50) == 0 {
		o.badSource = 0.2 * rng.Float64()
	}
	return o
}

// world is one schedule.
type world struct {
	seed   uint64
	rng    *rand.Rand
	odds   odds
	bug    bug
	log    *strings.Builder // nil: no transcript
	now    time.Duration
	queue  agenda
	count  uint64
	healed bool

	disk *disk
	jm   *jobManager // nil while it is down
	tms  []*taskManager
	jobs []*job
	// edges are the transitions that jobs have made.
	edges map[jobcore.Edge]int
	// history is what has really happened, for the checks.
	history history

	kafka *kafka
	flows map[attemptKey]*flow
	truth truth
	// faultPhase is how long faults happen; emitEvery is how often sources emit.
	faultPhase, emitEvery time.Duration
	transactionTimeout    time.Duration
	// taskManagersOut and jobManagerOut are when these do not reach Kafka.
	taskManagersOut, jobManagerOut outage
}

// violation is what a check found; it ends the schedule.
type violation struct{ text string }

func (w *world) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.logf("VIOLATION: %s", text)
	panic(violation{text})
}

func (w *world) logf(format string, args ...any) {
	if w.log != nil {
		fmt.Fprintf(w.log, "%9.3fs  %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

func (w *world) time() time.Time { return start.Add(w.now) }

// chance is true with likelihood p, and never once the faults have stopped.
func (w *world) chance(p float64) bool { return p > 0 && !w.healed && w.rng.Float64() < p }

// between is a random time from low to high.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

// delay is how long a message or a write takes: mostly around a millisecond, at times much longer.
func (w *world) delay() time.Duration {
	if w.chance(w.odds.slow) {
		return w.between(0, 3*time.Second)
	}
	return w.between(100*time.Microsecond, 5*time.Millisecond)
}

// writing is how long a write takes.
func (w *world) writing() time.Duration {
	if w.chance(w.odds.slowDisk) {
		return w.between(0, 5*time.Second)
	}
	return w.delay()
}

// after lets f happen d from now.
func (w *world) after(d time.Duration, f func()) {
	w.count++
	w.queue.push(planned{at: w.now + d, seq: w.count, do: f})
}

// run lets things happen until the time is over or done says so.
func (w *world) run(until time.Duration, done func() bool) {
	for len(w.queue) > 0 && w.queue[0].at <= until {
		e := w.queue.pop()
		w.now = e.at
		e.do()
		if done() {
			return
		}
	}
	w.now = until
}

type planned struct {
	at  time.Duration
	seq uint64
	do  func()
}

// agenda is a heap of what is to happen; what was put in first happens first at the same time. It is not
// container/heap, which would allocate for each.
type agenda []planned

func (a agenda) before(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}

func (a *agenda) push(p planned) {
	*a = append(*a, p)
	h := *a
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (a *agenda) pop() planned {
	h := *a
	first, n := h[0], len(h)-1
	h[0], h[n] = h[n], planned{}
	h = h[:n]
	*a = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && h.before(child+1, child) {
			child++
		}
		if !h.before(child, i) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	return first
}

// job is what users submit, and what they have asked for since.
type job struct {
	id                ident.JobID
	order             uint64
	parallelism       int
	bound             int64 // offset at which each source ends; 0: unbounded
	attempts          int   // of the restart policy
	subtasks, sources []ident.Subtask
	submitted         bool
	// cancelAnswered and stopAnswered: the user was told that it is durable.
	cancelAnswered, stopAnswered bool
	dataLost                     bool
	// commitInDoubt: a commit happened, but will be refused if it is asked for again.
	commitInDoubt bool
	foreign       bool // somebody else used its transactional ids
	badSource     bool // its input is another topic
}

func newJob(n, parallelism, sinks int) *job {
	j := &job{id: ident.JobID(fmt.Sprintf("job-%d", n)), order: uint64(n), parallelism: parallelism}
	for i := range parallelism {
		j.sources = append(j.sources, ident.Subtask{Vertex: "src", Index: i})
	}
	j.subtasks = append(j.subtasks, j.sources...)
	for i := range sinks {
		j.subtasks = append(j.subtasks, ident.Subtask{Vertex: "sink", Index: i})
	}
	return j
}

// sinks are the subtasks that write to Kafka.
func (j *job) sinks() []ident.Subtask { return j.subtasks[len(j.sources):] }

func newWorld(seed uint64, b bug, log *strings.Builder) *world {
	rng := rand.New(rand.NewPCG(seed, 0x51_0ce_5eed))
	w := &world{seed: seed, rng: rng, odds: drawOdds(rng), bug: b, log: log, disk: newDisk(), edges: map[jobcore.Edge]int{}, history: newHistory()}
	w.drawKafka()
	slots := 0
	for i := range 2 + rng.IntN(2) {
		n := 1 + rng.IntN(2)
		slots += n
		w.tms = append(w.tms, newTaskManager(w, i, n))
	}
	for n := range 1 + rng.IntN(2) {
		parallelism := 1 + rng.IntN(min(3, slots))
		j := newJob(n+1, parallelism, 1+rng.IntN(parallelism))
		if rng.IntN(3) == 0 {
			j.bound = int64(1000 + rng.IntN(20000))
		}
		j.attempts = 1000
		if rng.IntN(3) == 0 {
			j.attempts = rng.IntN(3)
		}
		w.jobs = append(w.jobs, j)
	}
	return w
}
