package kafkaenv

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The environment itself is tested on every kind: what the helpers write, they must read, and a broker
// that is killed must come back with its data.
func TestCluster(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			began := time.Now()
			c := Start(t, Options{Kind: kind})
			t.Logf("started in %s", time.Since(began).Round(time.Millisecond))
			c.CreateTopic(t, "in", 2, nil)
			headers := []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: nil}}
			c.Produce(t, []*kgo.Record{
				{Topic: "in", Partition: 1, Key: []byte("k"), Value: nil, Headers: headers, Timestamp: time.UnixMilli(1234)},
			}, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
			c.ProduceTransaction(t, "tx", true, []*kgo.Record{{Topic: "in", Value: []byte("committed")}})
			c.ProduceTransaction(t, "tx", false, []*kgo.Record{{Topic: "in", Value: []byte("aborted")}})
			check := func() {
				t.Helper()
				got := c.Read(t, "in")
				if len(got) != 2 || string(got[0].Value) != "committed" || string(got[1].Key) != "k" || got[1].Value != nil {
					t.Fatalf("read %s", printed(got))
				}
				if len(got[1].Headers) != 2 || got[1].Headers[1].Value != nil || got[1].Timestamp.UnixMilli() != 1234 {
					t.Errorf("headers %v, timestamp %s", got[1].Headers, got[1].Timestamp)
				}
				if ends := c.Ends(t, "in"); ends[0] != 4 || ends[1] != 1 {
					t.Errorf("ends %v, want 4 (two records, two markers) and 1", ends)
				}
			}
			check()
			addr := c.Addr()
			c.Kill(t, 0)
			began = time.Now()
			c.Restart(t, 0)
			t.Logf("restarted after a kill in %s", time.Since(began).Round(time.Millisecond))
			if c.Addr() != addr {
				t.Errorf("address %s became %s", addr, c.Addr())
			}
			check()
			c.Stop(t, 0)
			c.Restart(t, 0)
			check()
		})
	}
}

func TestThreeBrokers(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes")
	}
	c := Start(t, Options{Kind: Kafka43, Brokers: 3})
	c.CreateTopic(t, "in", 3, nil)
	c.Kill(t, 1)
	var records []*kgo.Record
	for i := range 30 {
		records = append(records, &kgo.Record{Topic: "in", Partition: int32(i % 3), Value: fmt.Append(nil, i)})
	}
	c.Produce(t, records)
	c.Restart(t, 1)
	if got := c.Read(t, "in"); len(got) != 30 {
		t.Errorf("read %d records, want 30", len(got))
	}
}

func TestLargeRecord(t *testing.T) {
	for _, kind := range []Kind{Fake, Kafka43} {
		t.Run(string(kind), func(t *testing.T) {
			c := Start(t, Options{Kind: kind})
			c.CreateTopic(t, "large", 1, map[string]string{"max.message.bytes": "20000000"})
			value := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
			c.Produce(t, []*kgo.Record{{Topic: "large", Value: value}})
			if got := c.Read(t, "large"); len(got) != 1 || !bytes.Equal(got[0].Value, value) {
				t.Errorf("the record of 1 MiB did not come back whole")
			}
		})
	}
}

func printed(records []*kgo.Record) string {
	text := ""
	for _, r := range records {
		text += fmt.Sprintf("%d@%d %q=%q; ", r.Partition, r.Offset, r.Key, r.Value)
	}
	return text
}
