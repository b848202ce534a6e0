package builtin

import (
	"fmt"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// objects are JSON objects as the benchmark has them; one of four has a status of 503.
func objects() *operator.Batch {
	all := make([]string, 1000)
	for i := range all {
		status := 200
		if i%4 == 3 {
			status = 503
		}
		all[i] = fmt.Sprintf(`{"id":%d,"level":"info","status":%d,"durationMs":%d,"region":"eu-central","user":"user-004711","msg":"abcdefghijklm","seq":"%012d"}`, i, status, i%1000, i)
	}
	return batchOf(all...)
}

// TestJSONAllocations: what looks at fields of JSON values and writes objects allocates nothing. What the interpreter
// has to do costs parsed values for each record.
func TestJSONAllocations(t *testing.T) {
	b := objects()
	for name, c := range map[string]struct {
		op        graph.Operator
		perRecord float64
	}{
		"filter":      {graph.Operator{Filter: `value.status < 500`}, 0},
		"map":         {graph.Operator{Map: &graph.Map{Value: `{"durationMs": value.durationMs, "late": value.durationMs > 250, "region": value.region, "seq": value.seq}`}}, 0},
		"interpreted": {graph.Operator{Filter: `value.level.lowerAscii() == "info"`}, 28},
	} {
		n := node(c.op)
		n.ValueFormat = graph.JSON
		op := make1(t, n, nil)
		got := testing.AllocsPerRun(10, func() {
			if err := op.Process(b, collect(nowhere)); err != nil {
				t.Fatal(err)
			}
		}) / float64(len(b.Records))
		t.Logf("%s: %.1f allocations a record", name, got)
		if got > c.perRecord+0.01 { // a batch has some
			t.Errorf("%s: %.1f allocations a record, want at most %.0f", name, got, c.perRecord)
		}
	}
}
