package exchange

import (
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// Once warm, neither way allocates. What is allowed for 1,000 records is for the pools: the collector may empty them, and
// under the race detector they drop a quarter of what they are given.
func TestNoAllocationPerRecord(t *testing.T) {
	perBatch := 2.0
	if raceEnabled {
		perBatch = 100
	}
	batch := bench100()

	r := newRig(t, false, Config{}, "tm-1")
	a := r.attempt("tm-1", twoVertices(1, 1, graph.Hash), map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-1"})
	o, in, ctx := mustOutput(t, a, 0), mustInputs(t, a, 0), deadline(t)
	local := testing.AllocsPerRun(50, func() {
		if err := o.Emit(ctx, batch); err != nil {
			t.Fatal(err)
		}
		for {
			e, ok, err := in.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			in.Release(e)
		}
	})
	var w frameWriter
	var reader frameReader
	var out operator.Batch
	buf := make([]byte, 0, 1<<20)
	remote := testing.AllocsPerRun(50, func() {
		w.reset(buf, frameHeaderBytes)
		for i := range batch.Records {
			w.appendRecord(batch, &batch.Records[i], batch.Bytes(batch.Records[i].StreamKey))
		}
		out.Reset()
		if err := reader.decode(w.finish()[frameHeaderBytes:], &out); err != nil {
			t.Fatal(err)
		}
	})
	if local > perBatch || remote > perBatch {
		t.Fatalf("a batch of %d records allocates %v times on the local way, %v in encoding and decoding", len(batch.Records), local, remote)
	}
}
