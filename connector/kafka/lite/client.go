package lite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
)

type fetchResponse struct {
	ThrottleTimeMs int32        `kafka:"min=v1,max=v11"`
	ErrorCode      int16        `kafka:"min=v7,max=v11"`
	SessionID      int32        `kafka:"min=v7,max=v11"`
	Topics         []fetchTopic `kafka:"min=v0,max=v11"`
}

func (r *fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch }

type fetchTopic struct {
	Topic      string      `kafka:"min=v0,max=v11"`
	Partitions []fetchPart `kafka:"min=v0,max=v11"`
}
type fetchPart struct {
	Partition            int32     `kafka:"min=v0,max=v11"`
	ErrorCode            int16     `kafka:"min=v0,max=v11"`
	HighWatermark        int64     `kafka:"min=v0,max=v11"`
	LastStableOffset     int64     `kafka:"min=v4,max=v11"`
	LogStartOffset       int64     `kafka:"min=v5,max=v11"`
	AbortedTransactions  []aborted `kafka:"min=v4,max=v11"`
	PreferredReadReplica int32     `kafka:"min=v11,max=v11"`
	RecordSet            rawBytes  `kafka:"min=v0,max=v11"`
}
type aborted struct {
	ProducerID  int64 `kafka:"min=v4,max=v11"`
	FirstOffset int64 `kafka:"min=v4,max=v11"`
}
type rawBytes struct{ B []byte }

func (r *rawBytes) ReadFrom(rd io.Reader) (int64, error) {
	var l [4]byte
	if _, err := io.ReadFull(rd, l[:]); err != nil {
		return 0, err
	}
	n := int(int32(binary.BigEndian.Uint32(l[:])))
	if n <= 0 {
		return 4, nil
	}
	if n > maxBatch {
		return 4, fmt.Errorf("record set of %d bytes", n)
	}
	r.B = make([]byte, n)
	m, err := io.ReadFull(rd, r.B)
	return int64(4 + m), err
}

var once sync.Once

type client struct {
	tr   *kafka.Transport
	addr net.Addr
}

func newClient(props map[string]string) *client {
	once.Do(func() { protocol.Register(&fetch.Request{}, &fetchResponse{}) })
	return &client{
		tr:   &kafka.Transport{MetadataTTL: time.Second, DialTimeout: 3 * time.Second, ClientID: "sluice", IdleTimeout: time.Minute},
		addr: kafka.TCP(strings.Split(props["bootstrap.servers"], ",")...),
	}
}

func (c *client) call(ctx context.Context, m protocol.Message) (protocol.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return c.tr.RoundTrip(ctx, c.addr, m)
}

func (c *client) metadata(ctx context.Context, topics ...string) (*metadata.Response, error) {
	m, err := c.call(ctx, &metadata.Request{TopicNames: topics})
	if err != nil {
		return nil, err
	}
	return m.(*metadata.Response), nil
}

func code(c int16) error {
	if c == 0 {
		return nil
	}
	return kafka.Error(c)
}

func (c *client) fetch(ctx context.Context, topic string, part int32, offset int64) (*fetchPart, error) {
	m, err := c.call(ctx, &fetch.Request{ReplicaID: -1, MaxWaitTime: 100, MinBytes: 1, MaxBytes: 4 << 20, IsolationLevel: 1, SessionEpoch: -1,
		Topics: []fetch.RequestTopic{{Topic: topic, Partitions: []fetch.RequestPartition{{Partition: part, CurrentLeaderEpoch: -1, FetchOffset: offset, LogStartOffset: -1, PartitionMaxBytes: 1 << 20}}}}})
	if err != nil {
		return nil, err
	}
	r := m.(*fetchResponse)
	if err := code(r.ErrorCode); err != nil {
		return nil, err
	}
	if len(r.Topics) == 0 || len(r.Topics[0].Partitions) == 0 {
		return nil, errors.New("empty fetch answer")
	}
	return &r.Topics[0].Partitions[0], nil
}

type prefixed struct {
	pre  [4]byte
	b    []byte
	sent int
}

func (t *prefixed) Read(p []byte) (int, error) { return 0, io.EOF }
func (t *prefixed) WriteTo(w io.Writer) (int64, error) {
	binary.BigEndian.PutUint32(t.pre[:], uint32(len(t.b)))
	k, err := w.Write(t.pre[:])
	if err != nil {
		return int64(k), err
	}
	k2, err := w.Write(t.b)
	return int64(k + k2), err
}

func (c *client) produce(ctx context.Context, topic string, part int32, batch []byte) error {
	m, err := c.call(ctx, &rawproduce.Request{Acks: -1, Timeout: 20000, Topics: []rawproduce.RequestTopic{{Topic: topic,
		Partitions: []rawproduce.RequestPartition{{Partition: part, RecordSet: protocol.RawRecordSet{Reader: &prefixed{b: batch}}}}}}})
	if err != nil {
		return err
	}
	return code(m.(*produce.Response).Topics[0].Partitions[0].ErrorCode)
}

func (c *client) list(ctx context.Context, topic string, part int32, ts int64) (int64, error) {
	m, err := c.call(ctx, &listoffsets.Request{ReplicaID: -1, IsolationLevel: 1, Topics: []listoffsets.RequestTopic{{Topic: topic,
		Partitions: []listoffsets.RequestPartition{{Partition: part, CurrentLeaderEpoch: -1, Timestamp: ts}}}}})
	if err != nil {
		return 0, err
	}
	p := m.(*listoffsets.Response).Topics[0].Partitions[0]
	return p.Offset, code(p.ErrorCode)
}

func (c *client) initProducer(ctx context.Context) (int64, int16, error) {
	m, err := c.call(ctx, &initproducerid.Request{TransactionTimeoutMs: 60000, ProducerID: -1, ProducerEpoch: -1})
	if err != nil {
		return 0, 0, err
	}
	r := m.(*initproducerid.Response)
	return r.ProducerID, r.ProducerEpoch, code(r.ErrorCode)
}

func (c *client) committed(ctx context.Context, group, topic string, part int32) (int64, error) {
	m, err := c.call(ctx, &offsetfetch.Request{GroupID: group, Topics: []offsetfetch.RequestTopic{{Name: topic, PartitionIndexes: []int32{part}}}})
	if err != nil {
		return -1, err
	}
	r := m.(*offsetfetch.Response)
	if err := code(r.ErrorCode); err != nil {
		return -1, err
	}
	return r.Topics[0].Partitions[0].CommittedOffset, code(r.Topics[0].Partitions[0].ErrorCode)
}

func (c *client) commit(ctx context.Context, group, topic string, part int32, offset int64, meta string) error {
	m, err := c.call(ctx, &offsetcommit.Request{GroupID: group, GenerationID: -1, Topics: []offsetcommit.RequestTopic{{Name: topic,
		Partitions: []offsetcommit.RequestPartition{{PartitionIndex: part, CommittedOffset: offset, CommittedLeaderEpoch: -1, CommittedMetadata: meta}}}}})
	if err != nil {
		return err
	}
	return code(m.(*offsetcommit.Response).Topics[0].Partitions[0].ErrorCode)
}
