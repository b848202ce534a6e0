package wire

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// legacyBroker answers as Kafka 0.8.2 does, by franz-go's encoding: four calls in version 0, whatever version the request
// names; on all else it closes the connection.
type legacyBroker struct {
	address string
	host    string
	port    int32
	log     []byte // of t/0

	mu       sync.Mutex
	produced []byte
	asked    []string // topics in Metadata
	fetches  int
	versions []int16 // asked for
	code     int16   // of the next Produce
}

func startLegacy(t *testing.T, log []byte) *legacyBroker {
	t.Helper()
	return startLegacyBehind(t, log, func(c net.Conn) net.Conn { return c })
}

// startLegacyBehind puts something between the broker and its connections.
func startLegacyBehind(t *testing.T, log []byte, wrap func(net.Conn) net.Conn) *legacyBroker {
	t.Helper()
	b := &legacyBroker{log: log}
	ready := make(chan struct{})
	b.address = listen(t, func(plain net.Conn) {
		defer plain.Close()
		<-ready
		c := wrap(plain)
		for b.serve(c) {
		}
	})
	addr, err := net.ResolveTCPAddr("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	b.host, b.port = addr.IP.String(), int32(addr.Port)
	close(ready)
	return b
}

func (b *legacyBroker) serve(c net.Conn) bool {
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		return false
	}
	frame := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(c, frame); err != nil {
		return false
	}
	key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
	req := kmsg.RequestForKey(key)
	if req == nil || key > 3 {
		return false
	}
	b.mu.Lock()
	b.versions = append(b.versions, version)
	b.mu.Unlock()
	client := int(binary.BigEndian.Uint16(frame[8:]))
	req.SetVersion(0)
	if err := req.ReadFrom(frame[10+client:]); err != nil {
		return false
	}
	b.mu.Lock()
	res := b.answer(req)
	b.mu.Unlock()
	if res == nil {
		return true // acks 0
	}
	out := res.AppendTo(append(make([]byte, 4), frame[4:8]...))
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	_, err := c.Write(out)
	return err == nil
}

func (b *legacyBroker) answer(req kmsg.Request) kmsg.Response {
	switch req := req.(type) {
	case *kmsg.MetadataRequest:
		return b.metadata(req)
	case *kmsg.ListOffsetsRequest:
		return b.list(req)
	case *kmsg.FetchRequest:
		return b.fetch(req)
	case *kmsg.ProduceRequest:
		return b.produce(req)
	}
	return nil
}

func (b *legacyBroker) metadata(req *kmsg.MetadataRequest) kmsg.Response {
	for _, t := range req.Topics {
		b.asked = append(b.asked, *t.Topic)
	}
	return &kmsg.MetadataResponse{
		Brokers: []kmsg.MetadataResponseBroker{{NodeID: 4, Host: b.host, Port: b.port}},
		Topics: []kmsg.MetadataResponseTopic{
			{Topic: kmsg.StringPtr("t"), Partitions: []kmsg.MetadataResponseTopicPartition{{Partition: 0, Leader: 4, Replicas: []int32{4, 5}, ISR: []int32{4}, ErrorCode: 9}}},
			{Topic: kmsg.StringPtr("__consumer_offsets")},
		},
	}
}

func (b *legacyBroker) list(req *kmsg.ListOffsetsRequest) kmsg.Response {
	res := &kmsg.ListOffsetsResponse{}
	for _, t := range req.Topics {
		out := kmsg.ListOffsetsResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			a := kmsg.ListOffsetsResponseTopicPartition{Partition: p.Partition, OldStyleOffsets: []int64{p.Timestamp + 100}}
			if p.Partition > 0 {
				a.ErrorCode, a.OldStyleOffsets = CodeUnknownTopicOrPartition, nil
			}
			out.Partitions = append(out.Partitions, a)
		}
		res.Topics = append(res.Topics, out)
	}
	return res
}

// fetch gives the whole log up to the limit of the partition, to the byte.
func (b *legacyBroker) fetch(req *kmsg.FetchRequest) kmsg.Response {
	b.fetches++
	p := req.Topics[0].Partitions[0]
	return &kmsg.FetchResponse{Topics: []kmsg.FetchResponseTopic{{Topic: req.Topics[0].Topic, Partitions: []kmsg.FetchResponseTopicPartition{
		{Partition: p.Partition, HighWatermark: 9, RecordBatches: b.log[:min(len(b.log), int(p.PartitionMaxBytes))]},
	}}}}
}

func (b *legacyBroker) produce(req *kmsg.ProduceRequest) kmsg.Response {
	p := req.Topics[0].Partitions[0]
	b.produced = bytes.Clone(p.Records)
	if req.Acks == 0 {
		return nil
	}
	return &kmsg.ProduceResponse{Topics: []kmsg.ProduceResponseTopic{{Topic: req.Topics[0].Topic, Partitions: []kmsg.ProduceResponseTopicPartition{
		{Partition: p.Partition, ErrorCode: b.code, BaseOffset: 42},
	}}}}
}

func legacyCluster(t *testing.T, b *legacyBroker) *Cluster {
	t.Helper()
	return openAddr(t, b.address, func(c *Config) { c.BrokerVersion = Broker082 })
}

func TestLegacyMetadata(t *testing.T) {
	b := startLegacy(t, nil)
	cl := legacyCluster(t, b)
	if err := cl.CheckVersions(testContext(t)); err != nil {
		t.Fatal(err)
	}
	md, err := cl.Metadata(testContext(t), []string{"missing", "t"})
	if err != nil {
		t.Fatal(err)
	}
	if len(md.Topics) != 2 || !HasCode(md.Topics[0].Err, CodeUnknownTopicOrPartition) || md.Topics[0].Name != "missing" {
		t.Errorf("topics %+v", md.Topics)
	}
	want := Topic{Name: "t", Partitions: []Partition{{Leader: 4, LeaderEpoch: -1, Replicas: []int32{4, 5}, InSync: []int32{4}}}}
	if d := cmp.Diff(want, md.Topics[1]); d != "" {
		t.Error(d)
	}
	all, err := cl.Metadata(testContext(t), nil)
	if err != nil || len(all.Topics) != 2 || !all.Topics[0].Internal {
		t.Errorf("%v, %+v", err, all)
	}
	missing, err := cl.MissingTopics(testContext(t), []string{"t", "missing"})
	if err != nil || !slices.Equal(missing, []string{"missing"}) {
		t.Errorf("%v, missing %q", err, missing)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.ContainsFunc(b.versions, func(v int16) bool { return v != 0 && v != modernMetadata }) {
		t.Errorf("calls of the versions %d", b.versions)
	}
	if len(b.asked) > 0 {
		t.Errorf("asked for %q by name: the broker may create them", b.asked)
	}
}

func TestLegacyListOffsets(t *testing.T) {
	cl := legacyCluster(t, startLegacy(t, nil))
	for _, at := range []int64{Earliest, Latest} {
		got, err := cl.ListOffsets(testContext(t), []OffsetQuery{{"t", 0, at}}, ReadCommitted)
		if err != nil || got[0].Err != nil || got[0].Offset != at+100 || got[0].LeaderEpoch != -1 {
			t.Errorf("%d: %+v, %v", at, got, err)
		}
	}
	got, err := cl.ListOffsets(testContext(t), []OffsetQuery{{"t", 0, 1_700_000_000_000}}, ReadCommitted)
	if err != nil || !HasCode(got[0].Err, CodeUnsupportedVersion) || !strings.Contains(got[0].Err.Error(), "only as precisely as the segments") {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestLegacyFetch reads a log through limits that cut its first message.
func TestLegacyFetch(t *testing.T) {
	log := oldSet(old{offset: 0, value: make([]byte, 200_000)}, old{offset: 1, value: []byte("b")})
	b := startLegacy(t, log)
	cl := legacyCluster(t, b)
	res, err := cl.Fetch(testContext(t), leaderOf(t, cl, "t", 0), &FetchRequest{MaxWait: time.Second, Partitions: []FetchPartition{{Topic: "t", MaxBytes: 1000}}})
	if err != nil {
		t.Fatal(err)
	}
	p := &res.Partitions[0]
	if p.HighWatermark != 9 || p.LastStable != 9 || p.LogStart != -1 || p.Err != nil || b.fetches != 2 {
		t.Errorf("%+v after %d fetches", p, b.fetches)
	}
	r, err := p.Next()
	if err != nil || r.Count() != 1 || r.Next() != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	r.Release()
	if r, err := p.Next(); r != nil || err != nil {
		t.Errorf("%+v, %v at the end", r, err)
	}
	res.Release()
}

// TestLegacyProduce writes every codec, and reads back what the broker got.
func TestLegacyProduce(t *testing.T) {
	for _, c := range codecs {
		t.Run(c.codec.String(), func(t *testing.T) {
			b := startLegacy(t, nil)
			cl := legacyCluster(t, b)
			z, err := NewCompressor(c.codec, 0)
			if err != nil {
				t.Fatal(err)
			}
			var w Builder
			w.AppendRecord(1000, []byte("k"), bytes.Repeat([]byte("v"), 300), nil)
			w.AppendRecord(2000, nil, nil, nil)
			w.AppendRecord(3000, []byte{}, []byte{}, nil)
			data, err := w.Finish(NoProducer, z)
			if err != nil {
				t.Fatal(err)
			}
			res, err := cl.Produce(testContext(t), leaderOf(t, cl, "t", 0), &ProduceRequest{Acks: -1, Batches: []ProduceBatch{{Topic: "t", Partition: 0, Data: data}}})
			if err != nil || res[0] != (ProduceResult{BaseOffset: 42, LogAppendTime: -1, LogStart: -1}) {
				t.Fatalf("%+v, %v", res, err)
			}
			set := b.produced
			var outer oldMessage
			if _, err := parseMessage(set, &outer); err != nil || outer.magic != 0 {
				t.Fatalf("%+v, %v", outer, err)
			}
			if want := c.codec; want != Zstd && outer.codec() != want || want == Zstd && outer.codec() != None {
				t.Errorf("sent as %v", outer.codec())
			}
			if at := frameHeader(outer.value); c.codec == LZ4 && outer.value[at] != byte(xxh32(outer.value[:at])>>8) {
				t.Error("the frame's checksum is not that of Kafka 0.8")
			}
			got, _, err := readOld(t, bytes.Clone(set), 0)
			want := []shown{{Timestamp: -1, Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 300)}, {Offset: 1, Timestamp: -1}, {Offset: 2, Timestamp: -1, Key: []byte{}, Value: []byte{}}}
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("%v, %s", err, d)
			}
		})
	}
}

func TestLegacyProduceRefused(t *testing.T) {
	b := startLegacy(t, nil)
	cl := legacyCluster(t, b)
	batch := func(headers []byte) []byte {
		var w Builder
		w.AppendRecord(0, nil, []byte("v"), headers)
		data, err := w.Finish(NoProducer, nil)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	leader := leaderOf(t, cl, "t", 0)
	with, without := ProduceBatch{Topic: "t", Data: batch(AppendHeaders(nil, []RecordHeader{{"h", nil}}))}, batch(nil)
	res, err := cl.Produce(testContext(t), leader, &ProduceRequest{Acks: -1, Batches: []ProduceBatch{with, {Topic: "t", Partition: 1, Data: without[:HeaderSize], Rest: without[HeaderSize:]}}})
	if err != nil || !HasCode(res[0].Err, CodeUnsupportedForFormat) || !strings.Contains(res[0].Err.Error(), "has headers, which message format v0 (broker.version 0.8.2) cannot hold") || res[1].Err != nil || res[1].BaseOffset != 42 {
		t.Errorf("%+v, %v", res, err)
	}
	b.mu.Lock()
	b.code = CodeNotEnoughReplicas
	b.mu.Unlock()
	res, err = cl.Produce(testContext(t), leader, &ProduceRequest{Acks: -1, Batches: []ProduceBatch{{Topic: "t", Partition: 0, Data: batch(nil)}}})
	if err != nil || !HasCode(res[0].Err, CodeNotEnoughReplicas) {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestLegacyPeers refuses what is no such broker.
func TestLegacyPeers(t *testing.T) {
	if _, err := Open(Config{Bootstrap: []string{"a:1"}, BrokerVersion: "0.11"}); err == nil || !strings.Contains(err.Error(), `"0.11" is not known`) {
		t.Error(err)
	}
	if _, err := Open(Config{Bootstrap: []string{"a:1"}, BrokerVersion: Broker090, SASL: SASL{"PLAIN", "a", "b"}}); err == nil || !strings.Contains(err.Error(), "no SASL") {
		t.Error(err)
	}
	modern := openCluster(t, startFake(t, kfake.SeedTopics(1, "t")), func(c *Config) { c.BrokerVersion = Broker090 })
	if err := modern.CheckVersions(testContext(t)); !HasCode(err, CodeUnsupportedVersion) || !strings.Contains(err.Error(), "remove broker.version 0.9.0") {
		t.Errorf("a new broker: %v", err)
	}
	web := listen(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); io.Copy(io.Discard, c) })
	_, err := openAddr(t, web, func(c *Config) { c.BrokerVersion = Broker082 }).Metadata(testContext(t), nil)
	if err == nil || !strings.Contains(err.Error(), `answered "HTTP"`) {
		t.Errorf("a web server: %v", err)
	}
	// without the property, the error names it
	_, err = openAddr(t, startLegacy(t, nil).address).Metadata(testContext(t), nil)
	if err == nil || !strings.Contains(err.Error(), "needs broker.version") {
		t.Errorf("without broker.version: %v", err)
	}
	cl := legacyCluster(t, startLegacy(t, nil))
	if _, err := cl.InitProducerID(testContext(t), "", time.Minute); !HasCode(err, CodeUnsupportedVersion) {
		t.Errorf("InitProducerId: %v", err)
	}
	if err := cl.OffsetCommit(testContext(t), "g", []CommittedOffset{{Topic: "t"}}); !HasCode(err, CodeUnsupportedVersion) {
		t.Errorf("OffsetCommit: %v", err)
	}
}

// TestLegacyTLS: Kafka 0.9 has it.
func TestLegacyTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.StartTLS()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	serverSide := &tls.Config{Certificates: server.TLS.Certificates}
	server.Close()
	b := startLegacyBehind(t, oldSet(old{offset: 0, value: []byte("v")}), func(c net.Conn) net.Conn { return tls.Server(c, serverSide) })
	trusted := &tls.Config{RootCAs: pool, ServerName: "example.com"}
	cl := openAddr(t, b.address, func(c *Config) { c.BrokerVersion, c.TLS = Broker090, trusted })
	if err := cl.CheckVersions(testContext(t)); err != nil {
		t.Fatal(err)
	}
	res, err := cl.Fetch(testContext(t), leaderOf(t, cl, "t", 0), &FetchRequest{MaxWait: time.Second, Partitions: []FetchPartition{{Topic: "t"}}})
	if err != nil || res.Partitions[0].SizeBytes() == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	res.Release()
	if _, err := Open(Config{Bootstrap: []string{"a:1"}, BrokerVersion: Broker082, TLS: trusted}); err == nil || !strings.Contains(err.Error(), "brokers before 0.9 have no TLS") {
		t.Error(err)
	}
}
