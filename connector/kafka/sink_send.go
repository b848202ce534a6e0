package kafka

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

const (
	// lanesPerLeader is how many requests may be on their way to one broker: while one waits for its
	// answer, the next is compressed.
	lanesPerLeader = 2
	// requestBytes bounds a request; a single batch may be larger.
	requestBytes = 8 << 20
)

// leader is a broker with the partitions that it leads.
type leader struct {
	broker  int32
	targets []*target     // under Sink.mu
	turn    int           // where the next lane begins to look
	wake    chan struct{} // there may be something to send
	// asleep are the lanes that wait; under Sink.mu.
	asleep [lanesPerLeader]nap
}

// nap is that of a lane, until a time if that is not zero.
type nap struct {
	is    bool
	until time.Time
}

// oversleeps says that a lane sleeps, and none of those that do wakes up by itself when something may go.
func (l *leader) oversleeps(due time.Time) bool {
	found := false
	for _, s := range l.asleep {
		if s.is && !s.until.IsZero() && !s.until.After(due) {
			return false
		}
		found = found || s.is
	}
	return found && !due.IsZero()
}

// find looks for the leaders of homeless partitions.
func (s *Sink) find(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.lost:
		case <-timer.C:
		}
		ready, next := s.takeHomeless(time.Now())
		if len(ready) > 0 {
			if err := s.settle(ctx, ready); err != nil {
				return err
			}
			timer.Reset(0)
			continue
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

func (s *Sink) takeHomeless(now time.Time) (ready []*target, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var later []*target
	for _, t := range s.homeless {
		if !t.notBefore.After(now) {
			ready = append(ready, t)
			continue
		}
		later = append(later, t)
		if next.IsZero() || t.notBefore.Before(next) {
			next = t.notBefore
		}
	}
	s.homeless = later
	return ready, next
}

// settle asks for the leaders of partitions, all at once.
func (s *Sink) settle(ctx context.Context, targets []*target) error {
	seen := map[string]bool{}
	var topics []string
	for _, t := range targets {
		if !seen[t.topic.name] {
			seen[t.topic.name] = true
			topics = append(topics, t.topic.name)
		}
	}
	md, err := s.cluster.Metadata(ctx, topics)
	if ctx.Err() != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range targets {
		found, fault := wire.Leader{}, err
		if fault == nil {
			found, fault = leaderIn(md, t.topic.name, t.id)
		}
		if fault == nil {
			s.adopt(ctx, t, found.Broker)
			continue
		}
		t.deniedSince = time.Time{}
		if err := s.failed(t, fault); err != nil {
			return err
		}
		s.cluster.Doubt()
		s.homeless = append(s.homeless, t)
	}
	return nil
}

// adopt gives a partition to its leader's lanes, which are started if there are none. Under mu.
func (s *Sink) adopt(ctx context.Context, t *target, broker int32) {
	l := s.leaders[broker]
	if l == nil {
		l = &leader{broker: broker, wake: make(chan struct{}, lanesPerLeader)}
		s.leaders[broker] = l
		for n := range lanesPerLeader {
			s.group.Go(func() error { return s.lane(ctx, l, n) })
		}
	}
	t.leader = l
	l.targets = append(l.targets, t)
	if t.tries > 0 && t.oldest() == nil { // nothing waits whose delivery would tell that it is well
		s.recovered(t)
	}
	signal(l.wake)
}

// recovered forgets the failures of a partition. Under mu.
func (s *Sink) recovered(t *target) {
	t.tries, t.notBefore, t.deniedSince = 0, time.Time{}, time.Time{}
	s.trouble.set(t.name, "")
}

// orphan takes a partition from its leader and gives it to the finder. Under mu.
func (s *Sink) orphan(t *target) {
	l := t.leader
	kept := l.targets[:0]
	for _, o := range l.targets {
		if o != t {
			kept = append(kept, o)
		}
	}
	l.targets, t.leader = kept, nil
	s.cluster.Doubt()
	s.homeless = append(s.homeless, t)
	signal(s.lost)
}

// failed notes a failure that can be tried again; an error is one that cannot, or has been for too long.
// Under mu.
func (s *Sink) failed(t *target, cause error) error {
	now := time.Now()
	if !survivable(cause) {
		if err := s.giveUp(t, s.refusedBy(t, cause)); err != nil {
			return err
		}
	} else if b := t.oldest(); b != nil && now.Sub(b.opened) > s.cfg.Produce.DeliveryTimeout {
		err := s.giveUp(t, &Error{Where: t.name, Err: fmt.Errorf("%d records could not be written for %s (%s): %w", max(b.count, b.builder.Count()), s.cfg.Produce.DeliveryTimeout, propDeliveryTimeout, cause),
			Hint: "the job restarts from its latest checkpoint; check the brokers"})
		if err != nil {
			return err
		}
	}
	s.forgive()
	t.tries++
	t.notBefore = now.Add(s.cfg.pauseAfter(cause, t.tries))
	s.trouble.set(t.name, shortReason(cause))
	return nil
}

func (s *Sink) refusedBy(t *target, cause error) error {
	e := &Error{Where: t.name, Err: cause}
	switch {
	case s.transactions != nil && len(t.queue) > 0 && wire.HasCode(cause, wire.CodeProducerFenced, wire.CodeInvalidProducerEpoch, wire.CodeInvalidProducerIDMapping, wire.CodeInvalidTxnState,
		wire.CodeOutOfOrderSequence, wire.CodeUnknownProducerID):
		return s.refusedTransaction(t.name, t.queue[0].share.Transaction(), cause)
	case wire.HasCode(cause, wire.CodeMessageTooLarge, codeRecordListTooLarge):
		e.Hint, e.class = "raise the topic's max.message.bytes (and segment.bytes), or filter large records out", "user"
	case wire.HasCode(cause, wire.CodeInvalidRecord, codeInvalidTimestamp):
		e.class = "user"
	case isBadBatch(cause):
		e.Hint = damagedHint
	}
	return e
}

const damagedHint = "the batch was read like this, and is read again when the job restarts; if it stays so, the disk of its broker may be damaged"

const (
	codeRecordListTooLarge     int16 = 18
	codeInvalidTimestamp       int16 = 32
	codeUnsupportedCompression int16 = 76
)

// lane is the n-th of those that send batches of one leader's partitions, one request at a time each.
func (s *Sink) lane(ctx context.Context, l *leader, n int) error {
	var load cargo
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.mu.Lock()
		l.asleep[n] = nap{}
		next := s.pick(l, &load, time.Now())
		if len(load.targets) == 0 {
			l.asleep[n] = nap{is: true, until: next}
		} else if l.oversleeps(next) { // what is due while this one waits for an answer is for the other lane
			signal(l.wake)
		}
		s.mu.Unlock()
		if len(load.targets) > 0 {
			if err := s.send(ctx, l, &load); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			continue
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// cargo is what a lane sends in one request.
type cargo struct {
	targets []*target
	batches []*outBatch // the heads of their queues
	request wire.ProduceRequest
	// forgotten are the partitions whose broker does not know the producer any more.
	forgotten []*target
}

// pick takes the heads of queues that may go now; next is when another may go by itself. Under mu.
func (s *Sink) pick(l *leader, load *cargo, now time.Time) (next time.Time) {
	load.targets, load.batches = load.targets[:0], load.batches[:0]
	size, rest := int64(0), 0 // rest is never the first one
	for n := range l.targets {
		t := l.targets[(l.turn+n)%len(l.targets)]
		if at := s.goes(t, now); at.After(now) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
			continue
		} else if at.IsZero() {
			continue
		}
		if size > 0 && size+t.queue[0].bytes > requestBytes {
			rest = cmp.Or(rest, n)
			break
		}
		if s.transactions != nil && len(load.batches) > 0 && t.queue[0].producer != load.batches[0].producer {
			rest = cmp.Or(rest, n) // a request is of one transaction
			continue
		}
		size += t.queue[0].bytes
		t.inFlight = true
		load.targets, load.batches = append(load.targets, t), append(load.batches, t.queue[0])
	}
	if rest > 0 {
		l.turn = (l.turn + rest) % len(l.targets)
		signal(l.wake) // the other lane takes the rest
	}
	return next
}

// goes says when the partition's next batch may go: now or earlier, later, or zero for not by itself. An
// open batch whose time has come is closed. Under mu.
func (s *Sink) goes(t *target, now time.Time) time.Time {
	if t.inFlight || (len(t.queue) == 0 && t.open == nil) {
		return time.Time{}
	}
	if t.notBefore.After(now) {
		return t.notBefore
	}
	if len(t.queue) == 0 {
		if at := t.open.opened.Add(s.cfg.Produce.Linger); at.After(now) && s.memory.room == nil {
			return at
		}
		s.closeOpen(t)
	}
	if share := t.queue[0].share; share != nil && !s.transactions.pool.MayProduce(share) {
		return time.Time{} // addPartitions wakes the lane
	}
	return now
}

// send encodes and sends batches, and deals with the answers.
func (s *Sink) send(ctx context.Context, l *leader, load *cargo) error {
	req := &load.request
	*req = wire.ProduceRequest{Acks: s.acks, Timeout: min(s.cfg.RequestTimeout, s.cfg.Produce.DeliveryTimeout), Batches: req.Batches[:0]}
	if s.transactions != nil {
		req.TransactionalID = load.batches[0].share.Transaction().ID()
	}
	for i, b := range load.batches {
		if err := b.encode(s.compressors[b.codec]); err != nil {
			return &Error{Where: load.targets[i].name, Err: err}
		}
		req.Batches = append(req.Batches, wire.ProduceBatch{Topic: load.targets[i].topic.name, Partition: load.targets[i].id, Data: b.data, Rest: b.rest})
	}
	results, err := s.cluster.Produce(ctx, l.broker, req)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := s.answers(load, results, err); err != nil {
		return err
	}
	if len(load.forgotten) > 0 {
		return s.startAnew(ctx, l, load.forgotten)
	}
	return nil
}

func (s *Sink) answers(load *cargo, results []wire.ProduceResult, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	load.forgotten = load.forgotten[:0]
	for i, t := range load.targets {
		result := wire.ProduceResult{BaseOffset: -1, Err: err}
		if err == nil {
			result = results[i]
		}
		forgotten, err := s.answered(t, load.batches[i], &result)
		if err != nil {
			return err
		}
		if forgotten {
			load.forgotten = append(load.forgotten, t)
		}
	}
	return nil
}

// answered deals with the answer for one batch. If the broker does not know the producer any more, the
// partition stays in flight. Under mu.
func (s *Sink) answered(t *target, b *outBatch, result *wire.ProduceResult) (forgotten bool, err error) {
	fault := result.Err
	if b.raw != nil && wire.HasCode(fault, wire.CodeCorruptMessage, wire.CodeMessageTooLarge, codeRecordListTooLarge, codeUnsupportedCompression) {
		if bad := b.raw.Verify(); bad != nil { // it came so, and no repetition helps
			fault = bad
		}
	}
	switch {
	case fault == nil, wire.HasCode(fault, wire.CodeDuplicateSequence) && s.idempotent:
		s.delivered(t, b, result.BaseOffset)
	case s.idempotent && s.transactions == nil && wire.HasCode(fault, wire.CodeOutOfOrderSequence, wire.CodeUnknownProducerID, wire.CodeInvalidProducerEpoch, wire.CodeInvalidProducerIDMapping):
		if err := s.failed(t, retriable{fault}); err != nil {
			return false, err
		}
		return true, nil
	case wire.HasCode(fault, wire.CodeMessageTooLarge, codeRecordListTooLarge) && b.count > 1:
		if err := s.split(t, b); err != nil {
			return false, err
		}
	case s.transactions != nil && s.fromMemory(t, fault, time.Now()):
		if err := s.failed(t, retriable{fault}); err != nil {
			return false, err
		}
		s.orphan(t)
	default:
		t.deniedSince = time.Time{}
		if err := s.failed(t, fault); err != nil {
			return false, err
		}
		// A leader that waits in vain for the others may have been replaced without knowing it.
		if wire.Classify(fault) == wire.ClassRefresh || unreachable(fault) || wire.HasCode(fault, wire.CodeRequestTimedOut) {
			s.orphan(t)
		}
	}
	t.inFlight = false
	return false, nil
}

// fromMemory says that a broker denies a transaction that was begun (INVALID_TXN_STATE), as one does that has stood still or
// was cut off: until it hears of its successor it asks itself, or another such broker, for what a later coordinator has been
// told. Another producer would be the reason of another answer, as its epoch is newer. A denial that lasts is believed; what
// the partition has instead of one begins it anew, as the next may be another broker's. The
// partition is not added once more: to a transaction that was ended that would be the beginning of another one, without what was
// written before. Under mu.
func (s *Sink) fromMemory(t *target, fault error, now time.Time) bool {
	if !wire.HasCode(fault, wire.CodeInvalidTxnState) || t.queue[0].share.Transaction().Expired(now) {
		return false
	}
	if t.deniedSince.IsZero() {
		t.deniedSince = now
	}
	return now.Sub(t.deniedSince) < min(deniedGrace, s.cfg.Produce.DeliveryTimeout/2)
}

// deniedGrace is how long a transaction may be denied. A broker that goes on hears of its successor within
// broker.heartbeat.interval.ms (2 s).
const deniedGrace = 10 * time.Second

// retriable makes an error of the broker one that can be tried again.
type retriable struct{ error }

// delivered takes an acknowledged batch off its queue. baseOffset is where it was written, -1 if unknown.
// Under mu.
func (s *Sink) delivered(t *target, b *outBatch, baseOffset int64) {
	t.pop()
	if t.topic.size.small() {
		t.topic.size.taken(time.Now())
	}
	if t.tries > 0 {
		s.recovered(t)
	}
	if b.share != nil && s.transactions.pool.Produced(b.share, baseOffset, b.count) || b.share == nil && s.epochs.leave(b.epoch) {
		signal(s.seals)
	}
	s.memory.release(b)
}

// split replaces a batch that the topic refuses as too large by its halves, and closes the next ones
// earlier. Under mu.
func (s *Sink) split(t *target, b *outBatch) error {
	first, second, err := b.halves(wire.NewDecompressor())
	if err != nil {
		return &Error{Where: t.name, Err: err}
	}
	s.log.Info("a batch is too large for its topic and is split", "topic", t.topic.name, "partition", t.id, "sizeBytes", len(b.data)+len(b.rest), "records", b.count)
	t.topic.size.refused(max(first.builder.SizeBytes(), second.builder.SizeBytes()), time.Now())
	t.queue = append([]*outBatch{first, second}, t.queue[1:]...)
	s.memory.used += first.bytes + second.bytes
	t.ahead += first.bytes + second.bytes
	if b.share != nil {
		s.transactions.pool.Again(b.share)
	} else {
		s.epochs.again(b.epoch)
	}
	s.memory.release(b)
	return nil
}

// startAnew gets a new producer id for partitions whose broker has lost track of the old one. Their
// waiting batches are numbered from 0 under the new one: what the broker had written of them without
// telling may be written twice, which at-least-once allows.
func (s *Sink) startAnew(ctx context.Context, l *leader, targets []*target) error {
	for _, t := range targets {
		if err := s.renew(ctx, t.producer); err != nil { // t is in flight: nobody else changes its producer
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range targets {
		s.log.Warn("a broker lost track of the producer; the partition goes on with a new producer id", "topic", t.topic.name, "partition", t.id, "producerID", t.producer.ID)
		t.renumber(s.producer)
		t.inFlight = false
	}
	signal(l.wake)
	return nil
}
