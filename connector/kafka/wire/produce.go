package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// ProduceRequest writes batches to partitions that one broker leads.
type ProduceRequest struct {
	TransactionalID string // empty: none
	// Acks is -1 (all replicas in sync), 1 (the leader) or 0 (no answer).
	Acks int16
	// Timeout is how long the broker may wait for the replicas; default 30 s.
	Timeout time.Duration
	// Batches holds at most one batch per partition: the broker takes no more.
	Batches []ProduceBatch
}

// ProduceBatch is one encoded batch: Data, or Data and Rest, which stand behind each other on the wire. Data
// holds the header at least. Both belong to the call until it returns.
type ProduceBatch struct {
	Topic      string
	Partition  int32
	Data, Rest []byte
}

func (b *ProduceBatch) sizeBytes() int { return len(b.Data) + len(b.Rest) }

// ProduceResult is what became of one batch, in the order of the request.
type ProduceResult struct {
	BaseOffset    int64 // -1 unknown
	LogAppendTime int64 // ms, -1: the topic keeps the producer's timestamps
	LogStart      int64 // -1 unknown
	// Err is the broker's error for this batch, an *Error. DUPLICATE_SEQUENCE_NUMBER means that it
	// had been written before.
	Err error
}

// Produce sends batches to a broker. It never repeats anything; an error of the call leaves the
// outcome unknown (see CallError.Sent). After it returns, nobody reads the batches any more. With acks 0 the
// results are empty successes.
func (c *Cluster) Produce(ctx context.Context, broker int32, req *ProduceRequest) ([]ProduceResult, error) {
	if len(req.Batches) == 0 {
		return nil, nil
	}
	to, err := c.broker(ctx, broker)
	if err != nil {
		return nil, err
	}
	talk := &produceTalk{req: req, c: c, address: to.String(), order: groupByTopic(len(req.Batches), func(i int) string { return req.Batches[i].Topic })}
	if err := talk.check(); err != nil {
		return nil, err
	}
	if c.cfg.legacy() {
		return c.produceLegacy(ctx, to, talk)
	}
	return c.produce(ctx, to, talk)
}

func (c *Cluster) produce(ctx context.Context, to net.Addr, talk *produceTalk) ([]ProduceResult, error) {
	timeout := talk.timeout() + c.cfg.CallTimeout/2
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.callOnce(ctx, to, talk); err != nil {
		return nil, err
	}
	return talk.res, nil
}

// produceTalk is Produce v3 to v8, and v0 for legacy brokers.
type produceTalk struct {
	c       *Cluster
	address string
	req     *ProduceRequest
	order   []topicGroup
	res     []ProduceResult
}

func (*produceTalk) key() protocol.ApiKey { return protocol.Produce }

func (t *produceTalk) timeout() time.Duration {
	if t.req.Timeout > 0 {
		return t.req.Timeout
	}
	return defaultCallTimeout
}

func (t *produceTalk) check() error {
	for _, g := range t.order {
		seen := map[int32]bool{}
		for _, i := range g.index {
			b := &t.req.Batches[i]
			switch {
			case seen[b.Partition]:
				return fmt.Errorf("produce: two batches for %s/%d in one request", b.Topic, b.Partition)
			case len(b.Data) < HeaderSize: // a v2 batch, for legacy brokers too
				return fmt.Errorf("produce: the batch for %s/%d has %d bytes, less than a header", b.Topic, b.Partition, len(b.Data))
			}
			seen[b.Partition] = true
		}
	}
	return nil
}

func (t *produceTalk) converse(conn *protocol.Conn, h callHeader) error {
	if h.version < 3 && !t.c.cfg.legacy() || h.version > 8 {
		return &Error{Code: CodeUnsupportedVersion, API: "Produce", Partition: -1, Detail: fmt.Sprintf("the broker speaks at most v%d; 0.11 or later is needed", h.version)}
	}
	t.res = make([]ProduceResult, len(t.req.Batches))
	for i := range t.res {
		t.res[i] = ProduceResult{BaseOffset: -1, LogAppendTime: -1, LogStart: -1}
	}
	if err := t.write(conn, h); err != nil || t.req.Acks == 0 {
		return err
	}
	return t.receive(conn, h)
}

func (t *produceTalk) receive(from io.Reader, h callHeader) error {
	for i := range t.res {
		t.res[i].Err = errNoResult
	}
	in, err := newReader(from, h)
	if err != nil {
		return err
	}
	if err := t.read(in, h.version); err != nil {
		return err
	}
	return in.end()
}

var errNoResult = errors.New("the answer does not mention the batch")

// joinBytes is the size up to which a part of a batch is copied behind what is before it, to save a system
// call.
const joinBytes = 16 << 10

// join writes part behind what is in w.
func join(conn io.Writer, w *writer, part []byte) error {
	if len(part) <= joinBytes {
		w.b = append(w.b, part...)
		return nil
	}
	if err := flush(conn, w); err != nil {
		return err
	}
	_, err := conn.Write(part)
	return err
}

func (t *produceTalk) write(conn io.Writer, h callHeader) error {
	scratch := t.c.memory.scratch.Get().(*[]byte)
	defer t.c.memory.scratch.Put(scratch)
	w := beginRequest((*scratch)[:0], h)
	switch {
	case h.version < 3: // no transactions
	case t.req.TransactionalID == "":
		w.int16(-1)
	default:
		w.string(t.req.TransactionalID)
	}
	w.int16(t.req.Acks)
	w.int32(int32(t.timeout().Milliseconds()))
	w.int32(int32(len(t.order)))
	size := len(w.b)
	for _, g := range t.order {
		size += 2 + len(g.topic) + 4
		for _, i := range g.index {
			size += 4 + 4 + t.req.Batches[i].sizeBytes()
		}
	}
	binary.BigEndian.PutUint32(w.b, uint32(size-4))
	for _, g := range t.order {
		w.string(g.topic)
		w.int32(int32(len(g.index)))
		for _, i := range g.index {
			b := &t.req.Batches[i]
			w.int32(b.Partition)
			w.int32(int32(b.sizeBytes()))
			if err := join(conn, &w, b.Data); err != nil {
				return err
			}
			if err := join(conn, &w, b.Rest); err != nil {
				return err
			}
		}
	}
	err := flush(conn, &w)
	if cap(w.b) <= 1<<20 {
		*scratch = w.b
	}
	return err
}

func flush(conn io.Writer, w *writer) error {
	if len(w.b) == 0 {
		return nil
	}
	_, err := conn.Write(w.b)
	w.b = w.b[:0]
	return err
}

func (t *produceTalk) read(in *reader, version int16) error {
	for range in.count(6) {
		topic := in.bytes(int(in.int16()))
		group, ok := findGroup(t.order, topic)
		for range in.count(4) {
			if in.err == nil && !ok {
				return fmt.Errorf("the answer holds topic %q, which was not sent", topic)
			}
			if err := t.partition(in, version, group); err != nil {
				return err
			}
		}
	}
	if version >= 3 {
		in.int32() // throttle: the broker delays by itself
	}
	return in.err
}

func (t *produceTalk) partition(in *reader, version int16, group topicGroup) error {
	id, code := in.int32(), in.int16()
	r := ProduceResult{BaseOffset: in.int64(), LogAppendTime: -1, LogStart: -1}
	if version >= 3 {
		r.LogAppendTime = in.int64()
	}
	if version >= 5 {
		r.LogStart = in.int64()
	}
	var detail string
	if version >= 8 {
		for range in.count(6) {
			in.int32() // index of a record
			if text := in.bytes(int(in.int16())); detail == "" {
				detail = string(text)
			}
		}
		if text := in.bytes(int(in.int16())); len(text) > 0 {
			detail = string(text)
		}
	}
	if in.err != nil {
		return in.err
	}
	if code != CodeNone {
		r.Err = &Error{Code: code, API: "Produce", Address: t.address, Topic: group.topic, Partition: id, Detail: detail}
	}
	for _, i := range group.index {
		if t.req.Batches[i].Partition == id {
			t.res[i] = r
			return nil
		}
	}
	return fmt.Errorf("the answer holds %s/%d, which was not sent", group.topic, id)
}
