package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

// register makes fetchResponse the answer to Fetch, for the whole process: kafka-go's own type decodes records.
var register = sync.OnceFunc(func() { protocol.Register(&fetch.Request{}, &fetchResponse{}) })

// fetchResponse is the answer to Fetch, versions 0 to 11.
type fetchResponse struct {
	ThrottleTimeMs int32          `kafka:"min=v1,max=v11"`
	ErrorCode      int16          `kafka:"min=v7,max=v11"`
	SessionID      int32          `kafka:"min=v7,max=v11"`
	Topics         []fetchedTopic `kafka:"min=v0,max=v11"`
}

// ApiKey is that of Fetch.
func (r *fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch }

type fetchedTopic struct {
	Topic      string             `kafka:"min=v0,max=v11"`
	Partitions []fetchedPartition `kafka:"min=v0,max=v11"`
}

type fetchedPartition struct {
	Partition            int32        `kafka:"min=v0,max=v11"`
	ErrorCode            int16        `kafka:"min=v0,max=v11"`
	HighWatermark        int64        `kafka:"min=v0,max=v11"`
	LastStableOffset     int64        `kafka:"min=v4,max=v11"`
	LogStartOffset       int64        `kafka:"min=v5,max=v11"`
	AbortedTransactions  []abortedTxn `kafka:"min=v4,max=v11"`
	PreferredReadReplica int32        `kafka:"min=v11,max=v11"`
	RecordSet            recordSet    `kafka:"min=v0,max=v11"`
}

type abortedTxn struct {
	ProducerID  int64 `kafka:"min=v4,max=v11"`
	FirstOffset int64 `kafka:"min=v4,max=v11"`
}

// buffers are reused from fetch to fetch.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, fetchBytes+4<<10); return &b }}

// maxSetBytes bounds an answer: a first batch may be larger than what was asked for.
const maxSetBytes = 64 << 20

// recordSet is the batches of an answer as they came, the last one perhaps cut short.
type recordSet struct {
	bytes  []byte
	buffer *[]byte
}

// ReadFrom reads a length and the bytes behind it.
func (s *recordSet) ReadFrom(r io.Reader) (int64, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, err
	}
	n := int(int32(binary.BigEndian.Uint32(size[:])))
	if n > maxSetBytes {
		return int64(len(size)), fmt.Errorf("%d bytes of batches, more than %d", n, maxSetBytes)
	}
	if n <= 0 {
		return int64(len(size)), nil
	}
	s.buffer = buffers.Get().(*[]byte)
	if cap(*s.buffer) < n {
		*s.buffer = make([]byte, 0, n)
	}
	s.bytes = (*s.buffer)[:n]
	m, err := io.ReadFull(r, s.bytes)
	return int64(len(size) + m), err
}

// release gives the memory back: nothing of the set may be used after it.
func (s *recordSet) release() {
	if s.buffer != nil {
		buffers.Put(s.buffer)
		s.buffer, s.bytes = nil, nil
	}
}

// next is the offset behind the last whole batch; from, if there is none.
func (s *recordSet) next(from int64) (int64, error) {
	for rest := s.bytes; ; {
		b, err := cut(rest)
		if b == nil || err != nil {
			return from, err
		}
		from, rest = b.next(), rest[len(b):]
	}
}
