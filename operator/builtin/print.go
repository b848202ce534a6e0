package builtin

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// printSink writes a line per record: "sink/subtask> key<TAB>value".
type printSink struct {
	w      io.Writer
	prefix string
	line   []byte
	sealed chan operator.SealedEpoch
}

// NewPrint makes a print sink. A line holds key and value, parted by a tab; null is written null; what is
// not printable text is quoted as in Go. w gets whole lines, in one call per batch as far as they have
// less than 256 KiB, and must be safe for several subtasks at once (an *os.File is).
//
// What Write has returned from is written, so a seal is sealed at once. A crash between the two prints
// lines again: the guarantee is at-least-once.
func NewPrint(w io.Writer, sink string, subtask int) operator.Sink {
	return &printSink{w: w, prefix: ident.Subtask{Vertex: sink, Index: subtask}.String() + "> ", sealed: make(chan operator.SealedEpoch, 1)}
}

// Run is operator.Sink's; there is nothing to do in the background.
func (p *printSink) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Write is operator.Sink's.
func (p *printSink) Write(_ context.Context, b *operator.Batch) error {
	if err := b.Open(); err != nil {
		return err
	}
	p.line = p.line[:0]
	for i := range b.Records {
		p.line = append(p.line, p.prefix...)
		p.line = appendPrintable(p.line, b.Bytes(b.Records[i].Key))
		p.line = append(p.line, '\t')
		p.line = appendPrintable(p.line, b.Bytes(b.Records[i].Value))
		p.line = append(p.line, '\n')
		if len(p.line) >= emitBytes {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return p.flush()
}

func (p *printSink) flush() error {
	if len(p.line) == 0 {
		return nil
	}
	_, err := p.w.Write(p.line)
	p.line = p.line[:0]
	if err != nil {
		return fmt.Errorf("print records: %w", err)
	}
	return nil
}

// Seal is operator.Sink's. Seals are cumulative: one that nobody has taken yet gives way to the newer.
func (p *printSink) Seal(_ context.Context, id ident.CheckpointID) error {
	select {
	case <-p.sealed:
	default:
	}
	p.sealed <- operator.SealedEpoch{Checkpoint: id} // has room: this goroutine alone sends
	return nil
}

// Sealed is operator.Sink's.
func (p *printSink) Sealed() <-chan operator.SealedEpoch { return p.sealed }

// Completed is operator.Sink's.
func (p *printSink) Completed(ident.CheckpointID) {}

func appendPrintable(dst, s []byte) []byte {
	if s == nil {
		return append(dst, "null"...)
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			return strconv.AppendQuote(dst, string(s))
		}
		i += n
	}
	return append(dst, s...)
}
