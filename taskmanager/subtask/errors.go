package subtask

import (
	"errors"
	"fmt"

	"github.com/sluice-stream/sluice/ident"
)

// The classes of failures.
const (
	ClassUser     = "user"
	ClassExternal = "external"
	ClassInternal = "internal"
)

// classified is implemented by errors that know whose fault they are.
type classified interface{ FailureClass() string }

// Class is the class of a failure: that of the outermost error in its chain that knows one, else internal.
func Class(err error) string {
	var c classified
	if errors.As(err, &c) {
		return c.FailureClass()
	}
	return ClassInternal
}

// Error is why a subtask failed. Node is the source, operator, sink or edge where; empty: the subtask as
// a whole.
type Error struct {
	Subtask ident.Subtask
	Node    string
	Cause   error
}

func (e *Error) Error() string {
	if e.Node == "" || e.Node == e.Subtask.Vertex {
		return fmt.Sprintf("subtask %s: %v", e.Subtask, e.Cause)
	}
	return fmt.Sprintf("subtask %s, %s: %v", e.Subtask, e.Node, e.Cause)
}

func (e *Error) Unwrap() error { return e.Cause }
