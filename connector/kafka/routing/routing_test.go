package routing

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

func batchOf(values ...string) *operator.Batch {
	b := &operator.Batch{}
	o := b.AddOrigin(operator.Origin{Topic: "in", Partition: 3})
	for i, v := range values {
		b.Records = append(b.Records, operator.Record{Key: operator.Null, Value: b.Put([]byte(v)), Headers: operator.Null, StreamKey: operator.Null, Offset: int64(i), Origin: o})
	}
	return b
}

func TestRouting(t *testing.T) {
	wrong := errors.New("it is wrong")
	var told string
	e := Expressions{Failed: func(_ *operator.Batch, i int, part string, cause error) error {
		told = fmt.Sprintf("%d %s %v", i, part, cause)
		return wrong
	}}
	node := &graph.Node{Name: "z", KeyFormat: graph.Bytes, ValueFormat: graph.String}
	b := batchOf("orders", "7", "")
	topic, err := e.Topic(`"to-" + value`, node)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := topic(b, 0); got != "to-orders" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	partition, err := e.Partition("int(value)", node)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := partition(b, 1); got != 7 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := partition(b, 0); !errors.Is(err, wrong) || !strings.HasPrefix(told, "0 partitioner ") {
		t.Errorf("error %v, told %s", err, told)
	}
	wrong = nil // the record is left out
	if _, err := partition(b, 0); !errors.Is(err, kafka.ErrSkip) {
		t.Errorf("error %v", err)
	}
	if _, err := e.Topic("vallue", node); err == nil || !strings.HasPrefix(err.Error(), `compile topicExpression "vallue": `) {
		t.Errorf("error %v", err)
	}
}
