package spec

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-stream/sluice/graph"
)

// parseSet reads path=value of --set. The steps of the path are separated by dots; a dot that belongs
// to a step is written \. or the step stands in brackets, with or without double quotes:
//
//	sources.orders.kafka.properties.bootstrap\.servers=localhost:9092
//	sources.orders.kafka.properties["bootstrap.servers"]=localhost:9092
//	sources.orders.kafka.topics.0=orders
func parseSet(set string) (path graph.Path, value string, err error) {
	var step strings.Builder
	open := false // a step has begun, perhaps an empty one
	for i := 0; i < len(set); i++ {
		switch c := set[i]; {
		case c == '\\' && i+1 < len(set):
			i++
			step.WriteByte(set[i])
			open = true
		case c == '[' && !open:
			name, end, err := bracket(set, i)
			if err != nil {
				return nil, "", err
			}
			path, i = append(path, name), end
			switch next := set[i+1:]; {
			case strings.HasPrefix(next, "."):
				i++
			case next != "" && next[0] != '=' && next[0] != '[':
				return nil, "", fmt.Errorf("want . or = behind a ], not %.1q", next)
			}
		case c == '.' || c == '=' || c == '[':
			if open {
				path = append(path, step.String())
			} else if c != '=' || len(path) == 0 || set[i-1] == '.' {
				return nil, "", errors.New("the path has an empty step; want path=value")
			}
			step.Reset()
			open = false
			if c == '=' {
				return path, set[i+1:], nil
			}
			if c == '[' {
				i-- // once more, as the beginning of a step
			}
		default:
			step.WriteByte(c)
			open = true
		}
	}
	return nil, "", errors.New("there is no =; want path=value")
}

// bracket reads a step in brackets that begins at set[i] and returns the index of its end.
func bracket(set string, i int) (name string, end int, err error) {
	inner := set[i+1:]
	if quoted, err := strconv.QuotedPrefix(inner); err == nil && quoted[0] == '"' {
		name, err = strconv.Unquote(quoted)
		if err != nil || !strings.HasPrefix(inner[len(quoted):], "]") {
			return "", 0, fmt.Errorf("no ] behind %s", quoted)
		}
		return name, i + len(quoted) + 1, nil
	}
	name, _, ok := strings.Cut(inner, "]")
	if !ok || name == "" {
		return "", 0, errors.New("a [ without its ], or nothing between them")
	}
	return name, i + len(name) + 1, nil
}

// setName names a --set in messages by its path; the value may be a secret.
func setName(set string) string {
	if path, _, err := parseSet(set); err == nil {
		return path.String()
	}
	name, _, _ := strings.Cut(set, "=")
	return fmt.Sprintf("%.80q", name)
}

// applySet changes the tree as one --set says.
func (d *decoder) applySet(root *yaml.Node, set string) error {
	path, text, err := parseSet(set)
	if err != nil {
		return err
	}
	if len(path) > maxDepth {
		return fmt.Errorf("the path has %d steps; at most %d", len(path), maxDepth)
	}
	if _, _, what := badCharacter([]byte(set)); what != "" {
		return errors.New(what)
	}
	value, err := setValue(text)
	if err != nil {
		return err
	}
	d.own(value, path.String())
	n := root
	for i := range path {
		at, err := d.child(n, path[:i+1], path)
		if err != nil {
			return err
		}
		n = at
	}
	delete(d.origin, n)
	*n = *value
	d.own(n, path.String())
	return nil
}

// own notes that a node and what is below it came from --set.
func (d *decoder) own(n *yaml.Node, set string) {
	d.origin[n] = set
	for _, c := range n.Content {
		d.own(c, set)
	}
}

// child is the node below n that the last step of path names. A mapping gets it, for set, if it has none.
func (d *decoder) child(n *yaml.Node, path, set graph.Path) (*yaml.Node, error) {
	parent, step := path[:len(path)-1], path[len(path)-1]
	if isNull(n) && len(parent) > 0 {
		*n = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column}
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == step {
				return n.Content[i+1], nil
			}
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: step}
		value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
		d.origin[key], d.origin[value] = set.String(), set.String()
		n.Content = append(n.Content, key, value)
		return value, nil
	case yaml.SequenceNode:
		i, err := strconv.Atoi(step)
		if err != nil || i < 0 || i >= len(n.Content) {
			return nil, fmt.Errorf("%s is a list of %d; %.80q is no index of it", parent, len(n.Content), step)
		}
		return n.Content[i], nil
	}
	return nil, fmt.Errorf("%s is %s, it has no %.80q below it", parent, kindOf(n), step)
}

// setValue reads the value of a --set.
func setValue(text string) (*yaml.Node, error) {
	asText := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Style: yaml.DoubleQuotedStyle}
	trimmed := strings.TrimSpace(text)
	document, err := oneDocument(text)
	if strings.HasPrefix(trimmed, "[") || strings.HasPrefix(trimmed, "{") {
		if err != nil || document.Content[0].Style&yaml.FlowStyle == 0 {
			return nil, errors.New("the value is neither a list nor a mapping in YAML; put quotes round a text that begins like one")
		}
		return document.Content[0], nil
	}
	if err != nil {
		return asText, nil
	}
	n := document.Content[0]
	quoted := strings.HasPrefix(trimmed, `"`) || strings.HasPrefix(trimmed, "'")
	if n.Kind != yaml.ScalarNode || !quoted && n.Value != trimmed {
		return asText, nil
	}
	return n, nil
}

var errNotOne = errors.New("want exactly one document")

// oneDocument reads a text that is one YAML document to its end.
func oneDocument(text string) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var document, second yaml.Node
	if err := decoder.Decode(&document); err != nil {
		return nil, err
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errNotOne
	}
	return &document, nil
}
