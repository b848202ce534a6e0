package builtin

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

// The headers that a dead letter has behind its own. All values are text.
const (
	// HeaderMessage is why, at most MaxLetterMessageBytes; HeaderClass is format, expression or size.
	HeaderMessage = "sluice.error.message"
	HeaderClass   = "sluice.error.class"
	// HeaderNode is the source, operator or sink that failed, or the receiver of the edge whose keyBy did;
	// HeaderPart is the part of it: filter, value, keyBy, topicExpression, size, ….
	HeaderNode = "sluice.error.node"
	HeaderPart = "sluice.error.part"
	// HeaderSource is the source of the job; then where it read the record from.
	HeaderSource    = "sluice.source.name"
	HeaderTopic     = "sluice.source.topic"
	HeaderPartition = "sluice.source.partition"
	HeaderOffset    = "sluice.source.offset"
	// HeaderTimestamp is the record's timestamp where it failed, in milliseconds since 1970; -1: none.
	HeaderTimestamp = "sluice.source.timestamp"
	// HeaderJob is the job's name. An attempt rises with each restart.
	HeaderJob     = "sluice.job"
	HeaderJobID   = "sluice.job.id"
	HeaderAttempt = "sluice.attempt"
	HeaderVertex  = "sluice.vertex"
	HeaderSubtask = "sluice.subtask"
)

// MaxLetterMessageBytes is how much of an error a dead letter tells.
const MaxLetterMessageBytes = 1000

// The classes of faults.
const (
	classFormat     = "format"
	classExpression = "expression"
)

// classOf is the class of a fault: what the cause says of itself, else an expression failed.
func classOf(cause error) string {
	var format *expression.FormatError
	var told interface{ RecordFault() string }
	switch {
	case errors.As(cause, &format):
		return classFormat
	case errors.As(cause, &told):
		return told.RecordFault()
	}
	return classExpression
}

// appendLetter adds record i of b as it is where it failed: key, value, timestamp and headers, and behind
// these what there is to tell.
func (s *Site) appendLetter(letters *operator.Batch, source string, b *operator.Batch, i int, why *fault) {
	r := &b.Records[i]
	n := *r
	n.Key, n.Value, n.StreamKey = letters.Put(b.Bytes(r.Key)), letters.Put(b.Bytes(r.Value)), operator.Null
	origin := operator.Origin{Partition: -1}
	if int(r.Origin) < len(b.Origins) {
		origin = b.Origins[r.Origin]
	}
	n.Origin = letters.AddOrigin(origin)
	more := [...]struct{ key, value string }{
		{HeaderMessage, shorten(why.cause.Error(), MaxLetterMessageBytes)}, {HeaderClass, classOf(why.cause)},
		{HeaderNode, why.node}, {HeaderPart, why.part},
		{HeaderSource, source}, {HeaderTopic, origin.Topic}, {HeaderPartition, strconv.Itoa(int(origin.Partition))},
		{HeaderOffset, strconv.FormatInt(r.Offset, 10)}, {HeaderTimestamp, strconv.FormatInt(r.Timestamp, 10)},
		{HeaderJob, s.Job}, {HeaderJobID, string(s.JobID)}, {HeaderAttempt, strconv.FormatInt(int64(s.Attempt), 10)},
		{HeaderVertex, s.Subtask.Vertex}, {HeaderSubtask, strconv.Itoa(s.Subtask.Index)},
	}
	count, own := splitHeaders(b.Bytes(r.Headers))
	begin := len(letters.Arena)
	arena := binary.AppendVarint(letters.Arena, count+int64(len(more)))
	arena = append(arena, own...)
	for _, h := range more {
		arena = appendText(appendText(arena, h.key), h.value)
	}
	letters.Arena, n.Headers = arena, operator.Span{Off: uint32(begin), Len: int32(len(arena) - begin)}
	letters.Records = append(letters.Records, n)
}

// splitHeaders parts a header section into its count and the headers. The section was checked when the
// record was decoded; a damaged one counts as none.
func splitHeaders(section []byte) (count int64, headers []byte) {
	count, n := binary.Varint(section)
	if n <= 0 || count < 0 {
		return 0, nil
	}
	return count, section[n:]
}

func appendText(arena []byte, text string) []byte {
	return append(binary.AppendVarint(arena, int64(len(text))), text...)
}

// shorten cuts text to a number of bytes, and what is not UTF-8 out of it.
func shorten(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.ToValidUTF8(text, "")
}
