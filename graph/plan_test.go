package graph

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// words types expressions by their first word; "bad" does not compile.
type words struct{}

func (words) ResultFormat(text string, _ Use, key, value Format) (Format, error) {
	word, _, _ := strings.Cut(text, ":")
	switch word {
	case "key":
		return key, nil
	case "value":
		return value, nil
	case "json":
		return JSON, nil
	case "bytes":
		return Bytes, nil
	case "bad":
		return "", errors.Join(errors.New("first fault"), errors.New("second fault"))
	}
	return String, nil
}

// TestPlan plans the jobs in testdata/plan; each line is a part: KIND NAME [FROM,…] [field=value]….
func TestPlan(t *testing.T) {
	datadriven.Walk(t, "testdata/plan", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			job := parseJob(t, td.Input)
			physical, err := Plan(job, words{})
			if err != nil {
				return err.Error() + "\n"
			}
			return describePlan(physical)
		})
	})
}

func parseJob(t *testing.T, text string) *Job {
	job := &Job{Name: "job"}
	for _, line := range strings.Split(text, "\n") {
		word := strings.Fields(line)
		fields, from := map[string]string{}, []string(nil)
		for _, w := range word[2:] {
			if name, value, ok := strings.Cut(w, "="); ok {
				fields[name] = value
			} else {
				from = strings.Split(w, ",")
			}
		}
		parallelism, _ := strconv.Atoi(fields["p"])
		switch word[0] {
		case "job":
			job.Name, job.Parallelism = word[1], parallelism
			job.Checkpoint.Interval, _ = time.ParseDuration(fields["interval"])
			job.MaxParallelism, _ = strconv.Atoi(fields["groups"])
		case "source":
			job.Sources = append(job.Sources, Source{Name: word[1], Parallelism: parallelism, Kafka: &KafkaSource{
				Topics: []string{"t"}, Format: Format(fields["format"]), KeyFormat: Format(fields["keyFormat"]), Until: fields["until"],
				OnError: OnError{Policy: ErrorPolicy(fields["onError"]), DeadLetterTopic: fields["deadLetter"]},
			}})
		case "operator":
			o := Operator{Name: word[1], Parallelism: parallelism, From: from, KeyBy: fields["keyBy"], Filter: fields["filter"], FlatMap: fields["flatMap"]}
			if fields["key"]+fields["value"] != "" {
				o.Map = &Map{Key: fields["key"], Value: fields["value"]}
			}
			_, o.Count = fields["count"]
			job.Operators = append(job.Operators, o)
		case "sink":
			job.Sinks = append(job.Sinks, parseSink(Sink{Name: word[1], Parallelism: parallelism, From: from, KeyBy: fields["keyBy"]}, fields["guarantee"]))
		default:
			t.Fatalf("line %q", line)
		}
	}
	job.SetDefaults()
	return job
}

// parseSink makes a sink that prints, or one of Kafka if it has a guarantee.
func parseSink(s Sink, guarantee string) Sink {
	if guarantee == "" {
		s.Print = &PrintSink{}
		return s
	}
	s.Kafka = &KafkaSink{Topic: "out", Guarantee: Guarantee(guarantee)}
	return s
}

func describePolicies(p ErrorPolicies) string {
	var words []string
	for _, s := range p {
		words = append(words, s.Source+":"+string(s.OnError.Policy))
	}
	return strings.Join(words, ",")
}

func describePlan(p *Physical) string {
	var b strings.Builder
	for _, v := range p.Vertices {
		fmt.Fprintf(&b, "vertex %s ×%d\n", v.Name, v.Parallelism)
		for i, n := range v.Nodes {
			fmt.Fprintf(&b, "  %d %s %s parent=%d key=%s value=%s onError=%s\n", i, n.Kind, n.Name, n.Parent, n.KeyFormat, n.ValueFormat, describePolicies(n.OnError))
			if n.DeadLettersOf != "" {
				fmt.Fprintf(&b, "    dead letters of %s to %s, %s\n", n.DeadLettersOf, n.Sink.Kafka.Topic, n.Sink.Kafka.Guarantee)
			}
		}
	}
	for _, e := range p.Edges {
		fmt.Fprintf(&b, "edge %d %s[%d] -> %s %s", e.ID, e.From, e.FromNode, e.To, e.Partitioning)
		if e.KeyBy != "" {
			fmt.Fprintf(&b, " by %s", e.KeyBy)
		}
		fmt.Fprintf(&b, " key=%s value=%s onError=%s\n", e.KeyFormat, e.ValueFormat, describePolicies(e.OnError))
	}
	fmt.Fprintf(&b, "slots %d, %s\n", p.Slots, p.Identity)
	return b.String()
}

// randomJob is a valid job: every part reads from one to three that are declared before it.
func randomJob(t *rapid.T) *Job {
	job := &Job{Name: "random", Parallelism: rapid.IntRange(1, 3).Draw(t, "parallelism")}
	var names []string
	parallelism := rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3})
	from := func() []string {
		all := slices.Clone(names)
		n := rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "inputs")
		return rapid.Permutation(all).Draw(t, "from")[:min(n, len(all))]
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "sources") {
		job.Sources = append(job.Sources, Source{Name: fmt.Sprintf("s%d", i), Parallelism: parallelism.Draw(t, "p"), Kafka: &KafkaSource{
			Topics: []string{"t"}, Format: rapid.SampledFrom([]Format{Bytes, String, JSON}).Draw(t, "format"),
		}})
		names = append(names, job.Sources[i].Name)
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "operators") {
		o := Operator{Name: fmt.Sprintf("o%d", i), Parallelism: parallelism.Draw(t, "p"), From: from()}
		if rapid.IntRange(0, 3).Draw(t, "keyed") == 0 {
			o.KeyBy = "key"
		}
		switch verb := rapid.IntRange(0, 3).Draw(t, "verb"); {
		case verb == 0:
			o.Filter = "f"
		case verb == 1:
			o.Map = &Map{Value: rapid.SampledFrom([]string{"json", "bytes", "value", "text"}).Draw(t, "value")}
		case verb == 2 || o.KeyBy == "":
			o.FlatMap = "text"
		default:
			o.Count = true
		}
		job.Operators = append(job.Operators, o)
		names = append(names, o.Name)
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "sinks") {
		job.Sinks = append(job.Sinks, Sink{Name: fmt.Sprintf("z%d", i), Parallelism: parallelism.Draw(t, "p"), From: from(), Print: &PrintSink{}})
	}
	// The order of declaration must not matter for what is connected with what.
	job.Operators = rapid.Permutation(job.Operators).Draw(t, "order")
	job.SetDefaults()
	return job
}

// logical is the job as its author sees it: for each part its inputs, keyBy and parallelism.
type logical struct {
	from        []string
	keyBy       string
	parallelism int
}

func logicalOf(job *Job) map[string]logical {
	parts := map[string]logical{}
	add := func(name string, from []string, keyBy string, parallelism int) {
		if parallelism == 0 {
			parallelism = job.Parallelism
		}
		parts[name] = logical{from, keyBy, parallelism}
	}
	for _, s := range job.Sources {
		add(s.Name, nil, "", s.Parallelism)
	}
	for _, o := range job.Operators {
		add(o.Name, o.From, o.KeyBy, o.Parallelism)
	}
	for _, s := range job.Sinks {
		add(s.Name, s.From, s.KeyBy, s.Parallelism)
	}
	return parts
}

// TestPlanKeepsTheJob: whatever the job, its plan has every part once, every connection once, chained
// exactly where the rule says, in topological order.
func TestPlanKeepsTheJob(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := randomJob(t)
		physical, err := Plan(job, words{})
		if err != nil {
			t.Fatal(err)
		}
		want := logicalOf(job)
		order, placed := map[string]int{}, map[string]bool{}
		links := map[string][]string{} // part → inputs, as planned
		slots := 0
		for i, v := range physical.Vertices {
			order[v.Name] = i
			slots = max(slots, v.Parallelism)
			for n, node := range v.Nodes {
				if placed[node.Name] || v.Parallelism != want[node.Name].parallelism {
					t.Fatalf("%s is planned twice, or at parallelism %d", node.Name, v.Parallelism)
				}
				placed[node.Name] = true
				if n == 0 {
					if node.Parent != -1 || node.Name != v.Name {
						t.Fatalf("head %+v of vertex %s", node, v.Name)
					}
					continue
				}
				if node.Parent < 0 || node.Parent >= n {
					t.Fatalf("node %d of %s has parent %d", n, v.Name, node.Parent)
				}
				links[node.Name] = []string{v.Nodes[node.Parent].Name}
				if w := want[node.Name]; len(w.from) != 1 || w.keyBy != "" || want[w.from[0]].parallelism != w.parallelism {
					t.Fatalf("%s is chained: %+v", node.Name, w)
				}
			}
		}
		checkEdges(t, physical, want, order, links)
		for name, w := range want {
			if !placed[name] || cmp.Diff(w.from, links[name]) != "" {
				t.Fatalf("%s reads from %v, want %v", name, links[name], w.from)
			}
		}
		if physical.Slots != slots {
			t.Fatalf("%d slots, want %d", physical.Slots, slots)
		}
		again, _ := Plan(job, words{})
		if diff := cmp.Diff(physical, again); diff != "" {
			t.Fatalf("planned again:\n%s", diff)
		}
	})
}

func checkEdges(t *rapid.T, physical *Physical, want map[string]logical, order map[string]int, links map[string][]string) {
	for i, e := range physical.Edges {
		sender, _ := physical.Vertex(e.From)
		from, to := sender.Nodes[e.FromNode].Name, want[e.To]
		links[e.To] = append(links[e.To], from)
		partitioning := Rebalance
		switch {
		case to.keyBy != "":
			partitioning = Hash
		case want[from].parallelism == to.parallelism:
			partitioning = Forward
		}
		if e.ID != i || e.Partitioning != partitioning || e.KeyBy != to.keyBy || order[e.From] >= order[e.To] {
			t.Fatalf("edge %+v, want id %d, %s", e, i, partitioning)
		}
		if partitioning == Forward && len(to.from) == 1 {
			t.Fatalf("edge %+v should be a chain", e)
		}
	}
}

// TestFormatsAreKnown: every input and edge of a plan has formats, and a view of one input is that of
// its output.
func TestFormatsAreKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		physical, err := Plan(randomJob(t), words{})
		if err != nil {
			t.Fatal(err)
		}
		known := []Format{Bytes, String, JSON}
		heads := map[string][]Edge{}
		for _, e := range physical.Edges {
			heads[e.To] = append(heads[e.To], e)
			if !slices.Contains(known, e.KeyFormat) || !slices.Contains(known, e.ValueFormat) || len(e.OnError) == 0 {
				t.Fatalf("edge %+v", e)
			}
		}
		for _, v := range physical.Vertices {
			for _, n := range v.Nodes {
				if !slices.Contains(known, n.KeyFormat) || !slices.Contains(known, n.ValueFormat) || len(n.OnError) == 0 {
					t.Fatalf("node %+v", n)
				}
			}
			head := v.Nodes[0]
			for _, e := range heads[v.Name] {
				if head.ValueFormat != e.ValueFormat && head.ValueFormat != Bytes {
					t.Fatalf("head %+v with edge %+v", head, e)
				}
			}
		}
	})
}

// TestIdentity: what the state does not depend on is no part of the identity.
func TestIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := randomJob(t)
		before := identity(job)
		slices.Reverse(job.Sources)
		job.Operators = rapid.Permutation(job.Operators).Draw(t, "order")
		for i := range job.Operators {
			o := &job.Operators[i]
			o.Parallelism, o.Filter = 7, strings.ReplaceAll(o.Filter, "f", "other")
			if !o.Count && rapid.Bool().Draw(t, "rename") {
				o.Name += "-renamed"
			}
		}
		job.Sinks, job.Parallelism = nil, 9
		if after := identity(job); after != before {
			t.Fatalf("identity %s, was %s", after, before)
		}
	})
}

// TestSubtasks: the order of Subtasks is that of the vertices.
func TestSubtasks(t *testing.T) {
	physical, err := Plan(parseJob(t, "source a p=2\noperator c a p=1 keyBy=key count=\nsink z c p=1"), words{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(physical.Subtasks()); got != "[a/0 a/1 c/0]" {
		t.Errorf("subtasks %s", got)
	}
	names := map[string]bool{}
	for _, v := range physical.Vertices {
		names[v.Name] = true
	}
	if got := slices.Sorted(maps.Keys(names)); fmt.Sprint(got) != "[a c]" {
		t.Errorf("vertices %v", got)
	}
	if _, ok := physical.Vertex("z"); ok {
		t.Error("the chained sink is a vertex")
	}
}
