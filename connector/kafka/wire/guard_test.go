package wire

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"unsafe"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A batch that nobody looks into is read from the connection into its memory and written from there. These
// tests hold what that costs apart from the time: system calls, and bytes that are copied in between.

const (
	guardPartitions = 4
	guardBatchBytes = 300 << 10
	// readAheadBytes is what kafka-go's connection reads ahead: the most that a record set can lose to it.
	readAheadBytes = 4 << 10
)

// countingConn answers with bytes that are all there at once, and notes the memory of each call.
type countingConn struct {
	net.Conn      // of no use: nobody calls the rest
	answer        *bytes.Reader
	reads, writes [][]byte
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.answer.Read(p)
	c.reads = append(c.reads, p[:n])
	return n, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes = append(c.writes, p)
	return len(p), nil
}

// inside says whether p is a part of the memory of whole.
func inside(p, whole []byte) bool {
	from, to := uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
	return from >= to && from+uintptr(len(p)) <= to+uintptr(len(whole))
}

// outsideBytes counts what was read to, or written from, other memory than these.
func outsideBytes(calls [][]byte, memories [][]byte) (sum int) {
	for _, p := range calls {
		found := false
		for _, m := range memories {
			found = found || inside(p, m)
		}
		if !found {
			sum += len(p)
		}
	}
	return sum
}

// answered frames a body as the answer to request 1.
func answered(body []byte) *bytes.Reader {
	out := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
	return bytes.NewReader(append(binary.BigEndian.AppendUint32(out, 1), body...))
}

// guardCluster is one without connections: its conversations are held by the tests.
func guardCluster(t *testing.T) *Cluster {
	t.Helper()
	c, err := Open(Config{Bootstrap: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// guardFetch fetches a large batch of each partition.
func guardFetch(t *testing.T, c *Cluster) (*countingConn, *FetchResponse) {
	t.Helper()
	set := encoded(t, guardBatchBytes/120, 100, nil)
	answer := kmsg.NewPtrFetchResponse()
	answer.Version = 11
	topic := kmsg.NewFetchResponseTopic()
	topic.Topic = "t"
	req := &FetchRequest{}
	for i := range int32(guardPartitions) {
		p := kmsg.NewFetchResponseTopicPartition()
		p.Partition, p.RecordBatches = i, set
		topic.Partitions = append(topic.Partitions, p)
		req.Partitions = append(req.Partitions, FetchPartition{Topic: "t", Partition: i, LeaderEpoch: -1})
	}
	answer.Topics = append(answer.Topics, topic)
	conn := &countingConn{answer: answered(answer.AppendTo(nil))}
	talk := &fetchTalk{c: c, req: req, order: groupByTopic(guardPartitions, func(int) string { return "t" })}
	if err := talk.converse(protocol.NewConn(conn, "test"), callHeader{key: protocol.Fetch, version: 11, correlationID: 1, maxResponse: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if len(talk.res.Partitions) != guardPartitions {
		t.Fatalf("%d partitions", len(talk.res.Partitions))
	}
	return conn, talk.res
}

// guardProduce sends batches, and wants all of them to be taken.
func guardProduce(t *testing.T, c *Cluster, batches []ProduceBatch) *countingConn {
	t.Helper()
	answer := kmsg.NewPtrProduceResponse()
	answer.Version = 8
	topic := kmsg.NewProduceResponseTopic()
	topic.Topic = "t"
	for i := range batches {
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition = batches[i].Partition
		topic.Partitions = append(topic.Partitions, p)
	}
	answer.Topics = append(answer.Topics, topic)
	conn := &countingConn{answer: answered(answer.AppendTo(nil))}
	talk := &produceTalk{c: c, req: &ProduceRequest{Acks: -1, Batches: batches}, order: groupByTopic(len(batches), func(int) string { return "t" })}
	if err := talk.converse(protocol.NewConn(conn, "test"), callHeader{key: protocol.Produce, version: 8, correlationID: 1, maxResponse: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for i := range talk.res {
		if talk.res[i].Err != nil {
			t.Fatal(talk.res[i].Err)
		}
	}
	return conn
}

// TestFetchCallsAndCopies: one write, and two reads for each partition: one ahead, which its header is in, and
// one of all the rest, into the memory that the batches then lie in.
func TestFetchCallsAndCopies(t *testing.T) {
	conn, res := guardFetch(t, guardCluster(t))
	defer res.Release()
	var memories [][]byte
	for i := range res.Partitions {
		memories = append(memories, res.Partitions[i].buf.data)
	}
	if len(conn.writes) != 1 {
		t.Errorf("%d writes for a request", len(conn.writes))
	}
	if n := len(conn.reads); n > 2*guardPartitions {
		t.Errorf("%d reads for %d partitions", n, guardPartitions)
	}
	if n := outsideBytes(conn.reads, memories); n > guardPartitions*readAheadBytes {
		t.Errorf("%d bytes were not read to where they stay, want at most %d for each of %d partitions", n, readAheadBytes, guardPartitions)
	}
}

// TestPassThroughCallsAndCopies: what was fetched is written from the memory that it was read to, two writes for
// each partition; only headers are made.
func TestPassThroughCallsAndCopies(t *testing.T) {
	c := guardCluster(t)
	_, res := guardFetch(t, c)
	defer res.Release()
	var memories [][]byte
	var batches []ProduceBatch
	for i := range res.Partitions {
		p := &res.Partitions[i]
		memories = append(memories, p.buf.data)
		b, err := p.Next()
		if err != nil || b == nil {
			t.Fatal(b, err)
		}
		shared := b.Share()
		defer shared.Release()
		b.Releaser()()
		h, err := shared.HeaderFor(Producer{ID: 1})
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, ProduceBatch{Topic: "t", Partition: p.Partition, Data: h[:], Rest: shared.Body()})
	}
	conn := guardProduce(t, c, batches)
	if n := len(conn.writes); n > 2*guardPartitions {
		t.Errorf("%d writes for %d batches", n, guardPartitions)
	}
	const framing = 64 // of a request and of a partition in it, beside the header of the batch
	if n := outsideBytes(conn.writes, memories); n > framing+guardPartitions*(HeaderSize+framing) {
		t.Errorf("%d bytes are copies of what was fetched, or new", n)
	}
}

// TestSmallBatchesAreOneCall: copying them together is cheaper than a system call for each.
func TestSmallBatchesAreOneCall(t *testing.T) {
	data := encoded(t, 20, 100, nil)
	var batches []ProduceBatch
	for i := range int32(50) {
		batches = append(batches, ProduceBatch{Topic: "t", Partition: i, Data: data[:HeaderSize], Rest: data[HeaderSize:]})
	}
	conn := guardProduce(t, guardCluster(t), batches)
	if n := len(conn.writes); n != 1 {
		t.Errorf("%d writes for %d batches of %d bytes", n, len(batches), len(data))
	}
	if n := len(conn.reads); n != 1 {
		t.Errorf("%d reads for an answer", n)
	}
}

// TestUncompressedRecordsAreNotCopied: the records of an opened batch lie where they were read to.
func TestUncompressedRecordsAreNotCopied(t *testing.T) {
	_, res := guardFetch(t, guardCluster(t))
	defer res.Release()
	p := &res.Partitions[0]
	b, err := p.Next()
	if err != nil || b == nil {
		t.Fatal(b, err)
	}
	defer b.Release()
	batch := b.Batch()
	if err := batch.Open(); err != nil {
		t.Fatal(err)
	}
	for i := range batch.Records {
		if value := batch.Bytes(batch.Records[i].Value); !inside(value, p.buf.data) {
			t.Fatalf("the value of record %d was copied", i)
		}
	}
}
