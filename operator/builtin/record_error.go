package builtin

import (
	"fmt"
	"strings"

	"github.com/sluice-stream/sluice/operator"
)

// MaxErrorValueBytes is how much of a value a RecordError shows.
const MaxErrorValueBytes = 200

// maxCauseBytes is how much of its cause it shows: that may quote a value as a whole.
const maxCauseBytes = 1 << 10

// RecordError is a record that an expression or a format cannot handle, with onError: fail.
type RecordError struct {
	Topic     string
	Partition int32
	Offset    int64
	// Operator is the node, or the edge by the name of its receiver; Part is the part of it.
	Operator string
	Part     string
	// Value is the beginning of the value, at most MaxErrorValueBytes; nil for null. ValueBytes is the
	// length of the whole.
	Value      []byte
	ValueBytes int
	Cause      error
}

func newRecordError(name string, b *operator.Batch, i int, part string, cause error) *RecordError {
	r := &b.Records[i]
	e := &RecordError{Offset: r.Offset, Operator: name, Part: part, Cause: cause}
	if int(r.Origin) < len(b.Origins) {
		e.Topic, e.Partition = b.Origins[r.Origin].Topic, b.Origins[r.Origin].Partition
	}
	if value := b.Bytes(r.Value); value != nil {
		e.ValueBytes = len(value)
		e.Value = append([]byte{}, value[:min(len(value), MaxErrorValueBytes)]...)
	}
	return e
}

// Error names the record, the reason, the value and the way out.
func (e *RecordError) Error() string {
	value := "null"
	if e.Value != nil {
		value = fmt.Sprintf("%q", e.Value)
	}
	if e.ValueBytes > len(e.Value) {
		value = fmt.Sprintf("%s… (%d bytes)", value, e.ValueBytes)
	}
	cause := e.Cause.Error()
	if len(cause) > maxCauseBytes {
		cause = cause[:maxCauseBytes] + "…"
	}
	return fmt.Sprintf("record %s/%d offset %d: %s of %s: %s; value %s; correct the expression, or set onError: skip | {deadLetter: TOPIC} at the source",
		e.Topic, e.Partition, e.Offset, e.Part, e.Operator, strings.ToValidUTF8(cause, "\uFFFD"), value)
}

// Unwrap is the cause.
func (e *RecordError) Unwrap() error { return e.Cause }

// FailureClass says that the record or the job, not the cluster, is the cause.
func (e *RecordError) FailureClass() string { return "user" }
