package oracle

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestLossIsOfWhatWasSeen: what the client takes for lost behind the last record that it gave out were markers or aborted.
func TestLossIsOfWhatWasSeen(t *testing.T) {
	for resetTo, want := range map[int64]int{5: 1, 7: 1, 8: 0, 9: 0} {
		l := &liveReader{saw: newSightings(), arrivals: map[int32][]time.Time{}}
		fetch := func(p kgo.FetchPartition) {
			l.take(kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: "out", Partitions: []kgo.FetchPartition{p}}}}}, time.Now())
		}
		fetch(kgo.FetchPartition{Partition: 3, Records: []*kgo.Record{{Topic: "out", Partition: 3, Offset: 7}}})
		fetch(kgo.FetchPartition{Partition: 3, Err: &kgo.ErrDataLoss{Topic: "out", Partition: 3, ConsumedTo: 10, ResetTo: resetTo}})
		if got := l.problems(false); len(got) != want {
			t.Errorf("seen up to 7, reset to %d: %q, want %d", resetTo, got, want)
		}
	}
}
