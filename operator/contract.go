package operator

import (
	"context"
	"sync/atomic"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// Collector takes the output of an operator. Emit borrows the batch for the call; it returns an
// error when the attempt is over or a receiver failed, and the caller passes that error up.
type Collector interface {
	Emit(b *Batch) error
}

// Operator turns batches into batches. All calls come from one goroutine, between two batches or
// barriers; a chain is nested calls.
type Operator interface {
	// Process handles one borrowed batch and emits any number of batches.
	Process(b *Batch, out Collector) error
}

// Fuser is an operator that can do the work of the one behind it, too.
type Fuser interface {
	Operator
	// Fuse gives an operator that does what both do, if it can. Neither is used by itself then. What fails in
	// next is passed through named.
	Fuse(next Operator, named func(error) error) (fused Operator, ok bool)
}

// Stateful is an operator with keyed state. Restore is called, once per piece, before the first
// Process; a piece may hold key groups outside the operator's range, which are to be passed over.
type Stateful interface {
	Operator
	// Restore reads one piece that Snapshot wrote, perhaps of another subtask.
	Restore(piece []byte) error
	// Snapshot returns the whole state as it is between two batches. The bytes belong to the caller.
	Snapshot() ([]byte, error)
}

// SourceBatch is a batch with the position behind it. Batch may be nil: only the position moves
// then (control batches, batches of aborted transactions).
type SourceBatch struct {
	Batch *Batch
	Split manifest.Split
	// From is where it begins: Next of the batch of the split before it, or where the split began. Next is the offset to read
	// after this batch, and LeaderEpoch the epoch seen with it (-1: unknown).
	From, Next  int64
	LeaderEpoch int32
	// Release gives the batch's memory back to the source; the loop calls it once, after the chain
	// has returned. Never nil.
	Release func()
}

// Source reads splits. Run fetches until ctx ends or a failure that the attempt cannot survive; the
// loop reads Batches, so a slow chain holds the source back. The loop alone knows the positions: a
// batch counts as read once the chain has taken it.
type Source interface {
	// Run returns when everything that it started has ended; nil only when ctx ended.
	Run(ctx context.Context) error
	// Batches is bounded in bytes. It is never closed.
	Batches() <-chan SourceBatch
	// Lag is, per split, the high watermark last seen minus the position last handed out.
	Lag() []SplitLag
}

// SplitAdder is a source that takes more splits while it runs.
type SplitAdder interface {
	Source
	// AddSplits gives the source splits that it does not have yet. Any goroutine may call it, also before
	// Run; it must not wait. Batches of these splits come after the call.
	AddSplits(positions []manifest.Position)
}

// SplitRemover is a source that lets go of splits while it runs.
type SplitRemover interface {
	Source
	// RemoveSplit lets go of a split, unless something of it behind an offset was handed out, or may still be: false. No
	// batch of it comes after true, and it may be added again. Any goroutine may call it; it must not wait.
	RemoveSplit(split manifest.Split, at int64) bool
}

// SplitEnder is a source whose splits can be ended before their bound.
type SplitEnder interface {
	Source
	// EndSplit says that the subtask takes nothing of a split from an offset on. Any goroutine may call it; it
	// must not wait. Batches of the split that are on their way already may still come.
	EndSplit(split manifest.Split, at int64)
}

// OffsetKeeper is a source that keeps its offsets itself, outside of checkpoints. The subtask has no positions of
// its splits, and no checkpoint has any; but what the sinks have acknowledged by a checkpoint may be stored.
type OffsetKeeper interface {
	Source
	// Accept says whether a batch is to be taken: one that was on its way while its split went to somebody else, or behind
	// another that was dropped then, is not. It, Taken and Barrier come from the loop's goroutine.
	Accept(b *SourceBatch) bool
	// Taken says that the chain has taken a batch.
	Taken(b *SourceBatch)
	// Barrier says that the barrier of a checkpoint stands behind all that was taken.
	Barrier(id ident.CheckpointID)
	// Completed says that the sinks have acknowledged all that stands before the barrier of a checkpoint. Any
	// goroutine may call it; it must not wait.
	Completed(id ident.CheckpointID)
}

// SplitLag is how far a split is behind, in records; -1 while unknown. Next is the offset to read next.
type SplitLag struct {
	Split manifest.Split
	Next  int64
	Lag   int64
}

// Sink writes records out. Write, Seal and Completed come from the subtask's goroutine; Sealed comes
// from the sink's own.
type Sink interface {
	// Run sends what Write buffered until ctx ends or a failure that the attempt cannot survive.
	Run(ctx context.Context) error
	// Write copies what it needs of the borrowed batch; it blocks while the sink's buffers are full.
	Write(ctx context.Context, b *Batch) error
	// Seal marks the end of what belongs to the checkpoint; the flow goes on at once. When all that
	// was written before it is acknowledged, the sink reports the checkpoint on Sealed. Acks are
	// cumulative: Sealed(n) covers every seal up to n.
	Seal(ctx context.Context, id ident.CheckpointID) error
	// Sealed is bounded and never closed.
	Sealed() <-chan SealedEpoch
	// Completed tells that the checkpoint is durable and its transactions are committed. Any goroutine
	// may call it, also while Write waits.
	Completed(id ident.CheckpointID)
}

// Transactional is a sink that writes into transactions, one per checkpoint (DESIGN rules 7 to 11).
type Transactional interface {
	Sink
	// HandOut says that the sink owns the transactional ids below this number. It only rises; any
	// goroutine may call it.
	HandOut(below int)
}

// TransactionLevel is what a transactional sink tells of its ids: a level, not a change.
type TransactionLevel struct {
	// Ready is how many next transactions can begin at once, 1 standing for more as well; a checkpoint is triggered only
	// while it is at least 1.
	Ready int
	// Wanted is the number below which the sink would like to own all ids; at least what it owns.
	Wanted int
}

// SourceContext is what a source is made with beside its node of the graph.
type SourceContext struct {
	// Positions are the splits of the subtask.
	Positions []manifest.Position
	// Waiting is told why the source makes no progress, empty when it does again; any goroutine may call it.
	Waiting func(reason string)
	// Sinks are those that alone take what the source reads; nil if anybody else does.
	Sinks []*graph.KafkaSink
}

// SinkContext is what a sink is made with beside its node of the graph.
type SinkContext struct {
	Subtask int
	// Failed decides over records that the sink cannot handle.
	Failed Failed
	// Lost counts the records that a sink with the guarantee none could not write.
	Lost *atomic.Int64
	// Waiting is told why the sink makes no progress, empty when it does again. It must not wait.
	Waiting func(reason string)
	// Transactions is for sinks with the guarantee exactly-once; nil for others.
	Transactions *TransactionContext
}

// TransactionContext is what a transactional sink may use.
type TransactionContext struct {
	// Prefix ends with a slash; the n-th id is Prefix followed by n in decimal.
	Prefix string
	// Owned is the number of ids that the deployment hands out.
	Owned int
	// Cap is how many ids, burnt ones not counted, the sink may own: tolerableFailures + 3 (rule 11).
	Cap int
	// Level is told whenever the level changed. It must not wait.
	Level func(TransactionLevel)
	// Lease returns why this task manager may not use its ids any more, nil while it may (rule 13). It
	// is asked before each InitProducerId and AddPartitionsToTxn.
	Lease func() error
}

// SealedEpoch is a sink's share of an ack: all that was written before the seal of Checkpoint is
// acknowledged by the broker, and Transactions lists what the job manager must commit (empty for
// at-least-once).
type SealedEpoch struct {
	Checkpoint   ident.CheckpointID
	Transactions []manifest.Transaction
}
