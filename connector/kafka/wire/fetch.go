package wire

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// FetchRequest asks one broker for batches of partitions that it leads.
type FetchRequest struct {
	Isolation Isolation
	// MaxWait is how long the broker may wait for MinBytes.
	MaxWait  time.Duration
	MinBytes int // default 1
	// MaxBytes bounds the whole answer, save for the first batch; default 16 MiB.
	MaxBytes   int
	RackID     string
	Partitions []FetchPartition
}

// FetchPartition is where to read one partition.
type FetchPartition struct {
	Topic     string
	Partition int32
	Offset    int64
	// TopicID is the id of the topic that the offset is of; zero: unknown. Brokers since Kafka 3.1 read no other
	// topic of the name if the ids of all topics of a request are known.
	TopicID [16]byte
	// LeaderEpoch lets the broker notice that we know another leader; -1 for none.
	LeaderEpoch int32
	MaxBytes    int // default 1 MiB
}

// FetchResponse is the answer of one broker. Every partition must be released.
type FetchResponse struct {
	Throttle   time.Duration
	Partitions []FetchedPartition
}

// Release gives back the memory of all partitions.
func (r *FetchResponse) Release() {
	for i := range r.Partitions {
		r.Partitions[i].Release()
	}
}

// FetchedPartition is one partition of the answer: what is known of its log, and its batches, to be
// read with Next.
type FetchedPartition struct {
	Topic     string
	Partition int32
	// Offset is what was asked for.
	Offset int64
	// Err is the broker's error for this partition, an *Error.
	Err           error
	HighWatermark int64 // -1 unknown
	LastStable    int64 // -1 unknown
	LogStart      int64 // -1 unknown
	// PreferredReplica is the follower to read from, -1 for none.
	PreferredReplica int32
	Aborted          []AbortedTxn

	buf    *buffer
	rest   []byte
	next   int64 // end of the batch before
	any    bool
	home   *memory
	unpack *Decompressor
}

// SizeBytes is the size of the batches not read yet, a cut one included.
func (p *FetchedPartition) SizeBytes() int { return len(p.rest) }

// Release gives the memory back, save for batches that are still out: each holds its own share.
func (p *FetchedPartition) Release() {
	if p.buf != nil {
		p.buf.release()
		p.buf, p.rest = nil, nil
	}
}

// Next gives the next batch, nil at the end. Batches wholly before the offset asked for are passed
// over; one that begins before it and reaches past it is given (see RawBatch.Limit). The caller owns
// the batch and releases it.
func (p *FetchedPartition) Next() (*RawBatch, error) { return p.NextUnchecked(&CodecSet{}) }

// NextUnchecked is Next without the checksum of batches that have one of these codecs, for those that are passed on unopened: HeaderFor moves
// the checksum of their first producer to the new header, and the broker that takes the batch checks it. Whoever opens the batch, or leaves it
// out, checks it with Verify.
func (p *FetchedPartition) NextUnchecked(unchecked *CodecSet) (*RawBatch, error) {
	r, err := p.nextRaw()
	if r == nil || err != nil {
		return nil, err
	}
	if unchecked.Has(r.Codec()) {
		return r, nil
	}
	if err := r.Verify(); err != nil {
		r.Release()
		p.rest = nil
		return nil, err
	}
	return r, nil
}

// nextRaw is the next batch; of those that it passes over it has checked the checksum.
func (p *FetchedPartition) nextRaw() (*RawBatch, error) {
	for {
		if oldFormat(p.rest) {
			if r, err := p.nextOld(); r != nil || err != nil || len(p.rest) == 0 {
				return r, err
			}
			continue
		}
		var h Header
		size, err := parseHeader(p.rest, &h)
		if errors.Is(err, ErrPartial) {
			return nil, p.partial()
		}
		passedOver := err == nil && h.LastOffset() < p.Offset
		if size > 0 && (err != nil || passedOver) { // nobody else looks at it
			err = cmp.Or(checkSum(p.rest[:size]), err)
		}
		if err != nil {
			p.rest = nil
			return nil, inPartition(err, p.Topic, p.Partition)
		}
		if p.any && h.BaseOffset < p.next {
			p.rest = nil
			return nil, batchFault(h.BaseOffset, "the batch before it ends at %d: offsets must rise", p.next).in(p.Topic, p.Partition)
		}
		raw := p.rest[:size:size]
		p.rest, p.next, p.any = p.rest[size:], h.Next(), true
		if passedOver {
			continue
		}
		return p.batch(h, raw), nil
	}
}

func (p *FetchedPartition) batch(h Header, raw []byte) *RawBatch {
	r := p.home.batches.Get().(*RawBatch)
	p.buf.retain()
	r.Header, r.Topic, r.Partition = h, p.Topic, p.Partition
	r.raw, r.buf, r.home, r.unpacker = raw, p.buf, p.home, p.unpack
	r.batch.Packed = r
	return r
}

// partial ends the iteration. A cut batch at the end is normal, the first one must be whole (KIP-74).
func (p *FetchedPartition) partial() error {
	rest := len(p.rest)
	p.rest = nil
	if rest == 0 || p.any {
		return nil
	}
	return batchFault(p.Offset, "the first batch is cut after %d bytes: the broker did not send it whole", rest).in(p.Topic, p.Partition)
}

// Fetch asks a broker. Errors of single partitions are in the answer. The answer's memory is pooled:
// release it.
func (c *Cluster) Fetch(ctx context.Context, broker int32, req *FetchRequest) (*FetchResponse, error) {
	if len(req.Partitions) == 0 {
		return &FetchResponse{}, nil
	}
	to, err := c.broker(ctx, broker)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, req.MaxWait+c.cfg.CallTimeout)
	defer cancel()
	if c.cfg.legacy() {
		req = req.legacy()
	}
	talk := &fetchTalk{req: req, c: c, address: to.String(), order: groupByTopic(len(req.Partitions), func(i int) string { return req.Partitions[i].Topic })}
	for range 3 {
		if err = c.callOnce(ctx, to, talk); !closedByPeer(err) || ctx.Err() != nil {
			break
		}
	}
	if err != nil || talk.code != CodeNone {
		talk.forgetVersion()
	}
	if err != nil {
		return nil, err
	}
	if talk.code != CodeNone {
		talk.res.Release()
		return nil, answerError(talk.code, "Fetch", talk.address, "", -1)
	}
	if c.cfg.legacy() {
		c.completeCut(ctx, to, talk.res)
	}
	return talk.res, nil
}

// fetchTalk is Fetch v4 to v11, v13 where topic ids are known, and v0 for legacy brokers.
type fetchTalk struct {
	c       *Cluster
	address string
	req     *FetchRequest
	order   []topicGroup
	res     *FetchResponse
	code    int16
}

func (*fetchTalk) key() protocol.ApiKey { return protocol.Fetch }

func (f *fetchTalk) converse(conn *protocol.Conn, h callHeader) error {
	if h.version < 4 && !f.c.cfg.legacy() || h.version > 11 {
		return &Error{Code: CodeUnsupportedVersion, API: "Fetch", Partition: -1, Detail: fmt.Sprintf("the broker speaks at most v%d; 0.11 or later is needed", h.version)}
	}
	if err := f.chooseVersion(conn, &h); err != nil {
		return err
	}
	if err := f.write(conn, h); err != nil {
		return err
	}
	return f.receive(conn, h)
}

func (f *fetchTalk) receive(from io.Reader, h callHeader) error {
	in, err := newReader(from, h)
	if err != nil {
		return err
	}
	f.res = &FetchResponse{Partitions: make([]FetchedPartition, 0, len(f.req.Partitions))}
	if err = f.read(in, h.version); err == nil {
		err = in.end()
	}
	if err != nil {
		f.res.Release()
	}
	return err
}

func (f *fetchTalk) write(conn io.Writer, h callHeader) error {
	scratch := f.c.memory.scratch.Get().(*[]byte)
	defer f.c.memory.scratch.Put(scratch)
	w := beginRequest((*scratch)[:0], h)
	if h.version >= fetchByIDVersion {
		w.noTags()
	}
	w.int32(-1) // replica: a consumer
	w.int32(int32(f.req.MaxWait.Milliseconds()))
	w.int32(int32(max(f.req.MinBytes, 1)))
	if h.version >= 4 {
		w.int32(int32(orDefault(f.req.MaxBytes, 16<<20)))
		w.int8(int8(f.req.Isolation))
	}
	if h.version >= 7 { // no fetch session (KIP-227): epoch -1
		w.int32(0)
		w.int32(-1)
	}
	if h.version >= fetchByIDVersion {
		f.writeByID(&w)
	} else {
		f.writeByName(&w, h.version)
	}
	*scratch = w.b
	_, err := conn.Write(w.finish())
	return err
}

// writeByName appends the topics and the rest of the request, for versions before fetchByIDVersion.
func (f *fetchTalk) writeByName(w *writer, version int16) {
	w.int32(int32(len(f.order)))
	for _, g := range f.order {
		w.string(g.topic)
		w.int32(int32(len(g.index)))
		for _, i := range g.index {
			p := &f.req.Partitions[i]
			w.int32(p.Partition)
			if version >= 9 {
				w.int32(p.LeaderEpoch)
			}
			w.int64(p.Offset)
			if version >= 5 {
				w.int64(-1) // log start: for followers
			}
			w.int32(int32(orDefault(p.MaxBytes, 1<<20)))
		}
	}
	if version >= 7 {
		w.int32(0) // forgotten topics
	}
	if version >= 11 {
		w.string(f.req.RackID)
	}
}

func (f *fetchTalk) read(in *reader, version int16) error {
	if version >= fetchByIDVersion {
		in.tags()
	}
	if version >= 4 {
		f.res.Throttle = time.Duration(in.int32()) * time.Millisecond
	}
	if version >= 7 {
		f.code = in.int16()
		in.int32() // session
	}
	if version >= fetchByIDVersion {
		return f.readByID(in)
	}
	for range in.count(4) {
		topic := in.bytes(int(in.int16()))
		group, ok := findGroup(f.order, topic)
		for range in.count(4) {
			if in.err != nil {
				return in.err
			}
			if !ok {
				return fmt.Errorf("the answer holds topic %q, which was not asked for", topic)
			}
			if err := f.partition(in, version, group); err != nil {
				return err
			}
		}
	}
	return in.err
}

func (f *fetchTalk) partition(in *reader, version int16, group topicGroup) error {
	id := in.int32()
	asked := -1
	for _, i := range group.index {
		if f.req.Partitions[i].Partition == id {
			asked = i
		}
	}
	if asked < 0 && in.err == nil {
		return fmt.Errorf("the answer holds %s/%d, which was not asked for", group.topic, id)
	}
	p := FetchedPartition{Topic: group.topic, Partition: id, PreferredReplica: -1, LogStart: -1, home: &f.c.memory, unpack: f.c.decompress}
	code := in.int16()
	p.HighWatermark = in.int64()
	p.LastStable = p.HighWatermark // there are no transactions before v4
	if version >= 4 {
		p.LastStable = in.int64()
	}
	if version >= 5 {
		p.LogStart = in.int64()
	}
	switch {
	case version >= fetchByIDVersion:
		p.Aborted = readCompactAborted(in)
	case version >= 4:
		p.Aborted = readAborted(in)
	}
	if version >= 11 {
		p.PreferredReplica = in.int32()
	}
	size := 0
	if version >= fetchByIDVersion {
		size = in.uvarint() - 1
	} else {
		size = int(in.int32())
	}
	if in.err != nil {
		return in.err
	}
	p.Offset = f.req.Partitions[asked].Offset
	p.Err = answerError(code, "Fetch", f.address, group.topic, id)
	if size > 0 {
		if size > in.remain {
			return io.ErrUnexpectedEOF
		}
		p.buf = f.c.memory.buffer(size)
		if in.into(p.buf.data); in.err != nil {
			p.Release()
			return in.err
		}
		p.rest = p.buf.data
	}
	if version >= fetchByIDVersion {
		if in.tags(); in.err != nil {
			p.Release()
			return in.err
		}
	}
	f.res.Partitions = append(f.res.Partitions, p)
	return nil
}

func readAborted(in *reader) []AbortedTxn {
	n := in.count(16)
	if n == 0 {
		return nil
	}
	out := make([]AbortedTxn, n)
	for i := range out {
		out[i] = AbortedTxn{in.int64(), in.int64()}
	}
	return out
}

func orDefault(v, d int) int {
	if v <= 0 {
		return d
	}
	return v
}

// NextOffset reads the headers of the whole batches in the answer without checking anything
// else, to know where the next Fetch begins while this one is still being worked on. It returns the
// offset asked for when there is none.
func (p *FetchedPartition) NextOffset() int64 {
	next := max(p.Offset, p.next)
	for b := p.rest; len(b) > atMagic; {
		size := int64(int32(binary.BigEndian.Uint32(b[atLength:]))) + lengthOverhead
		if size > int64(len(b)) || size <= atMagic || size < HeaderSize && !oldFormat(b) {
			break
		}
		if oldFormat(b) { // the offset is that of the last record
			next = max(next, int64(binary.BigEndian.Uint64(b))+1)
			b = b[size:]
			continue
		}
		h := Header{BaseOffset: int64(binary.BigEndian.Uint64(b)), LastOffsetDelta: int32(binary.BigEndian.Uint32(b[atLastDelta:]))}
		next = max(next, h.Next())
		b = b[size:]
	}
	return next
}
