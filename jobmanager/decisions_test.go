package jobmanager

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// TestDecisionLines: one JSON object a line, whose fields the chaos suite reads.
func TestDecisionLines(t *testing.T) {
	var text strings.Builder
	d := newDecisions(&text)
	d.note("start", "epoch", uint64(3))
	of := d.of("j1")
	list := []manifest.Transaction{{TransactionalID: "p/0", ProducerID: 7, ProducerEpoch: 2}}
	of.fenced("completed", ident.Fence{Epoch: 3, Attempt: 4}, "checkpoint", uint64(5), "final", true, "transactions", keysOf(list))
	of.fenced("ack", ident.Fence{Epoch: 3, Attempt: 4}, "transactions", keysOf(nil))
	of.note("refused", "reason", "two\nlines \"quoted\"")
	want := []map[string]any{
		{"event": "start", "epoch": 3.0},
		{"event": "completed", "job": "j1", "epoch": 3.0, "attempt": 4.0, "checkpoint": 5.0, "final": true, "transactions": []any{"p/0@7:2"}},
		{"event": "ack", "job": "j1", "epoch": 3.0, "attempt": 4.0, "transactions": []any{}},
		{"event": "refused", "job": "j1", "reason": "two\nlines \"quoted\""},
	}
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines for %d events: %s", len(lines), len(want), text.String())
	}
	for i, line := range lines {
		got := map[string]any{}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		at, ok := got["time"].(string)
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil || !ok {
			t.Errorf("time %v: %v", got["time"], err)
		}
		delete(got, "time")
		if !reflect.DeepEqual(got, want[i]) {
			t.Errorf("line %d is %v, want %v", i, got, want[i])
		}
	}
	newDecisions(nil).of("j").note("nothing") // without a file nothing is written
}
