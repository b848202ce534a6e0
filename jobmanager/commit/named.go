package commit

import (
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
)

// state is how far the commit of a transaction is.
type state int

const (
	waiting   state = iota + 1 // for its turn, or for another try
	sent                       // EndTxn is on its way
	committed                  // answered OK, not marked yet
	marked                     // durably
	lost                       // refused for good
)

// transaction is one that a completed checkpoint names.
type transaction struct {
	manifest.Transaction
	checkpoint *completedCheckpoint // the first that names it
	state      state
	failures   int
	err        error // why it is lost
}

// completedCheckpoint is one that is not announced yet.
type completedCheckpoint struct {
	id           ident.CheckpointID
	named        time.Time // when it was completed; after a start, the time of the first event
	transactions []*transaction
	told         bool // Lost was emitted
}

// ready says that each transaction is marked or lost.
func (c *completedCheckpoint) ready() bool {
	return !slices.ContainsFunc(c.transactions, func(t *transaction) bool {
		return t.state < marked && !(t.state == committed && failpoint.Bug(failpoint.AnnounceBeforeMark))
	})
}

// lost are the transactions that were refused for good.
func (c *completedCheckpoint) lost() []LostTransaction {
	var list []LostTransaction
	for _, t := range c.transactions {
		if t.state == lost {
			list = append(list, LostTransaction{t.Transaction, t.err})
		}
	}
	return list
}

// producer is a transactional id as one producer id owns it. Its epochs serve one transaction each, in
// rising order, and the next one begins only when the one before is announced.
type producer struct {
	id         string
	producerID int64
}

// names is what completed checkpoints name.
type names struct {
	open   []*completedCheckpoint // not announced, ascending
	newest ident.CheckpointID
	// unmarked are neither marked nor lost; byID counts them per transactional id.
	unmarked map[manifest.TransactionKey]*transaction
	byID     map[string]int
	// seen is the highest epoch ever named, per attempt that is not gone: what a late or repeated ack lists
	// again is not committed again, and remembering costs as much as there are ids.
	seen  map[ident.Attempt]map[producer]int16
	lost  int
	begun bool
}

func newNames() names {
	return names{unmarked: map[manifest.TransactionKey]*transaction{}, byID: map[string]int{}, seen: map[ident.Attempt]map[producer]int16{}}
}

// begin dates what the start brought.
func (n *names) begin(now time.Time) {
	if n.begun {
		return
	}
	n.begun = true
	for _, c := range n.open {
		c.named = now
	}
}

// since is when the oldest checkpoint with an unmarked transaction completed.
func (n *names) since() time.Time {
	for _, c := range n.open {
		if slices.ContainsFunc(c.transactions, func(t *transaction) bool { return t.state < marked }) {
			return c.named
		}
	}
	return time.Time{}
}

// over says whether a transaction that is not unmarked was named before: it is marked or lost.
func (n *names) over(attempt ident.Attempt, k manifest.TransactionKey) bool {
	epoch, ok := n.seen[attempt][producer{k.TransactionalID, k.ProducerID}]
	return ok && k.ProducerEpoch <= epoch
}

// remember takes a transaction into seen.
func (n *names) remember(attempt ident.Attempt, k manifest.TransactionKey) {
	of := n.seen[attempt]
	if of == nil {
		of = map[producer]int16{}
		n.seen[attempt] = of
	}
	p := producer{k.TransactionalID, k.ProducerID}
	if epoch, ok := of[p]; !ok || epoch < k.ProducerEpoch {
		of[p] = k.ProducerEpoch
	}
}

// completed takes a checkpoint that is durable. Ids of checkpoints only rise.
func (m *Machine) completed(ev Completed) {
	if id := ev.Manifest.Checkpoint; id <= m.named.newest {
		m.ignore(ev, "checkpoint %d completed before", m.named.newest)
		return
	}
	m.name(ev.Manifest.Checkpoint, ev.Manifest.Fence.Attempt, ev.Manifest.Transactions)
	m.announce()
}

// name begins the commits of a checkpoint.
func (m *Machine) name(id ident.CheckpointID, attempt ident.Attempt, transactions []manifest.Transaction) {
	n := &m.named
	n.newest = max(n.newest, id)
	c := &completedCheckpoint{id: id, named: m.now}
	n.open = append(n.open, c)
	for i := range transactions {
		key := transactions[i].Key()
		if t := n.unmarked[key]; t != nil {
			c.transactions = append(c.transactions, t)
			continue
		}
		if n.over(attempt, key) {
			continue
		}
		t := &transaction{Transaction: transactions[i], checkpoint: c, state: waiting}
		c.transactions = append(c.transactions, t)
		n.unmarked[key] = t
		n.byID[t.TransactionalID]++
		m.lane(t.Cluster).commits.push(t, m.now)
	}
	// only now: a manifest may list epochs of one id in any order
	for i := range transactions {
		n.remember(attempt, transactions[i].Key())
	}
}

// committed takes the answer to Commit.
func (m *Machine) committed(ev Committed) {
	t := m.named.unmarked[ev.Key]
	if t == nil || t.state != sent {
		m.ignore(ev, "no commit of it is on its way")
		return
	}
	l := m.lane(t.Cluster)
	l.committing--
	switch {
	case ev.Refused:
		m.succeeded(&t.failures) // there is no other try
		t.state, t.err = lost, ev.Err
		m.named.lost++
		m.resolve(t)
		m.announce()
	case ev.Err != nil:
		t.state = waiting
		l.commits.push(t, m.failed(&t.failures, "commit "+t.Key().String(), ev.Err))
	default:
		m.succeeded(&t.failures)
		t.state = committed
		m.marks.add(ev.Key, m.now)
		if failpoint.Bug(failpoint.AnnounceBeforeMark) {
			m.announce()
		}
	}
}

// marked takes the answer to Mark.
func (m *Machine) marked(ev Marked) {
	if len(ev.Keys) == 0 || !slices.Equal(ev.Keys, m.marks.writing) {
		m.ignore(ev, "no such write is on its way")
		return
	}
	if ev.Err != nil {
		m.failed(&m.marks.failures, "write committed marks", ev.Err)
		m.marks.again(m.now)
		return
	}
	m.succeeded(&m.marks.failures)
	m.marks.writing = nil
	for _, k := range ev.Keys {
		t := m.named.unmarked[k]
		t.state = marked
		m.resolve(t)
	}
	m.announce()
}

// resolve ends the wait of the id that a transaction stood on.
func (m *Machine) resolve(t *transaction) {
	n := &m.named
	delete(n.unmarked, t.Key())
	if n.byID[t.TransactionalID]--; n.byID[t.TransactionalID] > 0 {
		return
	}
	delete(n.byID, t.TransactionalID)
	if f := m.fences.ids[t.TransactionalID]; f != nil {
		m.demand(f)
	}
}

// announce tells of what is complete: losses of any checkpoint, and of those without a loss as many as stand
// at the head. A loss is never passed.
func (m *Machine) announce() {
	n := &m.named
	for _, c := range n.open {
		if c.told || !c.ready() {
			continue
		}
		if found := c.lost(); len(found) > 0 {
			c.told = true
			m.emit(Lost{Checkpoint: c.id, Transactions: found})
		}
	}
	for len(n.open) > 0 && n.open[0].ready() && !n.open[0].told {
		m.emit(Announce{n.open[0].id})
		n.open = n.open[1:]
	}
}
