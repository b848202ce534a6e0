package expression

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-stream/sluice/graph"
)

// TestHostile: an expression that wants to hang the task manager or to fill its memory is refused, at
// compile time or on the record. The account of the cost is kept short here; TestCostLimit and
// BenchmarkCostLimit have the real one.
func TestHostile(t *testing.T) {
	nested := func(open, inner, shut string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(shut, n)
	}
	doubling := "value"
	for range 16 {
		doubling = "cel.bind(x, " + doubling + ", x + x + x + x)"
	}
	replacing := "value" + strings.Repeat(`.replace("", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")`, 20)
	million := text(strings.Repeat("a b ", 250_000))
	tests := []struct {
		name, source string
		use          graph.Use
		want         string
	}{
		{"too long", strings.Repeat("x", MaxSourceBytes+1), graph.UseFilter, "more than the limit of 65536"},
		{"not UTF-8", "\"\xff\" == value", graph.UseFilter, "not valid UTF-8"},
		{"empty", "", graph.UseFilter, "Syntax error"},
		{"only comment", "// nothing", graph.UseFilter, "Syntax error"},
		{"parentheses", nested("(", "true", ")", 10_000), graph.UseFilter, "recursion"},
		{"deep lists", nested("[", "1", "]", 10_000), graph.UseValue, "recursion"},
		{"deep calls", nested("size([", "1", "])", 5_000) + " == 1", graph.UseFilter, "recursion"},
		{"long sum", strings.Repeat("1 + ", 15_000) + "1 == 1", graph.UseFilter, "recursion"},
		{"negations", strings.Repeat("!", 60_000) + "true", graph.UseFilter, ""},
		{"many elements", "[" + strings.Repeat("1,", 30_000) + "1] == []", graph.UseFilter, "limit"},
		{"doubling", doubling, graph.UseValue, "cost limit"},
		{"replacing", replacing, graph.UseValue, "more than 16777216 bytes"},
		{"joining", `[key, key, key, key, key, key, key, key, key, key, key, key, key, key, key, key, key, key].join(value)`, graph.UseValue, "more than 16777216 bytes"},
		{"formatting", `"` + strings.Repeat("%s", 1000) + `".format([` + strings.Repeat("value,", 999) + `value])`, graph.UseValue, "more than 16777216 bytes"},
		{"quadratic", `value.split(" ").all(a, value.split(" ").all(b, a != b + "x"))`, graph.UseFilter, "cost limit"},
		{"large list", "[" + strings.Repeat("value, ", 1000) + "value]", graph.UseValue, "more than 16777216 bytes"},
		{"large flatMap", "[" + strings.Repeat("value, ", 1000) + "value]", graph.UseFlatMap, "more than 67108864 bytes"},
		{"large headers", `[` + strings.Repeat(`{"key": "k", "value": value},`, 30) + `]`, graph.UseHeaders, "more than 16777216 bytes"},
		{"large sum", strings.TrimSuffix(strings.Repeat("value + ", 17), " + "), graph.UseValue, "more than 16777216 bytes"},
		{"regex", `value.matches("((a{40}){40})")`, graph.UseFilter, "matches"},
		{"regex of the record", `value.matches(value)`, graph.UseFilter, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := compile(test.source, test.use, graph.String, graph.String, MaxCost/20)
			var got string
			if err != nil {
				got = "compile: " + describe(err)
			} else {
				r := NewRecord(graph.String, graph.String)
				r.Set(batchOf(row{key: text("k"), value: million}), 0)
				got = run(t, p, r)
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("got %.300s, want %s", got, test.want)
			}
		})
	}
}

// TestHostileJSON: the account of the cost knows of types that show only when an expression runs.
func TestHostileJSON(t *testing.T) {
	record := text(`{"text": "` + strings.Repeat("a", 1<<20) + `", "items": [` + strings.TrimSuffix(strings.Repeat(`"b",`, 20_000), ",") + `]}`)
	for _, source := range []string{`value.items.all(x, !value.text.contains(x))`, `value.items.all(x, !value.text.startsWith(value.text + x))`} {
		p, err := compile(source, graph.UseFilter, graph.Bytes, graph.JSON, MaxCost/20)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		r := NewRecord(graph.Bytes, graph.JSON)
		r.Set(batchOf(row{value: record}), 0)
		if _, err := p.Bool(r); err == nil || !strings.Contains(err.Error(), "cost limit") {
			t.Errorf("%s: %v, want the cost limit", source, err)
		}
	}
}

// TestCostLimit: what Compile makes may cost MaxCost, and no more.
func TestCostLimit(t *testing.T) {
	for n, want := range map[int]string{5: "true", 100: "cost limit"} {
		source := fmt.Sprintf("lists.range(100000).all(a, lists.range(%d).all(b, a + b >= 0))", n)
		if got := evaluate(t, source, graph.UseFilter, graph.String, graph.String, row{}); !strings.Contains(got, want) {
			t.Errorf("%s gives %s, want %s", source, got, want)
		}
	}
	source := "lists.range(100000).all(a, lists.range(5).all(b, a + b >= 0))"
	p, err := compile(source, graph.UseFilter, graph.String, graph.String, MaxCost/20)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRecord(graph.String, graph.String)
	r.Set(batchOf(row{}), 0)
	if got := run(t, p, r); !strings.Contains(got, "cost limit") {
		t.Errorf("with a twentieth of the cost it gives %s", got)
	}
}

// BenchmarkCostLimit prints how long the most expensive record keeps a subtask busy.
func BenchmarkCostLimit(b *testing.B) {
	for name, source := range map[string]string{
		"steps":   "lists.range(100000).all(a, lists.range(100000).all(b, a + b >= 0))",
		"strings": `value.split(" ").all(a, value.split(" ").all(b, a != b + "x"))`,
	} {
		b.Run(name, func(b *testing.B) {
			p, err := Compile(source, graph.UseFilter, graph.String, graph.String)
			if err != nil {
				b.Fatal(err)
			}
			r := NewRecord(graph.String, graph.String)
			r.Set(batchOf(row{value: text(strings.Repeat("a b ", 250_000))}), 0)
			for b.Loop() {
				if _, err := p.Bool(r); err == nil || !strings.Contains(err.Error(), "cost limit") {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestConcurrentUse: programs are shared, records are not.
func TestConcurrentUse(t *testing.T) {
	p, err := Compile(`value.lowerAscii() + string(size(headers))`, graph.UseValue, graph.String, graph.String)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			r, arena := NewRecord(graph.String, graph.String), []byte(nil)
			letter := byte('A' + i)
			b := batchOf(row{value: bytes.Repeat([]byte{letter}, 5)})
			for range 200 {
				r.Set(b, 0)
				var err error
				if arena, _, err = p.Append(r, arena[:0]); err != nil || string(arena) != strings.Repeat(string(letter+32), 5)+"0" {
					t.Errorf("%s, %v", arena, err)
				}
			}
		})
	}
	all.Wait()
}

// TestErrorsOutliveTheRecord: nobody sees other bytes when a batch's memory is used again.
func TestErrorsOutliveTheRecord(t *testing.T) {
	p, err := Compile(`timestamp(value)`, graph.UseTimestamp, graph.String, graph.String)
	if err != nil {
		t.Fatal(err)
	}
	b, r := batchOf(row{value: text("yesterday")}), NewRecord(graph.String, graph.String)
	r.Set(b, 0)
	_, err = p.Timestamp(r)
	clear(b.Arena)
	if err == nil || !strings.Contains(err.Error(), "yesterday") {
		t.Errorf("error %v", err)
	}
}

func TestChecker(t *testing.T) {
	var _ graph.Expressions = Checker{}
	if f, err := (Checker{}).ResultFormat(`value + "x"`, graph.UseValue, graph.Bytes, graph.String); f != graph.String || err != nil {
		t.Errorf("%s, %v", f, err)
	}
	if _, err := (Checker{}).ResultFormat("true", graph.UseFilter, "xml", graph.String); err == nil || !strings.Contains(err.Error(), `keyFormat "xml" is unknown`) {
		t.Errorf("error %v", err)
	}
	if _, err := (Checker{}).ResultFormat("true", 0, graph.String, graph.String); err == nil {
		t.Error("an unknown use is accepted")
	}
	if _, err := Compile("true", graph.UseFilter, graph.String, ""); err == nil || !strings.Contains(err.Error(), `format "" is unknown`) {
		t.Errorf("error %v", err)
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{`value != null && value.startsWith("paid")`, `headers.filter(h, h.key != "a")`, `cel.bind(a, value, a)`, `value.split(" ")`, `"%s".format([1])`} {
		f.Add(s, []byte(`{"a": [1, 2.5, "x"]}`), byte(0))
	}
	f.Fuzz(func(t *testing.T, source string, content []byte, kind byte) {
		formats := []graph.Format{graph.Bytes, graph.String, graph.JSON}
		key, value := formats[kind%3], formats[kind/3%3]
		use := graph.Use(kind/9%byte(graph.UsePartition)) + graph.UseFilter
		evaluate(t, source, use, key, value, row{key: content, value: content, headers: [][2][]byte{{text("a"), content}}, timestamp: int64(len(content))})
	})
}
