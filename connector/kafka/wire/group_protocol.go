package wire

import (
	"encoding/binary"
	"errors"
	"slices"
)

// What consumers tell each other through the coordinator, which does not look at it (ConsumerProtocolSubscription and
// ConsumerProtocolAssignment). Version 0 is written, as every consumer reads it; of newer ones, what is in 0 is read.
// A text has two bytes of length before it, a list four.

var errGroupBytes = errors.New("another member of the group wrote what no Kafka consumer writes")

func encodeSubscription(topics []string) []byte {
	out := binary.BigEndian.AppendUint16(nil, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(len(topics)))
	for _, t := range topics {
		out = appendText(out, t)
	}
	return binary.BigEndian.AppendUint32(out, ^uint32(0)) // no user data
}

func decodeSubscription(b []byte) ([]string, error) {
	r := groupReader{rest: b}
	r.number(2) // version
	topics := make([]string, 0, min(r.count(2), len(b)))
	for range cap(topics) {
		topics = append(topics, r.text())
	}
	return topics, r.err
}

func encodeAssignment(parts []TopicPartition) []byte {
	groups := groupByTopic(len(parts), func(i int) string { return parts[i].Topic })
	out := binary.BigEndian.AppendUint16(nil, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(len(groups)))
	for _, g := range groups {
		out = appendText(out, g.topic)
		out = binary.BigEndian.AppendUint32(out, uint32(len(g.index)))
		for _, i := range g.index {
			out = binary.BigEndian.AppendUint32(out, uint32(parts[i].Partition))
		}
	}
	return binary.BigEndian.AppendUint32(out, ^uint32(0))
}

// decodeAssignment reads what the leader wrote for a member; nothing at all is no partitions.
func decodeAssignment(b []byte) ([]TopicPartition, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := groupReader{rest: b}
	r.number(2)
	var out []TopicPartition
	for range r.count(6) {
		topic := r.text()
		for range r.count(4) {
			out = append(out, TopicPartition{Topic: topic, Partition: int32(r.number(4))})
		}
	}
	if slices.ContainsFunc(out, func(p TopicPartition) bool { return p.Partition < 0 }) {
		return nil, errGroupBytes
	}
	return out, r.err
}

func appendText(out []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(out, uint16(len(s))), s...)
}

// groupReader reads until the first fault; after it, all that it gives is empty.
type groupReader struct {
	rest []byte
	err  error
}

func (r *groupReader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.rest) {
		r.err, r.rest = errGroupBytes, nil
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *groupReader) number(size int) uint32 {
	n := uint32(0)
	for _, b := range r.take(size) {
		n = n<<8 | uint32(b)
	}
	return n
}

// count is the length of a list whose entries take at least so many bytes each.
func (r *groupReader) count(least int) int {
	n := int64(r.number(4))
	if n*int64(least) > int64(len(r.rest)) {
		r.err = errGroupBytes
		return 0
	}
	return int(n)
}

func (r *groupReader) text() string { return string(r.take(int(r.number(2)))) }
