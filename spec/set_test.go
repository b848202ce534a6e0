package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-stream/sluice/graph"
)

func TestParseSet(t *testing.T) {
	tests := []struct {
		set   string
		path  graph.Path
		value string
		fails string
	}{
		{"a=1", graph.Path{"a"}, "1", ""},
		{"a.b.c=", graph.Path{"a", "b", "c"}, "", ""},
		{"a=b=c.d[e", graph.Path{"a"}, "b=c.d[e", ""},
		{`a.b\.c.d=1`, graph.Path{"a", "b.c", "d"}, "1", ""},
		{`a\=b=1`, graph.Path{"a=b"}, "1", ""},
		{`a["b.c"].d=1`, graph.Path{"a", "b.c", "d"}, "1", ""},
		{`a["b\"]=c"]=1`, graph.Path{"a", `b"]=c`}, "1", ""},
		{`a[b.c]=1`, graph.Path{"a", "b.c"}, "1", ""},
		{`a[b][c]=1`, graph.Path{"a", "b", "c"}, "1", ""},
		{`a.[b]=1`, graph.Path{"a", "b"}, "1", ""},
		{`["a"]=1`, graph.Path{"a"}, "1", ""},
		{"a.topics.0=x", graph.Path{"a", "topics", "0"}, "x", ""},
		{"", nil, "", "no ="},
		{"a", nil, "", "no ="},
		{"=1", nil, "", "empty step"},
		{".a=1", nil, "", "empty step"},
		{"a.=1", nil, "", "empty step"},
		{"a..b=1", nil, "", "empty step"},
		{"a[=1", nil, "", "without its ]"},
		{"a[]=1", nil, "", "nothing between"},
		{`a["b"=1`, nil, "", "no ] behind"},
		{`a["b"]c=1`, nil, "", "behind a ]"},
		{`a[b]c=1`, nil, "", "behind a ]"},
	}
	for _, test := range tests {
		path, value, err := parseSet(test.set)
		if test.fails != "" {
			if err == nil || !strings.Contains(err.Error(), test.fails) {
				t.Errorf("%s: error %v, want %q", test.set, err, test.fails)
			}
			continue
		}
		if err != nil || value != test.value || cmp.Diff(test.path, path) != "" {
			t.Errorf("%s: %q = %q, %v; want %q = %q", test.set, path, value, err, test.path, test.value)
		}
	}
}

// TestPathsRoundTrip: what a message prints as a path is taken by --set.
func TestPathsRoundTrip(t *testing.T) {
	for _, want := range []graph.Path{{"a"}, {"a", "b.c", "0"}, {"a", `q"]=\`}, {"x y", "é", "b"}, {"a", "-_"}} {
		path, value, err := parseSet(want.String() + "=v")
		if err != nil || value != "v" || cmp.Diff(want, path) != "" {
			t.Errorf("%s: %q = %q, %v", want, path, value, err)
		}
	}
}

const setJob = `name: a
sources: {s: {kafka: {topics: [t, u]}}}
operators:
  f: {from: s, filter: 'true'}
sinks: {out: {from: f, kafka: {topic: x}}}
checkpoint:
`

func TestSet(t *testing.T) {
	job, err := Parse([]byte(setJob), "job.yaml", Options{Set: []string{
		"parallelism=2", "parallelism=4", "checkpoint.interval=250ms",
		`sources.s.kafka.properties.bootstrap\.servers=localhost:9092`,
		`sources.s.kafka.properties["group.id"]=007`, "sources.s.kafka.topics.1=v", "sources.s.kafka.format='json'",
		`operators.f.filter=value != null && value == "a: b" # not a comment`,
		`operators.m={from: f, map: {value: '"[" + topic'}}`, "sinks.out.from=[f, m]", `sinks.out.kafka.topic=*not-an-alias`,
		"sinks.out.kafka.topic=y",
		`operators.n={from: m}`, `operators.n.filter=&a "quoted"`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	k := job.Sources[0].Kafka
	got := []any{job.Parallelism, job.Checkpoint.Interval.String(), k.Properties, k.Topics, k.Format, job.Operators[0].Filter,
		job.Operators[1].Map.Value, job.Operators[2].Filter, job.Sinks[0].From, job.Sinks[0].Kafka.Topic}
	want := []any{4, "250ms", map[string]string{"bootstrap.servers": "localhost:9092", "group.id": "007"}, []string{"t", "v"}, graph.JSON,
		`value != null && value == "a: b" # not a comment`, `"[" + topic`, `&a "quoted"`, []string{"f", "m"}, "y"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWrongSet(t *testing.T) {
	tests := []struct{ set, want string }{
		{"parallelism=0", "--set parallelism: 0 is out of range, want 1 to 10000"},
		{"paralelism=2", `--set paralelism: unknown field "paralelism"; did you mean parallelism?`},
		{"checkpoint.interval=10", "--set checkpoint.interval: duration 10 has no unit; write 10s or 10ms"},
		{"operators.f.from=t", `--set operators.f.from: unknown name "t"; the job has no such source or operator`},
		{"operators.f.filter=a oops", "--set operators.f.filter: at 1:3 of the expression: undeclared reference to oops (filter); did you mean ops?"},
		{"operators.g.filter=true", "--set operators.g.filter: operators.g.from: operator g has no from; name the source or operator that it reads from"},
		{"name.first=a", `--set name.first: name is text, it has no "first" below it`},
		{"sources.s.kafka.topics.2=x", `--set sources.s.kafka.topics.2: sources.s.kafka.topics is a list of 2; "2" is no index of it`},
		{"sources.s.kafka.topics=[a", "--set sources.s.kafka.topics: the value is neither a list nor a mapping in YAML; put quotes round a text that begins like one"},
		{"sources.s.kafka.topics={}{", "--set sources.s.kafka.topics: the value is neither a list nor a mapping in YAML; put quotes round a text that begins like one"},
		{"sources.s.kafka.topics=[&a x, *a]", "--set sources.s.kafka.topics: alias *a: aliases are not supported; write it out"},
		{"name=", "--set name: the text is empty"},
		{"name=\xff", "--set name: byte 0xff is not valid UTF-8"},
		{"name", `--set "name": there is no =; want path=value`},
		{"a..b=secret", `--set "a..b": the path has an empty step; want path=value`},
		{strings.Repeat("a.", 70) + "a=1", "--set " + strings.Repeat("a.", 70) + "a: the path has 71 steps; at most 64"},
	}
	for _, test := range tests {
		_, err := Parse([]byte(setJob), "job.yaml", Options{Set: []string{test.set}, Checks: graph.Checks{Expressions: fakeCEL{}}})
		if err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.set, err, test.want)
		}
	}
}

// TestSetDoesNotPrintValues: a value may be a secret.
func TestSetDoesNotPrintValues(t *testing.T) {
	for _, set := range []string{
		`sources.s.kafka.properties["sasl.password"].x=hunter2`, `sources.s.kafka.properties.sasl.password=hunter2`,
		`sources.s.kafka.properties["sasl.password"]=[hunter2]`, `a[=hunter2`, `sources.s.kafka.properties["sasl.password"]={a: hunter2`,
	} {
		_, err := Parse([]byte(setJob), "job.yaml", Options{Set: []string{set}})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one without the value", set, err)
		}
	}
}

// FuzzSet: no override does harm, and its problems name it.
func FuzzSet(f *testing.F) {
	for _, set := range []string{"parallelism=4", `a["b.c"].d={x: [1]}`, "sources.s.kafka.topics.0=x", "name=*a", "operators.f=", "[=]"} {
		f.Add(set)
	}
	f.Fuzz(func(t *testing.T, set string) {
		_, err := Parse([]byte(setJob), "job.yaml", Options{Set: []string{set}})
		if err != nil && err.Error() == "" {
			t.Errorf("%q: empty error", set)
		}
	})
}
