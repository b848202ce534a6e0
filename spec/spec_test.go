package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-stream/sluice/graph"
)

// fakeCEL fails where the text holds "oops" and, for strings only, "startsWith".
type fakeCEL struct{}

type placedError struct {
	line, column  int
	message, hint string
}

func (e placedError) Error() string        { return e.message }
func (e placedError) Position() (int, int) { return e.line, e.column }
func (e placedError) Hint() string         { return e.hint }

func (fakeCEL) ResultFormat(text string, use graph.Use, _, value graph.Format) (graph.Format, error) {
	fail := func(word, message, hint string) error {
		before := text[:strings.Index(text, word)]
		last := before[strings.LastIndex(before, "\n")+1:]
		return placedError{strings.Count(before, "\n") + 1, utf8.RuneCountInString(last) + 1, message, hint}
	}
	var err error
	if strings.Contains(text, "oops") {
		err = errors.Join(err, fail("oops", "undeclared reference to oops ("+use.String()+")", "did you mean ops?"))
	}
	if strings.Contains(text, "startsWith") && value == graph.Bytes {
		err = errors.Join(err, fail("startsWith", "no startsWith of bytes", ""))
	}
	switch {
	case strings.HasPrefix(text, "json"):
		return graph.JSON, err
	case text == "value":
		return value, err
	}
	return graph.String, err
}

func fakeProperties(role graph.Kind, properties map[string]string) []error {
	var found []error
	for name, value := range properties {
		if name == "acks" {
			found = append(found, fmt.Errorf("property acks of a %s is set by Sluice", role))
		}
		if value == "nonsense" {
			found = append(found, fmt.Errorf("property %s: unknown value", name))
		}
	}
	if properties["bootstrap.servers"] == "" {
		found = append(found, errors.New("bootstrap.servers is missing"))
	}
	slices.SortFunc(found, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return found
}

var checks = graph.Checks{Expressions: fakeCEL{}, Properties: fakeProperties}

// TestTranscripts reads the job files in testdata and compares everything that is said about them. The
// argument bare leaves out the checks of neighbours; set holds overrides. Rewrite with -rewrite.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			var out strings.Builder
			opts := Options{Checks: checks, Warn: func(p Problem) { fmt.Fprintf(&out, "warning: %s\n", p) }}
			for _, arg := range td.CmdArgs {
				switch arg.Key {
				case "bare":
					opts.Checks = graph.Checks{}
				case "set":
					opts.Set = append(opts.Set, arg.Vals...)
				}
			}
			job, err := Parse([]byte(td.Input), "job.yaml", opts)
			if err != nil {
				return out.String() + err.Error() + "\n"
			}
			fmt.Fprintf(&out, "ok: %s\n", job.Name)
			if td.Cmd == "show" {
				show(&out, job)
			}
			return out.String()
		})
	})
}

func show(out *strings.Builder, job *graph.Job) {
	fmt.Fprintf(out, "parallelism %d of %d, checkpoint %+v, restart %+v\n", job.Parallelism, job.MaxParallelism, job.Checkpoint, job.Restart)
	for _, s := range job.Sources {
		fmt.Fprintf(out, "source %s p=%d %+v\n", s.Name, s.Parallelism, *s.Kafka)
	}
	for _, o := range job.Operators {
		fmt.Fprintf(out, "operator %s p=%d from=%v keyBy=%q filter=%q flatMap=%q count=%v map=%+v\n",
			o.Name, o.Parallelism, o.From, o.KeyBy, o.Filter, o.FlatMap, o.Count, o.Map)
	}
	for _, s := range job.Sinks {
		fmt.Fprintf(out, "sink %s p=%d from=%v keyBy=%q kafka=%+v print=%v\n", s.Name, s.Parallelism, s.From, s.KeyBy, s.Kafka, s.Print != nil)
	}
}

// TestDesignJob is the job file of the documentation, field by field.
func TestDesignJob(t *testing.T) {
	data, err := os.ReadFile("testdata/orders-paid.yaml")
	if err != nil {
		t.Fatal(err)
	}
	job, err := Parse(data, "orders-paid.yaml", Options{Checks: checks})
	if err != nil {
		t.Fatal(err)
	}
	want := &graph.Job{
		Name: "orders-paid", Parallelism: 2, MaxParallelism: 128,
		Checkpoint: graph.Checkpointing{Interval: time.Second, Timeout: 2 * time.Minute, Retain: 3, TolerableFailures: 5},
		Restart:    graph.Restart{Strategy: graph.ExponentialDelay, Max: time.Minute, Attempts: 10, HealthyAfter: 2 * time.Minute},
		Sources: []graph.Source{{Name: "orders", Kafka: &graph.KafkaSource{
			Topics: []string{"orders"}, Startup: graph.Startup{Mode: graph.StartCommitted}, Bounded: graph.Bound{Mode: graph.BoundNone},
			Offsets: graph.OffsetsKafka, Mode: graph.ModeAssigned, OffsetsMeaning: graph.MeansLast, OnError: graph.OnError{Policy: graph.Fail}, Format: graph.String, KeyFormat: graph.Bytes,
			Properties: map[string]string{"bootstrap.servers": "localhost:9092", "group.id": "orders", "auto.offset.reset": "earliest"},
		}}},
		Operators: []graph.Operator{
			{Name: "paid", From: []string{"orders"}, Filter: `value != null && value.startsWith("paid")`},
			{Name: "tag", From: []string{"paid"}, Map: &graph.Map{Value: `"[" + topic + "] " + value`}},
			{Name: "words", From: []string{"paid"}, FlatMap: `value.split(" ")`},
			{Name: "count", From: []string{"words"}, KeyBy: "value", Count: true},
		},
		Sinks: []graph.Sink{
			{Name: "out", From: []string{"tag"}, Kafka: &graph.KafkaSink{
				Topic: "orders-paid", Guarantee: graph.AtLeastOnce, Partitioner: graph.ByKey,
				Properties: map[string]string{"bootstrap.servers": "localhost:9092", "compression.type": "lz4"},
			}},
			{Name: "screen", From: []string{"tag"}, Print: &graph.PrintSink{}},
		},
	}
	if diff := cmp.Diff(want, job); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	physical, err := graph.Plan(job, fakeCEL{})
	if err != nil {
		t.Fatal(err)
	}
	if physical.Slots != 2 || len(physical.Vertices) != 2 || physical.Vertices[1].Name != "count" {
		t.Errorf("plan %+v, want the vertices orders and count", physical)
	}
}

// TestUnreadable has the files of which nothing can be read, and where that is noticed.
func TestUnreadable(t *testing.T) {
	large := "name: a\n" + strings.Repeat("#", graph.MaxSpecBytes)
	tests := []struct{ name, text, want string }{
		{"too large", large, "f:1:1: the file has 1048584 bytes; at most 1048576"},
		{"invalid UTF-8", "name: é\nparallelism: \xff\n", "f:2:14: byte 0xff is not valid UTF-8; a job file is UTF-8 text"},
		{"UTF-16", "\xff\xfen\x00", "f:1:1: byte 0xff is not valid UTF-8; a job file is UTF-8 text"},
		{"NUL", "name: a\x00b", "f:1:8: control character U+0000; a job file is UTF-8 text"},
		{"escape", "name: \x1b[31m", "f:1:7: control character U+001B; a job file is UTF-8 text"},
		{"deep flow", "name: " + strings.Repeat("[", 70) + strings.Repeat("]", 70), "f:1:70: nested deeper than 64 levels"},
		{"very deep flow", "name: " + strings.Repeat("[", 100_000), "f:1:1: not YAML: nested deeper than 64 levels"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse([]byte(test.text), "f", Options{})
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

// TestEscapedNUL: a name can hold every character by way of escapes, and is still refused.
func TestEscapedNUL(t *testing.T) {
	_, err := Parse([]byte(`name: "a\0\r\n../b"`), "f", Options{})
	if err == nil || !strings.Contains(err.Error(), `f:1:7: name: job name "a\x00\r\n../b" is not allowed`) {
		t.Errorf("error %v, want the name refused", err)
	}
}

// TestProblemsAreBounded: garbage is not described to its end, and quickly.
func TestProblemsAreBounded(t *testing.T) {
	tests := map[string]string{
		"unknown fields": repeat(100_000, func(i int) string { return fmt.Sprintf("f%d: 1\n", i) }),
		"sources":        "name: a\nsources:\n" + repeat(60_000, func(i int) string { return fmt.Sprintf("  s%d: {}\n", i) }),
		"dangling":       "name: a\nsinks: {s: {from: [" + repeat(100_000, func(i int) string { return fmt.Sprintf("n%d,", i) }) + "]}}\n",
		"aliases":        "a: &a [x]\nb: [" + strings.Repeat("*a,", 300_000) + "]\n",
		"expressions": "name: a\noperators:\n" + repeat(900, func(i int) string {
			return fmt.Sprintf("  o%d: {from: o%d, filter: 'oops %s'}\n", i, i+1, strings.Repeat("x", 1000))
		}),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse([]byte(text), "f", Options{Checks: checks})
			var problems Errors
			if !errors.As(err, &problems) || len(problems) > 3*graph.MaxProblems {
				t.Errorf("%d problems, want some, at most %d", len(problems), 3*graph.MaxProblems)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func repeat(n int, line func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(i))
	}
	return b.String()
}

// TestTruncated cuts the job file of the documentation at every byte: no panic, and every fault has a
// place within the text.
func TestTruncated(t *testing.T) {
	data, err := os.ReadFile("testdata/orders-paid.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		checkParse(t, data[:n])
	}
}

// checkParse parses anything and checks what must hold for every answer.
func checkParse(t *testing.T, data []byte) {
	job, err := Parse(data, "f", Options{Checks: checks})
	if (job == nil) == (err == nil) {
		t.Fatalf("job %v with error %v", job, err)
	}
	if err == nil {
		if _, err := graph.Plan(job, fakeCEL{}); err != nil {
			t.Fatalf("a file that parses does not plan: %v", err)
		}
		return
	}
	var problems Errors
	if !errors.As(err, &problems) || len(problems) == 0 {
		t.Fatalf("error %v is no Errors", err)
	}
	lines := strings.Count(string(data), "\n") + 1
	for i, p := range problems {
		if p.File != "f" || p.Line < 1 || p.Line > lines+1 || p.Column < 1 || p.Message == "" {
			t.Fatalf("problem %d of %q has no place in the file: %+v", i, data, p)
		}
		if !utf8.ValidString(p.String()) || strings.ContainsAny(p.String(), "\x00\r") {
			t.Fatalf("problem %d cannot be printed: %q", i, p.String())
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := os.ReadDir("testdata/transcripts")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile("testdata/transcripts/" + file.Name())
		if err != nil {
			f.Fatal(err)
		}
		for _, block := range strings.Split(string(data), "\n----\n") {
			if _, command, ok := strings.Cut(block, "\nparse"); ok {
				_, text, _ := strings.Cut(command, "\n")
				f.Add([]byte(text))
			}
		}
	}
	data, err := os.ReadFile("testdata/orders-paid.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(checkParse)
}

// TestSampleJobs: what is shipped as an example parses, without a warning.
func TestSampleJobs(t *testing.T) {
	files, err := filepath.Glob("../deploy/jobs/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sample jobs: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data, file, Options{Warn: func(p Problem) { t.Error(p) }}); err != nil {
			t.Error(err)
		}
	}
}
