package builtin

import (
	"slices"
	"sync/atomic"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

// Failures applies the error policies of the sources to the records that one subtask cannot handle. Dead
// letters gather in batches until Flush hands them on; a full batch goes at once. All but the counters
// belongs to the subtask's goroutine.
type Failures struct {
	at Site
	// Skipped and DeadLettered count since the subtask began; any goroutine may read them.
	Skipped, DeadLettered atomic.Int64

	stopped atomic.Bool
	write   func(source string, b *operator.Batch) error // nil: nobody takes dead letters
	letters []letters                                    // in the order of their first one
	waiting int                                          // records in letters
}

// letters are the dead letters of one source.
type letters struct {
	source string
	batch  *operator.Batch
}

// Site is where a subtask runs; dead letters tell it.
type Site struct {
	Job     string
	JobID   ident.JobID
	Attempt ident.Attempt
	Subtask ident.Subtask
}

// NewFailures begins without anybody who takes dead letters; see Bind.
func NewFailures(at Site) *Failures { return &Failures{at: at} }

// Bind says where the dead letters of a source go. Write borrows the batch.
func (f *Failures) Bind(write func(source string, b *operator.Batch) error) { f.write = write }

// Stop says that the subtask is to end: expressions that take long fail from now on, and whatever fails ends it. Any goroutine
// may call it.
func (f *Failures) Stop() { f.stopped.Store(true) }

// Of decides over the records that fail in a node, or in the keyBy of an edge, by the name of its receiver.
func (f *Failures) Of(node string, policies graph.ErrorPolicies) operator.Failed {
	return func(b *operator.Batch, i int, part string, cause error) error {
		if f.stopped.Load() { // a record on which an expression was not run is neither skipped nor a dead letter
			return expression.ErrStopped
		}
		policy := policies.Of(topicOf(b, i))
		switch policy.OnError.Policy {
		case graph.Skip:
			f.Skipped.Add(1)
			return nil
		case graph.DeadLetter:
			if f.write != nil {
				return f.bury(policy.Source, b, i, &fault{node, part, cause})
			}
		}
		return newRecordError(node, b, i, part, cause)
	}
}

// fault is why a record failed.
type fault struct {
	node, part string
	cause      error
}

// bury puts a record to the dead letters of its source.
func (f *Failures) bury(source string, b *operator.Batch, i int, why *fault) error {
	f.DeadLettered.Add(1)
	at := slices.IndexFunc(f.letters, func(l letters) bool { return l.source == source })
	if at < 0 {
		at = len(f.letters)
		f.letters = append(f.letters, letters{source, &operator.Batch{}})
	}
	l := &f.letters[at]
	f.at.appendLetter(l.batch, source, b, i, why)
	f.waiting++
	if len(l.batch.Arena) < emitBytes {
		return nil
	}
	return f.hand(l)
}

// Flush hands on all dead letters that have gathered. It costs nothing when there are none.
func (f *Failures) Flush() error {
	if f.waiting == 0 {
		return nil
	}
	for i := range f.letters {
		if err := f.hand(&f.letters[i]); err != nil {
			return err
		}
	}
	return nil
}

// hand gives the letters of one source away. The memory of unusually large ones is given back.
func (f *Failures) hand(l *letters) error {
	if len(l.batch.Records) == 0 {
		return nil
	}
	f.waiting -= len(l.batch.Records)
	err := f.write(l.source, l.batch)
	if cap(l.batch.Arena) > 4*emitBytes {
		l.batch.Arena = nil
	}
	l.batch.Reset()
	return err
}

func topicOf(b *operator.Batch, i int) string {
	if origin := b.Records[i].Origin; int(origin) < len(b.Origins) {
		return b.Origins[origin].Topic
	}
	return ""
}
