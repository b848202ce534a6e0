package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

// writer appends the fixed-width encoding of Kafka's older (not flexible) messages.
type writer struct{ b []byte }

// beginRequest writes the request header v1; finish completes the length.
func beginRequest(b []byte, h callHeader) writer {
	w := writer{append(b, 0, 0, 0, 0)}
	w.int16(int16(h.key))
	w.int16(h.version)
	w.int32(h.correlationID)
	w.string(h.clientID)
	return w
}

func (w *writer) finish() []byte {
	binary.BigEndian.PutUint32(w.b, uint32(len(w.b)-4))
	return w.b
}

func (w *writer) int8(v int8)   { w.b = append(w.b, byte(v)) }
func (w *writer) int16(v int16) { w.b = binary.BigEndian.AppendUint16(w.b, uint16(v)) }
func (w *writer) int32(v int32) { w.b = binary.BigEndian.AppendUint32(w.b, uint32(v)) }
func (w *writer) int64(v int64) { w.b = binary.BigEndian.AppendUint64(w.b, uint64(v)) }

func (w *writer) string(s string) {
	w.int16(int16(len(s)))
	w.b = append(w.b, s...)
}

// reader takes the same encoding off a connection. It never reads past the frame, and after the
// first error all values are zero.
type reader struct {
	from    io.Reader
	remain  int
	err     error
	scratch [8]byte
	text    []byte
}

// newReader reads the length and the response header v0.
func newReader(from io.Reader, h callHeader) (*reader, error) {
	r := &reader{from: from, remain: 8}
	size, id := r.int32(), r.int32()
	switch {
	case r.err != nil:
		return nil, r.err
	case size < 4 || int(size) > h.maxResponse:
		return nil, fmt.Errorf("an answer of %d bytes is refused: the limit is %d", size, h.maxResponse)
	case id != h.correlationID:
		return nil, fmt.Errorf("the answer belongs to request %d, not to %d", id, h.correlationID)
	}
	r.remain = int(size) - 4
	return r, nil
}

// end checks that the whole frame was understood.
func (r *reader) end() error {
	if r.err == nil && r.remain != 0 {
		return fmt.Errorf("%d bytes of the answer are not understood", r.remain)
	}
	return r.err
}

func (r *reader) into(p []byte) {
	if r.err != nil {
		return
	}
	if len(p) > r.remain {
		r.err = io.ErrUnexpectedEOF
		return
	}
	n, err := io.ReadFull(r.from, p)
	r.remain -= n
	if err != nil {
		r.err = eofIsUnexpected(err)
	}
}

func (r *reader) fixed(n int) []byte {
	b := r.scratch[:n]
	clear(b)
	r.into(b)
	return b
}

func (r *reader) int16() int16 { return int16(binary.BigEndian.Uint16(r.fixed(2))) }
func (r *reader) int32() int32 { return int32(binary.BigEndian.Uint32(r.fixed(4))) }
func (r *reader) int64() int64 { return int64(binary.BigEndian.Uint64(r.fixed(8))) }

// bytes reads n bytes that are valid until the next call; a negative n is null.
func (r *reader) bytes(n int) []byte {
	if n <= 0 || r.err != nil {
		return nil
	}
	if n > r.remain {
		r.err = io.ErrUnexpectedEOF
		return nil
	}
	r.text = slices.Grow(r.text[:0], n)[:n]
	r.into(r.text)
	return r.text
}

// count reads an array length and refuses one that the rest of the frame cannot hold.
func (r *reader) count(elementSize int) int {
	n := int(r.int32())
	if r.err != nil || n <= 0 {
		return 0
	}
	if n > r.remain/elementSize {
		r.err = fmt.Errorf("an array of %d elements in %d bytes", n, r.remain)
		return 0
	}
	return n
}

// topicGroup holds the places of the request's entries of one topic; a request names a topic once.
type topicGroup struct {
	topic string
	index []int
}

func groupByTopic(n int, topic func(int) string) []topicGroup {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(topic(a), topic(b)) })
	var groups []topicGroup
	for i, at := range order {
		if last := len(groups) - 1; last >= 0 && groups[last].topic == topic(at) {
			groups[last].index = order[i-len(groups[last].index) : i+1]
			continue
		}
		groups = append(groups, topicGroup{topic(at), order[i : i+1]})
	}
	slices.SortFunc(groups, func(a, b topicGroup) int { return a.index[0] - b.index[0] })
	return groups
}

func findGroup(groups []topicGroup, topic []byte) (topicGroup, bool) {
	for i := range groups {
		if groups[i].topic == string(topic) {
			return groups[i], true
		}
	}
	return topicGroup{}, false
}
