package commit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// coordinator is a model of Kafka's: what the newest epoch of each transactional id did.
type coordinator map[string]*idState

type idState struct {
	key  manifest.TransactionKey
	open bool
	done map[manifest.TransactionKey]bool // committed
}

func (c coordinator) of(id string) *idState {
	s := c[id]
	if s == nil {
		s = &idState{key: manifest.TransactionKey{TransactionalID: id, ProducerID: int64(len(c))}, done: map[manifest.TransactionKey]bool{}}
		c[id] = s
	}
	return s
}

// initProducerID aborts what is open and raises the epoch.
func (c coordinator) initProducerID(id string) manifest.TransactionKey {
	s := c.of(id)
	s.open = false
	s.key.ProducerEpoch++
	return s.key
}

func (c coordinator) begin(id string) manifest.TransactionKey {
	k := c.initProducerID(id)
	c.of(id).open = true
	return k
}

// endTxn commits, and commits what is committed once more, unless a newer epoch came.
func (c coordinator) endTxn(k manifest.TransactionKey) (refused bool) {
	s := c.of(k.TransactionalID)
	switch {
	case s.key != k:
		return true
	case s.open:
		s.open = false
		s.done[k] = true
	}
	return !s.done[k]
}

func (c coordinator) committed(k manifest.TransactionKey) bool {
	return c.of(k.TransactionalID).done[k]
}

func (c coordinator) ids() []string {
	var ids []string
	for id := range c {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// expire aborts one open transaction as brokers do after its timeout.
func (c coordinator) expire(rng *rand.Rand) {
	ids := c.ids()
	if len(ids) == 0 {
		return
	}
	if s := c[ids[rng.IntN(len(ids))]]; s.open {
		s.open = false
		s.key.ProducerEpoch++
	}
}

// restart ends the running attempt, if there is one, and begins the next.
func (w *walker) restart() {
	if w.running {
		w.over, w.running, w.sealed = w.attempt, false, nil
		w.step(AttemptOver{w.attempt})
	}
	w.attempt++
	w.running = true
	for range 1 + w.rng.IntN(2) {
		w.handOut(w.attempt)
	}
}

// handOut makes the count of a subtask rise. It also comes late, when the attempt was just given up.
func (w *walker) handOut(attempt ident.Attempt) {
	if attempt == 0 || attempt <= w.gone {
		return
	}
	k := HandoutKey{Attempt: attempt, Sink: "out", Subtask: w.rng.IntN(3)}
	h, ok := w.handouts[k]
	if !ok {
		h = Handout{HandoutKey: k, Cluster: "k", Prefix: fmt.Sprintf("%s/", k)}
	}
	h.Count += 1 + w.rng.IntN(2)
	w.handouts[k] = h
	w.step(HandedOut{h})
}

// seal writes a transaction under an id of an attempt which has nothing to be committed.
func (w *walker) seal(attempt ident.Attempt, running bool) {
	if running && !w.running {
		return
	}
	for _, k := range w.handoutKeys() {
		h := w.handouts[k]
		if k.Attempt != attempt || h.Count == 0 {
			continue
		}
		id := h.ID(w.rng.IntN(h.Count))
		if slices.ContainsFunc(w.sealed, func(s sealedTransaction) bool { return s.TransactionalID == id }) {
			continue
		}
		if slices.ContainsFunc(w.named(), func(k manifest.TransactionKey) bool { return k.TransactionalID == id && !w.marks[k] }) {
			continue // it stands in a manifest: no sink touches it before it is announced
		}
		key := w.kafka.begin(id)
		w.log = append(w.log, "a sink writes "+key.String())
		if running {
			w.sealed = append(w.sealed, sealedTransaction{Transaction: manifest.Transaction{Sink: k.Sink, Subtask: k.Subtask, Cluster: h.Cluster,
				TransactionalID: id, ProducerID: key.ProducerID, ProducerEpoch: key.ProducerEpoch}})
		}
		return
	}
}

// named are the transactions of all manifests.
func (w *walker) named() []manifest.TransactionKey {
	var list []manifest.TransactionKey
	for _, m := range w.acked {
		for i := range m.Transactions {
			list = append(list, m.Transactions[i].Key())
		}
	}
	return list
}

// zombie is a task manager that goes on after its attempt was given up, until it is gone.
func (w *walker) zombie() {
	if w.certain < w.over {
		w.seal(w.certain+1+ident.Attempt(w.rng.IntN(int(w.over-w.certain))), false)
	}
}

// complete makes a checkpoint durable; its acks list all that was sealed and not announced.
func (w *walker) complete() {
	if !w.running {
		return
	}
	w.checkpoint++
	m := &manifest.Manifest{Checkpoint: w.checkpoint, Fence: ident.Fence{Epoch: 1, Attempt: w.attempt}}
	for i := range w.sealed {
		s := &w.sealed[i]
		if s.listed != 0 && w.rng.IntN(2) == 0 {
			continue // the coordinator leaves out what is named, here it does so now and then
		}
		m.Transactions = append(m.Transactions, s.Transaction)
		if s.listed == 0 {
			s.listed = w.checkpoint
		}
	}
	w.rng.Shuffle(len(m.Transactions), func(i, j int) { m.Transactions[i], m.Transactions[j] = m.Transactions[j], m.Transactions[i] })
	w.acked = append(w.acked, m)
	w.step(Completed{m})
}

// finish stops the faults and demands the end.
func (w *walker) finish() {
	w.faults = false
	w.log = append(w.log, "no more faults")
	if w.running {
		w.over, w.running = w.attempt, false
		w.step(AttemptOver{w.attempt})
	}
	w.step(CleanUp{})
	if w.gone < w.attempt {
		w.gone, w.certain = w.attempt, w.attempt
		w.step(AttemptGone{w.attempt})
	}
	for range 100_000 {
		if len(w.open) > 0 {
			w.answer()
			continue
		}
		next := w.m.Deadline()
		if next.IsZero() {
			break
		}
		w.now = next
		w.step(Tick{})
	}
	if !w.cleaned || w.m.Status().Reason != "" || w.now.Sub(epochStart) > time.Hour {
		w.fatalf("not cleaned up, or with a reason: %+v", w.m.Status())
	}
	for _, id := range w.kafka.ids() {
		if w.kafka[id].open {
			w.fatalf("%s is left open", id)
		}
	}
	w.finishedCheckpoints()
}

// finishedCheckpoints checks that every checkpoint before the first loss is announced, and every loss told.
func (w *walker) finishedCheckpoints() {
	for _, m := range w.acked {
		whole := true
		for i := range m.Transactions {
			k := m.Transactions[i].Key()
			if !w.marks[k] && !w.kafka.committed(k) && !w.expiry {
				w.fatalf("%s of checkpoint %d is not committed", k, m.Checkpoint)
			}
			whole = whole && w.marks[k]
		}
		if !whole {
			if w.announced >= m.Checkpoint || len(w.told) == 0 {
				w.fatalf("checkpoint %d is lost, announced is %d, told %v", m.Checkpoint, w.announced, w.told)
			}
			return
		}
		if m.Checkpoint > max(w.announced, w.late) {
			w.fatalf("checkpoint %d is not announced", m.Checkpoint)
		}
	}
}
