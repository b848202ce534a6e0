package main

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// connectors make the sources and sinks of one simulated task manager. What the sources read is made up: a record
// of each split every pace, so that every checkpoint has new offsets. At-least-once sinks write nowhere and
// acknowledge at once, as only the coordination is measured; exactly-once sinks are the real ones, as their
// transactions are a part of it.
type connectors struct {
	kafka *kafka.Connectors
	times *timeline
	pace  time.Duration
}

// NewSource is taskmanager.Connectors'.
func (c *connectors) NewSource(_ *graph.Node, sc operator.SourceContext) (operator.Source, error) {
	s := &source{pace: c.pace, out: make(chan operator.SourceBatch)}
	for _, p := range sc.Positions {
		sp := &split{Split: p.Split}
		sp.next.Store(p.Next)
		s.splits = append(s.splits, sp)
	}
	return s, nil
}

// NewSink is taskmanager.Connectors'.
func (c *connectors) NewSink(node *graph.Node, sc operator.SinkContext) (operator.Sink, error) {
	if sc.Transactions == nil {
		return &sink{times: c.times, sealed: make(chan operator.SealedEpoch, 1)}, nil
	}
	made, err := c.kafka.NewSink(node, sc)
	if err != nil {
		return nil, err
	}
	tx, ok := made.(operator.Transactional)
	if !ok {
		return nil, errors.New("the sink of the Kafka connector has no transactions")
	}
	return &transactional{tx, c.times}, nil
}

// split is one partition of a source. Only Run moves next.
type split struct {
	manifest.Split
	next atomic.Int64
}

// source makes records up.
type source struct {
	pace   time.Duration
	splits []*split
	out    chan operator.SourceBatch
}

// phases are how many beginnings of the pace there are, so that subtasks do not work in step.
const phases = 97

// Run is operator.Source's.
func (s *source) Run(ctx context.Context) error {
	if len(s.splits) == 0 {
		<-ctx.Done()
		return nil
	}
	wait := time.NewTimer(s.pace * time.Duration(s.splits[0].Partition%phases) / phases)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
		wait.Reset(s.pace)
		for _, sp := range s.splits {
			at := sp.next.Load()
			select {
			case <-ctx.Done():
				return nil
			case s.out <- sp.batch(at):
				sp.next.Store(at + 1)
			}
		}
	}
}

// batch holds one record.
func (sp *split) batch(at int64) operator.SourceBatch {
	b := &operator.Batch{}
	text := []byte(strconv.FormatInt(at, 10))
	b.Records = []operator.Record{{
		Key: b.Put(strconv.AppendInt(nil, int64(sp.Partition), 10)), Value: b.Put(text), Headers: operator.Null, StreamKey: operator.Null,
		Timestamp: -1, Offset: at, Origin: b.AddOrigin(operator.Origin{Topic: sp.Topic, Partition: sp.Partition}),
	}}
	return operator.SourceBatch{Batch: b, Split: sp.Split, Next: at + 1, LeaderEpoch: -1, Release: func() {}}
}

// Batches is operator.Source's.
func (s *source) Batches() <-chan operator.SourceBatch { return s.out }

// Lag is operator.Source's: heartbeats carry it.
func (s *source) Lag() []operator.SplitLag {
	out := make([]operator.SplitLag, 0, len(s.splits))
	for _, sp := range s.splits {
		out = append(out, operator.SplitLag{Split: sp.Split, Next: sp.next.Load()})
	}
	return out
}

// sink takes everything and acknowledges at once.
type sink struct {
	times  *timeline
	sealed chan operator.SealedEpoch
}

// Run is operator.Sink's.
func (s *sink) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Write is operator.Sink's.
func (s *sink) Write(context.Context, *operator.Batch) error { return nil }

// Seal is operator.Sink's.
func (s *sink) Seal(ctx context.Context, id ident.CheckpointID) error {
	s.times.barrier(id)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case s.sealed <- operator.SealedEpoch{Checkpoint: id}:
		return nil
	}
}

// Sealed is operator.Sink's.
func (s *sink) Sealed() <-chan operator.SealedEpoch { return s.sealed }

// Completed is operator.Sink's.
func (s *sink) Completed(id ident.CheckpointID) { s.times.committed(id) }

// transactional is the real sink, watched.
type transactional struct {
	operator.Transactional
	times *timeline
}

// Seal is operator.Sink's.
func (t *transactional) Seal(ctx context.Context, id ident.CheckpointID) error {
	t.times.barrier(id)
	return t.Transactional.Seal(ctx, id)
}

// Completed is operator.Sink's.
func (t *transactional) Completed(id ident.CheckpointID) {
	t.Transactional.Completed(id)
	t.times.committed(id)
}
