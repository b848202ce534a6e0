package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
)

// topicIDVersion is the first Metadata that tells topic ids (Kafka 2.8), beyond what kafka-go speaks.
const topicIDVersion = 10

// TopicIDs gives the ids of those of the topics that exist; the zero id where the broker tells none. It is nil if
// the broker is too old for topic ids. Topics are never created by asking. Each call begins with another broker: one
// that is cut off from the others may tell of a topic that has long been replaced, and who asks again must not hear the
// same from it.
func (c *Cluster) TopicIDs(ctx context.Context, topics []string) (map[string][16]byte, error) {
	var out map[string][16]byte
	if len(topics) == 0 {
		return out, nil
	}
	all := c.addresses()
	first := int(c.turn.Add(1)) % len(all)
	_, err := c.firstOf(ctx, slices.Concat(all[first:], all[:first]), func(ctx context.Context, a net.Addr) error {
		talk := &topicIDTalk{topics: topics}
		if err := c.callAgain(ctx, a, talk); err != nil {
			return err
		}
		out = talk.ids
		return nil
	})
	return out, err
}

// topicIDTalk is Metadata v10, in the flexible encoding of KIP-482.
type topicIDTalk struct {
	topics []string
	ids    map[string][16]byte
}

func (*topicIDTalk) key() protocol.ApiKey { return protocol.Metadata }

// converse asks first what the broker speaks: kafka-go's answer is cut to what kafka-go speaks.
func (t *topicIDTalk) converse(conn *protocol.Conn, h callHeader) error {
	t.ids = nil
	if h.version < h.key.MaxVersion() {
		return nil
	}
	if offered, err := offers(conn, h, topicIDVersion); err != nil || !offered {
		return err
	}
	h.version = topicIDVersion
	if _, err := conn.Write(t.request(h)); err != nil {
		return err
	}
	in, err := newReader(conn, h)
	if err != nil {
		return err
	}
	t.ids = map[string][16]byte{}
	t.read(in)
	return in.end()
}

// offers asks whether the broker offers a version of the call that a conversation is about.
func offers(conn *protocol.Conn, h callHeader, version int16) (bool, error) {
	versions := &message{request: &apiversions.Request{}}
	if err := versions.converse(conn, callHeader{key: protocol.ApiVersions, correlationID: h.correlationID, clientID: h.clientID, maxResponse: h.maxResponse}); err != nil {
		return false, err
	}
	res, ok := versions.response.(*apiversions.Response)
	if !ok || res.ErrorCode != 0 {
		return false, nil
	}
	for _, k := range res.ApiKeys {
		if protocol.ApiKey(k.ApiKey) == h.key {
			return k.MinVersion <= version && version <= k.MaxVersion, nil
		}
	}
	return false, nil
}

func (t *topicIDTalk) request(h callHeader) []byte {
	w := beginRequest(nil, h)
	w.noTags()
	w.compact(len(t.topics))
	for _, name := range t.topics {
		w.int64(0) // no id: it is asked for by name
		w.int64(0)
		w.compact(len(name))
		w.b = append(w.b, name...)
		w.noTags()
	}
	w.int8(0) // do not create topics
	w.int8(0) // no authorized operations of the cluster
	w.int8(0) // nor of topics
	w.noTags()
	return w.finish()
}

func (t *topicIDTalk) read(in *reader) {
	in.tags() // of the header
	in.int32()
	for range in.compactCount() { // brokers
		in.int32()
		in.compactText()
		in.int32()
		in.compactText()
		in.tags()
	}
	in.compactText() // cluster id
	in.int32()
	for range in.compactCount() {
		t.topic(in)
	}
	in.int32()
	in.tags()
}

func (t *topicIDTalk) topic(in *reader) {
	code := in.int16()
	name := in.compactText()
	id := in.uuid()
	in.bytes(1) // internal
	for range in.compactCount() {
		in.int16()
		in.int32()
		in.int32()
		in.int32()
		for range 3 { // replicas, in sync, offline
			for range in.compactCount() {
				in.int32()
			}
		}
		in.tags()
	}
	in.int32()
	in.tags()
	if code != CodeUnknownTopicOrPartition && in.err == nil {
		t.ids[name] = id
	}
}

// The flexible encoding: lengths are unsigned varints and one more than they say, zero means null; every
// structure ends with tagged fields, of which we send none and know none.

func (w *writer) noTags()       { w.b = append(w.b, 0) }
func (w *writer) compact(n int) { w.b = binary.AppendUvarint(w.b, uint64(n)+1) }

func (r *reader) uvarint() int {
	v := uint64(0)
	for shift := 0; shift < 35; shift += 7 {
		b := r.fixed(1)[0]
		if r.err != nil {
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if v > math.MaxInt32 {
				break
			}
			return int(v)
		}
	}
	r.err = errors.New("a length is no length")
	return 0
}

func (r *reader) uuid() (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], uint64(r.int64()))
	binary.BigEndian.PutUint64(id[8:], uint64(r.int64()))
	return id
}

// compactCount reads an array length; null is none.
func (r *reader) compactCount() int {
	n := r.uvarint() - 1
	if n > r.remain {
		r.err = fmt.Errorf("an array of %d elements in %d bytes", n, r.remain)
	}
	if r.err != nil {
		return 0
	}
	return max(n, 0)
}

func (r *reader) compactText() string { return string(r.bytes(r.uvarint() - 1)) }

func (r *reader) tags() {
	for range r.uvarint() {
		r.uvarint()
		r.bytes(r.uvarint())
		if r.err != nil {
			return
		}
	}
}
