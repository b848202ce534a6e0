package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/sluice-stream/sluice/operator"
)

// RawBatch is one fetched batch with its header parsed and checked, its records unopened; its checksum is checked before
// they are opened, at the latest. It is an
// operator.Packed and carries the operator.Batch through which it travels. It has one owner, who
// calls Release once; everything that was got from it is invalid then.
type RawBatch struct {
	Header
	Topic     string
	Partition int32

	raw      []byte
	buf      *buffer
	home     *memory
	unpacker *Decompressor
	slab     *slab
	batch    operator.Batch
	cut      bool
	verified bool // its checksum is right
	releaser func()
}

var _ operator.Packed = (*RawBatch)(nil)

// Bytes is the batch as it is on the wire.
func (r *RawBatch) Bytes() []byte { return r.raw }

// Count is the number of records, from the header.
func (r *RawBatch) Count() int { return int(r.Header.Count) }

// SizeBytes is the size on the wire.
func (r *RawBatch) SizeBytes() int { return len(r.raw) }

// Batch is the batch that travels: packed at first, opened by whoever looks inside. It belongs to
// the RawBatch. Once opened, an uncompressed batch's arena is the fetch buffer itself.
func (r *RawBatch) Batch() *operator.Batch { return &r.batch }

// Verify checks the checksum, once. Header and records are what the first producer wrote if it is right.
func (r *RawBatch) Verify() error {
	if r.verified {
		return nil
	}
	if err := checkSum(r.raw); err != nil {
		return inPartition(err, r.Topic, r.Partition)
	}
	r.verified = true
	return nil
}

// Unpack appends the records to b. The own batch gets views of the fetch buffer; any other batch gets
// a copy in its arena.
func (r *RawBatch) Unpack(b *operator.Batch) error {
	err := r.mayOpen()
	if err != nil {
		return err
	}
	if b == &r.batch {
		err = r.unpackOwn()
	} else {
		err = r.unpackInto(b)
	}
	if err != nil {
		return inPartition(err, r.Topic, r.Partition)
	}
	return nil
}

// mayOpen says why there is nothing to open.
func (r *RawBatch) mayOpen() error {
	if r.Control() {
		return batchFault(r.BaseOffset, "a control batch has no records to deliver").in(r.Topic, r.Partition)
	}
	return r.Verify()
}

// inPartition says where a fault is; it stands apart because the good path must not allocate.
func inPartition(err error, topic string, partition int32) error {
	var fault *BatchError
	if errors.As(err, &fault) {
		return fault.in(topic, partition)
	}
	return err
}

func (e *BatchError) in(topic string, partition int32) *BatchError {
	e.Topic, e.Partition = topic, partition
	return e
}

// UnpackPieces opens the own batch piece by piece: it calls do with at most so many records in the batch at a time. Both the
// records of a piece and what is made of them stay in the caches next to the processor then. Pieces that were good
// have been passed on when an error is found.
func (r *RawBatch) UnpackPieces(most int, do func(*operator.Batch) error) error {
	if err := r.mayOpen(); err != nil {
		return err
	}
	d, err := r.open()
	if err != nil {
		return inPartition(err, r.Topic, r.Partition)
	}
	r.batch.Packed = nil
	for { // once at least, as there may be bytes behind no records
		if r.slab.records, err = d.some(most, r.slab.records[:0]); err != nil {
			return inPartition(err, r.Topic, r.Partition)
		}
		r.batch.Records = r.slab.records
		if err := do(&r.batch); err != nil || d.count == r.Header.Count {
			return err
		}
	}
}

func (r *RawBatch) unpackOwn() error {
	d, err := r.open()
	if err != nil {
		return err
	}
	if r.slab.records, err = d.some(r.Count(), r.slab.records[:0]); err != nil {
		return err
	}
	r.batch.Records = r.slab.records
	return nil
}

// open makes the own batch ready for records.
func (r *RawBatch) open() (bodyDecoder, error) {
	if r.slab == nil {
		r.slab = r.home.slabs.Get().(*slab)
	}
	body, err := r.body(r.slab.arena[:0])
	if err != nil {
		return bodyDecoder{}, err
	}
	if r.Codec() != None {
		r.slab.arena = body
	}
	d, err := newBodyDecoder(&r.Header, body, 0)
	if err != nil {
		return d, err
	}
	r.slab.origins = append(r.slab.origins[:0], operator.Origin{Topic: r.Topic, Partition: r.Partition})
	r.batch.Origins = r.slab.origins
	r.batch.Arena = body[:len(body):len(body)] // an append must not run into the buffer
	return d, nil
}

func (r *RawBatch) unpackInto(b *operator.Batch) error {
	off := len(b.Arena)
	arena := b.Arena
	if r.Codec() == None {
		arena = append(arena, r.raw[HeaderSize:]...)
	} else {
		var err error
		if arena, err = r.body(arena); err != nil {
			return err
		}
	}
	if len(arena) > math.MaxUint32 {
		return batchFault(r.BaseOffset, "the arena would have %d bytes; the limit is 4 GiB", len(arena))
	}
	first := len(b.Records)
	records, err := decodeRecords(&r.Header, arena[off:], uint32(off), b.Records)
	if err != nil {
		return err
	}
	b.Arena, b.Records = arena, records
	origin := b.AddOrigin(operator.Origin{Topic: r.Topic, Partition: r.Partition})
	for i := first; i < len(records); i++ {
		records[i].Origin = origin
	}
	return nil
}

// body gives the records section: a view, or what was appended to arena.
func (r *RawBatch) body(arena []byte) ([]byte, error) {
	if r.Codec() == None {
		return r.raw[HeaderSize:], nil
	}
	out, err := r.unpacker.Append(arena, r.Codec(), r.raw[HeaderSize:], MaxBatchBytes)
	if err != nil {
		return nil, &BatchError{Offset: r.BaseOffset, Reason: fmt.Sprintf("decompress %s", r.Codec()), Err: err}
	}
	return out, nil
}

// Limit drops the records below from and those at or past stop (negative: no stop). A batch that is
// cut is opened by it.
func (r *RawBatch) Limit(from, stop int64) error {
	if r.BaseOffset >= from && (stop < 0 || r.LastOffset() < stop) {
		return nil
	}
	if err := r.batch.Open(); err != nil {
		return err
	}
	r.cut = true
	kept := r.batch.Records
	for len(kept) > 0 && kept[0].Offset < from {
		kept = kept[1:]
	}
	for stop >= 0 && len(kept) > 0 && kept[len(kept)-1].Offset >= stop {
		kept = kept[:len(kept)-1]
	}
	r.batch.Records = kept
	return nil
}

// Whole says whether Rewrite can pass the batch on as it is: nothing was cut or compacted away, it is
// data, and its timestamps are the producer's. Brokers refuse the others.
func (r *RawBatch) Whole() bool {
	const other = ^int16(attrCodec | attrTransactional)
	return !r.cut && r.Attributes&other == 0 && r.Header.Count > 0 && r.Header.Count == r.LastOffsetDelta+1
}

// Rewrite appends the batch to dst with the header of another producer and offsets from 0; the
// records stay as they are, compressed or not. Only for a batch that is Whole.
func (r *RawBatch) Rewrite(dst []byte, p Producer) ([]byte, error) {
	h, err := r.HeaderFor(p)
	if err != nil {
		return dst, err
	}
	return append(append(dst, h[:]...), r.Body()...), nil
}

// HeaderFor is the header with which another producer writes the batch: together with Body it is what
// Rewrite makes, without a copy of the records. Only for a batch that is Whole.
func (r *RawBatch) HeaderFor(p Producer) (h [HeaderSize]byte, err error) {
	if !r.Whole() {
		return h, batchFault(r.BaseOffset, "the batch was cut, compacted, or is not plain data: it cannot be passed on unopened").in(r.Topic, r.Partition)
	}
	copy(h[:], r.raw)
	clear(h[:atLength])
	writeProducer(h[:], p, r.Codec())
	copy(h[atLength:atLeaderEpoch], r.raw[atLength:]) // of header and records
	sum := rechecksum(checksumOf(r.raw), r.raw[atAttributes:HeaderSize], h[atAttributes:], len(r.raw)-HeaderSize)
	binary.BigEndian.PutUint32(h[atCRC:], sum)
	return h, nil
}

// Body is the records section as it is on the wire, a view.
func (r *RawBatch) Body() []byte { return r.raw[HeaderSize:] }

// Share gives a second RawBatch of the same bytes, unopened, with an owner of its own. The bytes stay
// until both are released, and with them all that was fetched in one piece with them.
func (r *RawBatch) Share() *RawBatch {
	s := r.home.batches.Get().(*RawBatch)
	if r.buf != nil {
		r.buf.retain()
	}
	s.Header, s.Topic, s.Partition, s.cut, s.verified = r.Header, r.Topic, r.Partition, r.cut, r.verified
	s.raw, s.buf, s.home, s.unpacker = r.raw, r.buf, r.home, r.unpacker
	s.batch.Packed = s
	return s
}

// writeProducer writes what a producer decides into a header; the checksum is left to the caller.
func writeProducer(h []byte, p Producer, codec Codec) {
	attributes := uint16(codec)
	if p.Transactional {
		attributes |= attrTransactional
	}
	binary.BigEndian.PutUint32(h[atLength:], uint32(len(h)-lengthOverhead))
	binary.BigEndian.PutUint32(h[atLeaderEpoch:], 0xffffffff)
	h[atMagic] = 2
	binary.BigEndian.PutUint16(h[atAttributes:], attributes)
	binary.BigEndian.PutUint64(h[atProducerID:], uint64(p.ID))
	binary.BigEndian.PutUint16(h[atEpoch:], uint16(p.Epoch))
	binary.BigEndian.PutUint32(h[atSequence:], uint32(p.Sequence))
}

// Release gives all memory back. The batch must not be used any more.
func (r *RawBatch) Release() {
	buf, home, s := r.buf, r.home, r.slab
	releaser := r.releaser
	*r = RawBatch{releaser: releaser}
	if s != nil {
		if cap(s.arena) > keepSlabBytes {
			s.arena = nil
		}
		home.slabs.Put(s)
	}
	if buf != nil {
		buf.release()
	}
	if home != nil && releaser != nil {
		home.batches.Put(r)
	}
}

// Releaser is Release as a function value, made once for the life of the memory: it costs no
// allocation.
func (r *RawBatch) Releaser() func() { return r.releaser }

// Marker is the type of a control record (KIP-98).
type Marker int16

// The markers that end transactions. Others exist (leader changes, snapshots) and mean nothing here.
const (
	MarkerAbort  Marker = 0
	MarkerCommit Marker = 1
)

// Markers appends the types of the records of a control batch to dst.
func (r *RawBatch) Markers(dst []Marker) ([]Marker, error) {
	if !r.Control() {
		return dst, nil
	}
	if err := r.Verify(); err != nil {
		return dst, err
	}
	var room [4]operator.Record
	body, err := r.body(nil)
	if err != nil {
		return dst, err
	}
	records, err := decodeRecords(&r.Header, body, 0, room[:0])
	if err != nil {
		return dst, err
	}
	for i := range records {
		k := records[i].Key
		if k.Len < 4 {
			return dst, batchFault(r.BaseOffset, "a control record has a key of %d bytes", k.Len).in(r.Topic, r.Partition)
		}
		key := body[k.Off : k.Off+uint32(k.Len)]
		dst = append(dst, Marker(binary.BigEndian.Uint16(key[2:])))
	}
	return dst, nil
}

// ParseBatch makes a RawBatch of a copy of the first batch in p and returns the bytes behind it. It is
// for bytes that were not fetched; Fetch gives pooled ones.
func ParseBatch(p []byte, d *Decompressor) (*RawBatch, []byte, error) {
	m := new(memory)
	m.init()
	r := &RawBatch{home: m, unpacker: d, verified: true}
	size, err := ParseHeader(p, &r.Header)
	if err != nil {
		return nil, p, err
	}
	r.raw = bytes.Clone(p[:size:size])
	r.batch.Packed = r
	return r, p[size:], nil
}
