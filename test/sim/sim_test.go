package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
)

// rare are transitions that only a store in disorder makes, or a user who is faster than the submission; the
// two of Failing take a crash within the write of a final checkpoint whose attempt has just used up its restarts,
// which a few of 100,000 schedules come to.
var rare = []jobcore.Edge{
	{From: jobcore.WaitingForSlots, Event: jobcore.OnRecovered, To: jobcore.Finishing},
	{From: jobcore.WaitingForSlots, Event: jobcore.OnRecovered, To: jobcore.Stopping},
	{From: jobcore.Deploying, Event: jobcore.OnRecovered, To: jobcore.Finishing},
	{From: jobcore.Deploying, Event: jobcore.OnRecovered, To: jobcore.Stopping},
	{From: jobcore.Running, Event: jobcore.OnRecovered, To: jobcore.Finishing},
	{From: jobcore.Running, Event: jobcore.OnRecovered, To: jobcore.Stopping},
	{From: jobcore.Created, Event: jobcore.OnCancel, To: jobcore.Canceling},
	{From: jobcore.Created, Event: jobcore.OnStop, To: jobcore.Stopping},
	{From: jobcore.Failing, Event: jobcore.OnRecovered, To: jobcore.Finishing},
	{From: jobcore.Failing, Event: jobcore.OnRecovered, To: jobcore.Stopping},
	// The third attempt in a row that somebody else fences, in a state that lasts for a moment.
	{From: jobcore.Deploying, Event: jobcore.OnFenced, To: jobcore.Failing},
	{From: jobcore.Finishing, Event: jobcore.OnFenced, To: jobcore.Failing},
	{From: jobcore.Stopping, Event: jobcore.OnFenced, To: jobcore.Failing},
}

var (
	seedFlag   = flag.Int64("seed", -1, "replay one schedule and print its transcript")
	bugFlag    = flag.Int("bug", 0, "with -seed: the mistake to make, by number")
	countFlag  = flag.Int("schedules", schedules, "how many schedules to run")
	firstFlag  = flag.Uint64("first", 0, "the first of the fixed seeds")
	transcript = 300 // lines that are printed of a failing schedule
)

// outcome is what one schedule gave: what a check found (empty: nothing), the transcript if it was asked
// for, the transitions of the jobs.
type outcome struct {
	found, log string
	edges      map[jobcore.Edge]int
}

func simulate(seed uint64, b bug, wantLog bool) (o outcome) {
	var text *strings.Builder
	if wantLog {
		text = &strings.Builder{}
	}
	w := newWorld(seed, b, text)
	defer func() {
		o.edges = w.edges
		if text != nil {
			o.log = text.String()
		}
		switch v := recover().(type) {
		case nil:
		case violation:
			o.found = v.text
		default:
			panic(v)
		}
	}()
	w.schedule()
	return o
}

// TestSchedules runs fixed seeds and a few fresh ones.
func TestSchedules(t *testing.T) {
	if *seedFlag >= 0 {
		o := simulate(uint64(*seedFlag), bug(*bugFlag), true)
		t.Logf("seed %d\n%s", *seedFlag, o.log)
		if o.found != "" {
			t.Error(o.found)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(2000)) // a schedule lives shortly and is small
	count := uint64(*countFlag)
	fixed, first := count-count/20, rand.Uint64()>>12
	began := time.Now()
	t.Logf("seeds %d to %d and, fresh, %d to %d", *firstFlag, *firstFlag+fixed-1, first, first+count-fixed-1)
	var mu sync.Mutex
	seen := map[jobcore.Edge]int{}
	var next atomic.Uint64
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for n := next.Add(1) - 1; n < count && !t.Failed(); n = next.Add(1) - 1 {
				seed := *firstFlag + n
				if n >= fixed {
					seed = first + n - fixed
				}
				o := simulate(seed, bugNone, false)
				mu.Lock()
				for e, times := range o.edges {
					seen[e] += times
				}
				if o.found != "" && !t.Failed() {
					report(t, seed, o.found)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	t.Logf("%d schedules in %s", min(next.Load(), count), time.Since(began).Round(time.Millisecond))
	if count >= 50_000 && !t.Failed() {
		checkEdges(t, seen)
	}
}

// checkEdges: schedules that never come to a transition prove nothing about it.
func checkEdges(t *testing.T, seen map[jobcore.Edge]int) {
	for _, e := range jobcore.Transitions() {
		silent := e.From == e.To && (e.Event == jobcore.OnWorkerLost || e.Event == jobcore.OnCancel || e.Event == jobcore.OnDataLost)
		unsimulated := e.Event == jobcore.OnRefused
		if seen[e] == 0 && !silent && !unsimulated && !slices.Contains(rare, e) {
			t.Errorf("no schedule made the transition %s → %s (%s)", e.From, e.To, e.Event)
		}
	}
	t.Logf("%d different transitions", len(seen))
}

func report(t *testing.T, seed uint64, found string) {
	lines := strings.Split(simulate(seed, bugNone, true).log, "\n")
	t.Errorf("seed %d: %s\nreplay: go test ./test/sim -run Schedules -v -seed %d\nthe last lines:\n%s",
		seed, found, seed, strings.Join(lines[max(0, len(lines)-transcript):], "\n"))
}

// TestReplayIsExact: the same seed gives the same transcript, or a failing seed would be worth nothing.
func TestReplayIsExact(t *testing.T) {
	for seed := range uint64(20) {
		a, b := simulate(seed, bugNone, true).log, simulate(seed, bugNone, true).log
		if a != b {
			t.Fatalf("seed %d has two transcripts", seed)
		}
		if a == "" {
			t.Fatalf("seed %d has no transcript", seed)
		}
	}
}

// TestMistakesAreFound makes one mistake after the other in the shell around the cores: the checks must
// notice each of them.
func TestMistakesAreFound(t *testing.T) {
	const limit = 20_000
	for b := bugNone + 1; b < bugEnd; b++ {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(limit) {
				if o := simulate(seed, b, false); o.found != "" {
					t.Logf("%s → found after %d schedules: %s", b, seed+1, o.found)
					return
				}
			}
			t.Errorf("not found in %d schedules", limit)
		})
	}
}

// bug is a mistake that the simulated shell makes on purpose.
type bug int

const (
	bugNone bug = iota
	// bugOldAck takes the ack of an older attempt for one of the current.
	bugOldAck
	// bugCountAcks counts acks, so that a repeated one completes a checkpoint.
	bugCountAcks
	// bugRestoreOlder restores the checkpoint before the newest.
	bugRestoreOlder
	// bugSettleEarly does not wait for the write of a manifest that is on its way.
	bugSettleEarly
	// bugForgetAttempt deploys before the attempt number is durable.
	bugForgetAttempt
	// bugForgetReserved does not read the reserved checkpoint ids after a start.
	bugForgetReserved
	// bugForgetCancel acts upon a cancel that is not durable.
	bugForgetCancel
	// bugForgetFinal does not notice after a start that the newest checkpoint is final.
	bugForgetFinal
	// bugCertainLoss takes every lost task manager for dead.
	bugCertainLoss
	// bugVacateEarly frees slots when the cancel is sent, not when it is confirmed.
	bugVacateEarly
	// bugAckOwnOnly lists only what was sealed for the checkpoint itself.
	bugAckOwnOnly
	// bugAckEarly does not wait for the answers of the broker.
	bugAckEarly
	// bugAbortOnExpiry aborts the sealed transaction of a checkpoint that failed.
	bugAbortOnExpiry
	// bugReuseEpoch begins a second transaction with the same producer id and epoch.
	bugReuseEpoch
	// bugReuseBurnt goes on with an id whose InitProducerId was not answered.
	bugReuseBurnt
	// bugIgnoreOrder sends batches of a transaction before those of the sealed one are answered.
	bugIgnoreOrder
	// bugShareIDs gives all attempts the same ids.
	bugShareIDs
	// bugNoLease goes on when the lease is over, as long as no job manager says otherwise.
	bugNoLease
	// bugCommitEarly commits before the manifest is durable.
	bugCommitEarly
	// bugAnnounceEarly announces before the committed marks are durable.
	bugAnnounceEarly
	// bugFenceDuringWrite fences while a manifest is being written.
	bugFenceDuringWrite
	// bugFenceNamed fences after a start what completed checkpoints name.
	bugFenceNamed
	// bugFenceBusy takes CONCURRENT_TRANSACTIONS for the end of a fence.
	bugFenceBusy
	// bugNoFence fences nothing.
	bugNoFence
	// bugNoFinalRound does not fence again once an attempt is gone for certain.
	bugNoFinalRound
	// bugForgetHandout hands out more ids that are not durable.
	bugForgetHandout
	// bugLoseHandouts does not read after a start which ids are not fenced yet.
	bugLoseHandouts
	// bugRetainBlind drops checkpoints that name transactions which are not committed.
	bugRetainBlind
	// bugListEmpty lists transactions to which nothing was added.
	bugListEmpty
	// bugNoAge tells that every transaction has just begun.
	bugNoAge
	// bugTerminalEarly ends a job before all is committed and fenced.
	bugTerminalEarly
	bugEnd
)

// String names the mistake.
func (b bug) String() string {
	names := [...]string{"none", "old ack", "count acks", "restore older", "settle early", "forget attempt", "forget reserved",
		"forget cancel", "forget final", "certain loss", "vacate early", "ack lists only its own", "ack before flush", "abort on expiry",
		"reuse epoch", "reuse burnt id", "order across seal", "share ids", "no lease", "commit before durable", "announce before mark",
		"fence during write", "fence named", "fence takes busy for done", "no fence", "no final round", "forget hand-out", "lose hand-outs", "retain blind", "list empty", "no age", "terminal early"}
	if b < 0 || int(b) >= len(names) {
		return fmt.Sprintf("bug(%d)", int(b))
	}
	return names[b]
}
