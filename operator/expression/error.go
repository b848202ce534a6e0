package expression

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/sluice-stream/sluice/graph"
)

// maxErrors bounds how many faults of one expression are told.
const maxErrors = 10

// Error is one fault of an expression that does not compile.
type Error struct {
	line, column  int
	message, hint string
}

// Error is the message without the place.
func (e *Error) Error() string { return e.message }

// Position is the place in the expression, from 1, the column in characters.
func (e *Error) Position() (line, column int) { return e.line, e.column }

// Hint says what to do, if that is known.
func (e *Error) Hint() string { return e.hint }

// FormatError is a record whose key or value is not what its format says.
type FormatError struct {
	reason string // begins with the name of the part
}

// Error says which part, why, and the way out.
func (e *FormatError) Error() string { return "the " + e.reason }

func fault(line, column int, hint, format string, args ...any) error {
	return &Error{line: line, column: column, message: fmt.Sprintf(format, args...), hint: hint}
}

// compileErrors translates what CEL has to say.
func compileErrors(iss *cel.Issues, key, value graph.Format) error {
	var all []error
	for i, e := range iss.Errors() {
		if i == maxErrors {
			break
		}
		line, column := 1, 1
		if e.Location != nil && e.Location.Line() > 0 {
			line, column = e.Location.Line(), max(e.Location.Column()+1, 1)
		}
		message := readable(e.Message)
		all = append(all, fault(line, column, hint(message, key, value), "%s", message))
	}
	if len(all) == 0 {
		return iss.Err()
	}
	return errors.Join(all...)
}

var typeNames = strings.NewReplacer(
	"wrapper(string)", "string", "wrapper(bytes)", "bytes", "google.protobuf.Timestamp", "timestamp", "google.protobuf.Duration", "duration",
	"_?_:_", "? :", "_+_", "+", "_-_", "-", "_*_", "*", "_/_", "/", "_%_", "%", "_==_", "==", "_!=_", "!=", "_<_", "<", "_<=_", "<=",
	"_>_", ">", "_>=_", ">=", "_&&_", "&&", "_||_", "||", "!_", "!", "@in", "in", "_[_]", "[]", "-_", "-",
)

func readable(message string) string {
	message, _, _ = strings.Cut(message, " expecting {") // the parser lists every token there is
	return typeNames.Replace(message)
}

func typeName(t *cel.Type) string { return typeNames.Replace(t.String()) }

func hint(message string, key, value graph.Format) string {
	switch {
	case strings.Contains(message, "undeclared reference") && strings.Contains(message, "did you mean"):
		return ""
	case strings.Contains(message, "undeclared reference"):
		return "there are key, value, headers, timestamp, topic, partition, offset and CEL's functions"
	case strings.Contains(message, "'? :'"):
		return "both branches need one type; where one is null write dyn(null) and dyn(…)"
	case strings.Contains(message, "does not support field selection") && strings.Contains(message, "'string'"),
		strings.Contains(message, "does not support field selection") && strings.Contains(message, "'bytes'"):
		return "fields are seen in a json: set format: json at the source"
	case strings.Contains(message, "no matching overload") && strings.Contains(message, "bytes") && (key == graph.Bytes || value == graph.Bytes):
		const formats = "key and value are bytes unless the source says keyFormat: string and format: string; "
		for _, name := range []string{"'startsWith'", "'endsWith'", "'contains'", "'+'", "'=='", "'!='", "'in'"} {
			if strings.Contains(message, name) {
				return formats + "write bytes as b\"…\", or convert with string(…)"
			}
		}
		return formats + "or convert with string(…)"
	case strings.Contains(message, "'+'"):
		return "both sides need one type; convert with string(…), int(…) or double(…)"
	case strings.Contains(message, "invalid matches argument"):
		return "want a regular expression in RE2 syntax that is not too large when compiled"
	case strings.Contains(message, "invalid duration"):
		return "want text like 90s or 1h30m"
	case strings.Contains(message, "invalid timestamp"):
		return "want RFC 3339 text like 2024-02-29T12:00:00Z"
	case strings.Contains(message, "Syntax error"):
		return "expressions are CEL: value != null && value.startsWith(\"x\")"
	}
	return ""
}
