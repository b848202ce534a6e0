package transaction

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/operator"
)

var start = time.UnixMilli(1_700_000_000_000)

func testPool(owned, limit int) *Pool {
	return NewPool(Config{Sink: "out", Subtask: 3, Cluster: "a:1", Prefix: "c/j/out/3/7/", Owned: owned, Cap: limit, Timeout: time.Minute})
}

// harness answers a pool's calls at once, as a broker does that is well.
type harness struct {
	*Pool
	t     *testing.T
	now   time.Time
	next  int64 // producer id
	epoch map[int]int16
}

func newHarness(t *testing.T, owned, limit int) *harness {
	return &harness{Pool: testPool(owned, limit), t: t, now: start, next: 100, epoch: map[int]int16{}}
}

// well performs calls until there is none.
func (h *harness) well() {
	h.t.Helper()
	for range 1000 {
		c, _ := h.Next(h.now)
		switch c := c.(type) {
		case Init:
			h.init(c)
		case Add:
			h.Added(c)
		default:
			return
		}
	}
	h.t.Fatal("the pool never has enough")
}

func (h *harness) init(c Init) {
	h.epoch[c.Number]++
	h.Initialised(c.Number, int64(c.Number), h.epoch[c.Number])
}

// call wants a call of a kind.
func call[T Call](h *harness) T {
	h.t.Helper()
	c, at := h.Next(h.now)
	got, ok := c.(T)
	if !ok {
		h.t.Fatalf("the next call is %#v (look again at %v), want a %T", c, at, got)
	}
	return got
}

func (h *harness) quiet() {
	h.t.Helper()
	if c, _ := h.Next(h.now); c != nil {
		h.t.Fatalf("the next call is %#v, want none", c)
	}
}

func (h *harness) ack(checkpoint uint64, ids ...string) {
	h.t.Helper()
	e, ok := h.NextAck()
	var got []string
	for i := range e.Transactions {
		got = append(got, e.Transactions[i].TransactionalID)
	}
	if !ok || uint64(e.Checkpoint) != checkpoint || !slices.Equal(got, ids) {
		h.t.Fatalf("ack %v %d of %q, want %d of %q", ok, e.Checkpoint, got, checkpoint, ids)
	}
}

func (h *harness) noAck() {
	h.t.Helper()
	if e, ok := h.NextAck(); ok {
		h.t.Fatalf("ack %+v, want none", e)
	}
}

func (h *harness) level(ready, wanted int) {
	h.t.Helper()
	if got := h.Level(); got != (operator.TransactionLevel{Ready: ready, Wanted: wanted}) {
		h.t.Fatalf("level %+v, want %d ready and %d wanted", got, ready, wanted)
	}
}

var p0, p1 = Partition{"out", 0}, Partition{"out", 1}

const prefix = "c/j/out/3/7/"

// TestAhead: ids are initialised ahead of need, two at a time, and no more than needed.
func TestAhead(t *testing.T) {
	h := newHarness(t, 4, 8)
	h.level(0, 4)
	a, b := call[Init](h), call[Init](h)
	if a.ID != prefix+"0" || b.ID != prefix+"1" {
		t.Errorf("ids %q and %q", a.ID, b.ID)
	}
	h.quiet()
	if h.Current() != nil {
		t.Error("a transaction without a producer id")
	}
	h.init(b)
	if c := h.Current(); c == nil || c.ID() != prefix+"1" || c.ProducerID != 1 || c.Epoch != 1 {
		t.Fatalf("current %+v", c)
	}
	h.level(0, 4)
	h.init(a)
	h.level(1, 4)
	h.init(call[Init](h))
	h.level(2, 4)
	h.quiet()
	h.init(a) // a late answer changes nothing
	h.level(2, 4)
	h.InitFailed(h.now, a.Number, Unknown)
	if h.Burnt() != 0 {
		t.Error("an id was burnt that had no call on its way")
	}
}

// TestLife: one transaction after the other, each named with what was written.
func TestLife(t *testing.T) {
	h := newHarness(t, 4, 8)
	h.well()
	first := h.Current()
	a := h.Enter(p0)
	if h.MayProduce(a) {
		t.Error("a batch may be produced before its partition was added")
	}
	if h.Enter(p0) != a || h.Enter(p1) == a {
		t.Error("shares")
	}
	add := call[Add](h)
	if add.Transaction != first || !slices.Equal(add.Partitions, []Partition{p0, p1}) {
		t.Fatalf("add %+v", add)
	}
	h.quiet()
	h.now = h.now.Add(time.Second)
	h.Added(add)
	if !h.MayProduce(a) {
		t.Error("a batch may not be produced")
	}
	if n := []int32{a.Number(5), a.Number(7), a.Number(1)}; !slices.Equal(n, []int32{0, 5, 12}) {
		t.Errorf("sequence %d", n)
	}
	h.Produced(a, 40, 5)
	h.Seal(1)
	h.noAck()
	if h.Current() == first || h.Current() == nil {
		t.Fatal("the flow does not go on")
	}
	if h.Produced(a, 50, 7) != true {
		t.Error("nothing may be sealed")
	}
	h.noAck()
	h.Produced(h.newest[p1], -1, 3)
	e, ok := h.NextAck()
	want := manifest.Transaction{Sink: "out", Subtask: 3, Cluster: "a:1", TransactionalID: prefix + "0", ProducerID: 0, ProducerEpoch: 1, StartedAt: start, TimeoutMs: 60_000,
		Partitions: []manifest.TopicPartition{{Topic: "out", Partition: 0, FirstOffset: 40, LastOffset: 56}, {Topic: "out", Partition: 1, FirstOffset: -1, LastOffset: -1}}}
	if !ok || fmt.Sprint(e.Transactions) != fmt.Sprint([]manifest.Transaction{want}) {
		t.Fatalf("ack %v %+v\nwant %+v", ok, e.Transactions, want)
	}
	h.noAck()
	h.Completed(1)
	h.well()
	h.level(2, 4)
	for range 4 {
		h.Seal(2) // empty: costs nothing
		h.ack(2)
	}
	h.quiet()
	h.level(2, 4)
}

// write puts a batch into the current transaction and answers it.
func (h *harness) write(at Partition) {
	h.t.Helper()
	s := h.Enter(at)
	h.well()
	if !h.MayProduce(s) {
		h.t.Fatalf("a batch of %v may not be produced", at)
	}
	s.Number(1)
	h.Produced(s, -1, 1)
}

// TestCumulative: what no completed checkpoint covered travels with the next ack, and stays sealed until it
// is announced.
func TestCumulative(t *testing.T) {
	h := newHarness(t, 4, 8)
	h.well()
	for n := range uint64(2) {
		h.write(p0)
		h.Seal(identOf(n + 1))
	}
	h.ack(1, prefix+"0") // the transaction of barrier 2 is none of checkpoint 1
	h.ack(2, prefix+"0", prefix+"1")
	h.write(p1)
	h.Seal(3)
	h.ack(3, prefix+"0", prefix+"1", prefix+"2")
	h.Completed(2)
	h.Seal(4)
	h.ack(4, prefix+"2")
	h.Completed(1)
	h.Completed(0)
	h.Seal(5)
	h.ack(5, prefix+"2")
	h.Completed(9)
	h.Seal(10)
	h.ack(10)
	h.well()
	h.level(2, 4)
}

// TestSealsOfOneFlight: the ack of a checkpoint waits for older transactions, not for newer ones.
func TestSealsOfOneFlight(t *testing.T) {
	h := newHarness(t, 4, 8)
	h.well()
	a := h.Enter(p0)
	h.well()
	h.Seal(1)
	b := h.Enter(p1)
	h.well()
	h.Seal(2)
	h.Produced(b, 1, 1)
	h.noAck()
	c := h.Enter(p1)
	h.well()
	h.Produced(a, 1, 1)
	h.ack(1, prefix+"0")
	h.ack(2, prefix+"0", prefix+"1")
	h.Seal(3)
	h.noAck()
	h.Produced(c, 1, 1)
	h.ack(3, prefix+"0", prefix+"1", prefix+"2")
}

// TestOrder: within a partition, a transaction waits for the one before; beside it, it does not.
func TestOrder(t *testing.T) {
	h := newHarness(t, 4, 8)
	h.well()
	a := h.Enter(p0)
	h.Again(a)
	h.well()
	h.Seal(1)
	b, other := h.Enter(p0), h.Enter(p1)
	h.well()
	if h.MayProduce(b) || !h.MayProduce(other) || !h.MayProduce(a) {
		t.Errorf("may produce %v %v %v", h.MayProduce(b), h.MayProduce(other), h.MayProduce(a))
	}
	h.Produced(a, 0, 1)
	if h.MayProduce(b) {
		t.Error("half of the transaction before is enough")
	}
	h.Produced(a, 1, 1)
	if !h.MayProduce(b) {
		t.Error("the transaction before still holds a batch back")
	}
}

// TestAddIsRepeated: an answer that was lost is asked for again until it is known, with what came since; the
// age counts from the first time, and the ack waits.
func TestAddIsRepeated(t *testing.T) {
	h := newHarness(t, 4, 8)
	h.well()
	a := h.Enter(p0)
	add := call[Add](h)
	b := h.Enter(p1)
	h.quiet()
	h.Seal(1)
	h.init(call[Init](h))
	first := h.now
	wait := []time.Duration{20, 40, 80}
	for i, o := range []Outcome{Unknown, Retriable, Unsent} {
		h.AddFailed(h.now, add, o)
		_, at := h.Next(h.now)
		if got := at.Sub(h.now); got != wait[i]*time.Millisecond {
			t.Errorf("after %d failures it waits %s", i+1, got)
		}
		h.now = at
		if add = call[Add](h); !slices.Equal(add.Partitions, []Partition{p0, p1}) || !add.Since.Equal(first) || !add.Transaction.StartedAt.Equal(first) {
			t.Fatalf("add %+v", add)
		}
	}
	h.AddFailed(h.now, add, Busy)
	h.now = h.now.Add(busyPause)
	add = call[Add](h)
	h.noAck()
	h.Added(add)
	h.Produced(a, 0, 1)
	h.noAck()
	h.Produced(b, 0, 1)
	h.ack(1, prefix+"0")
	if tx := add.Transaction; tx.Expired(first.Add(time.Minute-1)) || !tx.Expired(first.Add(time.Minute)) {
		t.Error("expiry")
	}
	if h.Current().Expired(first.Add(time.Hour)) {
		t.Error("a transaction expired that has not begun")
	}
}
