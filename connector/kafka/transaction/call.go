package transaction

import "time"

// Call is what is to be asked of the transaction coordinator: an Init or an Add.
type Call interface{ call() }

// Init is an InitProducerId for an id that has nothing open; answered by Initialised or InitFailed. It is
// sent at most once.
type Init struct {
	Number int
	// ID is the transactional id.
	ID string
}

// Add is an AddPartitionsToTxn; answered by Added or AddFailed. There is one at a time per transaction.
type Add struct {
	Transaction *Transaction
	Partitions  []Partition
	// Since is when the first of the calls that failed in a row was sent; of the first one, now.
	Since time.Time

	shares []*Share
}

func (Init) call() {}
func (Add) call()  {}

// Outcome is how a call failed that can be made again. An answer that cannot change by itself is none of
// these: it ends the attempt.
type Outcome uint8

// The outcomes.
const (
	// Unsent is a call of which not a byte was written.
	Unsent Outcome = iota
	// Busy is CONCURRENT_TRANSACTIONS: the transaction before is still being completed.
	Busy
	// Retriable is another answer after which the same call can succeed.
	Retriable
	// Unknown is a call that was sent and not answered: it may be carried out at any time.
	Unknown
)

// Next is what to ask the coordinator now, nil for nothing; then at is when there may be something without
// any other event, zero for never. What it returns counts as sent.
func (p *Pool) Next(now time.Time) (c Call, at time.Time) {
	if add, ok := p.nextAdd(now, &at); ok {
		return add, time.Time{}
	}
	p.refresh(now, &at)
	if init, ok := p.nextInit(now, &at); ok {
		return init, time.Time{}
	}
	return nil, at
}

// nextAdd prefers older transactions: what waits for them is older.
func (p *Pool) nextAdd(now time.Time, at *time.Time) (Add, bool) {
	for _, t := range p.sealed {
		if t.wantsAdd(now, at) {
			return t.add(now), true
		}
	}
	if t := p.current; t != nil && t.wantsAdd(now, at) {
		return t.add(now), true
	}
	return Add{}, false
}

func (t *Transaction) wantsAdd(now time.Time, at *time.Time) bool {
	if t.adding || len(t.missing) == 0 {
		return false
	}
	return due(now, t.notBefore, at)
}

// add takes all partitions that are missing into one call. The transaction is open from now on, as far as
// anybody can know.
func (t *Transaction) add(now time.Time) Add {
	if t.StartedAt.IsZero() {
		t.StartedAt = now
	}
	if t.tries == 0 {
		t.since = now
	}
	a := Add{Transaction: t, Since: t.since, shares: t.missing, Partitions: make([]Partition, len(t.missing))}
	for i, s := range t.missing {
		a.Partitions[i] = s.at
	}
	t.missing, t.adding = nil, true
	return a
}

// Added says that the partitions of a call are in the transaction: their batches may be produced.
func (p *Pool) Added(a Add) {
	t := a.Transaction
	t.adding, t.tries, t.notBefore = false, 0, time.Time{}
	for _, s := range a.shares {
		s.added = true
	}
}

// AddFailed brings the failure of a call. It is repeated until its outcome is known, together with what came
// since.
func (p *Pool) AddFailed(now time.Time, a Add, o Outcome) {
	t := a.Transaction
	t.adding = false
	t.missing = append(a.shares, t.missing...)
	t.unsure = t.unsure || o == Unknown
	t.tries++
	t.notBefore = now.Add(pause(o, t.tries))
}

// refresh lets producer ids be asked for again that nobody has used for long. The current one is replaced
// by a ready one, so that a writer always finds one that was there before.
func (p *Pool) refresh(now time.Time, at *time.Time) {
	if t := p.current; t != nil && len(t.shares) == 0 && len(p.ready) > 0 && t.stale(now, at) {
		p.free(t)
		p.current = nil
		p.promote()
	}
	for len(p.ready) > 0 && p.ready[0].stale(now, at) {
		p.free(p.ready[0])
		p.ready = append(p.ready[:0], p.ready[1:]...)
	}
}

// stale says whether the producer id was kept for too long.
func (t *Transaction) stale(now time.Time, at *time.Time) bool {
	if t.readySince.IsZero() {
		t.readySince = now
	}
	return due(now, t.readySince.Add(keepFor), at)
}

// nextInit keeps transactions ready ahead of need. Ids that are unsure are asked for at once: a late copy of
// an Add would begin a transaction that nobody ends.
func (p *Pool) nextInit(now time.Time, at *time.Time) (Init, bool) {
	want, limit := ahead, maxInits
	if p.current == nil {
		want++
	}
	if p.burns > 0 {
		limit = 1 // one at a time finds out whether answers come again
	}
	if p.initialising >= limit {
		return Init{}, false
	}
	enough := len(p.ready)+p.initialising >= want
	for i, n := range p.idle {
		if enough && !p.ids[n].unsure {
			continue
		}
		if due(now, p.notBefore, at) && due(now, p.ids[n].notBefore, at) {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			p.ids[n].state = initialising
			p.initialising++
			return Init{Number: n, ID: p.ID(n)}, true
		}
	}
	return Init{}, false
}

// due says whether a time has come; if not, at becomes that time if it is sooner.
func due(now, when time.Time, at *time.Time) bool {
	if !when.After(now) {
		return true
	}
	if at.IsZero() || when.Before(*at) {
		*at = when
	}
	return false
}
