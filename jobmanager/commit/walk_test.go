package commit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// walker feeds a machine with random events, most of them answers to what it asked for, beside a model of the
// transaction coordinator (coordinator_test.go), of sinks and of the store. It knows the rules of the
// package comment, not the code.
type walker struct {
	t      *testing.T
	rng    *rand.Rand
	m      *Machine
	cfg    Config
	now    time.Time
	log    []string
	faults bool // answers may fail, and the job manager may die
	expiry bool // the brokers may abort what is named
	kafka  coordinator

	// durable is what the store holds; acked are the manifests, ascending.
	marks    map[manifest.TransactionKey]bool
	handouts map[HandoutKey]Handout
	acked    []*manifest.Manifest

	attempt, over ident.Attempt
	// gone is what this machine was told, certain what is the case: nothing up to it runs.
	gone, certain ident.Attempt
	running       bool
	sealed        []sealedTransaction // by sinks of the running attempt, not announced to them
	checkpoint    ident.CheckpointID
	announced     ident.CheckpointID

	open    []func() // requests that are on their way
	commits map[manifest.TransactionKey]bool
	fencing map[string]bool
	writes  map[string]bool
	lost    map[manifest.TransactionKey]bool // refused to this machine
	told    map[ident.CheckpointID]bool
	// final are the ids that were answered OK to a fence sent after this machine knew their attempt to be gone.
	final   map[string]bool
	cleaned bool
	late    ident.CheckpointID // the newest of this machine's start: it is announced again after a crash
}

type sealedTransaction struct {
	manifest.Transaction
	listed ident.CheckpointID // 0: in none
}

const walkSteps = 400

func TestWalk(t *testing.T) {
	seeds := 1000
	if testing.Short() {
		seeds = 200
	}
	for seed := range uint64(seeds) {
		w := &walker{t: t, rng: rand.New(rand.NewPCG(seed, 4)), now: epochStart, faults: true, marks: map[manifest.TransactionKey]bool{},
			handouts: map[HandoutKey]Handout{}, kafka: coordinator{}}
		w.expiry = seed%3 == 0
		w.cfg = Config{Parallel: 1 + w.rng.IntN(6), MarkDelay: time.Duration(w.rng.IntN(3)) * 50 * time.Millisecond}
		w.log = append(w.log, fmt.Sprintf("seed %d, parallel %d, mark delay %s", seed, w.cfg.Parallel, w.cfg.MarkDelay))
		w.boot()
		for range walkSteps {
			w.act()
		}
		w.finish()
	}
}

func (w *walker) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s\n%s", fmt.Sprintf(format, args...), w.log[0], strings.Join(w.log[max(0, len(w.log)-80):], "\n"))
}

// boot starts the job manager over what the store holds. Attempts of before are over.
func (w *walker) boot() {
	var start Start
	for _, m := range w.acked {
		for i := range m.Transactions {
			if !w.marks[m.Transactions[i].Key()] {
				start.Unmarked = append(start.Unmarked, Named{m.Checkpoint, m.Transactions[i]})
			}
		}
	}
	for _, k := range w.handoutKeys() {
		start.Handouts = append(start.Handouts, w.handouts[k])
	}
	w.rng.Shuffle(len(start.Unmarked), func(i, j int) { start.Unmarked[i], start.Unmarked[j] = start.Unmarked[j], start.Unmarked[i] })
	w.over, w.running, w.sealed, w.open = w.attempt, false, nil, nil
	w.commits, w.fencing, w.writes = map[manifest.TransactionKey]bool{}, map[string]bool{}, map[string]bool{}
	w.lost, w.told = map[manifest.TransactionKey]bool{}, map[ident.CheckpointID]bool{}
	w.announced, w.late, w.gone, w.final = 0, w.checkpoint, 0, map[string]bool{}
	w.m = New(w.cfg, start)
	w.step(Tick{})
}

func (w *walker) handoutKeys() []HandoutKey {
	var keys []HandoutKey
	for k := range w.handouts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b HandoutKey) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

func (w *walker) step(ev Event) {
	w.log = append(w.log, fmt.Sprintf("%s > %s", w.now.Sub(epochStart), ev))
	for _, eff := range w.m.Step(w.now, ev) {
		w.log = append(w.log, "    "+eff.String())
		w.effect(eff)
	}
	if d := w.m.Deadline(); !d.IsZero() && !d.After(w.now) {
		w.fatalf("deadline %s is not after now", d.Sub(epochStart))
	}
	if len(w.commits)+len(w.fencing) > w.cfg.Parallel {
		w.fatalf("%d commits and %d fences are on their way", len(w.commits), len(w.fencing))
	}
	if s := w.m.Status(); w.m.Settled() != (len(w.standing()) == 0) || s.Uncommitted != len(w.standing()) {
		w.fatalf("settled is %t, uncommitted %d, but %v stand", w.m.Settled(), s.Uncommitted, w.standing())
	}
}

// standing are the transactions that completed manifests name, and that are neither marked nor lost.
func (w *walker) standing() []manifest.TransactionKey {
	var list []manifest.TransactionKey
	for _, m := range w.acked {
		for i := range m.Transactions {
			if k := m.Transactions[i].Key(); !w.marks[k] && !w.lost[k] && !slices.Contains(list, k) {
				list = append(list, k)
			}
		}
	}
	return list
}

func (w *walker) effect(eff Effect) {
	switch e := eff.(type) {
	case Commit:
		w.commit(e)
	case Mark:
		w.write("mark", func(err error) {
			if err == nil {
				for _, k := range e.Keys {
					w.marks[k] = true
				}
			}
			w.step(Marked{Keys: e.Keys, Err: err})
		})
		for _, k := range e.Keys {
			if !w.kafka.committed(k) {
				w.fatalf("%s is marked and not committed", k)
			}
		}
	case Announce:
		w.announce(e.Checkpoint)
	case Fence:
		w.fence(e)
	case Forget:
		w.forget(e)
	case Lost:
		w.loss(e)
	case CleanedUp:
		if len(w.handouts) > 0 || len(w.standing()) > 0 || w.cleaned {
			w.fatalf("cleaned up (before: %t) with %v and %v", w.cleaned, w.handouts, w.standing())
		}
		w.cleaned = true
	}
}

// write is durable in the end, or not at all; one of each kind at a time.
func (w *walker) write(kind string, answer func(error)) {
	if w.writes[kind] {
		w.fatalf("two writes: %s", kind)
	}
	w.writes[kind] = true
	w.open = append(w.open, func() {
		delete(w.writes, kind)
		if w.fault(4) {
			answer(errors.New("disk full"))
			return
		}
		answer(nil)
	})
}

// fault is true once in n times, while there are faults.
func (w *walker) fault(n int) bool { return w.faults && w.rng.IntN(n) == 0 }

func (w *walker) commit(e Commit) {
	k := e.Transaction.Key()
	switch {
	case w.marks[k]:
		w.fatalf("%s is marked", k)
	case w.lost[k] || w.commits[k]:
		w.fatalf("%s is lost, or on its way", k)
	case !slices.Contains(w.standing(), k):
		w.fatalf("%s is in no manifest", k)
	}
	w.commits[k] = true
	w.open = append(w.open, func() {
		delete(w.commits, k)
		if w.fault(5) {
			w.step(Committed{Key: k, Err: errors.New("connection refused")})
			return
		}
		refused := w.kafka.endTxn(k)
		switch {
		case w.fault(4):
			w.step(Committed{Key: k, Err: errors.New("no answer")})
		case refused:
			if !w.expiry {
				w.fatalf("%s is refused, but no broker aborted anything", k)
			}
			w.lost[k] = true
			w.step(Committed{Key: k, Err: errors.New("fenced"), Refused: true})
		default:
			w.step(Committed{Key: k})
		}
	})
}

func (w *walker) fence(e Fence) {
	id := e.Handout.ID(e.N)
	if e.Handout.Attempt > w.over {
		w.fatalf("%s belongs to a running attempt", id)
	}
	for _, k := range w.standing() {
		if k.TransactionalID == id {
			w.fatalf("fence of %s while %s is named and not marked", id, k)
		}
	}
	if w.fencing[id] || w.final[id] {
		w.fatalf("fence of %s on its way (%t) or fenced for good (%t)", id, w.fencing[id], w.final[id])
	}
	w.fencing[id] = true
	last := e.Handout.Attempt <= w.gone
	w.open = append(w.open, func() {
		delete(w.fencing, id)
		ev := Fenced{Handout: e.Handout.HandoutKey, N: e.N}
		lostRequest := w.fault(5)
		if !lostRequest {
			w.kafka.initProducerID(id)
		}
		if lostRequest || w.fault(5) {
			ev.Err = errors.New("no answer")
		} else if last {
			w.final[id] = true
		}
		w.step(ev)
	})
}

func (w *walker) forget(e Forget) {
	for _, k := range e.Handouts {
		for n := range w.handouts[k].Count {
			if id := w.handouts[k].ID(n); !w.final[id] {
				w.fatalf("%s is forgotten, but %s is not fenced for good", k, id)
			}
		}
	}
	w.write("forget", func(err error) {
		if err == nil {
			for _, k := range e.Handouts {
				delete(w.handouts, k)
			}
		}
		w.step(Forgotten{Handouts: e.Handouts, Err: err})
	})
}

// announce must come in order, once, and never beyond a transaction without a durable mark. The sinks of the
// running attempt learn it at once.
func (w *walker) announce(id ident.CheckpointID) {
	if id <= w.announced {
		w.fatalf("checkpoint %d is announced after %d", id, w.announced)
	}
	for _, m := range w.acked {
		if m.Checkpoint > id {
			break
		}
		if m.Checkpoint > max(w.announced, w.late) && m.Checkpoint < id {
			w.fatalf("checkpoint %d is not announced before %d", m.Checkpoint, id)
		}
		for i := range m.Transactions {
			if k := m.Transactions[i].Key(); !w.marks[k] {
				w.fatalf("checkpoint %d is announced without a mark of %s", id, k)
			}
		}
	}
	w.announced = id
	w.sealed = slices.DeleteFunc(w.sealed, func(s sealedTransaction) bool { return s.listed > 0 && s.listed <= id })
}

func (w *walker) loss(e Lost) {
	if w.told[e.Checkpoint] || len(e.Transactions) == 0 {
		w.fatalf("%s: told before, or empty", e)
	}
	w.told[e.Checkpoint] = true
	for _, l := range e.Transactions {
		if k := l.Transaction.Key(); !w.lost[k] || l.Err == nil {
			w.fatalf("%s is not lost", k)
		}
	}
	for _, m := range w.acked {
		for i := range m.Transactions {
			if k := m.Transactions[i].Key(); m.Checkpoint == e.Checkpoint && !w.marks[k] && !w.lost[k] {
				w.fatalf("a loss is told before %s is marked", k)
			}
		}
	}
}

// act is one random thing that happens.
func (w *walker) act() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(20)) * time.Millisecond)
	if d := w.m.Deadline(); !d.IsZero() && !d.After(w.now) {
		w.step(Tick{})
	}
	switch n := w.rng.IntN(100); {
	case n < 45:
		w.answer()
	case n < 65:
		w.seal(w.attempt, true)
	case n < 78:
		w.complete()
	case n < 82:
		w.handOut(w.attempt)
	case n < 86:
		w.restart()
	case n < 90:
		w.zombie()
	case n < 93:
		w.step(SignOfLife{})
	case n < 96 && w.gone < w.over:
		w.gone += ident.Attempt(1 + w.rng.IntN(int(w.over-w.gone)))
		w.certain = max(w.certain, w.gone)
		w.step(AttemptGone{w.gone})
	case n < 97 && w.expiry:
		w.kafka.expire(w.rng)
	case n == 99 && w.fault(2):
		w.log = append(w.log, "the job manager dies")
		w.boot()
	}
}

// answer performs one request and brings its answer. Nothing else happens in between, but requests come
// in any order.
func (w *walker) answer() {
	if len(w.open) == 0 {
		return
	}
	i := w.rng.IntN(len(w.open))
	do := w.open[i]
	w.open = slices.Delete(w.open, i, i+1)
	do()
}
