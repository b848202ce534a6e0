package spec

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-stream/sluice/graph"
)

// follows says whether a problem of the job only follows from something that could not be read.
func (d *decoder) follows(p graph.Problem) bool {
	return slices.ContainsFunc(d.broken, func(broken graph.Path) bool {
		return isPrefix(broken, p.Path) || (p.Missing && isPrefix(p.Path, broken))
	})
}

func isPrefix(prefix, path graph.Path) bool {
	return len(prefix) <= len(path) && slices.Equal(prefix, path[:len(prefix)])
}

// place finds where in the file a problem of the job is: at a value, else at the key of what holds it.
func (d *decoder) place(p graph.Problem) Problem {
	out := Problem{File: d.file, Path: p.Path.String(), Message: p.Message, Hint: p.Hint}
	at, exact := d.find(p.Path)
	n := at.value
	if at.key != nil && !(exact && n.Kind == yaml.ScalarNode) {
		n = at.key
	}
	line, column, inside := 0, 0, false
	if exact && p.Line > 0 {
		line, column, inside = d.within(at.value, p.Line, p.Column)
	}
	if inside {
		out.Line, out.Column = line, column
		return out
	}
	if p.Line > 0 {
		out.Message = fmt.Sprintf("at %d:%d of the expression: %s", p.Line, p.Column, p.Message)
	}
	out.Line, out.Column = n.Line, n.Column
	if set, ok := d.origin[n]; ok {
		out.File, out.Line, out.Column = "--set "+set, 0, 0
	}
	return out
}

// find is the entry of a path, or of the nearest path above it that the file has.
func (d *decoder) find(path graph.Path) (at entry, exact bool) {
	for n := len(path); n > 0; n-- {
		if at, ok := d.places[path[:n].String()]; ok {
			return at, n == len(path)
		}
	}
	return d.places[""], len(path) == 0
}

// within translates a place inside a scalar to one of the file. It gives up where quotes, escapes or
// folding make the two texts differ.
func (d *decoder) within(n *yaml.Node, line, column int) (fileLine, fileColumn int, ok bool) {
	if _, set := d.origin[n]; set || n.Kind != yaml.ScalarNode {
		return 0, 0, false
	}
	lines := strings.Split(n.Value, "\n")
	if line > len(lines) {
		return 0, 0, false
	}
	if n.Style&yaml.LiteralStyle != 0 {
		source, found := d.line(n.Line + line)
		indent := len(source) - len(lines[line-1])
		return n.Line + line, indent + column, found && strings.HasSuffix(source, lines[line-1])
	}
	if len(lines) > 1 {
		return 0, 0, false
	}
	source, found := d.line(n.Line)
	for i := 1; i < n.Column && source != ""; i++ {
		_, size := utf8.DecodeRuneInString(source)
		source = source[size:]
	}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 && source != "" {
		source, column = source[1:], column+1
	}
	return n.Line, n.Column + column - 1, found && strings.HasPrefix(source, n.Value)
}

// line is a line of the file, counted from 1, without its end.
func (d *decoder) line(number int) (string, bool) {
	rest := d.text
	for ; number > 1; number-- {
		_, after, ok := strings.Cut(rest, "\n")
		if !ok {
			return "", false
		}
		rest = after
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSuffix(line, "\r"), true
}
