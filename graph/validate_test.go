package graph

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// validJob is the smallest job that runs, with an operator.
func validJob() *Job {
	job := &Job{
		Name:      "job",
		Sources:   []Source{{Name: "s", Kafka: &KafkaSource{Topics: []string{"t"}}}},
		Operators: []Operator{{Name: "o", From: []string{"s"}, KeyBy: "key", Count: true}},
		Sinks:     []Sink{{Name: "z", From: []string{"o"}, Kafka: &KafkaSink{Topic: "t"}}},
	}
	job.SetDefaults()
	return job
}

// TestValidateTyped has what no job file can say but another client can send. What a file can say is
// tested in package spec.
func TestValidateTyped(t *testing.T) {
	tests := []struct {
		name   string
		change func(j *Job)
		want   string // the problems, one a line; "" for none
	}{
		{"valid", func(*Job) {}, ""},
		{"negative parallelism", func(j *Job) { j.Parallelism = -1 }, "parallelism: -1 is out of range, want 1 to 10000"},
		{"zero parallelism", func(j *Job) { j.Parallelism = 0 }, "parallelism: 0 is out of range, want 1 to 10000"},
		{"parallelism of a part", func(j *Job) { j.Operators[0].Parallelism = -5 }, "operators.o.parallelism: -5 is out of range, want 1 to 10000"},
		{"no key groups", func(j *Job) { j.MaxParallelism = 0 }, "maxParallelism: 0 is out of range, want 1 to 32768"},
		{"no timeout", func(j *Job) { j.Checkpoint.Timeout = 0 }, "checkpoint.timeout: 0s is too short, want at least 10ms"},
		{"negative interval", func(j *Job) { j.Checkpoint.Interval = -1 }, "checkpoint.interval: -1ns is negative"},
		{"longest duration", func(j *Job) { j.Restart.HealthyAfter = 1<<63 - 1 }, "restart.healthyAfter: 2562047h47m16.854775807s is too long, want at most 8760h0m0s"},
		{"no strategy", func(j *Job) { j.Restart.Strategy = "" }, `restart.strategy: "" is unknown, want exponential-delay | fixed-delay | none`},
		{"no startup", func(j *Job) { j.Sources[0].Kafka.Startup.Mode = "" },
			`sources.s.kafka.startup: "" is unknown, want committed | earliest | latest | timestamp | offsets`},
		{"timestamp without one", func(j *Job) { j.Sources[0].Kafka.Startup.Mode = StartTimestamp },
			"sources.s.kafka.startup.timestamp: 0001-01-01 00:00:00 +0000 UTC is before 1970"},
		{"negative partition", func(j *Job) {
			j.Sources[0].Kafka.Bounded = Bound{Mode: BoundOffsets, Offsets: map[string]map[int32]int64{"t": {-1: 5, 0: -7}}}
		}, "sources.s.kafka.bounded.offsets.t.-1: partition -1, offset 5: neither can be negative\n" +
			"sources.s.kafka.bounded.offsets.t.0: partition 0, offset -7: neither can be negative"},
		{"offsets that are not used", func(j *Job) { j.Sources[0].Kafka.Startup.Offsets = map[string]map[int32]int64{"x": nil} }, ""},
		{"dead letters to nowhere", func(j *Job) { j.Sources[0].Kafka.OnError.Policy = DeadLetter },
			"sources.s.kafka.onError.deadLetter: the topic name is empty"},
		{"dead letters to where they come from", func(j *Job) { j.Sources[0].Kafka.OnError = OnError{DeadLetter, j.Sources[0].Kafka.Topics[0]} },
			`sources.s.kafka.onError.deadLetter: the source reads topic "t" itself, so its dead letters would come back for ever; name a topic that the source does not read`},
		{"dead letters to what the pattern matches", func(j *Job) {
			j.Sources[0].Kafka.Topics, j.Sources[0].Kafka.TopicPattern = nil, "t.*"
			j.Sources[0].Kafka.OnError = OnError{DeadLetter, "t-dead"}
		}, `sources.s.kafka.onError.deadLetter: the source reads topic "t-dead" itself, so its dead letters would come back for ever; name a topic that the source does not read`},
		{"no partitioner", func(j *Job) { j.Sinks[0].Kafka.Partitioner = "" },
			`sinks.z.kafka.partitioner: "" is unknown, want key | fixed | round-robin | preserve | expression`},
		{"partitioner without expression", func(j *Job) { j.Sinks[0].Kafka.Partitioner = ByExpression },
			"sinks.z.kafka.partitioner: the partitioner has no expression; want partitioner: {expression: CEL}"},
		{"expression without partitioner", func(j *Job) { j.Sinks[0].Kafka.PartitionerExpression = "1" },
			"sinks.z.kafka.partitioner: partitioner key takes no expression; want partitioner: {expression: CEL}"},
		{"two sources of a name", func(j *Job) { j.Sources = append(j.Sources, j.Sources[0]) },
			`sources.s: name "s" is taken by sources.s; sources, operators and sinks share one name space; rename one`},
		{"no names", func(j *Job) { j.Name, j.Sources[0].Name, j.Operators[0].From = "", "", []string{""} },
			"name: the job has no name\nsources[\"\"]: the source has no name"},
		{"huge name", func(j *Job) { j.Name = strings.Repeat("x", 4096) },
			`name: job name "` + strings.Repeat("x", 140) + `" is not allowed; want 1 to 128 of A-Z a-z 0-9 . _ -`},
		{"too many parts", func(j *Job) { j.Sinks = slices.Repeat(j.Sinks, MaxVertices) }, "1002 sources, operators and sinks; at most 1000; split the job"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			job := validJob()
			test.change(job)
			var got []string
			for _, p := range Validate(job) {
				got = append(got, p.String())
			}
			if text := strings.Join(got, "\n"); text != test.want {
				t.Errorf("problems\n%s\nwant\n%s", text, test.want)
			}
		})
	}
}

// TestLongChain: a job of the largest size is planned, and a circle of that size is found.
func TestLongChain(t *testing.T) {
	job := validJob()
	job.Operators = nil
	before := "s"
	for i := range MaxVertices - 2 {
		name := fmt.Sprintf("o%d", i)
		job.Operators = append(job.Operators, Operator{Name: name, From: []string{before}, Filter: "f"})
		before = name
	}
	job.Sinks[0].From = []string{before}
	slices.Reverse(job.Operators)
	physical, err := Plan(job, words{})
	if err != nil || len(physical.Vertices) != 1 || len(physical.Vertices[0].Nodes) != MaxVertices {
		t.Fatalf("plan %v, %v", physical, err)
	}
	job.Operators[len(job.Operators)-1].From = []string{before}
	if found := Validate(job); len(found) != 1 || !strings.HasPrefix(found[0].Message, "cycle o997 -> o0 -> o1 -> ") {
		t.Errorf("problems %.200v, want one cycle", found)
	}
}

type named struct{ name string }

func (n named) Error() string    { return "bad value" }
func (n named) Property() string { return n.name }
func (n named) Hint() string     { return "want less" }

// TestCheckProperties: a fault is put to the property that it names, by method or else by the longest
// name in its text.
func TestCheckProperties(t *testing.T) {
	job := validJob()
	job.Sources[0].Kafka.Properties = map[string]string{"batch.size": "1", "max.batch.size": "2"}
	check := func(role Kind, properties map[string]string) []error {
		if role == KindSink {
			return []error{errors.Join(errors.New("a is missing"), fmt.Errorf("b: %w", named{"linger.ms"}))}
		}
		return []error{fmt.Errorf("max.batch.size is %s", properties["max.batch.size"])}
	}
	want := []string{
		`sources.s.kafka.properties["max.batch.size"]: max.batch.size is 2`,
		"sinks.z.kafka.properties: a is missing",
		`sinks.z.kafka.properties["linger.ms"]: b: bad value; want less`,
	}
	var got []string
	for _, p := range Check(job, Checks{Properties: check}) {
		got = append(got, p.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestCheckJob: what is found in the job as a whole stands behind the rest.
func TestCheckJob(t *testing.T) {
	job := validJob()
	job.Sources[0].Kafka.Format = "xml"
	found := Check(job, Checks{Job: func(j *Job) []Problem { return []Problem{{Path: Path{"name"}, Message: j.Name + " is taken"}} }})
	if len(found) != 2 || found[1].String() != "name: job is taken" {
		t.Errorf("problems %v", found)
	}
}

// TestCheckTakesAnything: whatever connects the parts, Check ends, and what it finds nothing wrong with
// can be planned.
func TestCheckTakesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := randomJob(t)
		names := []string{"", "nowhere"}
		for name := range logicalOf(job) {
			names = append(names, name)
		}
		slices.Sort(names)
		name := rapid.SampledFrom(names)
		for range rapid.IntRange(1, 4).Draw(t, "faults") {
			switch kind, o := rapid.IntRange(0, 6).Draw(t, "fault"), rapid.IntRange(0, 12).Draw(t, "at"); {
			case o >= len(job.Operators):
				job.Sinks[0].From = rapid.SliceOf(name).Draw(t, "from")
			case kind == 0:
				job.Operators[o].Name = name.Draw(t, "name")
			case kind == 1:
				job.Operators[o] = Operator{Name: job.Operators[o].Name}
			default:
				job.Operators[o].From = rapid.SliceOf(name).Draw(t, "from")
			}
		}
		found := Check(job, Checks{Expressions: words{}})
		if _, err := Plan(job, words{}); (err == nil) != (len(found) == 0) {
			t.Fatalf("plan says %v, check %v", err, found)
		}
	})
}

func TestMarkerWarnings(t *testing.T) {
	job := validJob()
	job.Parallelism, job.Checkpoint.Interval = 4, 100*time.Millisecond
	job.Sinks[0].Kafka.Guarantee = ExactlyOnce
	if found := MarkerWarnings(job, map[string]int{"z": 125}); len(found) != 0 {
		t.Errorf("warnings %v at 5000 a second", found)
	}
	found := MarkerWarnings(job, map[string]int{"z": 126})
	if len(found) != 1 || !strings.Contains(found[0].String(), "4 subtasks × 126 partitions every 100ms make 5040 transaction markers a second") {
		t.Errorf("warnings %v at 5040 a second", found)
	}
	if found := MarkerWarnings(job, nil); len(found) != 0 {
		t.Errorf("warnings %v without known partitions", found)
	}
	job.Checkpoint.Interval = 0
	if found := MarkerWarnings(job, map[string]int{"z": 1 << 30}); len(found) != 0 {
		t.Errorf("warnings %v without checkpoints", found)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"parallelism", "maxParallelism", "name", "sources", "sinks", "a", "from", "keyFormat", "format"}
	tests := map[string]string{
		"paralelism": "parallelism", "Parallelism": "parallelism", "max-parallelism": "maxParallelism", "nmae": "name", "source": "sources",
		"sink": "sinks", "b": "", "": "", "form": "from", "keyformat": "keyFormat", "completely": "", strings.Repeat("x", 5000): "",
	}
	for word, want := range tests {
		if got := Nearest(word, known); got != want {
			t.Errorf("nearest to %.40q is %q, want %q", word, got, want)
		}
	}
	if got := Nearest("A", []string{"b", "a"}); got != "a" {
		t.Errorf("nearest to A is %q", got)
	}
}

// TestEdits compares with the definition by recursion.
func TestEdits(t *testing.T) {
	var slow func(a, b string) int
	slow = func(a, b string) int {
		if a == "" || b == "" {
			return len(a) + len(b)
		}
		cost := 1
		if a[len(a)-1] == b[len(b)-1] {
			cost = 0
		}
		n := min(slow(a[:len(a)-1], b)+1, slow(a, b[:len(b)-1])+1, slow(a[:len(a)-1], b[:len(b)-1])+cost)
		if len(a) > 1 && len(b) > 1 && a[len(a)-1] == b[len(b)-2] && a[len(a)-2] == b[len(b)-1] {
			n = min(n, slow(a[:len(a)-2], b[:len(b)-2])+1)
		}
		return n
	}
	word := rapid.StringMatching(`[abc]{0,5}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		if got, want := edits(a, b), slow(a, b); got != want {
			t.Fatalf("%d edits from %q to %q, want %d", got, a, b, want)
		}
	})
}

func TestPath(t *testing.T) {
	path := make(Path, 0, 8)
	path = append(path, "sources", "my source", "a.b", "0", "")
	if got := path.String(); got != `sources["my source"]["a.b"].0[""]` {
		t.Errorf("path %s", got)
	}
	one, two := path.With("x"), path.With("y")
	if one[5] != "x" || two[5] != "y" || len(path) != 5 {
		t.Errorf("paths share steps: %v, %v", one, two)
	}
}
