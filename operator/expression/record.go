package expression

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"
	"unsafe"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// Record is what programs see: one record of a batch at a time. Variables are made when an expression
// asks for them, once for all programs that run on the record. A Record has one owner.
type Record struct {
	vars    variables
	topic   string       // the last result of Topic
	stopped *atomic.Bool // nil: it never is
}

// NewRecord makes a Record for programs that were compiled for these formats.
func NewRecord(key, value graph.Format) *Record {
	return &Record{vars: variables{keyFormat: key, valueFormat: value, partition: -1}}
}

// ErrStopped is the error of every expression for the interpreter once StopBy's flag is set.
var ErrStopped = errors.New("the subtask is to end")

// StopBy has programs fail with ErrStopped as soon as the flag is set. One record may keep the interpreter busy for seconds
// (MaxCost), so that a batch of them would hold up the end of the subtask for hours.
func (r *Record) StopBy(flag *atomic.Bool) { r.stopped = flag }

// Set turns to a record of an opened batch. Until the next Set the batch must stay as it is.
func (r *Record) Set(b *operator.Batch, i int) {
	v := &r.vars
	v.batch, v.record = b, &b.Records[i]
	v.key, v.value, v.headers = nil, nil, nil
	v.keyJSON.current, v.valueJSON.current = false, false
}

// variables is the activation; apart from Record so that CEL's methods are not Record's.
type variables struct {
	keyFormat, valueFormat graph.Format
	batch                  *operator.Batch
	record                 *operator.Record

	key, value, headers any // nil: not made yet
	// keyJSON and valueJSON are the same for expressions without the interpreter, by format JSON.
	keyJSON, valueJSON document
	inner              []jsonField // of an object in one of them; memory that is used again

	// The origin seldom changes.
	topic           string
	partition       int32
	topicValue      ref.Val
	partitionNumber ref.Val
}

// ResolveName is cel.Activation's. A result that is a *types.Err fails the expression, unless its other
// branches decide without it.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case varValue:
		if v.value == nil {
			v.value = v.field(v.record.Value, v.valueFormat, varValue)
		}
		return v.value, true
	case varKey:
		if v.key == nil {
			v.key = v.field(v.record.Key, v.keyFormat, varKey)
		}
		return v.key, true
	case varHeaders:
		if v.headers == nil {
			v.headers = headerList(v.batch.Bytes(v.record.Headers))
		}
		return v.headers, true
	case varTimestamp:
		if v.record.Timestamp < 0 {
			return types.NullValue, true
		}
		return types.Timestamp{Time: time.UnixMilli(v.record.Timestamp).UTC()}, true
	case varTopic:
		v.origin()
		return v.topicValue, true
	case varPartition:
		v.origin()
		return v.partitionNumber, true
	case varOffset:
		return types.Int(v.record.Offset), true
	}
	return nil, false
}

// Parent is cel.Activation's.
func (v *variables) Parent() cel.Activation { return nil }

func (v *variables) keyDocument() *document {
	if !v.keyJSON.current {
		v.keyJSON.read(v.batch.Bytes(v.record.Key))
	}
	return &v.keyJSON
}

func (v *variables) valueDocument() *document {
	if !v.valueJSON.current {
		v.valueJSON.read(v.batch.Bytes(v.record.Value))
	}
	return &v.valueJSON
}

func (v *variables) origin() {
	o := &v.batch.Origins[v.record.Origin]
	if v.topicValue == nil || v.topic != o.Topic {
		v.topic, v.topicValue = o.Topic, types.String(o.Topic)
	}
	if v.partitionNumber == nil || v.partition != o.Partition {
		v.partition, v.partitionNumber = o.Partition, types.Int(o.Partition)
	}
}

// field makes a key or value. Strings and bytes are parts of the batch's arena, not copies: they are
// gone with the batch, and results are copied out before.
func (v *variables) field(s operator.Span, f graph.Format, name string) any {
	if s.IsNull() {
		return types.NullValue
	}
	p := v.batch.Bytes(s)
	switch f {
	case graph.String:
		if !validText(p) {
			return types.WrapErr(&FormatError{name + " is not valid UTF-8; use format bytes"})
		}
		return types.String(viewString(p))
	case graph.JSON:
		parsed, err := parseJSON(p)
		if err != nil {
			return types.WrapErr(&FormatError{name + " is not valid JSON: " + err.Error() + "; use format string or bytes"})
		}
		return parsed
	default:
		return types.Bytes(p)
	}
}

// viewString is a string over the bytes, which must not change while it is in use.
func viewString(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }

// viewBytes is the opposite, never nil; nobody may write to it.
func viewBytes(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

var errHeaders = errors.New("the headers of the record are damaged")

// headerList decodes the header section of a record (operator.Record.Headers).
func headerList(p []byte) any {
	var list []any
	err := eachHeader(p, func(key, value []byte) error {
		if !validText(key) {
			return errors.New("the key of a header is not valid UTF-8")
		}
		h := map[string]any{"key": string(key), "value": types.NullValue}
		if value != nil {
			h["value"] = value
		}
		list = append(list, h)
		return nil
	})
	if err != nil {
		return types.NewErrFromString(err.Error())
	}
	return types.NewDynamicList(types.DefaultTypeAdapter, list)
}

// eachHeader calls yield per header; value is nil for null.
func eachHeader(p []byte, yield func(key, value []byte) error) error {
	if len(p) == 0 {
		return nil
	}
	count, n := binary.Varint(p)
	if n <= 0 || count < 0 {
		return errHeaders
	}
	p = p[n:]
	for range count {
		key, rest, ok := headerPart(p)
		if !ok || key == nil {
			return errHeaders
		}
		value, rest, ok := headerPart(rest)
		if !ok {
			return errHeaders
		}
		if err := yield(key, value); err != nil {
			return err
		}
		p = rest
	}
	if len(p) > 0 {
		return errHeaders
	}
	return nil
}

func headerPart(p []byte) (part, rest []byte, ok bool) {
	length, n := binary.Varint(p)
	if n <= 0 || length < -1 || length > int64(len(p)-n) {
		return nil, nil, false
	}
	p = p[n:]
	if length < 0 {
		return nil, p, true
	}
	return p[:length:length], p[length:], true
}
