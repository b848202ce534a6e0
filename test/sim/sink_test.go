package sim

import (
	"slices"
	"strconv"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/transaction"
	"github.com/sluice-stream/sluice/ident"
	jobcore "github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/taskmanager/subtask"
)

// sinkPartitions is how many output partitions each sink writes to; no other sink does.
const sinkPartitions = 2

// lastEpoch is the first epoch that no transaction may have (DESIGN rule 10).
const lastEpoch = 32_700

// sinkTask is the shell around the id pool of one sink subtask, as the sink and its subtask have it.
type sinkTask struct {
	w  *world
	tm *taskManager
	in *instance
	// incarnation is the process that it belongs to: what is sent to it later must not find it in the next one.
	incarnation int
	flow        *flow
	pool        *transaction.Pool
	aligner     *subtask.Aligner
	blocked     []bool // inputs that wait for a barrier
	lanes       []lane // by output partition
	batches     int
	// pendingAck is the checkpoint whose ack waits for the pool; 0: none.
	pendingAck ident.CheckpointID
	told       operator.TransactionLevel
	wakeAt     time.Duration // when the timer is set to; 0: not set
	stopped    bool
	mistakes
}

// lane is one output partition: batches in order, one on its way at a time.
type lane struct {
	queue   []*batch
	waits   bool
	retryAt time.Duration
	tries   int
}

// batch is what is produced at once.
type batch struct {
	share    *transaction.Share
	sequence int32
	entry    entry
	answered bool
}

func newSinkTask(tm *taskManager, in *instance, ids handedIDs) *sinkTask {
	w := tm.w
	s := &sinkTask{
		w: w, tm: tm, in: in, incarnation: tm.incarnation, flow: w.flowOf(in.job, in.fence), aligner: subtask.NewAligner(len(in.job.sources)),
		blocked: make([]bool, len(in.job.sources)), lanes: make([]lane, sinkPartitions),
		pool: transaction.NewPool(transaction.Config{
			Sink: sinkName, Subtask: in.subtask.Index, Cluster: cluster, Prefix: ids.prefix, Owned: ids.count,
			Cap: tolerable + 3, Timeout: w.transactionTimeout,
		}),
	}
	s.flow.sinks[in.subtask.Index] = s
	return s
}

// wake does all that can be done now, unless the process is gone or stands still.
func (s *sinkTask) wake() {
	if s.stopped || s.in.over || !s.tm.alive || s.tm.incarnation != s.incarnation || s.in.state != jobcore.SubtaskRunning && s.in.state != jobcore.SubtaskAtEnd || s.tm.paused() {
		return
	}
	for s.read() {
	}
	at := s.calls()
	for i := range s.lanes {
		if l := &s.lanes[i]; !l.waits && len(l.queue) > 0 {
			s.produce(i, &at)
		}
	}
	for !s.stopped {
		ack, ok := s.pool.NextAck()
		if !ok {
			break
		}
		s.sealed(ack)
	}
	if level := s.pool.Level(); level != s.told && !s.stopped {
		s.told = level
		s.tellLevel()
	}
	s.arm(at)
}

// arm lets the sink wake at a time.
func (s *sinkTask) arm(at time.Time) {
	if at.IsZero() || s.stopped {
		return
	}
	due := max(at.Sub(start), s.w.now)
	if s.wakeAt > s.w.now && s.wakeAt <= due {
		return
	}
	s.wakeAt = due
	s.tm.later(due-s.w.now, func() {
		if s.wakeAt == due {
			s.wakeAt = 0
			s.wake()
		}
	})
}

func (s *sinkTask) tellLevel() {
	in, level := s.in, s.told
	s.tm.stream.levelToJM(func(jm *jobManager) { jm.onLevel(in.job, in.fence, in.subtask, level) })
}

// read takes one element, if an input has one that may pass.
func (s *sinkTask) read() bool {
	if s.in.ending || s.stopped {
		return false
	}
	for i, first := 0, s.w.rng.IntN(len(s.blocked)); i < len(s.blocked); i++ {
		source := (first + i) % len(s.blocked)
		l := s.flow.links[source][s.in.subtask.Index]
		if s.blocked[source] || len(l.arrived) == 0 {
			continue
		}
		e := l.arrived[0]
		if e.barrier == 0 && s.pool.Current() == nil {
			continue // Write waits for a transaction
		}
		l.arrived = l.arrived[1:]
		if e.barrier != 0 {
			s.barrier(source, e.barrier)
		} else {
			s.write(source, e)
		}
		return true
	}
	return false
}

func (s *sinkTask) write(source int, e element) {
	s.batches++
	i := s.batches % sinkPartitions
	share := s.pool.Enter(s.partition(i))
	b := &batch{share: share, sequence: share.Number(int(e.to - e.from)), entry: entry{source: source, from: e.from, to: e.to}}
	s.lanes[i].queue = append(s.lanes[i].queue, b)
}

func (s *sinkTask) partition(i int) transaction.Partition {
	return transaction.Partition{Topic: string(s.in.job.id), Partition: int32(s.in.subtask.Index*sinkPartitions + i)}
}

func (s *sinkTask) barrier(source int, id ident.CheckpointID) {
	d := s.aligner.Barrier(source, id)
	if d.Declined != 0 {
		s.decline(d.Declined)
	}
	if d.Release {
		clear(s.blocked)
	}
	switch d.Action {
	case subtask.Hold:
		s.blocked[source] = true
	case subtask.Snapshot:
		if s.pendingAck != 0 {
			s.decline(s.pendingAck)
		}
		s.pendingAck = id
		s.pool.Seal(id)
	}
}

func (s *sinkTask) decline(id ident.CheckpointID) {
	d := checkpoint.Decline{Fence: s.in.fence, Checkpoint: id, Subtask: s.in.subtask, Reason: "a newer checkpoint came"}
	s.tm.stream.toJM(func(jm *jobManager) { jm.onDecline(s.in.job, d) })
}

// sealed makes the ack of a checkpoint, if it is still wanted.
func (s *sinkTask) sealed(ack operator.SealedEpoch) {
	ack.Transactions = s.listed(ack.Transactions)
	if ack.Checkpoint != s.pendingAck {
		return
	}
	s.pendingAck = 0
	s.lastAck = ack
	s.tm.ackSoon(s.in, ack.Checkpoint, nil, ack.Transactions)
}

// aborted gives a checkpoint up.
func (s *sinkTask) aborted(id ident.CheckpointID) {
	if s.w.bug == bugAbortOnExpiry {
		s.abortSealed(id)
	}
	if s.aligner.Abort(id) {
		clear(s.blocked)
	}
	if s.pendingAck == id {
		s.pendingAck = 0
	}
	s.wake()
}

// leaseOK is asked before each InitProducerId and AddPartitions.
func (s *sinkTask) leaseOK() bool {
	if s.w.bug == bugNoLease {
		return true
	}
	return !s.in.ending && s.tm.mayWrite()
}

// calls sends what the pool asks for; at is when to look again.
func (s *sinkTask) calls() (at time.Time) {
	for {
		c, at := s.pool.Next(s.w.time())
		if c == nil {
			return at
		}
		if !s.leaseOK() {
			s.end(jobcore.External, "the lease is over") // which the job manager does not know if the session goes on
			return time.Time{}
		}
		switch c := c.(type) {
		case transaction.Init:
			s.init(c)
		case transaction.Add:
			s.add(c)
		}
	}
}

// answered runs f in the process, if it is still there and the sink has not ended.
func (s *sinkTask) answered(f func()) {
	s.tm.when(s.incarnation, func() {
		if s.stopped || s.in.over {
			return
		}
		f()
		s.wake()
	})
}

func (s *sinkTask) init(c transaction.Init) {
	if s.reuseEpoch(c) {
		return
	}
	var producer int64
	var epoch int16
	s.w.send(call{
		once: true, from: &s.w.taskManagersOut,
		carryOut: func() code {
			answer, p, e := s.w.kafka.initProducerID(c.ID, s.w.transactionTimeout)
			producer, epoch = p, e
			if s.w.log != nil {
				s.w.logf("kafka: init %s: %s, producer %d epoch %d", c.ID, answer, p, e)
			}
			return answer
		},
		answer: func(got code) {
			s.answered(func() {
				if got == ok {
					s.remember(c, producer, epoch)
					s.pool.Initialised(c.Number, producer, epoch)
					return
				}
				if got == unknown {
					s.w.logf("%s of %s: InitProducerId for %s is not answered", s.in.subtask, s.in.fence, c.ID)
					if s.w.bug == bugReuseBurnt {
						got = unsent
					}
				}
				s.pool.InitFailed(s.w.time(), c.Number, retryable(got))
			})
		},
	})
}

// retryable translates an answer after which the call can be made again.
func retryable(c code) transaction.Outcome {
	switch c {
	case unsent:
		return transaction.Unsent
	case unknown:
		return transaction.Unknown
	case concurrent:
		return transaction.Busy
	default:
		return transaction.Retriable
	}
}

func (c code) retriable() bool {
	return c == unsent || c == unknown || c == concurrent || c == coordinatorLoading
}

func (s *sinkTask) add(c transaction.Add) {
	key := keyOf(c.Transaction)
	if key.ProducerEpoch >= lastEpoch {
		s.w.violate("%s is opened: at the end of its epochs Kafka rotates the producer id", key)
	}
	parts := slices.Clone(c.Partitions)
	s.w.send(call{
		from: &s.w.taskManagersOut,
		carryOut: func() code {
			answer := s.w.kafka.addPartitions(key, parts)
			if s.w.log != nil {
				s.w.logf("kafka: add %d partitions to %s: %s", len(parts), key, answer)
			}
			return answer
		},
		answer: func(got code) {
			s.answered(func() {
				switch {
				case got == ok:
					s.added(key, parts)
					s.pool.Added(c)
				case got.retriable():
					s.pool.AddFailed(s.w.time(), c, retryable(got))
				default:
					s.fail(c.Transaction, "add partitions", got)
				}
			})
		},
	})
}

func keyOf(t *transaction.Transaction) manifest.TransactionKey {
	return manifest.TransactionKey{TransactionalID: t.ID(), ProducerID: t.ProducerID, ProducerEpoch: t.Epoch}
}

// produce sends the first batch of a partition, if it may go.
func (s *sinkTask) produce(i int, at *time.Time) {
	l := &s.lanes[i]
	if l.retryAt > s.w.now {
		if due := start.Add(l.retryAt); at.IsZero() || due.Before(*at) {
			*at = due
		}
		return
	}
	b := s.next(l)
	if b == nil {
		return
	}
	l.waits = true
	s.sent(b)
	key, part := keyOf(b.share.Transaction()), s.partition(i)
	var base int64
	s.w.send(call{
		from: &s.w.taskManagersOut,
		carryOut: func() code {
			answer, at := s.w.kafka.produce(key, part, b.sequence, b.entry)
			base = at
			if s.w.log != nil {
				s.w.logf("kafka: produce src/%d [%d, %d) sequence %d by %s to %d: %s", b.entry.source, b.entry.from, b.entry.to, b.sequence, key, part.Partition, answer)
			}
			return answer
		},
		answer: func(got code) { s.answered(func() { s.produced(l, b, got, base) }) },
	})
}

func (s *sinkTask) produced(l *lane, b *batch, got code, base int64) {
	l.waits = false
	switch {
	case got == ok:
		l.queue = slices.DeleteFunc(l.queue, func(o *batch) bool { return o == b })
		l.tries = 0
		if !b.answered {
			s.pool.Produced(b.share, base, int(b.entry.to-b.entry.from))
		}
	case got.retriable():
		l.tries++
		l.retryAt = s.w.now + min(20*time.Millisecond<<min(l.tries, 10), 2*time.Second)
	default:
		s.fail(b.share.Transaction(), "produce", got)
	}
}

// fail ends the attempt: the broker's answer cannot change by itself.
func (s *sinkTask) fail(t *transaction.Transaction, what string, got code) {
	class := jobcore.Fenced
	if t.Expired(s.w.time()) {
		class = jobcore.External
	}
	s.end(class, what+" "+keyOf(t).String()+": "+got.String())
}

// end lets Run return with an error; what is canceled already does not tell it.
func (s *sinkTask) end(class jobcore.Class, why string) {
	s.stopped = true
	if s.in.ending {
		return
	}
	s.in.ending = true
	s.w.logf("%s: %s of %s %s: %s", s.tm.id, s.in.subtask, s.in.job.id, s.in.fence, why)
	s.tm.gone(s.in, jobcore.SubtaskFailed, &jobcore.Failure{Class: class, Message: why})
}

// handedIDs are the transactional ids that a deployment gives to a sink.
type handedIDs struct {
	prefix string
	count  int
}

// prefixOf is that of the ids of a sink subtask in an attempt.
func prefixOf(w *world, j *job, index int, a ident.Attempt) string {
	if w.bug == bugShareIDs {
		a = 0
	}
	return string(j.id) + "/" + sinkName + "/" + strconv.Itoa(index) + "/" + strconv.FormatUint(uint64(a), 10) + "/"
}
