package zookeeper

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// What we write, Kafka 0.8's own programs read, and the other way round. There the number is the next offset.
func TestKafka08Agrees(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a broker")
	}
	kafka := kafkaenv.StartKafka08(t)
	kafka.CreateTopic(t, "t", 2)
	var records []*kgo.Record
	for i := range 20 {
		records = append(records, &kgo.Record{Topic: "t", Partition: int32(i % 2), Value: fmt.Append(nil, "v", i)})
	}
	kafka.Produce(t, records)
	client := connect(t, kafka.ZooKeeper().Addr())

	write(t, client, 2, offset("t", 0, 4), offset("t", 1, 9))
	if got, want := kafka.GroupOffsets(t, "group", "t"), map[int]int64{0: 4, 1: 9}; !maps.Equal(got, want) {
		t.Errorf("Kafka's tool sees %v, want %v", got, want)
	}
	got := kafka.Consume(t, "group", "t", 7)
	slices.Sort(got)
	if want := []string{"v10", "v12", "v14", "v16", "v18", "v19", "v8"}; !slices.Equal(got, want) {
		t.Errorf("Kafka's old consumer goes on with %v, want %v", got, want)
	}
	check(t, client, "t", 10, 10)
}
