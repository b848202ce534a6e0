// Package operator holds the contracts of the data path: the batch that moves, and what sources,
// operators and sinks promise.
//
// The unit that moves is a batch, many records over one arena. Per record there is no allocation, no
// channel send and no interface call that could be one per batch.
package operator

// Span is a part of an arena. A negative Len means null (Kafka's null key or value), which is not
// the same as empty.
type Span struct {
	Off uint32
	Len int32
}

// Null is the span of an absent key or value.
var Null = Span{Len: -1}

// IsNull says whether the span stands for null.
func (s Span) IsNull() bool { return s.Len < 0 }

// Record is one record of a batch. It holds no pointers: all spans are parts of Batch.Arena.
type Record struct {
	Key   Span
	Value Span
	// Headers is the section of a Kafka v2 record behind the value: a varint count, then per header a
	// varint key length, key, varint value length (-1 is null), value. Null or empty: no headers.
	Headers Span
	// StreamKey is the result of the keyBy of the edge that the record came over; Null where none was.
	StreamKey Span
	// Timestamp is in milliseconds since 1970, -1 when the record has none.
	Timestamp int64
	// Offset is the offset in the partition that the record was read from.
	Offset int64
	// Origin is an index into Batch.Origins.
	Origin uint32
}

// SizeBytes is the size of key, value and headers.
func (r *Record) SizeBytes() int {
	return int(max(r.Key.Len, 0)) + int(max(r.Value.Len, 0)) + int(max(r.Headers.Len, 0))
}

// Origin is the partition that records were read from.
type Origin struct {
	Topic     string
	Partition int32
}

// Packed is a batch in the form in which its source received it, not yet opened. A sink that
// understands the form may pass it on unopened.
type Packed interface {
	// Count is the number of records within, known without opening.
	Count() int
	// SizeBytes is the size of the packed form.
	SizeBytes() int
	// Unpack appends the records to b (arena, records, origins).
	Unpack(b *Batch) error
	// UnpackPieces hands its own batch to do again and again, with the next records in it, so many at most. It ends at
	// the first error, of do or of what is packed; pieces before that have been handed on.
	UnpackPieces(most int, do func(*Batch) error) error
}

// Batch is a run of records over one arena. It has one owner; who is handed one (Operator.Process,
// Collector.Emit, Sink.Write) borrows it for the duration of the call, must not change it and keeps
// nothing of it afterwards. So a batch can be handed to several receivers in turn without a copy.
type Batch struct {
	Records []Record
	Arena   []byte
	Origins []Origin
	// Packed is non-nil while nobody has looked inside; Records is empty then. Call Open before
	// reading Records.
	Packed Packed
}

// Open makes Records usable. It decodes the packed form at the first call; later calls cost nothing.
// An error names what is wrong with the packed bytes; the batch is unusable then.
func (b *Batch) Open() error {
	if b.Packed == nil {
		return nil
	}
	p := b.Packed
	if err := p.Unpack(b); err != nil {
		return err
	}
	b.Packed = nil
	return nil
}

// pieceRecords is how many records InPieces hands on at a time: few enough for them, and what is made of them, to stay in the
// caches next to the processor, and many enough for the cost of a batch on its way not to show.
const pieceRecords = 256

// InPieces hands the records on, opened: piece by piece if they are packed.
func (b *Batch) InPieces(do func(*Batch) error) error {
	if b.Packed == nil {
		return do(b)
	}
	return b.Packed.UnpackPieces(pieceRecords, do)
}

// Len is the number of records, opened or not.
func (b *Batch) Len() int {
	if b.Packed != nil {
		return b.Packed.Count()
	}
	return len(b.Records)
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Records, b.Arena, b.Origins, b.Packed = b.Records[:0], b.Arena[:0], b.Origins[:0], nil
}

// Bytes is the content of a span; nil for null, non-nil (perhaps empty) otherwise.
func (b *Batch) Bytes(s Span) []byte {
	if s.Len <= 0 {
		if s.Len < 0 {
			return nil
		}
		return []byte{} // a part of a nil arena would be nil, which means null
	}
	end := s.Off + uint32(s.Len)
	return b.Arena[s.Off:end:end]
}

// Put copies p into the arena and returns its span; nil gives Null.
func (b *Batch) Put(p []byte) Span {
	if p == nil {
		return Null
	}
	off := len(b.Arena)
	b.Arena = append(b.Arena, p...)
	return Span{Off: uint32(off), Len: int32(len(p))}
}

// AddOrigin returns the index of an origin, adding it when it is not the last one added.
func (b *Batch) AddOrigin(o Origin) uint32 {
	if n := len(b.Origins); n > 0 && b.Origins[n-1] == o {
		return uint32(n - 1)
	}
	b.Origins = append(b.Origins, o)
	return uint32(len(b.Origins) - 1)
}

// AppendFrom copies one record of another batch, arena bytes and origin included.
func (b *Batch) AppendFrom(src *Batch, r *Record) {
	out := *r
	out.Key, out.Value = b.Put(src.Bytes(r.Key)), b.Put(src.Bytes(r.Value))
	out.Headers, out.StreamKey = b.Put(src.Bytes(r.Headers)), b.Put(src.Bytes(r.StreamKey))
	out.Origin = b.AddOrigin(src.Origins[r.Origin])
	b.Records = append(b.Records, out)
}
