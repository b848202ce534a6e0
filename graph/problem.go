package graph

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxProblems bounds how many problems are looked for in one job; a file that is garbage is not
// described to its end.
const MaxProblems = 1000

// Path leads from the job to a part of it by the names of the job file: sources, orders, kafka, format.
// Elements of lists are named by their index.
type Path []string

// String prints the path as the command line takes it: a.b["c.d"].0; a step with other characters than
// letters, digits, _ and - stands in brackets.
func (p Path) String() string {
	var b strings.Builder
	for i, step := range p {
		switch {
		case !plainStep(step):
			b.WriteString("[" + strconv.Quote(step) + "]")
		case i > 0:
			b.WriteString("." + step)
		default:
			b.WriteString(step)
		}
	}
	return b.String()
}

func plainStep(s string) bool {
	for _, c := range []byte(s) {
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

// With is the path one or more steps further down; the receiver stays as it is.
func (p Path) With(steps ...string) Path {
	return append(p[:len(p):len(p)], steps...)
}

// Problem is one thing that is wrong with a job.
type Problem struct {
	Path Path
	// Message says what is wrong with which value; Hint, perhaps empty, what to do about it.
	Message, Hint string
	// Line and Column are the place inside the expression that Path names, from 1, the column in
	// characters; 0 when it is no expression or the place is unknown.
	Line, Column int
	// Missing says that something is not there that Path, or something below it, should have. Whoever
	// knows that it was there but unreadable can leave the problem out.
	Missing bool
}

// String prints the problem as PATH: MESSAGE; HINT.
func (p Problem) String() string {
	var b strings.Builder
	if len(p.Path) > 0 {
		b.WriteString(p.Path.String() + ": ")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "at %d:%d of the expression: ", p.Line, p.Column)
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
}

// InvalidError is a job that cannot run, with all that is wrong with it.
type InvalidError struct {
	Job      string
	Problems []Problem
}

// Error lists the problems, one a line.
func (e *InvalidError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "job %.140q is invalid:", e.Job)
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// problems collects up to MaxProblems.
type problems struct{ list []Problem }

func (p *problems) full() bool { return len(p.list) >= MaxProblems }

func (p *problems) add(path Path, hint, format string, args ...any) {
	if !p.full() {
		p.list = append(p.list, Problem{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
}

func (p *problems) missing(path Path, hint, format string, args ...any) {
	if !p.full() {
		p.add(path, hint, format, args...)
		p.list[len(p.list)-1].Missing = true
	}
}
