package expression

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"pgregory.net/rapid"
)

// normal makes what encoding/json reads with UseNumber of the same form as parseJSON.
func normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil && v != "-0" {
			return n
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = normal(v[k])
		}
	}
	return v
}

// FuzzJSON compares with encoding/json, and reads what appendJSON makes of the result.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"a": [1, -2.5e3, "x\u00e9\ud83d\ude00\ud800", true, false, null], "a": {}}`, `"\ud800\u0041"`, `-0`, `01`, `1e400`, `9223372036854775808`,
		`[]`, ` null `, `"\x"`, `{"a":1,}`, `nul`, `"`, `"\`, `"\u12`, `1.`, `-`, `[1 2]`, `{1:2}`, "\"\t\"", `1e5`, `0.1`, `""`, strings.Repeat("[", 600),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := parseJSON(p)
		var want any
		d := json.NewDecoder(bytes.NewReader(p))
		d.UseNumber()
		valid := utf8.Valid(p) && json.Valid(p) && d.Decode(&want) == nil
		if err != nil {
			// The limits are ours alone.
			if valid && !strings.Contains(err.Error(), "deeper") && !strings.Contains(err.Error(), "out of range") {
				t.Fatalf("%q is refused: %v", p, err)
			}
			return
		}
		if !valid {
			t.Fatalf("%q is accepted as %v", p, got)
		}
		value := types.DefaultTypeAdapter.NativeToValue(got)
		if got == types.NullValue {
			got = nil
		}
		if want = normal(want); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is read as %v, want %v", p, got, want)
		}
		out, err := appendJSON(nil, value, 0, MaxResultBytes)
		if err != nil {
			t.Fatalf("write %q: %v", p, err)
		}
		again, err := parseJSON(out)
		if again == types.NullValue {
			again = nil
		}
		if err != nil || !reflect.DeepEqual(again, integers(want)) {
			t.Fatalf("%q is written as %q, %v", p, out, err)
		}
	})
}

// integers: a double without fraction is written without one, and read back as an int.
func integers(v any) any {
	switch v := v.(type) {
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<63 && (v != 0 || !math.Signbit(v)) {
			return int64(v)
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	}
	return v
}

// TestScalars: strings and doubles are written as encoding/json writes them.
func TestScalars(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, f := rapid.String().Draw(t, "string"), rapid.Float64().Draw(t, "double")
		var quoted any
		if err := json.Unmarshal(appendQuoted(nil, s), &quoted); err != nil || quoted != s {
			t.Fatalf("%q is written as %s, %v", s, appendQuoted(nil, s), err)
		}
		want, err := json.Marshal(f)
		if err != nil || string(appendDouble(nil, f)) != string(want) {
			t.Fatalf("%v is written as %s, want %s", f, appendDouble(nil, f), want)
		}
	})
}

func TestWriteLimits(t *testing.T) {
	deep := any(1)
	for range maxJSONDepth + 2 {
		deep = []any{deep}
	}
	if _, err := appendJSON(nil, types.DefaultTypeAdapter.NativeToValue(deep), 0, MaxResultBytes); err == nil {
		t.Error("a deep list is written")
	}
	long := make([]any, 1000)
	for i := range long {
		long[i] = "0123456789"
	}
	if _, err := appendJSON(nil, types.DefaultTypeAdapter.NativeToValue(long), 0, 5000); err == nil {
		t.Error("a long list is written")
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add(encodeHeaders([][2][]byte{{text("a"), nil}, {text("b"), {}}, {{}, text("x")}}))
	f.Add([]byte{0})
	f.Add([]byte{1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, p []byte) {
		var headers [][2][]byte
		if err := eachHeader(p, func(k, v []byte) error { headers = append(headers, [2][]byte{k, v}); return nil }); err != nil {
			return
		}
		var again [][2][]byte
		if err := eachHeader(encodeHeaders(headers), func(k, v []byte) error { again = append(again, [2][]byte{k, v}); return nil }); err != nil ||
			!reflect.DeepEqual(headers, again) {
			t.Fatalf("%v, %v, want %v", again, err, headers)
		}
	})
}
