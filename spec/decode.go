package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-stream/sluice/graph"
)

// decoder turns nodes into fields of a job and remembers where each came from.
type decoder struct {
	file     string
	text     string
	problems []Problem
	tooDeep  bool
	// places has the nodes by the text of their path; broken the paths that could not be read.
	places map[string]entry
	broken []graph.Path
	// origin has the nodes that --set made, with its path.
	origin map[*yaml.Node]string
}

// entry is where a path stands in the file; key is nil in a list.
type entry struct{ key, value *yaml.Node }

// setter reads a node into a field.
type setter func(n *yaml.Node, path graph.Path)

// field is a field of a mapping.
type field struct {
	name string
	set  setter
}

// reserved are the words that later versions will give a meaning.
var reserved = []string{"window", "aggregate", "watermark"}

func (d *decoder) full() bool { return len(d.problems) >= graph.MaxProblems }

// fault reports a node that cannot be read.
func (d *decoder) fault(n *yaml.Node, path graph.Path, hint, format string, args ...any) {
	if d.full() {
		return
	}
	p := Problem{File: d.file, Line: n.Line, Column: n.Column, Path: path.String(), Message: fmt.Sprintf(format, args...), Hint: hint}
	if set, ok := d.origin[n]; ok {
		p.File, p.Line, p.Column = "--set "+set, 0, 0
	}
	d.problems = append(d.problems, p)
	if path != nil {
		d.broken = append(d.broken, path)
	}
}

// wrong reports a node of a wrong type.
func (d *decoder) wrong(n *yaml.Node, path graph.Path, hint, want string) {
	if n.Kind == yaml.AliasNode { // reported by tree
		d.broken = append(d.broken, path)
		return
	}
	what := "this"
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		what = fmt.Sprintf("%.80q", n.Value)
	}
	d.fault(n, path, hint, "%s is %s, want %s", what, kindOf(n), want)
}

// entries visits the entries of a mapping. An empty value is an empty mapping.
func (d *decoder) entries(n *yaml.Node, path graph.Path, visit func(key, value *yaml.Node, path graph.Path)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.wrong(n, path, "", "a mapping")
		return
	}
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content) && !d.full(); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fault(key, path, "", "a key is %s, want text", kindOf(key))
			continue
		}
		at := path.With(key.Value)
		if before, ok := first[key.Value]; ok {
			d.fault(key, at, "", "duplicate key; the first is at %d:%d", before.Line, before.Column)
			continue
		}
		first[key.Value] = key
		d.places[at.String()] = entry{key, value}
		visit(key, value, at)
	}
}

// fields reads a mapping with known fields and returns the names of those that it has.
func (d *decoder) fields(n *yaml.Node, path graph.Path, known ...field) []string {
	var found []string
	d.entries(n, path, func(key, value *yaml.Node, at graph.Path) {
		for _, f := range known {
			if f.name == key.Value {
				found = append(found, f.name)
				f.set(value, at)
				return
			}
		}
		names := make([]string, len(known))
		for i, f := range known {
			names[i] = f.name
		}
		if slices.Contains(reserved, key.Value) {
			d.fault(key, at, "the word is reserved", "not supported yet: %s", key.Value)
			return
		}
		hint := graph.DidYouMean(key.Value, names)
		if hint == "" {
			hint = "known: " + strings.Join(names, ", ")
		}
		d.fault(key, at, hint, "unknown field %.80q", key.Value)
	})
	return found
}

// list visits the elements of a list.
func (d *decoder) list(n *yaml.Node, path graph.Path, want string, visit setter) {
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, path, "", want)
		return
	}
	for i, element := range n.Content {
		if d.full() {
			return
		}
		at := path.With(strconv.Itoa(i))
		d.places[at.String()] = entry{value: element}
		visit(element, at)
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// text reads text; a number or a boolean is none, as YAML has its own ideas about what 1_0 or 012 is.
func text[T ~string](d *decoder, dst *T) setter {
	return func(n *yaml.Node, path graph.Path) {
		switch {
		case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str":
			*dst = T(n.Value)
			if n.Value == "" {
				d.fault(n, path, "", "the text is empty")
			}
		case n.Kind == yaml.ScalarNode && !isNull(n):
			d.wrong(n, path, "put it in quotes", "text")
		default:
			d.wrong(n, path, "", "text")
		}
	}
}

// expression reads CEL. Any scalar will do: true, 5 and null are CEL, too.
func (d *decoder) expression(dst *string) setter {
	return func(n *yaml.Node, path graph.Path) {
		switch {
		case n.Kind != yaml.ScalarNode || isNull(n) && n.Value == "":
			d.wrong(n, path, "", "an expression")
		case strings.TrimSpace(n.Value) == "":
			d.fault(n, path, "", "the expression is empty")
		default:
			*dst = n.Value
		}
	}
}

// integer reads a decimal number between low and high.
func (d *decoder) integer(dst *int, low, high int) setter {
	return func(n *yaml.Node, path graph.Path) {
		if i, ok := d.number(n, path, int64(low), int64(high)); ok {
			*dst = int(i)
		}
	}
}

func (d *decoder) number(n *yaml.Node, path graph.Path, low, high int64) (int64, bool) {
	if n.Kind != yaml.ScalarNode || (n.ShortTag() != "!!int" && n.ShortTag() != "!!float") {
		d.wrong(n, path, "", "a whole number")
		return 0, false
	}
	digits := strings.TrimPrefix(n.Value, "-")
	if strings.Trim(digits, "0123456789") != "" || digits == "" || (len(digits) > 1 && digits[0] == '0') {
		d.fault(n, path, "", "%.80s is no whole number in decimal digits", n.Value)
		return 0, false
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil || i < low || i > high {
		d.fault(n, path, "", "%.80s is out of range, want %d to %d", n.Value, low, high)
		return 0, false
	}
	return i, true
}

// duration reads a Go duration of at least low. Zero needs no unit.
func (d *decoder) duration(dst *time.Duration, low time.Duration) setter {
	return func(n *yaml.Node, path graph.Path) {
		if n.Kind != yaml.ScalarNode || isNull(n) || n.ShortTag() == "!!bool" {
			d.wrong(n, path, "", "a duration such as 500ms, 10s or 2m")
			return
		}
		v, err := time.ParseDuration(n.Value)
		switch {
		case err == nil && v < 0:
			d.fault(n, path, "", "%v is negative", v)
		case err == nil && v < low:
			d.fault(n, path, "", "%v is too short, want at least %v", v, low)
		case err == nil:
			*dst = v
		case n.ShortTag() == "!!int" || n.ShortTag() == "!!float":
			d.fault(n, path, fmt.Sprintf("write %.20ss or %.20sms", n.Value, n.Value), "duration %.80s has no unit", n.Value)
		default:
			d.fault(n, path, "want a number and a unit (ns us ms s m h), at most "+hours(graph.MaxDuration), "%.80q is no duration", n.Value)
		}
	}
}

func hours(d time.Duration) string { return strconv.Itoa(int(d.Hours())) + "h" }

// time reads an RFC 3339 timestamp.
func (d *decoder) time(dst *time.Time) setter {
	return func(n *yaml.Node, path graph.Path) {
		if n.Kind != yaml.ScalarNode || isNull(n) {
			d.wrong(n, path, "", "a timestamp")
			return
		}
		t, err := time.Parse(time.RFC3339, n.Value)
		if err != nil {
			d.fault(n, path, "want RFC 3339, such as 2026-01-31T12:00:00Z", "%.80q is no timestamp", n.Value)
			return
		}
		*dst = t.UTC()
	}
}

// properties reads names and scalar values. Numbers and booleans keep their text.
func (d *decoder) properties(dst *map[string]string) setter {
	return func(n *yaml.Node, path graph.Path) {
		*dst = map[string]string{}
		d.entries(n, path, func(key, value *yaml.Node, at graph.Path) {
			if value.Kind != yaml.ScalarNode || isNull(value) {
				hint := ""
				if value.Kind == yaml.MappingNode {
					hint = `property names are written whole: bootstrap.servers: …, with --set properties["bootstrap.servers"]=…`
				}
				d.wrong(value, at, hint, "text")
				return
			}
			(*dst)[key.Value] = value.Value
		})
	}
}
