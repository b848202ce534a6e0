package expression

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// pick draws one of a few texts.
func pick(t *rapid.T, of ...string) string { return rapid.SampledFrom(of).Draw(t, "pick") }

// drawJSON makes a JSON text, now and then a damaged or unusual one.
func drawJSON(t *rapid.T, depth int) string {
	space := pick(t, "", "", "", " ", "\n\t")
	kind := rapid.IntRange(0, 9).Draw(t, "kind of JSON")
	if depth == 0 {
		kind = 9 - kind%4 // mostly objects
	}
	switch {
	case kind >= 6 && depth < 3:
		var fields []string
		for range rapid.IntRange(0, 4).Draw(t, "fields") {
			fields = append(fields, pick(t, `"a"`, `"b"`, `"o"`, `"long name"`, `"\u0061"`, `""`, `"b"`)+space+":"+space+drawJSON(t, depth+1))
		}
		return space + "{" + strings.Join(fields, ","+space) + "}" + space
	case kind == 5 && depth < 3:
		return "[" + space + drawJSON(t, depth+1) + pick(t, "", ",1") + "]"
	case kind < 3:
		return pick(t, "0", "1", "-1", "2", "1.0", "-0", "1e3", "2.5", "9007199254740993", "9223372036854775807", "9223372036854775808", "1e999", "01", "1.", strings.Repeat("9", 400)) + space
	case kind == 3:
		return pick(t, "true", "false", "null", "nul", "")
	}
	return pick(t, `"a"`, `"ab"`, `"é"`, `"\n"`, `"\u00e9"`, `"\ud800"`, `"\x"`, `"quite a long text without end"`, "\"\t\"", "\"\xff\"", `""`, `"1"`, `"`)
}

// drawValue makes an operand that is not interpreted.
func drawValue(t *rapid.T, depth int) string {
	kind := rapid.IntRange(0, 9).Draw(t, "kind of operand")
	if depth > 2 {
		kind %= 7
	}
	switch {
	case kind < 4:
		return pick(t, "value.a", "value.b", "value.o", "value.o.a", `value["b"]`, `value["long name"].o.a`, "key.a", "value", "key")
	case kind < 7:
		return pick(t, "1", "-1", "1.0", "2.5", "9007199254740993", "true", "null", `"a"`, `"ab"`, `""`, `b"a"`, "topic")
	case kind == 7:
		return "(" + drawCondition(t, depth+1) + " ? " + drawValue(t, depth+1) + " : " + drawValue(t, depth+1) + ")"
	case kind == 8:
		return "(" + drawValue(t, depth+1) + pick(t, " + ", " - ", " * ") + drawValue(t, depth+1) + ")"
	}
	return "(" + drawCondition(t, depth+1) + ")"
}

func drawCondition(t *rapid.T, depth int) string {
	kind := rapid.IntRange(0, 8).Draw(t, "kind of condition")
	if depth > 2 {
		kind %= 6
	}
	switch kind {
	case 0, 1:
		return drawValue(t, depth+1) + pick(t, " == ", " != ", " < ", " <= ", " > ", " >= ") + drawValue(t, depth+1)
	case 2:
		return pick(t, "has(value.a)", "has(value.o.a)", "has(key.b)", `has(value["o"].b)`)
	case 3:
		return drawValue(t, depth+1) + pick(t, ".startsWith(", ".endsWith(", ".contains(") + drawValue(t, depth+1) + ")"
	case 4:
		return drawValue(t, depth+1) + " in [" + drawValue(t, depth+1) + ", " + drawValue(t, depth+1) + "]"
	case 5:
		return pick(t, "value.a", "!value.b", "value.o.a")
	case 6:
		return "!(" + drawCondition(t, depth+1) + ")"
	}
	return "(" + drawCondition(t, depth+1) + pick(t, " && ", " || ") + drawCondition(t, depth+1) + ")"
}

// drawResult makes what stands for a value of a record.
func drawResult(t *rapid.T) string {
	value := func() string { return drawValue(t, 1) }
	switch rapid.IntRange(0, 4).Draw(t, "kind of result") {
	case 0:
		return value()
	case 1:
		return value() + " + " + value() + " + " + value()
	case 2:
		return "string(" + value() + ")"
	case 3:
		return fmt.Sprintf(`{"z": %s, "a\n": [%s, %s], "o": {"b": %s}}`, value(), value(), value(), value())
	}
	return fmt.Sprintf("[%s, %s]", value(), value())
}

func drawDocuments(t *rapid.T) *Record {
	r := NewRecord(graph.JSON, graph.JSON)
	draw := func(name string) []byte {
		if rapid.IntRange(0, 9).Draw(t, name+" is null") == 0 {
			return nil
		}
		return text(drawJSON(t, 0))
	}
	r.Set(batchOf(row{key: draw("key"), value: draw("value")}), 0)
	return r
}

// compileDrawn compiles a drawn expression; some do not, as CEL knows the types of literals.
func compileDrawn(t *rapid.T, source string, use graph.Use) *Program {
	p, err := Compile(source, use, graph.JSON, graph.JSON)
	if err != nil {
		t.Skipf("%s: %v", source, err)
	}
	if p.quick == nil && p.result.interpreted() {
		t.Fatalf("%s is interpreted", source)
	}
	return p
}

// TestQuickJSONConditions: the interpreter comes to the same result, errors included.
func TestQuickJSONConditions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		quick := compileDrawn(t, drawCondition(t, 0), graph.UseFilter)
		slow := *quick
		slow.quick = nil
		for range 5 {
			r := drawDocuments(t)
			got, want := show(quick.Bool(r)), show(slow.Bool(r))
			if got != want {
				t.Fatalf("key %s, value %s: %s, interpreted %s", keyOf(r), valueOf(r), got, want)
			}
		}
	})
}

// TestQuickJSONResults: the same for what becomes a record.
func TestQuickJSONResults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		quick := compileDrawn(t, drawResult(t), graph.UseValue)
		slow := *quick
		slow.result = result{}
		run := func(p *Program, r *Record) string {
			arena, span, err := p.Append(r, text("before"))
			b := operator.Batch{Arena: arena}
			return fmt.Sprintf("%q %v %v %s", arena, span, err, quoteOrNull(b.Bytes(span)))
		}
		for range 5 {
			r := drawDocuments(t)
			if got, want := run(quick, r), run(&slow, r); got != want {
				t.Fatalf("key %s, value %s: %s, interpreted %s", keyOf(r), valueOf(r), got, want)
			}
		}
	})
}

func keyOf(r *Record) string   { return quoteOrNull(r.vars.batch.Bytes(r.vars.record.Key)) }
func valueOf(r *Record) string { return quoteOrNull(r.vars.batch.Bytes(r.vars.record.Value)) }

// FuzzDocument: what the index takes for JSON is JSON, and it finds the fields that the parser finds.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{`{"a": [1, -2.5e3, "x\u00e9", true, false, null], "a": {}, "b": 1}`, ` "x" `, `{"a":1,}`, `{"a" 1}`, `{"a":"\u12"}`, `1e400`, `{}x`, strings.Repeat("[", 600)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var d document
		d.read(p)
		if !d.valid {
			return
		}
		if !json.Valid(p) {
			t.Fatalf("%q is taken for JSON", p)
		}
		want, err := parseJSON(p)
		if err != nil || string(d.text) != string(bytes.Trim(p, " \t\r\n")) {
			t.Fatalf("%q: %v, text %q", p, err, d.text)
		}
		object, isObject := want.(map[string]any)
		for name, value := range object {
			found, has, ok := d.field([]byte(name))
			if got, err := parseJSON(found); !has || !ok || err != nil || fmt.Sprint(got) != fmt.Sprint(orNull(value)) {
				t.Fatalf("%q: field %q is %q (%t, %t), want %v", p, name, found, has, ok, value)
			}
		}
		if _, has, ok := d.field([]byte("no such field")); object["no such field"] == nil && (has || ok != isObject) {
			t.Fatalf("%q: a field that is not there: %t, %t", p, has, ok)
		}
	})
}

func orNull(v any) any {
	if v == nil {
		v, _ = parseJSON([]byte("null"))
	}
	return v
}
