package kafkaenv

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestKafka08 writes with three producers, and reads after a crash. What is compressed with lz4 is not read here:
// franz-go does not know how Kafka 0.8 computed the checksums of its frames.
func TestKafka08(t *testing.T) {
	k := StartKafka08(t)
	k.CreateTopic(t, "t", 2)
	k.Produce(t, []*kgo.Record{{Topic: "t", Partition: 1, Key: []byte("k"), Value: []byte("franz")}})
	k.CreateTopic(t, "console", 1)
	k.Console(t, "console", "snappy", false, []string{"a:scala", "b:scala"})
	k.Console(t, "console", "gzip", true, []string{"c:java"})
	k.Kill(t)
	k.Restart(t)
	if got := k.Read(t, "t"); len(got) != 1 || string(got[0].Value) != "franz" {
		t.Errorf("%d records after a crash, want 1", len(got))
	}
	if got := k.Read(t, "console"); len(got) != 3 || string(got[0].Value) != "scala" || string(got[2].Key) != "c" {
		t.Errorf("%d records of the console producers, want 3", len(got))
	}
}
