package kafka

import (
	"sync"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// maxBarriers bounds the barriers that wait for their checkpoint; it covers all that came before, so one that is
// dropped costs nothing but time.
const maxBarriers = 16

// groupOffsets is how far a source of mode group has come with the partitions that it holds. Of each,
// committed ≤ acked ≤ taken: what is stored with the group, what the sinks have acknowledged, what the chain has
// taken. None of them goes back while the partition is held.
type groupOffsets struct {
	mu       sync.Mutex
	held     map[manifest.Split]*heldSplit
	barriers []groupBarrier // oldest first
	// acknowledged and moved are signalled when acked, and when any of them moved. Each has one reader.
	acknowledged, moved chan struct{}
}

type heldSplit struct {
	taken, acked, committed int64 // next offsets; committed -1: not known to be stored
	epoch                   int32
}

type groupBarrier struct {
	checkpoint ident.CheckpointID
	taken      map[manifest.Split]int64
}

func newGroupOffsets() *groupOffsets {
	return &groupOffsets{held: map[manifest.Split]*heldSplit{}, acknowledged: make(chan struct{}, 1), moved: make(chan struct{}, 1)}
}

// hold begins a generation with the positions where the group stands. In the next generation after the one before
// (kept), nobody else can have held what this source held: it goes on where it was. The positions are those to read
// from.
func (o *groupOffsets) hold(positions []manifest.Position, kept bool) []manifest.Position {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.held
	o.held = make(map[manifest.Split]*heldSplit, len(positions))
	for i := range positions {
		p := &positions[i]
		h := &heldSplit{taken: p.Next, acked: p.Next, committed: -1, epoch: p.LeaderEpoch}
		if was := before[p.Split]; kept && was != nil && was.taken >= p.Next {
			h.taken, h.acked, h.epoch = was.taken, max(p.Next, was.acked), was.epoch
			p.Next, p.LeaderEpoch = h.taken, h.epoch
		}
		o.held[p.Split] = h
	}
	signal(o.acknowledged)
	return positions
}

// accepts says whether a batch goes on where the chain is with its partition. When a generation ends, what the chain has not
// taken is dropped while it goes on taking: what stands behind a gap is not for it, and is read again.
func (o *groupOffsets) accepts(b *operator.SourceBatch) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.held[b.Split]
	return h != nil && b.From <= h.taken && b.Next > h.taken
}

// take notes what the chain has taken. Of a partition that has been given up it may come late.
func (o *groupOffsets) take(b *operator.SourceBatch) {
	o.mu.Lock()
	if h := o.held[b.Split]; h != nil && b.From <= h.taken && b.Next > h.taken {
		h.taken = b.Next
		if b.LeaderEpoch >= 0 {
			h.epoch = b.LeaderEpoch
		}
	}
	o.mu.Unlock()
	signal(o.moved)
}

// barrier notes what stands before the barrier of a checkpoint.
func (o *groupOffsets) barrier(id ident.CheckpointID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := groupBarrier{id, make(map[manifest.Split]int64, len(o.held))}
	for split, h := range o.held {
		b.taken[split] = h.taken
	}
	if o.barriers = append(o.barriers, b); len(o.barriers) > maxBarriers {
		o.barriers = o.barriers[1:]
	}
}

// completed moves acked to where a barrier stood.
func (o *groupOffsets) completed(id ident.CheckpointID) {
	o.mu.Lock()
	for len(o.barriers) > 0 && o.barriers[0].checkpoint <= id {
		for split, next := range o.barriers[0].taken {
			if h := o.held[split]; h != nil {
				h.acked = max(h.acked, next)
			}
		}
		o.barriers = o.barriers[1:]
	}
	o.mu.Unlock()
	signal(o.acknowledged)
	signal(o.moved)
}

// due lists what is to be committed.
func (o *groupOffsets) due() []wire.CommittedOffset {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []wire.CommittedOffset
	for split, h := range o.held {
		if h.acked > h.committed {
			out = append(out, wire.CommittedOffset{Topic: split.Topic, Partition: split.Partition, Offset: h.acked, LeaderEpoch: h.epoch})
		}
	}
	return out
}

// commit notes what has been stored.
func (o *groupOffsets) commit(source string, stored []wire.CommittedOffset) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range stored {
		if h := o.held[manifest.Split{Source: source, Topic: stored[i].Topic, Partition: stored[i].Partition}]; h != nil {
			h.committed = max(h.committed, stored[i].Offset)
		}
	}
}

// settled says that the chain has taken and the sinks have acknowledged all that was handed out.
func (o *groupOffsets) settled(handedOut []operator.SplitLag) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range handedOut {
		if h := o.held[l.Split]; h != nil && h.acked < l.Next {
			return false
		}
	}
	return true
}
