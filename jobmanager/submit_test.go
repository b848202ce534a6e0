package jobmanager

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// wideConnector has topics with very many partitions.
type wideConnector struct{ fakeConnector }

func (wideConnector) SinkPartitions(context.Context, *graph.Job) map[string]int {
	return map[string]int{"z": 5001}
}

// TestSubmitWarnsOfMarkers: a sink that would overload its brokers with transaction markers is named.
func TestSubmitWarnsOfMarkers(t *testing.T) {
	m := open(t)
	for _, wide := range []bool{false, true} {
		if wide {
			m.connector = wideConnector{}
		}
		j := countJob(1)
		j.Name = map[bool]string{false: "narrow", true: "wide"}[wide]
		j.Checkpoint.Interval = time.Second
		j.Sinks[0].Kafka.Guarantee = graph.ExactlyOnce
		_, warnings, err := m.submit(t.Context(), submission{job: j})
		if err != nil {
			t.Fatal(err)
		}
		warned := len(warnings) == 1 && strings.HasPrefix(warnings[0], "sinks.z.kafka.guarantee: 1 subtasks × 5001 partitions every 1s")
		if warned != wide || !wide && len(warnings) > 0 {
			t.Errorf("many partitions: %t, warnings %q", wide, warnings)
		}
	}
}
