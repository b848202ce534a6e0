package kafka

import (
	"context"
	"errors"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/operator"
)

const (
	// smallBatchBytes is the size below which a batch is copied together with its neighbours: the cost of
	// a batch on its way through the job is then more than that of the copy.
	smallBatchBytes = 4 << 10
	// mergedBytes and mergedRecords are where merging ends.
	mergedBytes   = 128 << 10
	mergedRecords = 4096
)

// parcel is the memory behind one SourceBatch. It is pooled with its release function.
type parcel struct {
	source *Source
	raw    *wire.RawBatch // nil for merged ones
	merged operator.Batch
	bytes  int64
	free   func()
}

func newParcel(s *Source) *parcel {
	p := &parcel{source: s}
	p.free = p.release
	return p
}

func (p *parcel) batch() *operator.Batch {
	if p.raw != nil {
		return p.raw.Batch()
	}
	return &p.merged
}

func (p *parcel) release() {
	p.source.budget.add(-p.bytes)
	if p.raw != nil {
		p.raw.Release()
		p.raw = nil
	}
	if cap(p.merged.Arena) > 2*mergedBytes {
		p.merged = operator.Batch{}
	}
	p.merged.Reset()
	p.bytes = 0
	p.source.parcels.Put(p)
}

func noRelease() {}

func isBadBatch(err error) bool {
	var bad *wire.BatchError
	return errors.As(err, &bad)
}

// batches passes the batches of a partition on, and moves the position behind each.
func (f *fetcher) batches(ctx context.Context, sp *split, p *wire.FetchedPartition, left *int64) error {
	f.filter.Reset(p.Aborted, f.source.cfg.Isolation)
	if failpoint.Bug(failpoint.AbortedFilterOff) {
		f.filter.Reset(nil, wire.ReadUncommitted)
	}
	told := sp.Next // up to where the subtask knows
	fault := func() error {
		for !sp.AtEnd() && !sp.ended() {
			r, err := p.NextUnchecked(&f.source.passedOn) // what is passed on the broker checks that takes it
			if r == nil || err != nil {
				return err
			}
			if err := f.one(ctx, sp, r, left, &told); err != nil {
				return err
			}
		}
		return nil
	}()
	// what was read before a fault is good
	if err := f.sendMerged(ctx, sp, &told); err != nil {
		return err
	}
	if sp.Next > told {
		if err := f.send(ctx, sp, operator.SourceBatch{Release: noRelease}); err != nil {
			return err
		}
	}
	return fault
}

// one handles a batch. It owns r.
func (f *fetcher) one(ctx context.Context, sp *split, r *wire.RawBatch, left, told *int64) error {
	deliver, err := f.filter.Deliver(r)
	if deliver && err == nil {
		err = r.Limit(sp.Next, sp.Stop)
	}
	if err == nil && !r.Whole() { // no sink passes it on: it is opened, left out, or the header is not what it was
		err = r.Verify()
	}
	if err != nil {
		r.Release()
		return err
	}
	epoch, next := sp.plausible(r.LeaderEpoch), r.Next()
	if sp.Stop >= 0 {
		next = min(next, sp.Stop) // what is behind the stop has not been read
	}
	if !deliver || r.Batch().Len() == 0 {
		r.Release()
		if failpoint.Bug(failpoint.NextIsLastPlusOne) {
			return nil
		}
		sp.Next, sp.LeaderEpoch = next, epoch
		return nil
	}
	size := int64(r.SizeBytes())
	if size < smallBatchBytes && r.Codec() == wire.None && r.Batch().Packed != nil {
		if err := f.addSmall(ctx, sp, r, told); err != nil {
			return err
		}
		*left -= size
		sp.Next, sp.LeaderEpoch = next, epoch
		return nil
	}
	if err := f.sendMerged(ctx, sp, told); err != nil {
		r.Release()
		return err
	}
	parcel := f.source.parcels.Get().(*parcel)
	parcel.raw, parcel.bytes = r, size
	*left -= size
	sp.Next, sp.LeaderEpoch = next, epoch
	*told = next
	return f.send(ctx, sp, operator.SourceBatch{Batch: parcel.batch(), Release: parcel.free})
}

// plausible is the epoch of a batch, or the last one if it cannot be: in a log epochs rise, up to that of the leader. It is
// the one field of a header that no checksum covers and that goes into checkpoints.
func (sp *split) plausible(epoch int32) int32 {
	if epoch < sp.LeaderEpoch || sp.leader.Epoch >= 0 && epoch > sp.leader.Epoch {
		return sp.LeaderEpoch
	}
	return epoch
}

// addSmall copies a small batch to those before it.
func (f *fetcher) addSmall(ctx context.Context, sp *split, r *wire.RawBatch, told *int64) error {
	defer r.Release()
	if m := f.merge; m != nil && (len(m.merged.Arena) >= mergedBytes || len(m.merged.Records) >= mergedRecords) {
		if err := f.sendMerged(ctx, sp, told); err != nil {
			return err
		}
	}
	if f.merge == nil {
		f.merge = f.source.parcels.Get().(*parcel)
	}
	m := f.merge
	records, arena := len(m.merged.Records), len(m.merged.Arena)
	if err := r.Unpack(&m.merged); err != nil {
		m.merged.Records, m.merged.Arena = m.merged.Records[:records], m.merged.Arena[:arena]
		return err
	}
	m.bytes += int64(r.SizeBytes())
	return nil
}

// sendMerged sends the merged batches, if there are any, with the split's position.
func (f *fetcher) sendMerged(ctx context.Context, sp *split, told *int64) error {
	m := f.merge
	if m == nil {
		return nil
	}
	f.merge = nil
	if len(m.merged.Records) == 0 {
		m.release()
		return nil
	}
	*told = sp.Next
	return f.send(ctx, sp, operator.SourceBatch{Batch: &m.merged, Release: m.free})
}

// send gives the subtask a batch, or only a position. It waits while the subtask is busy. What was read of a split that
// has been removed meanwhile is dropped, which has to be certain before the batch is on its way.
func (f *fetcher) send(ctx context.Context, sp *split, b operator.SourceBatch) error {
	b.Split, b.From, b.Next, b.LeaderEpoch = sp.Split, sp.handedOut.Load(), sp.Next, sp.LeaderEpoch
	if b.From == removed || !sp.handedOut.CompareAndSwap(b.From, b.Next) {
		b.Release()
		return nil
	}
	select {
	case f.source.out <- b:
		return nil
	case <-ctx.Done():
		sp.handedOut.CompareAndSwap(b.Next, b.From) // it was not given after all
		b.Release()
		return ctx.Err()
	}
}
