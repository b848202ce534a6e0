package bubble

import (
	"context"
	"slices"
	"sync"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/operator"
)

type source struct {
	c   hostConnectors
	out chan operator.SourceBatch

	mu     sync.Mutex
	splits []*split
}

// split is what a source reads; nothing is handed out of one that is removed.
type split struct {
	manifest.Position
	removed bool
}

// AddSplits is operator.SplitAdder's.
func (s *source) AddSplits(positions []manifest.Position) {
	s.mu.Lock()
	for _, p := range positions {
		s.splits = append(s.splits, &split{Position: p})
	}
	s.mu.Unlock()
	s.c.Log.wake()
}

// RemoveSplit is operator.SplitRemover's.
func (s *source) RemoveSplit(gone manifest.Split, at int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.splits, func(p *split) bool { return p.Split == gone && p.Next == at })
	if i < 0 {
		return false
	}
	s.splits[i].removed = true
	s.splits = slices.Delete(s.splits, i, i+1)
	return true
}

// moves notes what is handed out next; false: the split is removed.
func (s *source) moves(p *split, next int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.removed {
		p.Next = next
	}
	return !p.removed
}

// Run is operator.Source's.
func (s *source) Run(ctx context.Context) error {
	s.c.count(s.c.host, 1)
	defer s.c.count(s.c.host, -1)
	for {
		read, changed, err := s.round(ctx)
		if err != nil {
			return nil // only the end of ctx
		}
		if read {
			sleep(ctx, s.c.Pace)
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// round reads a batch of every split. changed, taken before, says when there may be more.
func (s *source) round(ctx context.Context) (read bool, changed <-chan struct{}, err error) {
	_, changed = s.c.Log.acks()
	s.mu.Lock()
	splits := slices.Clone(s.splits)
	s.mu.Unlock()
	for _, p := range splits {
		limit := s.c.BatchRecords
		if p.Stop >= 0 {
			limit = min(limit, int(p.Stop-p.Next))
		}
		messages, next, _ := s.c.Log.read(p.Topic, p.Partition, p.Next, limit)
		if next == p.Next {
			continue
		}
		b := &operator.Batch{Origins: []operator.Origin{{Topic: p.Topic, Partition: p.Partition}}}
		for _, m := range messages {
			b.Records = append(b.Records, operator.Record{
				Key: b.Put([]byte(m.Key)), Value: b.Put([]byte(m.Value)), Headers: operator.Null, StreamKey: operator.Null,
				Timestamp: -1, Offset: m.offset,
			})
		}
		if len(messages) == 0 {
			b = nil
		}
		if !s.moves(p, next) {
			continue
		}
		select {
		case <-ctx.Done():
			return false, nil, ctx.Err()
		case s.out <- operator.SourceBatch{Batch: b, Split: p.Split, Next: p.Next, LeaderEpoch: -1, Release: func() {}}:
		}
		read = true
	}
	return read, changed, nil
}

// Batches is operator.Source's.
func (s *source) Batches() <-chan operator.SourceBatch { return s.out }

// Lag is operator.Source's.
func (s *source) Lag() []operator.SplitLag { return nil }
