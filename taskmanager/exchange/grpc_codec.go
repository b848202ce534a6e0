package exchange

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// A batch goes over the wire as the ExchangeFrame of exchange.proto, but its message is written and read
// by hand: the generated code would copy the data once more on each side. The header has a fixed size,
// so that the records can be encoded behind it before their length is known; its numbers are varints
// padded to five bytes, which every protobuf decoder reads.
const (
	tagBatch    = 2<<3 | 2 // ExchangeFrame.batch
	tagEdge     = 1 << 3
	tagSender   = 2 << 3
	tagReceiver = 3 << 3
	tagData     = 4<<3 | 2

	paddedBytes      = 5
	frameHeaderBytes = 5 * (1 + paddedBytes)
)

// putFrameHeader completes a frame whose data begins at frameHeaderBytes.
func putFrameHeader(frame []byte, c Channel) {
	const outer = 1 + paddedBytes
	h := frame[:0]
	h = appendPadded(append(h, tagBatch), len(frame)-outer)
	h = appendPadded(append(h, tagEdge), c.Edge)
	h = appendPadded(append(h, tagSender), c.Sender)
	h = appendPadded(append(h, tagReceiver), c.Receiver)
	appendPadded(append(h, tagData), len(frame)-frameHeaderBytes)
}

func appendPadded(b []byte, n int) []byte {
	v := uint32(n)
	return append(b, byte(v)|0x80, byte(v>>7)|0x80, byte(v>>14)|0x80, byte(v>>21)|0x80, byte(v>>28))
}

// outMessage is what a sender puts on a stream: an encoded batch or a small message.
type outMessage struct {
	buf   *[]byte
	small *pb.ExchangeFrame
}

func barrierMessage(c Channel, id ident.CheckpointID) outMessage {
	return outMessage{small: &pb.ExchangeFrame{Frame: &pb.ExchangeFrame_Barrier{Barrier: &pb.ExchangeBarrier{
		Edge: uint32(c.Edge), Sender: uint32(c.Sender), Receiver: uint32(c.Receiver), Checkpoint: uint64(id),
	}}}}
}

func endMessage(c Channel) outMessage {
	return outMessage{small: &pb.ExchangeFrame{Frame: &pb.ExchangeFrame_End{End: &pb.ExchangeEnd{
		Edge: uint32(c.Edge), Sender: uint32(c.Sender), Receiver: uint32(c.Receiver),
	}}}}
}

// inMessage is what a receiver takes from a stream. For a batch, data is a part of frame, which the owner
// frees.
type inMessage struct {
	channel Channel
	frame   mem.Buffer
	data    []byte
	small   *pb.ExchangeFrame
}

// codec is the protobuf codec with a short cut for batches.
type codec struct {
	buffers  *buffers
	fallback encoding.CodecV2
}

func newCodec(pool *buffers) *codec {
	return &codec{buffers: pool, fallback: encoding.GetCodecV2("proto")}
}

// Name is that of the protobuf codec: the bytes on the wire are the same.
func (c *codec) Name() string { return "proto" }

// Marshal hands the buffer of a batch over; grpc gives it back to the pool when it is written.
func (c *codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*outMessage)
	if !ok {
		return c.fallback.Marshal(v)
	}
	if m.small != nil {
		return c.fallback.Marshal(m.small)
	}
	return mem.BufferSlice{mem.NewBuffer(m.buf, c.buffers)}, nil
}

// Unmarshal keeps the bytes of a batch as they are.
func (c *codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*inMessage)
	if !ok {
		return c.fallback.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(c.buffers)
	keep, err := m.parse(buf.ReadOnlyData())
	if err != nil || !keep {
		buf.Free()
		return err
	}
	m.frame = buf
	return nil
}

// parse reads one ExchangeFrame; keep says that m.data points into b.
func (m *inMessage) parse(b []byte) (keep bool, err error) {
	*m = inMessage{}
	if len(b) == 0 || b[0] != tagBatch {
		m.small = &pb.ExchangeFrame{}
		if err := proto.Unmarshal(b, m.small); err != nil {
			return false, fmt.Errorf("%w: %w", errFrame, err)
		}
		if m.small.GetBatch() != nil {
			return false, fmt.Errorf("%w: a batch is not the first field", errFrame)
		}
		return false, nil
	}
	body, n := protowire.ConsumeBytes(b[1:])
	if n < 0 || 1+n != len(b) {
		return false, fmt.Errorf("%w: %d bytes do not hold one batch", errFrame, len(b))
	}
	for len(body) > 0 {
		n, err := m.field(body)
		if err != nil {
			return false, err
		}
		body = body[n:]
	}
	return true, nil
}

// field reads one field of an ExchangeBatch and returns its size.
func (m *inMessage) field(b []byte) (int, error) {
	tag, rest := b[0], b[1:]
	if tag == tagData {
		data, n := protowire.ConsumeBytes(rest)
		if n < 0 {
			return 0, fmt.Errorf("%w: data ends early", errFrame)
		}
		m.data = data
		return 1 + n, nil
	}
	v, n := binary.Uvarint(rest)
	if n <= 0 || v > math.MaxInt32 {
		return 0, fmt.Errorf("%w: bad number in field %d", errFrame, tag>>3)
	}
	switch tag {
	case tagEdge:
		m.channel.Edge = int(v)
	case tagSender:
		m.channel.Sender = int(v)
	case tagReceiver:
		m.channel.Receiver = int(v)
	default:
		return 0, fmt.Errorf("%w: unknown field tag %d", errFrame, tag)
	}
	return 1 + n, nil
}
