package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

const (
	// badBatchTries is how often a broken batch is fetched again before the attempt fails: the bytes may
	// have been damaged on the way.
	badBatchTries = 3
	// staleGrace is how long brokers may speak of an older leader than that of what was read, or of another topic.
	staleGrace = 30 * time.Second
	// quietAge is how long a partition may have nothing for us until its leader is looked up again: one that was cut off
	// from the other brokers goes on answering that there is nothing new, as it hears nothing of its successor.
	quietAge = 30 * time.Second
	// doubtQueue is how many requests of fetchers for that may wait.
	doubtQueue = 16
	// leastFetchBytes is what a fetcher reserves at least, however many there are.
	leastFetchBytes = 256 << 10
)

// fetcher fetches the splits of one place, one request at a time.
type fetcher struct {
	source *Source
	at     place
	inbox  []*split      // new splits; under source.mu
	wake   chan struct{} // inbox has something

	splits []*split
	byName map[wire.TopicPartition]*split
	filter wire.AbortedFilter
	merge  *parcel // small batches on their way to become one
	// fed are the splits that a full answer served: the others are asked alone once, so that none starves.
	fed map[*split]bool
}

func newFetcher(s *Source, at place) *fetcher {
	return &fetcher{source: s, at: at, wake: make(chan struct{}, 1), byName: map[wire.TopicPartition]*split{}, fed: map[*split]bool{}}
}

func (f *fetcher) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if f.takeNew() == 0 {
			return nil
		}
		ready, _, next := due(f.splits, time.Now())
		if len(ready) == 0 {
			f.rest(ctx, next)
			continue
		}
		work := f.round
		if fresh := uncompared(ready); len(fresh) > 0 {
			ready, work = fresh, f.compare
		}
		if err := work(ctx, ready); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// takeNew takes the inbox over and returns how many splits there are; with none, the fetcher is no longer
// known and has to end.
func (f *fetcher) takeNew() int {
	f.source.mu.Lock()
	defer f.source.mu.Unlock()
	// Those that have ended go first: one of them may be here again, added anew.
	f.letGo()
	for _, sp := range f.inbox {
		if sp.ended() {
			f.source.worked(sp)
			continue
		}
		f.splits = append(f.splits, sp)
		f.byName[wire.TopicPartition{Topic: sp.Topic, Partition: sp.Partition}] = sp
	}
	f.inbox = nil
	if len(f.splits) == 0 {
		delete(f.source.fetchers, f.at)
	}
	return len(f.splits)
}

// letGo ends the ownership of splits that the subtask takes nothing more of.
func (f *fetcher) letGo() {
	var over []*split
	for _, sp := range f.splits {
		if sp.ended() {
			f.source.worked(sp)
			over = append(over, sp)
		}
	}
	if len(over) > 0 {
		f.drop(over...)
	}
}

func (f *fetcher) rest(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-f.wake:
	case <-timer.C:
	}
}

// round is one request and what comes of it.
func (f *fetcher) round(ctx context.Context, splits []*split) error {
	s := f.source
	reserved := f.share()
	if err := s.budget.acquire(ctx, reserved); err != nil {
		return err
	}
	req, asked := f.request(splits, int(reserved))
	res, err := s.cluster.Fetch(ctx, f.at.broker, req)
	if err != nil {
		s.budget.add(-reserved)
		return f.roundFailed(ctx, asked, err)
	}
	size := int64(0)
	for i := range res.Partitions {
		size += int64(res.Partitions[i].SizeBytes())
	}
	s.budget.add(size - reserved)
	defer res.Release()
	f.noteFed(res, len(asked), size >= reserved/2)
	if err := f.answer(ctx, res); err != nil {
		return err
	}
	f.doubtQuiet(time.Now())
	if t := res.Throttle; t > 0 {
		return sleep(ctx, t)
	}
	return nil
}

// answer handles the partitions of an answer. All its bytes leave the budget, save those passed on.
func (f *fetcher) answer(ctx context.Context, res *wire.FetchResponse) error {
	var fault error
	for i := range res.Partitions {
		p := &res.Partitions[i]
		left := int64(p.SizeBytes())
		if sp := f.asked(p); sp != nil && fault == nil {
			fault = f.partition(ctx, sp, p, &left)
		}
		f.source.budget.add(-left)
	}
	return fault
}

// asked is the split that a partition of an answer is about; nil if it is answered twice.
func (f *fetcher) asked(p *wire.FetchedPartition) *split {
	sp := f.byName[wire.TopicPartition{Topic: p.Topic, Partition: p.Partition}]
	if sp == nil || sp.Next != p.Offset {
		return nil
	}
	return sp
}

// share is how much the fetcher may ask for: all fetchers together leave half of the budget to what has
// been fetched, so that a request that waits for data at an idle broker holds nobody up.
func (f *fetcher) share() int64 {
	f.source.mu.Lock()
	n := max(len(f.source.fetchers), 1)
	f.source.mu.Unlock()
	half := f.source.budget.allowed() / 2 / int64(n)
	return min(int64(f.source.cfg.Fetch.MaxBytes), max(half, leastFetchBytes))
}

// request builds a request; asked are its splits, in the order of the request's partitions.
func (f *fetcher) request(splits []*split, maxBytes int) (*wire.FetchRequest, []*split) {
	cfg := &f.source.cfg
	req := &wire.FetchRequest{Isolation: cfg.Isolation, MaxWait: cfg.Fetch.MaxWait, MinBytes: cfg.Fetch.MinBytes, MaxBytes: maxBytes}
	if f.at.rack {
		req.RackID = f.source.rack
	}
	hungry := make([]*split, 0, len(splits))
	for _, sp := range splits {
		if !f.fed[sp] {
			hungry = append(hungry, sp)
		}
	}
	if len(f.fed) > 0 && len(hungry) > 0 {
		req.MaxWait, req.MinBytes = time.Millisecond, 1 // the others have more to read
		splits = hungry
	}
	if slices.ContainsFunc(splits, func(sp *split) bool { return sp.starved > 0 }) {
		splits = slices.Clone(splits)
		slices.SortStableFunc(splits, func(a, b *split) int { return b.starved - a.starved })
	}
	for _, sp := range splits {
		req.Partitions = append(req.Partitions, wire.FetchPartition{
			Topic: sp.Topic, TopicID: sp.TopicID, Partition: sp.Partition, Offset: sp.Next, LeaderEpoch: sp.leader.Epoch, MaxBytes: min(cfg.Fetch.PartitionMaxBytes, maxBytes),
		})
	}
	return req, splits
}

// starves says that an answer has nothing of a partition that has records for this reader.
func starves(p *wire.FetchedPartition, isolation wire.Isolation) bool {
	end := p.HighWatermark
	if isolation == wire.ReadCommitted && p.LastStable >= 0 {
		end = min(end, p.LastStable)
	}
	return p.SizeBytes() == 0 && end > p.Offset
}

// noteFed remembers who got something out of a full answer.
func (f *fetcher) noteFed(res *wire.FetchResponse, asked int, full bool) {
	clear(f.fed)
	if !full {
		return
	}
	for i := range res.Partitions {
		if p := &res.Partitions[i]; p.SizeBytes() > 0 {
			f.fed[f.asked(p)] = true
		}
	}
	delete(f.fed, nil)
	if len(f.fed) == asked {
		clear(f.fed)
	}
}

// roundFailed is a request without an answer: all its splits look for their leaders again.
func (f *fetcher) roundFailed(ctx context.Context, asked []*split, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if !survivable(err) {
		return &Error{Where: asked[0].name, Err: err}
	}
	for _, sp := range asked {
		f.lost(sp)
		f.source.failed(sp, err)
	}
	f.drop(asked...)
	f.source.orphan(asked...)
	return nil
}

// doubtQuiet has the leaders looked up of splits that had nothing for a while, which are read on meanwhile, and lets go of
// those that turned out to have another. Splits on a follower ask their leader anyway.
func (f *fetcher) doubtQuiet(now time.Time) {
	var quiet []doubt
	var replaced []*split
	for _, sp := range f.splits {
		switch {
		case sp.replaced.Swap(false):
			replaced = append(replaced, sp)
		case now.Sub(sp.heardAt) > f.source.quietAge && !f.onFollower(sp):
			sp.heardAt = now
			quiet = append(quiet, doubt{sp, sp.leader})
		}
	}
	if len(quiet) > 0 {
		f.source.doubt(quiet)
	}
	if len(replaced) > 0 {
		f.drop(replaced...)
		f.source.orphan(replaced...)
	}
}

// drop ends the fetcher's ownership of splits.
func (f *fetcher) drop(splits ...*split) {
	gone := make(map[*split]bool, len(splits))
	for _, sp := range splits {
		gone[sp] = true
		delete(f.fed, sp)
		if name := (wire.TopicPartition{Topic: sp.Topic, Partition: sp.Partition}); f.byName[name] == sp {
			delete(f.byName, name)
		}
	}
	kept := f.splits[:0]
	for _, sp := range f.splits {
		if !gone[sp] {
			kept = append(kept, sp)
		}
	}
	clear(f.splits[len(kept):])
	f.splits = kept
}

// partition handles one partition of an answer. What it passes on is taken off left.
func (f *fetcher) partition(ctx context.Context, sp *split, p *wire.FetchedPartition, left *int64) error {
	s := f.source
	if sp.ended() {
		s.worked(sp)
		f.drop(sp)
		return nil
	}
	if f.relocate(ctx, sp, p) {
		return nil
	}
	if p.Err != nil {
		return f.partitionFailed(ctx, sp, p.Err)
	}
	if p.HighWatermark >= 0 {
		sp.highWatermark.Store(p.HighWatermark)
	}
	if p.SizeBytes() > 0 {
		sp.heardAt = time.Now()
	}
	if sp.starved++; !starves(p, s.cfg.Isolation) {
		sp.starved = 0
	}
	if sp.shrunk(p) {
		f.drop(sp)
		s.orphan(sp)
		return nil
	}
	if f.behind(sp, p) {
		return nil
	}
	before := sp.Next
	err := f.batches(ctx, sp, p, left)
	switch {
	case err == nil:
		sp.badBatches = 0
		s.worked(sp)
	case ctx.Err() != nil:
		return err
	case isBadBatch(err):
		if sp.Next > before {
			sp.badBatches = 0
		}
		if sp.badBatches++; sp.badBatches > badBatchTries {
			return &Error{Where: sp.name, Err: fmt.Errorf("the log cannot be read at offset %d: %w", sp.Next, err),
				Hint: "if it stays so, the broker's disk may be damaged; the job can be resubmitted with startup: {offsets: …} behind the batch"}
		}
		s.failed(sp, err)
		return nil
	default:
		return err
	}
	if sp.AtEnd() {
		f.drop(sp)
	}
	return nil
}

// behind says whether the leader counts less of the log as replicated than was read of it, which is no fault: the high watermark
// of a new leader stands still until followers that died with the old one have left the in-sync replicas, and, from Kafka 3.7
// on, while there are fewer of these than min.insync.replicas (KAFKA-15583). A position that is behind the end of the log itself
// is told as OFFSET_OUT_OF_RANGE.
func (f *fetcher) behind(sp *split, p *wire.FetchedPartition) bool {
	if p.HighWatermark < 0 || p.HighWatermark >= sp.Next {
		return false
	}
	if f.onFollower(sp) { // see lags
		return true
	}
	if p.SizeBytes() > 0 {
		return false
	}
	f.source.failed(sp, fmt.Errorf("the leader counts the log as replicated up to %d, and the position is %d: waiting until enough replicas are in sync (min.insync.replicas)", p.HighWatermark, sp.Next))
	return true
}

func lostLog(sp *split, end int64) error {
	return &Error{Where: sp.name, Err: fmt.Errorf("the position %d is behind the end of the log, which is %d: the topic was deleted and created again, or its log was truncated", sp.Next, end),
		Hint: "check the topic; to read it from where it is now, resubmit the job with a new startup"}
}

// partitionFailed handles the broker's error for one partition.
func (f *fetcher) partitionFailed(ctx context.Context, sp *split, err error) error {
	s := f.source
	if wire.HasCode(err, wire.CodeOffsetOutOfRange) {
		return f.outOfRange(ctx, sp, err)
	}
	if !survivable(err) {
		return &Error{Where: sp.name, Err: err}
	}
	s.failed(sp, err)
	var old *oldLeaderError // the old one may go on taking itself for the leader: others may know better
	if wire.Classify(err) == wire.ClassRefresh || errors.As(err, &old) {
		f.drop(sp)
		s.orphan(sp)
	}
	return nil
}

// outOfRange finds out on which side of the log the position is. A job never resets by itself: what is
// missing would go unnoticed.
func (f *fetcher) outOfRange(ctx context.Context, sp *split, cause error) error {
	s := f.source
	start, end, err := s.logRange(ctx, sp)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.failed(sp, fmt.Errorf("%w (and the range of the log is unknown: %w)", cause, err))
		return nil
	case sp.Next < start:
		return &Error{Where: sp.name, Err: fmt.Errorf("the position %d is before the start of the log, which is %d: retention deleted %d offsets that were not read", sp.Next, start, start-sp.Next),
			Hint: "raise the topic's retention; to go on without them, resubmit the job with a new startup"}
	case sp.Next > end:
		return lostLog(sp, end)
	}
	s.failed(sp, fmt.Errorf("%w (the log has %d to %d: a broker is behind)", cause, start, end))
	return nil
}

func (s *Source) logRange(ctx context.Context, sp *split) (start, end int64, err error) {
	s.cluster.Forget(sp.Topic)
	for _, q := range []struct {
		at  int64
		out *int64
	}{{wire.Earliest, &start}, {wire.Latest, &end}} {
		answers, err := s.cluster.ListOffsets(ctx, []wire.OffsetQuery{{Topic: sp.Topic, Partition: sp.Partition, Timestamp: q.at}}, wire.ReadUncommitted)
		if err != nil {
			return 0, 0, err
		}
		if answers[0].Err != nil {
			return 0, 0, answers[0].Err
		}
		*q.out = answers[0].Offset
	}
	return start, end, nil
}
