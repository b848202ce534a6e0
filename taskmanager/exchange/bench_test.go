package exchange

import (
	"context"
	"sync"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// bench100 is a batch of 1,000 records with a 10-byte key and a 100-byte value.
func bench100() *operator.Batch {
	b := &operator.Batch{Origins: []operator.Origin{{Topic: "orders", Partition: 3}}}
	value := make([]byte, 100)
	for i := range 1000 {
		value[0] = byte(i)
		key := b.Put([]byte{byte(i), byte(i >> 8), 'k', 'e', 'y', 'k', 'e', 'y', 'k', 'e'})
		b.Records = append(b.Records, operator.Record{
			Key: key, StreamKey: key, Value: b.Put(value), Headers: operator.Null, Offset: int64(i), Timestamp: 1700000000000 + int64(i),
		})
	}
	return b
}

// benchmark sends by hash from one subtask to two and counts records; b.N is records.
func benchmark(b *testing.B, where map[string]ident.WorkerID) {
	r := newRig(b, false, Config{}, "tm-1", "tm-2")
	p := twoVertices(1, 2, graph.Hash)
	a1, a2 := r.attempt("tm-1", p, where), r.attempt("tm-2", p, where)
	o := mustOutput(b, a1, 0)
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	wg.Go(func() { _ = a1.Run(ctx) })
	wg.Go(func() { _ = a2.Run(ctx) })
	batch := bench100()
	b.SetBytes(int64(len(batch.Arena) / len(batch.Records)))
	b.ReportAllocs()
	b.ResetTimer()
	var readers sync.WaitGroup
	for i := range 2 {
		in := mustInputs(b, map[ident.WorkerID]*Attempt{"tm-1": a1, "tm-2": a2}[where[ident.Subtask{Vertex: "to", Index: i}.String()]], i)
		readers.Go(func() {
			for {
				e, err := next(ctx, in)
				if err != nil || e.Kind == EndElement {
					return
				}
				in.Release(e)
			}
		})
	}
	for sent := 0; sent < b.N; sent += len(batch.Records) {
		if err := o.Emit(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := o.End(ctx); err != nil {
		b.Fatal(err)
	}
	readers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkLocalHash(b *testing.B) {
	benchmark(b, map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-1", "to/1": "tm-1"})
}

func BenchmarkRemoteHash(b *testing.B) {
	benchmark(b, map[string]ident.WorkerID{"from/0": "tm-1", "to/0": "tm-2", "to/1": "tm-2"})
}

func BenchmarkEncode(b *testing.B) {
	batch, buf := bench100(), make([]byte, 0, 1<<20)
	var w frameWriter
	b.ReportAllocs()
	for sent := 0; sent < b.N; sent += len(batch.Records) {
		w.reset(buf, 0)
		for i := range batch.Records {
			w.appendRecord(batch, &batch.Records[i], batch.Bytes(batch.Records[i].StreamKey))
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	batch := bench100()
	data := encode(batch)
	var r frameReader
	var out operator.Batch
	b.ReportAllocs()
	for sent := 0; sent < b.N; sent += len(batch.Records) {
		out.Reset()
		if err := r.decode(data, &out); err != nil {
			b.Fatal(err)
		}
	}
}
