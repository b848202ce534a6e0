package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-stream/sluice/graph"
)

// maxDepth bounds how deep a file may be nested; a job needs seven levels.
const maxDepth = 64

// readTree reads the text into nodes. It refuses what is no single YAML document.
func readTree(data []byte, filename string) (*yaml.Node, error) {
	fault := func(line, column int, hint, format string, args ...any) error {
		return Errors{{File: filename, Line: line, Column: column, Message: fmt.Sprintf(format, args...), Hint: hint}}
	}
	if len(data) > graph.MaxSpecBytes {
		return nil, fault(1, 1, "", "the file has %d bytes; at most %d", len(data), graph.MaxSpecBytes)
	}
	if line, column, what := badCharacter(data); what != "" {
		return nil, fault(line, column, "a job file is UTF-8 text", "%s", what)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, fault(1, 1, "sluice demo shows one", "the file holds no job")
	} else if err != nil {
		line, message, hint := syntaxError(err, data)
		return nil, fault(line, 1, hint, "%s", message)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, fault(second.Line, second.Column, "put each job in a file of its own", "a second document begins here, want one")
	} else if !errors.Is(err, io.EOF) {
		line, message, hint := syntaxError(err, data)
		return nil, fault(line, 1, hint, "%s", message)
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fault(root.Line, root.Column, "", "the file is %s, want fields such as name: and sources:", kindOf(root))
	}
	return root, nil
}

// badCharacter finds the first thing that is no character of a text.
func badCharacter(data []byte) (line, column int, what string) {
	line, column = 1, 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return line, column, fmt.Sprintf("byte 0x%02x is not valid UTF-8", data[i])
		case r == '\n':
			line, column = line+1, 0
		case r < ' ' && r != '\t' && r != '\r' || r == 0x7f:
			return line, column, fmt.Sprintf("control character U+%04X", r)
		}
		column++
		i += size
	}
	return 0, 0, ""
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

func syntaxError(err error, data []byte) (line int, message, hint string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	line = 1
	if m := syntaxLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	switch {
	case strings.Contains(message, "cannot start any token") && bytes.ContainsRune(data, '\t'):
		hint = "YAML is indented with spaces, not tabs"
	case strings.Contains(message, "mapping values are not allowed"):
		hint = `text that holds ": " stands in quotes`
	case strings.Contains(message, "exceeded max depth"):
		message = fmt.Sprintf("nested deeper than %d levels", maxDepth)
	}
	return line, "not YAML: " + message, hint
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	case "!!timestamp":
		return "a date"
	}
	return "text"
}

// tree checks what holds for every node, whatever it stands for.
func (d *decoder) tree(root *yaml.Node) {
	var walk func(n *yaml.Node, depth int)
	walk = func(n *yaml.Node, depth int) {
		switch {
		case d.tooDeep || d.full():
			return
		case depth > maxDepth:
			d.tooDeep = true
			d.fault(n, nil, "", "nested deeper than %d levels", maxDepth)
			return
		case n.Kind == yaml.AliasNode:
			d.fault(n, nil, "write it out", "alias *%.80s: aliases are not supported", n.Value)
		case n.Kind == yaml.ScalarNode && !knownTags[n.ShortTag()],
			n.Kind == yaml.MappingNode && n.ShortTag() != "!!map",
			n.Kind == yaml.SequenceNode && n.ShortTag() != "!!seq":
			d.fault(n, nil, "remove it", "tag %.80s is not supported", n.ShortTag())
			n.Tag, n.Style = "", n.Style&^yaml.TaggedStyle // read on as if it were not there
		}
		for _, child := range n.Content {
			walk(child, depth+1)
		}
	}
	walk(root, 1)
}

var knownTags = map[string]bool{
	"!!str": true, "!!int": true, "!!float": true, "!!bool": true, "!!null": true, "!!timestamp": true,
	"!!merge": true, // reported as the unknown field <<
}
