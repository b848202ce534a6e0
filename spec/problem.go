package spec

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Problem is one fault of a job file.
type Problem struct {
	// File is the name of the file, or --set and a path when the value came from there.
	File string
	// Line and Column count from 1, Column in characters. Zero: the value came from --set.
	Line, Column int
	// Path leads to the faulty part: sources.orders.kafka.format. Empty: the file as a whole.
	Path string
	// Message says what is wrong; Hint, perhaps empty, what to do about it.
	Message, Hint string
}

// String prints the problem as FILE:LINE:COLUMN: PATH: MESSAGE; HINT.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" && p.File != "--set "+p.Path {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
}

// Errors is everything that is wrong with a job file, in the order of the file; what came from --set
// is last.
type Errors []Problem

// Error lists the problems, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func (d *decoder) errors() Errors {
	line := func(p Problem) int {
		if p.Line == 0 {
			return math.MaxInt
		}
		return p.Line
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(line(a), line(b)), cmp.Compare(a.Column, b.Column))
	})
	return Errors(d.problems)
}
