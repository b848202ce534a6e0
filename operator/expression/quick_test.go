package expression

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

var samples = [][]byte{nil, {}, text("a"), text("ab"), text("paid 1"), text("é"), {0xff}, text("b\xff")}

func drawOperand(t *rapid.T, text bool) string {
	if text {
		return rapid.SampledFrom([]string{"key", "topic", `"a"`, `""`, `"é"`, `"paid"`, `"orders"`}).Draw(t, "text")
	}
	return rapid.SampledFrom([]string{"value", `b"a"`, `b""`, `b"\xff"`}).Draw(t, "bytes")
}

// drawPredicate makes a predicate over key (a string) and value (bytes).
func drawPredicate(t *rapid.T, depth int) string {
	kind := rapid.IntRange(0, 7).Draw(t, "kind")
	if depth > 3 {
		kind %= 5
	}
	switch kind {
	case 0, 1:
		isText := rapid.Bool().Draw(t, "is text")
		return drawOperand(t, isText) + rapid.SampledFrom([]string{" == ", " != "}).Draw(t, "operator") + drawOperand(t, isText)
	case 2:
		return rapid.SampledFrom([]string{"key == null", "null != value", "null == key", "value != null"}).Draw(t, "null test")
	case 3, 4:
		isText := rapid.Bool().Draw(t, "is text")
		return drawOperand(t, isText) + rapid.SampledFrom([]string{".startsWith(", ".endsWith(", ".contains("}).Draw(t, "test") + drawOperand(t, isText) + ")"
	case 5:
		return "!(" + drawPredicate(t, depth+1) + ")"
	default:
		return "(" + drawPredicate(t, depth+1) + rapid.SampledFrom([]string{" && ", " || "}).Draw(t, "operator") + drawPredicate(t, depth+1) + ")"
	}
}

func drawRecord(t *rapid.T) *Record {
	r := NewRecord(graph.String, graph.Bytes)
	r.Set(batchOf(row{key: rapid.SampledFrom(samples).Draw(t, "key"), value: rapid.SampledFrom(samples).Draw(t, "value")}), 0)
	return r
}

// TestQuickPredicates: the interpreter comes to the same result, errors included.
func TestQuickPredicates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source := drawPredicate(t, 0)
		quick, err := Compile(source, graph.UseFilter, graph.String, graph.Bytes)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		if quick.quick == nil {
			t.Fatalf("%s is interpreted", source)
		}
		slow := *quick
		slow.quick = nil
		r := drawRecord(t)
		got, want := show(quick.Bool(r)), show(slow.Bool(r))
		if got != want {
			t.Fatalf("%s gives %s, interpreted %s", source, got, want)
		}
	})
}

// TestQuickTextTests: the same for each test of a whole key or value, on every sample: null fails, and in a string what is no
// text.
func TestQuickTextTests(t *testing.T) {
	for _, of := range []string{"key", "value"} {
		for _, test := range []string{"startsWith", "endsWith", "contains"} {
			for _, part := range []string{`"a"`, `""`, `"é"`, `"paid"`} {
				wholeOf(t, graph.String, of, fmt.Sprintf("%s.%s(%s)", of, test, part))
				wholeOf(t, graph.Bytes, of, fmt.Sprintf("%s.%s(b%s)", of, test, part))
			}
			wholeOf(t, graph.Bytes, of, fmt.Sprintf(`%s.%s(b"\xff")`, of, test))
		}
	}
}

// wholeOf holds a filter of a whole key or value, of a format, against the interpreter.
func wholeOf(t *testing.T, format graph.Format, of, source string) {
	quick, err := Compile(source, graph.UseFilter, format, format)
	if err != nil || quick.quick == nil {
		t.Fatalf("%s: %v, or it is interpreted", source, err)
	}
	slow := *quick
	slow.quick = nil
	r := NewRecord(format, format)
	for _, sample := range samples {
		other := text("other")
		fields := map[string]row{"key": {key: sample, value: other}, "value": {key: other, value: sample}}
		r.Set(batchOf(fields[of]), 0)
		if got, want := show(quick.Bool(r)), show(slow.Bool(r)); got != want {
			t.Errorf("%s of %q gives %s, interpreted %s", source, sample, got, want)
		}
	}
}

// TestBytesTests: bytes are tested as strings are, valid UTF-8 or not; kinds are not mixed, and null has no answer.
func TestBytesTests(t *testing.T) {
	for source, want := range map[string]string{
		`value.startsWith(b"\xffa")`:                    "true",
		`value.startsWith(b"a")`:                        "false",
		`value.endsWith(b"b")`:                          "true",
		`value.contains(b"ab")`:                         "true",
		`value.contains(b"")`:                           "true",
		`value.contains(b"ba")`:                         "false",
		`headers.exists(h, h.value.startsWith(b"par"))`: "true",
	} {
		p, err := Compile(source, graph.UseFilter, graph.Bytes, graph.Bytes)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		r := NewRecord(graph.Bytes, graph.Bytes)
		r.Set(batchOf(row{value: []byte("\xffab"), headers: [][2][]byte{{text("h"), text("part")}}}), 0)
		if got := show(p.Bool(r)); got != want {
			t.Errorf("%s gives %s, want %s", source, got, want)
		}
	}
	for _, source := range []string{`value.startsWith("a")`, `topic.startsWith(b"a")`, `value.matches(b"a")`} {
		if _, err := Compile(source, graph.UseFilter, graph.Bytes, graph.Bytes); err == nil {
			t.Errorf("%s compiles", source)
		}
	}
	for _, source := range []string{`value.name.startsWith(b"a")`, `true || value["names"][0].contains(key)`, `!value.endsWith(b"a")`} {
		if _, err := Compile(source, graph.UseFilter, graph.Bytes, graph.JSON); err == nil || !strings.Contains(err.Error(), "json, which has none") {
			t.Errorf("%s of json: %v", source, err)
		}
	}
	if _, err := Compile(`value.name.startsWith(string(key)) && key.contains(b"a")`, graph.UseFilter, graph.Bytes, graph.JSON); err != nil {
		t.Error(err)
	}
}

// TestQuickParts: the same for concatenations.
func TestQuickParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		isText := rapid.Bool().Draw(t, "is text")
		source := drawOperand(t, isText)
		for range rapid.IntRange(0, 4).Draw(t, "operands") {
			source += " + " + drawOperand(t, isText)
		}
		quick, err := Compile(source, graph.UseValue, graph.String, graph.Bytes)
		if err != nil || quick.result.interpreted() {
			t.Fatalf("%s: %v, or it is interpreted", source, err)
		}
		slow := *quick
		slow.result = result{}
		r := drawRecord(t)
		run := func(p *Program) string {
			arena, span, err := p.Append(r, text("before"))
			b := operator.Batch{Arena: arena}
			return fmt.Sprintf("%q %v %v %s", arena, span, err, quoteOrNull(b.Bytes(span)))
		}
		if got, want := run(quick), run(&slow); got != want {
			t.Fatalf("%s gives %s, interpreted %s", source, got, want)
		}
	})
}

// TestInterpreted: what looks alike but is not specialized gives the same as ever.
func TestInterpreted(t *testing.T) {
	for _, source := range []string{"value.a.lowerAscii() == \"a\"", "value.all(v, v == 1)", "offset == 1", "key.size() == 0", "value.?a == optional.of(1)", "value[0] == 1"} {
		p, err := Compile(source, graph.UseFilter, graph.String, graph.JSON)
		if err != nil || p.quick != nil {
			t.Errorf("%s: %v, quick %t", source, err, p.quick != nil)
		}
	}
}

// TestNoAllocations guards the promise of the data path.
func TestNoAllocations(t *testing.T) {
	b, r, arena := batchOf(row{key: text("k"), value: text("paid 1234")}), NewRecord(graph.String, graph.String), make([]byte, 0, 1000)
	filter, err := Compile(`value != null && value.startsWith("paid") || topic == "x"`, graph.UseFilter, graph.String, graph.String)
	if err != nil {
		t.Fatal(err)
	}
	concat, err := Compile(`"[" + topic + "] " + value`, graph.UseValue, graph.String, graph.String)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() {
		r.Set(b, 0)
		if pass, err := filter.Bool(r); err != nil || !pass {
			t.Fatal(pass, err)
		}
		if _, _, err := concat.Append(r, arena); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%.1f allocations a record, want 0", n)
	}
}
