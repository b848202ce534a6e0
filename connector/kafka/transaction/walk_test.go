package transaction

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

func identOf(n uint64) ident.CheckpointID { return ident.CheckpointID(n) }

// walk drives a pool at random and keeps its own books.
type walk struct {
	r      *rand.Rand
	p      *Pool
	now    time.Time
	inits  []Init
	adds   []Add
	queues map[Partition][]*Share // batches that are not answered, in order

	epochs    map[int]int16 // of the coordinator
	used      map[manifest.TransactionKey]bool
	lost      map[int]bool // ids with an answer that was lost
	seals     []ident.CheckpointID
	written   map[ident.CheckpointID]map[manifest.TransactionKey]int // by seal: transactions and their batches
	open      map[manifest.TransactionKey]int                        // of the current seal
	pending   map[manifest.TransactionKey]int
	listed    map[manifest.TransactionKey]ident.CheckpointID
	completed ident.CheckpointID
	last      ident.CheckpointID
	acked     ident.CheckpointID
	commits   int
}

func newWalk(seed uint64) *walk {
	return &walk{
		r: rand.New(rand.NewPCG(seed, 1)), p: testPool(4, 8), now: start, queues: map[Partition][]*Share{}, epochs: map[int]int16{},
		used: map[manifest.TransactionKey]bool{}, lost: map[int]bool{}, written: map[ident.CheckpointID]map[manifest.TransactionKey]int{},
		open: map[manifest.TransactionKey]int{}, pending: map[manifest.TransactionKey]int{}, listed: map[manifest.TransactionKey]ident.CheckpointID{},
	}
}

func keyOf(t *Transaction) manifest.TransactionKey {
	return manifest.TransactionKey{TransactionalID: t.ID(), ProducerID: t.ProducerID, ProducerEpoch: t.Epoch}
}

func (w *walk) init() {
	if len(w.inits) == 0 {
		return
	}
	i := w.r.IntN(len(w.inits))
	c := w.inits[i]
	w.inits = append(w.inits[:i], w.inits[i+1:]...)
	switch w.r.IntN(6) {
	case 0:
		w.lost[c.Number] = true
		w.p.InitFailed(w.now, c.Number, Unknown)
	case 1:
		w.p.InitFailed(w.now, c.Number, []Outcome{Unsent, Busy, Retriable}[w.r.IntN(3)])
	default:
		w.epochs[c.Number]++
		if w.r.IntN(20) == 0 {
			w.epochs[c.Number] = int16(32_690 + w.r.IntN(20))
		}
		e := w.epochs[c.Number]
		if e >= 32_766 {
			w.epochs[c.Number], e = 0, 0
		}
		w.p.Initialised(c.Number, int64(c.Number)<<20+int64(e)/32_690*int64(len(w.used)+1), e)
	}
}

func (w *walk) ask() {
	c, at := w.p.Next(w.now)
	switch c := c.(type) {
	case Init:
		if w.lost[c.Number] {
			w.fail("%s is used after an answer was lost", c.ID)
		}
		if w.inits = append(w.inits, c); len(w.inits) > 2 {
			w.fail("%d InitProducerId at once", len(w.inits))
		}
	case Add:
		for _, a := range w.adds {
			if a.Transaction == c.Transaction {
				w.fail("two adds at once for %s", c.Transaction.ID())
			}
		}
		w.adds = append(w.adds, c)
	case nil:
		if !at.IsZero() && !at.After(w.now) {
			w.fail("look again at %v, which is not after %v", at, w.now)
		}
	}
}

func (w *walk) add() {
	if len(w.adds) == 0 {
		return
	}
	i := w.r.IntN(len(w.adds))
	a := w.adds[i]
	w.adds = append(w.adds[:i], w.adds[i+1:]...)
	if w.r.IntN(4) == 0 {
		w.p.AddFailed(w.now, a, Outcome(w.r.IntN(int(Unknown)+1)))
		return
	}
	w.p.Added(a)
}

func (w *walk) write() {
	t := w.p.Current()
	if t == nil {
		return
	}
	k := keyOf(t)
	if t.Epoch >= 32_700 || w.lost[t.number] {
		w.fail("a transaction under %s", k)
	}
	if w.open[k] == 0 {
		if w.used[k] {
			w.fail("%s serves two transactions", k)
		}
		w.used[k] = true
	}
	at := Partition{"out", w.r.Int32N(3)}
	w.queues[at] = append(w.queues[at], w.p.Enter(at))
	w.open[k]++
	w.pending[k]++
}

func (w *walk) produce() {
	at := Partition{"out", w.r.Int32N(3)}
	q := w.queues[at]
	if len(q) == 0 {
		return
	}
	for _, later := range q {
		if later.Transaction() != q[0].Transaction() && w.p.MayProduce(later) {
			w.fail("a batch may overtake one of the transaction before")
		}
	}
	if w.p.MayProduce(q[0]) {
		w.p.Produced(q[0], -1, 1)
		w.pending[keyOf(q[0].Transaction())]--
		w.queues[at] = q[1:]
	}
}

func (w *walk) seal() {
	w.last += ident.CheckpointID(1 + w.r.IntN(2))
	w.p.Seal(w.last)
	w.seals = append(w.seals, w.last)
	w.written[w.last] = w.open
	w.open = map[manifest.TransactionKey]int{}
}

// ack compares a list with the books: all that was written up to the seal and is not announced.
func (w *walk) ack() {
	e, ok := w.p.NextAck()
	if !ok {
		return
	}
	if e.Checkpoint != w.seals[0] {
		w.fail("ack %d, want %d", e.Checkpoint, w.seals[0])
	}
	w.seals = w.seals[1:]
	w.acked = e.Checkpoint
	want := map[manifest.TransactionKey]bool{}
	for id, keys := range w.written {
		for k := range keys {
			if at, ok := w.listed[k]; id <= e.Checkpoint && (!ok || at > w.completed) {
				want[k] = true
			}
		}
	}
	for i := range e.Transactions {
		k := e.Transactions[i].Key()
		if !want[k] {
			w.fail("ack %d lists %s", e.Checkpoint, k)
		}
		delete(want, k)
		if w.pending[k] > 0 {
			w.fail("ack %d lists %s with %d batches on their way", e.Checkpoint, k, w.pending[k])
		}
		if _, ok := w.listed[k]; !ok {
			w.listed[k] = e.Checkpoint
		}
	}
	if len(want) > 0 {
		w.fail("ack %d does not list %v", e.Checkpoint, want)
	}
}

func (w *walk) complete() {
	if w.acked > w.completed {
		w.completed = w.acked // those between have failed
		w.commits++
		w.p.Completed(w.completed)
	}
}

func (w *walk) step() {
	w.now = w.now.Add(time.Duration(w.r.IntN(10)) * time.Millisecond)
	do := []func(){w.init, w.ask, w.ask, w.add, w.write, w.write, w.produce, w.produce, w.seal, w.ack, w.ack, w.complete, func() {
		l := w.p.Level()
		w.p.HandOut(l.Wanted - w.r.IntN(2))
		if limit := 8 + w.p.Burnt(); l.Wanted > limit {
			w.fail("%d ids are wanted with %d burnt", l.Wanted, w.p.Burnt())
		}
	}}
	do[w.r.IntN(len(do))]()
}

// breach is a rule that does not hold.
type breach string

func (w *walk) fail(format string, args ...any) { panic(breach(fmt.Sprintf(format, args...))) }

// run takes many steps, then lets time pass faster; the error is what was found wrong.
func (w *walk) run() (err error) {
	defer func() {
		if b, ok := recover().(breach); ok {
			err = errors.New(string(b))
		}
	}()
	for range 3000 {
		w.step()
	}
	before := w.commits
	for range 3000 {
		w.step()
		w.now = w.now.Add(time.Second)
	}
	if w.commits == before {
		w.fail("nothing was committed any more: %+v, waiting for %s", w.p.Level(), w.p.Waiting())
	}
	return nil
}

// TestWalk: at random, no producer id and epoch serves twice, no burnt id is used, every list is complete,
// the order across seals holds, and all goes on.
func TestWalk(t *testing.T) {
	commits := 0
	for seed := range uint64(60) {
		w := newWalk(seed)
		if err := w.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		commits += w.commits
	}
	if commits < 60*20 {
		t.Errorf("only %d commits: the walk goes nowhere", commits)
	}
}
