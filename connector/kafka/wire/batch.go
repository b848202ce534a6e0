package wire

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// HeaderSize is the size of a v2 batch header in bytes (KIP-98).
const HeaderSize = 61

// Limits on purpose (DESIGN 9), so that no bytes from the network can take all memory.
const (
	// MaxBatchBytes is the largest batch after decompression.
	MaxBatchBytes = 64 << 20
	// MaxRecordBytes is the largest record.
	MaxRecordBytes = 16 << 20
	// MaxBatchRecords is the largest number of records in a batch.
	MaxBatchRecords = 4 << 20
)

// Offsets inside the header.
const (
	atLength       = 8
	atLeaderEpoch  = 12
	atMagic        = 16
	atCRC          = 17
	atAttributes   = 21 // the checksum covers all from here
	atLastDelta    = 23
	atBaseTime     = 27
	atMaxTime      = 35
	atProducerID   = 43
	atEpoch        = 51
	atSequence     = 53
	atCount        = 57
	lengthOverhead = 12 // base offset and length itself are not counted in length
	minRecordSize  = 7  // length, attributes, two deltas, two lengths, header count
)

// Attribute bits.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrPartial is the end of a record set that was cut by the fetch size.
var ErrPartial = errors.New("partial batch")

// BatchError is a batch that does not hold to the format. Offset is the base offset that it claims,
// Reason what is wrong.
type BatchError struct {
	Topic     string
	Partition int32
	Offset    int64
	Reason    string
	Err       error // the cause, if there is one more
}

// Error names the place and the reason.
func (e *BatchError) Error() string {
	where := "batch"
	if e.Topic != "" {
		where = fmt.Sprintf("%s/%d: batch", e.Topic, e.Partition)
	}
	if e.Err != nil {
		return fmt.Sprintf("%s at offset %d: %s: %v", where, e.Offset, e.Reason, e.Err)
	}
	return fmt.Sprintf("%s at offset %d: %s", where, e.Offset, e.Reason)
}

// Unwrap gives the cause.
func (e *BatchError) Unwrap() error { return e.Err }

// Header is the header of a v2 batch.
type Header struct {
	BaseOffset      int64
	LeaderEpoch     int32
	Attributes      int16
	LastOffsetDelta int32
	BaseTimestamp   int64 // ms
	MaxTimestamp    int64 // ms
	ProducerID      int64 // -1: not idempotent
	ProducerEpoch   int16
	BaseSequence    int32
	Count           int32
	sizeBytes       int
}

// LastOffset is the offset of the last record that the batch had when it was written.
func (h *Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// Next is the offset to read after the batch, compacted or not.
func (h *Header) Next() int64 { return h.LastOffset() + 1 }

// Codec is how the records are compressed.
func (h *Header) Codec() Codec { return Codec(h.Attributes & attrCodec) }

// Control says that the batch holds markers, no data.
func (h *Header) Control() bool { return h.Attributes&attrControl != 0 }

// Transactional says that the batch belongs to a transaction.
func (h *Header) Transactional() bool { return h.Attributes&attrTransactional != 0 }

// LogAppendTime says that MaxTimestamp, set by the broker, is the time of every record.
func (h *Header) LogAppendTime() bool { return h.Attributes&attrLogAppendTime != 0 }

// ParseHeader reads the header of the batch that p begins with and checks its length, counts and
// checksum. It returns the batch's size in bytes. ErrPartial: p ends before the batch does.
func ParseHeader(p []byte, h *Header) (int, error) {
	size, err := parseHeader(p, h)
	if size > 0 {
		err = cmp.Or(checkSum(p[:size]), err)
	}
	return size, err
}

// checkSum compares the checksum of a whole batch with what its header says.
func checkSum(batch []byte) error {
	if sum := crc32.Checksum(batch[atAttributes:], castagnoli); sum != checksumOf(batch) {
		return batchFault(int64(binary.BigEndian.Uint64(batch)), "checksum is %08x, the header says %08x", sum, checksumOf(batch))
	}
	return nil
}

// parseHeader is ParseHeader without the checksum. The size is given if the batch is whole, whatever is wrong in it.
func parseHeader(p []byte, h *Header) (int, error) {
	if len(p) < atMagic+1 {
		return 0, ErrPartial
	}
	base := int64(binary.BigEndian.Uint64(p))
	length := int64(int32(binary.BigEndian.Uint32(p[atLength:])))
	if length < 5 { // old formats: a checksum and a magic at least
		return 0, batchFault(base, "length %d is impossible", length)
	}
	switch magic := p[atMagic]; {
	case magic < 2:
		return 0, batchFault(base, "message format v%d where a batch of v2 must be", magic) // message sets are read elsewhere
	case magic > 2:
		return 0, batchFault(base, "message format v%d is unknown", magic)
	}
	size := length + lengthOverhead
	if size < HeaderSize {
		return 0, batchFault(base, "length %d is less than a header", length)
	}
	if size > int64(len(p)) {
		return 0, ErrPartial
	}
	*h = Header{
		BaseOffset:      base,
		LeaderEpoch:     int32(binary.BigEndian.Uint32(p[atLeaderEpoch:])),
		Attributes:      int16(binary.BigEndian.Uint16(p[atAttributes:])),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(p[atLastDelta:])),
		BaseTimestamp:   int64(binary.BigEndian.Uint64(p[atBaseTime:])),
		MaxTimestamp:    int64(binary.BigEndian.Uint64(p[atMaxTime:])),
		ProducerID:      int64(binary.BigEndian.Uint64(p[atProducerID:])),
		ProducerEpoch:   int16(binary.BigEndian.Uint16(p[atEpoch:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(p[atSequence:])),
		Count:           int32(binary.BigEndian.Uint32(p[atCount:])),
		sizeBytes:       int(size),
	}
	return int(size), h.check()
}

func (h *Header) check() error {
	switch {
	case h.BaseOffset < 0:
		return batchFault(h.BaseOffset, "negative offset")
	case h.LastOffsetDelta < 0:
		return batchFault(h.BaseOffset, "last offset delta %d is negative", h.LastOffsetDelta)
	case h.BaseOffset > 1<<63-2-int64(h.LastOffsetDelta):
		return batchFault(h.BaseOffset, "offsets run over")
	case h.Count < 0 || int64(h.Count) > int64(h.LastOffsetDelta)+1:
		return batchFault(h.BaseOffset, "%d records over %d offsets", h.Count, int64(h.LastOffsetDelta)+1)
	case h.Count > MaxBatchRecords:
		return batchFault(h.BaseOffset, "%d records; the limit is %d", h.Count, MaxBatchRecords)
	case h.Codec() > Zstd:
		return batchFault(h.BaseOffset, "compression codec %d is unknown", h.Codec())
	case h.Codec() == None && int64(h.Count)*minRecordSize > int64(h.sizeBytes-HeaderSize):
		return batchFault(h.BaseOffset, "%d records do not fit into %d bytes", h.Count, h.sizeBytes-HeaderSize)
	}
	return nil
}

func batchFault(offset int64, format string, args ...any) *BatchError {
	return &BatchError{Partition: -1, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}
