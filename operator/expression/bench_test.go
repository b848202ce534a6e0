package expression

import (
	"fmt"
	"testing"

	"github.com/sluice-stream/sluice/graph"
)

func BenchmarkPrograms(b *testing.B) {
	rows := make([]row, 1000)
	for i := range rows {
		word := "open"
		if i%2 == 0 {
			word = "paid"
		}
		rows[i] = row{key: fmt.Appendf(nil, "key-%d", i), timestamp: 1700000000000, value: fmt.Appendf(nil, `%s {"id": %d, "amount": 12.5, "name": "somebody", "paid": true}`, word, i)}
	}
	jsonRows := make([]row, len(rows))
	for i := range rows {
		jsonRows[i] = row{key: rows[i].key, value: rows[i].value[5:], timestamp: 1}
	}
	for _, bench := range []struct {
		name, source string
		use          graph.Use
		value        graph.Format
	}{
		{"startsWith", `value != null && value.startsWith("paid")`, graph.UseFilter, graph.String},
		{"bytes equal", `value != b"paid"`, graph.UseFilter, graph.Bytes},
		{"interpreted", `value != null && value.lowerAscii().startsWith("paid")`, graph.UseFilter, graph.String},
		{"json field", `value.paid && value.amount > 3`, graph.UseFilter, graph.JSON},
		{"regex", `value.matches("^paid.*true}$")`, graph.UseFilter, graph.String},
		{"comprehension", `value.split(" ").exists(w, w == "true}")`, graph.UseFilter, graph.String},
		{"concat", `"[" + topic + "] " + value`, graph.UseValue, graph.String},
		{"key", `key`, graph.UseKeyBy, graph.String},
		{"json object", `{"id": value.id, "who": value.name}`, graph.UseValue, graph.JSON},
	} {
		b.Run(bench.name, func(b *testing.B) {
			p, err := Compile(bench.source, bench.use, graph.String, bench.value)
			if err != nil {
				b.Fatal(err)
			}
			batch, r, arena := batchOf(rows...), NewRecord(graph.String, bench.value), []byte(nil)
			if bench.value == graph.JSON {
				batch = batchOf(jsonRows...)
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				r.Set(batch, n%len(rows))
				if bench.use == graph.UseFilter {
					_, err = p.Bool(r)
				} else {
					arena, _, err = p.Append(r, arena[:0])
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(`value != null && value.startsWith("paid")`, graph.UseFilter, graph.String, graph.String); err != nil {
			b.Fatal(err)
		}
	}
}
