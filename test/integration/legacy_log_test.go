package integration

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// TestOldLog: a broker of today gives a log that was written before Kafka 0.11 as it is. It is read without any property.
func TestOldLog(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and brokers")
	}
	log, want := oldLog(t)
	for _, kind := range []kafkaenv.Kind{kafkaenv.Kafka39, kafkaenv.Kafka43} {
		t.Run(string(kind), func(t *testing.T) {
			r := newRig(t, kafkaenv.Start(t, kafkaenv.Options{Kind: kind}))
			r.create(t, 1, "in", "out")
			r.kafka.PlaceLog(t, r.topic("in"), log)
			r.start(t, 1)
			r.finish(t, exactlyOnce(copyJob, "200ms"))
			var got []string
			for _, record := range r.kafka.Read(t, r.topic("out")) {
				got = append(got, fmt.Sprintf("%s:%s@%d", record.Key, record.Value, record.Timestamp.UnixMilli()))
			}
			if !slices.Equal(got, want) {
				t.Errorf("came out\n%q, want\n%q", got, want)
			}
		})
	}
}

// oldLog is the log of a broker of Kafka 0.8.2.2 (format v0), and behind it what one of 0.10 would have added (v1).
func oldLog(t *testing.T) (log []byte, want []string) {
	t.Helper()
	log, err := os.ReadFile("../../connector/kafka/wire/testdata/messageset/v0-none.bin")
	if err != nil {
		t.Fatal(err)
	}
	want = []string{
		"s1:scala one@-1", "s2:scala two@-1", "s3:scala three@-1", ":no key@-1", "tombstone:@-1", ":@-1", "j1:java one@-1", "j2:java two@-1", "j3:java three@-1",
	}
	const at = 1_450_000_000_000 // ms
	log = append(log, messageV1(9, at, 0, []byte("a"), []byte("plain"))...)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for i := range 3 {
		want := messageV1(int64(i), at+int64(i), 0, []byte("b"), fmt.Appendf(nil, "packed %d", i))
		if _, err := z.Write(want); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	log = append(log, messageV1(12, at+2, 1, nil, packed.Bytes())...)
	return log, append(want, "a:plain@1450000000000", "b:packed 0@1450000000000", "b:packed 1@1450000000001", "b:packed 2@1450000000002")
}

// messageV1 encodes a message of format v1, compressed by gzip with the attribute 1.
func messageV1(offset, timestampMs int64, attributes int8, key, value []byte) []byte {
	m := kmsg.MessageV1{Offset: offset, MessageSize: int32(22 + len(key) + len(value)), Magic: 1, Attributes: attributes, Timestamp: timestampMs, Key: key, Value: value}
	out := m.AppendTo(nil)
	binary.BigEndian.PutUint32(out[12:], crc32.ChecksumIEEE(out[16:]))
	return out
}
