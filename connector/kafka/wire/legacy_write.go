package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"slices"

	"github.com/sluice-stream/sluice/operator"
)

// produceLegacy writes v2 batches as message sets of format v0. Timestamps are lost; a record with headers is refused,
// as they would be lost too. The talk is not used as it is.
func (c *Cluster) produceLegacy(ctx context.Context, to net.Addr, talk *produceTalk) ([]ProduceResult, error) {
	out := make([]ProduceResult, len(talk.req.Batches))
	old := *talk.req
	old.Batches = nil
	var places []int
	for i, b := range talk.req.Batches {
		set, err := c.messageSet(slices.Concat(b.Data, b.Rest))
		if err != nil {
			out[i] = ProduceResult{BaseOffset: -1, LogAppendTime: -1, LogStart: -1, Err: &Error{Code: CodeUnsupportedForFormat, API: "Produce",
				Address: to.String(), Topic: b.Topic, Partition: b.Partition, Detail: err.Error()}}
			continue
		}
		old.Batches = append(old.Batches, ProduceBatch{Topic: b.Topic, Partition: b.Partition, Data: set})
		places = append(places, i)
	}
	if len(places) == 0 {
		return out, nil
	}
	order := groupByTopic(len(old.Batches), func(i int) string { return old.Batches[i].Topic })
	res, err := c.produce(ctx, to, &produceTalk{req: &old, c: c, address: talk.address, order: order})
	if err != nil {
		return nil, err
	}
	for n, i := range places {
		out[i] = res[n]
	}
	return out, nil
}

// messageSet turns a v2 batch into a message set of format v0, compressed as the batch is; zstd, which is unknown there,
// becomes none.
func (c *Cluster) messageSet(data []byte) ([]byte, error) {
	r := c.memory.batches.Get().(*RawBatch)
	r.home, r.unpacker, r.raw, r.verified = &c.memory, c.decompress, data, true
	r.batch.Packed = r
	defer r.Release()
	if _, err := parseHeader(data, &r.Header); err != nil {
		return nil, err
	}
	b := r.Batch()
	if err := b.Open(); err != nil {
		return nil, err
	}
	set := make([]byte, 0, len(b.Arena)+len(b.Records)*minMessageSize)
	for i := range b.Records {
		m := &b.Records[i]
		if m.Headers.Len > 0 {
			return nil, fmt.Errorf("the record at place %d has headers, which message format v0 (broker.version %s) cannot hold: remove them with a map: {headers: '[]'} before the sink", i, c.cfg.BrokerVersion)
		}
		set = appendMessage(set, int64(i), 0, fieldOf(b, m.Key), fieldOf(b, m.Value))
	}
	codec := r.Codec()
	if codec == None || codec > LZ4 {
		return set, nil
	}
	packed, err := c.compressors[codec].Append(nil, set)
	if err != nil {
		return nil, fmt.Errorf("compress a message set: %w", err)
	}
	if codec == LZ4 {
		breakFrameChecksum(packed)
	}
	return appendMessage(make([]byte, 0, len(packed)+minMessageSize), int64(len(b.Records)-1), codec, nil, packed), nil
}

// fieldOf keeps null and empty apart.
func fieldOf(b *operator.Batch, s operator.Span) []byte {
	if s.IsNull() {
		return nil
	}
	return b.Arena[s.Off : s.Off+uint32(s.Len) : s.Off+uint32(s.Len)]
}

// appendMessage appends a message of format v0; nil is null.
func appendMessage(dst []byte, offset int64, codec Codec, key, value []byte) []byte {
	at := len(dst)
	w := writer{dst}
	w.int64(offset)
	w.int32(int32(minMessageSize - lengthOverhead + len(key) + len(value)))
	w.int32(0) // checksum
	w.int8(0)  // magic
	w.int8(int8(codec))
	w.part(key)
	w.part(value)
	m := w.b[at:]
	binary.BigEndian.PutUint32(m[atMessageCRC:], crc32.ChecksumIEEE(m[atMagic:]))
	return w.b
}

// part writes a length and bytes; nil is null.
func (w *writer) part(p []byte) {
	if p == nil {
		w.int32(-1)
		return
	}
	w.int32(int32(len(p)))
	w.b = append(w.b, p...)
}

// legacyCompressors are the codecs of message format v0, by number.
func legacyCompressors() (all [LZ4 + 1]*Compressor, err error) {
	for codec := range all {
		if all[codec], err = NewCompressor(Codec(codec), 0); err != nil {
			return all, err
		}
	}
	return all, nil
}
