// Package transaction decides how one subtask of a transactional sink uses its transactional ids in one
// attempt: which id gets a producer id next, which one is burnt, what belongs to which transaction, when a
// checkpoint is acknowledged and what the job manager must commit (DESIGN rules 3 and 7 to 12). It is pure:
// the sink performs the calls to Kafka under its own lock and brings the answers back.
//
// Nothing here ever ends a transaction. The job manager alone commits, and alone fences what is left over.
package transaction

import (
	"strconv"
	"time"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/operator"
)

const (
	// maxEpoch is the first epoch that no transaction may have: near the end of its range Kafka rotates
	// the producer id, and must never do that to an open transaction.
	maxEpoch = 32_700
	// ahead is how many transactions are kept ready beside the current one.
	ahead = 2
	// maxInits is how many InitProducerId may be on their way at once.
	maxInits = 2
	// keepFor is how long a producer id is kept ready without being asked for again. Brokers forget a
	// transactional id that was not used for a while, seven days if nobody says otherwise, and may be told to do so much sooner.
	keepFor = 10 * time.Minute
	// spareBusy is how often in a row the coordinator may have said of an id that it is busy, and it is still counted on: about
	// a second. It completes the transaction before, which takes as long as one of its partitions has no leader.
	spareBusy = 10
	// pauses after calls that failed, doubling up to the longest: of a call that costs nothing to repeat, of
	// one that cost an id, and of one to a coordinator that is soon free again.
	firstPause, longPause, burntPause, busyPause = 20 * time.Millisecond, time.Second, 5 * time.Second, 100 * time.Millisecond
)

// Config says what the transactions are called, and how many there may be.
type Config struct {
	// Sink, Subtask and Cluster are what the manifest says of each transaction.
	Sink    string
	Subtask int
	Cluster string
	// Prefix ends with a slash; the n-th transactional id is Prefix followed by n in decimal.
	Prefix string
	// Owned is the number of ids at the start; Cap bounds the number of ids that are not burnt.
	Owned, Cap int
	// Timeout is transaction.timeout.ms.
	Timeout time.Duration
}

// Pool holds the ids and the transactions of a sink subtask. The zero value is of no use. It is not safe for
// concurrent use.
type Pool struct {
	cfg Config
	ids []id // by number; all that were handed out
	// idle wait for an InitProducerId, in this order.
	idle []int
	// initialising counts InitProducerId on their way.
	initialising int
	// burns counts burnt ids since the last answer; no InitProducerId is sent before notBefore.
	burns     int
	notBefore time.Time
	burnt     int

	ready   []*Transaction
	current *Transaction
	sealed  []*Transaction // not known to be committed, in the order of their seals
	seals   []ident.CheckpointID
	newest  map[Partition]*Share
}

// id is what is known of one transactional id.
type id struct {
	state     state
	unsure    bool // a late copy of an Add may arrive under its epoch
	tries     int  // failures in a row
	busy      int  // times in a row that the coordinator was busy with it
	notBefore time.Time
}

type state uint8

const (
	idle         state = iota // wants an InitProducerId
	initialising              // has one on its way
	used                      // ready, current or sealed
	burnt                     // has one whose answer was lost: never used again in this attempt
)

// NewPool makes a pool that owns the first ids.
func NewPool(cfg Config) *Pool {
	p := &Pool{cfg: cfg, newest: map[Partition]*Share{}}
	p.HandOut(cfg.Owned)
	return p
}

// HandOut says that the pool owns all ids below this number. A lower number than before changes nothing:
// it never revives an id.
func (p *Pool) HandOut(below int) {
	for n := len(p.ids); n < below; n++ {
		p.ids = append(p.ids, id{})
		p.idle = append(p.idle, n)
	}
}

// Level is how many transactions can begin beside the current one, and how many ids the pool would like to
// own: one more when none is left, up to the cap, and one for each that is burnt.
func (p *Pool) Level() operator.TransactionLevel {
	owned := len(p.ids)
	wanted := max(owned, p.cfg.Owned+p.burnt)
	if p.spare() == 0 {
		wanted = max(wanted, min(owned+1, p.cfg.Cap+p.burnt))
	}
	return operator.TransactionLevel{Ready: len(p.ready), Wanted: wanted}
}

// spare counts the ids that can still become the current transaction.
func (p *Pool) spare() int {
	n := len(p.ready)
	for i := range p.ids {
		if s := p.ids[i].state; (s == idle || s == initialising) && p.ids[i].busy < spareBusy {
			n++
		}
	}
	return n
}

// Burnt counts the ids that are lost for this attempt.
func (p *Pool) Burnt() int { return p.burnt }

// Waiting says what a pool without a current transaction waits for.
func (p *Pool) Waiting() string {
	switch {
	case p.spare() > 0:
		return "a producer id from the transaction coordinator"
	case len(p.idle)+p.initialising > 0:
		return "a producer id from the transaction coordinator, which refuses " + strconv.Itoa(len(p.idle)+p.initialising) + " transactional ids again and again: it may still be completing the transactions before"
	case len(p.ids) >= p.cfg.Cap+p.burnt:
		return "the commit of a checkpoint: all " + strconv.Itoa(len(p.sealed)) + " transactional ids hold transactions that are not committed"
	default:
		return "another transactional id from the job manager"
	}
}

// ID is the n-th transactional id.
func (p *Pool) ID(n int) string { return p.cfg.Prefix + strconv.Itoa(n) }

// Initialised brings the answer to an Init. The id is ready with a producer id and epoch that serve one
// transaction, unless the epoch is too high: then it is asked again until the producer id rotates.
func (p *Pool) Initialised(n int, producerID int64, epoch int16) {
	if !p.answered(n) {
		return
	}
	p.burns, p.notBefore = 0, time.Time{}
	if epoch >= maxEpoch {
		p.ids[n] = id{}
		p.idle = append([]int{n}, p.idle...)
		return
	}
	p.ids[n] = id{state: used}
	p.ready = append(p.ready, p.transaction(n, producerID, epoch))
	p.promote()
}

// InitFailed brings the failure of an Init. If the request may have been carried out, the id is burnt: a
// late copy of it would abort whatever the id has open then.
func (p *Pool) InitFailed(now time.Time, n int, o Outcome) {
	if !p.answered(n) {
		return
	}
	i := &p.ids[n]
	if o == Unknown && !failpoint.Bug(failpoint.ReuseBurntID) {
		i.state = burnt
		p.burnt++
		p.burns++
		p.notBefore = now.Add(pause(o, p.burns))
		return
	}
	i.state = idle
	i.tries++
	if i.busy++; o != Busy {
		i.busy = 0
	}
	i.notBefore = now.Add(pause(o, i.tries))
	p.idle = append(p.idle, n)
}

// answered takes an Init off those that are on their way; false if it is none of them.
func (p *Pool) answered(n int) bool {
	if n < 0 || n >= len(p.ids) || p.ids[n].state != initialising {
		return false
	}
	p.initialising--
	return true
}

// promote makes the oldest ready transaction the current one if there is none.
func (p *Pool) promote() {
	if p.current == nil && len(p.ready) > 0 {
		p.current = p.ready[0]
		p.ready = append(p.ready[:0], p.ready[1:]...)
	}
}

func (p *Pool) transaction(n int, producerID int64, epoch int16) *Transaction {
	return &Transaction{pool: p, id: p.ID(n), number: n, ProducerID: producerID, Epoch: epoch}
}

// free gives the id of a transaction that is over back.
func (p *Pool) free(t *Transaction) {
	t.shares = nil // the newest share of a partition may outlive its transaction for long
	if failpoint.Bug(failpoint.ReuseEpoch) {
		p.ready = append(p.ready, p.transaction(t.number, t.ProducerID, t.Epoch))
		return
	}
	p.ids[t.number] = id{unsure: t.unsure}
	p.idle = append(p.idle, t.number)
}

// pause is how long to wait after so many failures in a row.
func pause(o Outcome, tries int) time.Duration {
	limit := longPause
	switch o {
	case Busy:
		limit = busyPause
	case Unknown:
		limit = burntPause
	}
	d := firstPause
	for i := 1; i < tries && d < limit; i++ {
		d *= 2
	}
	return min(d, limit)
}
