package builtin

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

func TestPrint(t *testing.T) {
	var w bytes.Buffer
	p := NewPrint(&w, "screen", 3)
	if err := p.Write(t.Context(), batchOf("plain é", "null", "", "two\nlines", "\xff")); err != nil {
		t.Fatal(err)
	}
	want := "screen/3> k0\tplain é\nscreen/3> k1\tnull\nscreen/3> k2\t\nscreen/3> k3\t\"two\\nlines\"\nscreen/3> k4\t\"\\xff\"\n"
	if w.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", w.String(), want)
	}
}

// calls counts the writes, whole lines each.
type calls struct {
	n, bytes int
	err      error
	t        *testing.T
}

func (c *calls) Write(p []byte) (int, error) {
	c.n++
	c.bytes += len(p)
	if p[len(p)-1] != '\n' {
		c.t.Error("a write ends within a line")
	}
	return len(p), c.err
}

func TestPrintWrites(t *testing.T) {
	w := &calls{t: t}
	p := NewPrint(w, "screen", 0)
	if err := p.Write(t.Context(), batchOf("a", "b", "c")); err != nil || w.n != 1 {
		t.Errorf("%v, %d writes for a small batch", err, w.n)
	}
	long := strings.Repeat("x", emitBytes/2)
	if err := p.Write(t.Context(), batchOf(long, long, long, long)); err != nil || w.n != 3 {
		t.Errorf("%v, %d writes", err, w.n)
	}
	if err := p.Write(t.Context(), &operator.Batch{}); err != nil || w.n != 3 {
		t.Errorf("%v, %d writes for an empty batch", err, w.n)
	}
	full := errors.New("disk full")
	if err := NewPrint(&calls{t: t, err: full}, "screen", 0).Write(t.Context(), batchOf("a")); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	damaged := errors.New("damaged")
	if err := p.Write(t.Context(), &operator.Batch{Packed: packed{err: damaged}}); !errors.Is(err, damaged) {
		t.Errorf("error %v", err)
	}
}

// TestPrintSeals: nobody has to take a seal before the next; the newest covers the others.
func TestPrintSeals(t *testing.T) {
	p := NewPrint(&bytes.Buffer{}, "screen", 0)
	for id := ident.CheckpointID(1); id <= 3; id++ {
		if err := p.Seal(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	p.Completed(3)
	if e := <-p.Sealed(); e.Checkpoint != 3 || e.Transactions != nil {
		t.Errorf("sealed %+v", e)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
}
