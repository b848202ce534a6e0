package graph

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// Bounds of numbers and durations in a job.
const (
	// MaxKeyGroups is the most that maxParallelism can be.
	MaxKeyGroups = 1 << 15
	// MinInterval is the shortest checkpoint interval and checkpoint timeout.
	MinInterval = 10 * time.Millisecond
	// MaxDuration is the longest duration anywhere in a job.
	MaxDuration = 365 * 24 * time.Hour
	// MaxRetain and MaxAttempts bound the counts of checkpoints kept, failures borne and restarts.
	MaxRetain   = 1000
	MaxAttempts = 1_000_000
)

// Checks are the judgements that other packages lend. One that is nil is not made.
type Checks struct {
	// Expressions compiles and types CEL.
	Expressions Expressions
	// Properties judges the Kafka properties of a source (KindSource) or sink (KindSink). An error may
	// have Property() string, the name of the property that it is about, and Hint() string.
	Properties func(role Kind, properties map[string]string) []error
	// Job judges what takes more of the job than the properties of one part.
	Job func(job *Job) []Problem
}

// Check finds everything that is wrong with a job: what Validate finds, and what the checks find. It
// takes any job; where a part is wrong, what follows from it is not reported again.
func Check(job *Job, checks Checks) []Problem {
	found := problems{list: Validate(job)}
	if len(job.Sources)+len(job.Operators)+len(job.Sinks) > MaxVertices {
		return found.list
	}
	add := func(more []Problem) {
		found.list = append(found.list, more[:min(len(more), MaxProblems-len(found.list))]...)
	}
	if checks.Expressions != nil {
		add(newFlow(newNetwork(job), checks.Expressions).problems.list)
	}
	if checks.Properties != nil {
		add(checkProperties(job, checks.Properties))
	}
	if checks.Job != nil {
		add(checks.Job(job))
	}
	return found.list
}

// Validate finds what is wrong with a job apart from its expressions and Kafka properties: at most
// MaxProblems, none for a job that can be planned. The job has its defaults (SetDefaults).
func Validate(job *Job) []Problem {
	v := &validator{job: job}
	v.settings()
	v.checkpointing()
	v.restart()
	if n := len(job.Sources) + len(job.Operators) + len(job.Sinks); n > MaxVertices {
		v.add(nil, "split the job", "%d sources, operators and sinks; at most %d", n, MaxVertices)
		return v.list
	}
	v.net = newNetwork(job)
	v.names()
	for i := range v.net.parts {
		v.part(i)
	}
	v.cycles()
	for i := range job.Sources {
		v.source(&job.Sources[i])
	}
	for i := range job.Operators {
		v.operator(&job.Operators[i])
	}
	for i := range job.Sinks {
		v.sink(&job.Sinks[i])
	}
	v.groups()
	v.subtasks()
	return v.list
}

type validator struct {
	problems
	job *Job
	net *network
}

func (v *validator) name(path Path, what, name string) {
	switch {
	case name == "":
		v.missing(path, "", "the %s has no name", what)
	case ident.CheckName(name) != nil:
		v.add(path, "want 1 to 128 of A-Z a-z 0-9 . _ -", "%s name %.140q is not allowed", what, name)
	}
}

func (v *validator) settings() {
	j := v.job
	v.name(Path{"name"}, "job", j.Name)
	v.number(Path{"parallelism"}, j.Parallelism, 1, MaxSubtasks)
	v.number(Path{"maxParallelism"}, j.MaxParallelism, 1, MaxKeyGroups)
	if len(j.Sources) == 0 {
		v.missing(Path{"sources"}, "a job reads from at least one source", "no sources")
	}
	if len(j.Sinks) == 0 {
		v.missing(Path{"sinks"}, "a job writes to at least one sink; print: {} will do for a try", "no sinks")
	}
}

func (v *validator) number(path Path, n, low, high int) {
	if n < low || n > high {
		v.add(path, "", "%d is out of range, want %d to %d", n, low, high)
	}
}

func (v *validator) duration(path Path, d, low time.Duration) {
	switch {
	case d < 0:
		v.add(path, "", "%v is negative", d)
	case d < low:
		v.add(path, "", "%v is too short, want at least %v", d, low)
	case d > MaxDuration:
		v.add(path, "", "%v is too long, want at most %v", d, MaxDuration)
	}
}

func (v *validator) checkpointing() {
	c, path := v.job.Checkpoint, Path{"checkpoint"}
	if c.Interval != 0 {
		v.duration(path.With("interval"), c.Interval, MinInterval)
	}
	v.duration(path.With("timeout"), c.Timeout, MinInterval)
	v.duration(path.With("minPause"), c.MinPause, 0)
	v.number(path.With("retain"), c.Retain, 1, MaxRetain)
	v.number(path.With("tolerableFailures"), c.TolerableFailures, 0, MaxRetain)
}

func (v *validator) restart() {
	r, path := v.job.Restart, Path{"restart"}
	choice(v, path.With("strategy"), r.Strategy, ExponentialDelay, FixedDelay, NoRestart)
	v.duration(path.With("initial"), r.Initial, 0)
	v.duration(path.With("max"), r.Max, 0)
	v.duration(path.With("healthyAfter"), r.HealthyAfter, 0)
	v.number(path.With("attempts"), r.Attempts, 0, MaxAttempts)
	if r.Strategy == ExponentialDelay && r.Initial > r.Max {
		v.add(path.With("initial"), "lower initial or raise max", "initial %v is longer than max %v", r.Initial, r.Max)
	}
}

// choice checks a field that is one of a few words.
func choice[T ~string](v *validator, path Path, value T, allowed ...T) {
	if slices.Contains(allowed, value) {
		return
	}
	words := make([]string, len(allowed))
	for i, a := range allowed {
		words[i] = string(a)
	}
	v.add(path, DidYouMean(string(value), words), "%.80q is unknown, want %s", string(value), strings.Join(words, " | "))
}

// names checks that all parts have a name and share none.
func (v *validator) names() {
	for i := range v.net.parts {
		p := &v.net.parts[i]
		v.name(p.path, p.node.Kind.String(), p.node.Name)
		if first := v.net.byName[p.node.Name]; first != i && p.node.Name != "" {
			v.add(p.path, "sources, operators and sinks share one name space; rename one",
				"name %.140q is taken by %s", p.node.Name, v.net.parts[first].path)
		}
	}
}

func (v *validator) part(i int) {
	p := &v.net.parts[i]
	if p.parallelism != v.job.Parallelism {
		v.number(p.path.With("parallelism"), p.parallelism, 1, MaxSubtasks)
	}
	if p.keyBy != "" && p.parallelism > v.job.MaxParallelism && p.parallelism <= MaxSubtasks && v.job.MaxParallelism > 0 {
		v.add(p.path.With("keyBy"), "lower its parallelism or raise maxParallelism",
			"parallelism %d with keyBy is more than the %d key groups (maxParallelism)", p.parallelism, v.job.MaxParallelism)
	}
	if p.node.Kind != KindSource {
		v.from(p)
	}
}

func (v *validator) from(p *part) {
	path := p.path.With("from")
	if len(p.from) == 0 {
		v.missing(path, "name the source or operator that it reads from", "%s %s has no from", p.node.Kind, p.node.Name)
	}
	seen := map[string]bool{}
	for n, name := range p.from {
		at := path
		if len(p.from) > 1 {
			at = path.With(strconv.Itoa(n))
		}
		in, known := v.net.byName[name]
		switch {
		case seen[name]:
			v.add(at, "", "%.140q is named twice", name)
		case !known && !v.full():
			v.add(at, cmp.Or(DidYouMean(name, v.readable()), "the job has no such source or operator"), "unknown name %.140q", name)
		case known && v.net.parts[in].node.Kind == KindSink:
			v.add(at, "nothing can read from a sink; read from what it reads", "%.140q is a sink", name)
		}
		seen[name] = true
	}
}

// readable are the names that a from can have.
func (v *validator) readable() []string {
	var names []string
	for i := range v.net.parts {
		if v.net.parts[i].node.Kind != KindSink {
			names = append(names, v.net.parts[i].node.Name)
		}
	}
	return names
}

func (v *validator) cycles() {
	for _, cycle := range v.net.cycles {
		first := &v.net.parts[cycle[0]]
		if len(cycle) == 1 {
			v.add(first.path.With("from"), "", "%s reads from itself", first.node.Name)
			continue
		}
		var way strings.Builder
		for _, i := range cycle {
			way.WriteString(v.net.parts[i].node.Name + " -> ")
		}
		v.add(first.path.With("from"), "records must not go round in a circle", "cycle %s%s", way.String(), first.node.Name)
	}
}

func (v *validator) operator(o *Operator) {
	path := Path{"operators", o.Name}
	var verbs []string
	for _, verb := range []struct {
		name string
		set  bool
	}{{"filter", o.Filter != ""}, {"map", o.Map != nil}, {"flatMap", o.FlatMap != ""}, {"count", o.Count}} {
		if verb.set {
			verbs = append(verbs, verb.name)
		}
	}
	switch {
	case len(verbs) == 0:
		v.missing(path, "give it one of filter, map, flatMap, count", "operator %s does nothing", o.Name)
	case len(verbs) > 1:
		v.add(path, "split it into one operator each", "operator %s has %s, want exactly one", o.Name, strings.Join(verbs, " and "))
	}
	if o.Map != nil && *o.Map == (Map{}) {
		v.missing(path.With("map"), "give it one of key, value, headers, timestamp", "map changes nothing")
	}
	if o.Count && o.KeyBy == "" {
		v.missing(path.With("count"), "add keyBy: and an expression, such as keyBy: key", "count needs keyBy")
	}
}

// subtasks bounds the sum over all vertices.
func (v *validator) subtasks() {
	total := 0
	for i := range v.net.parts {
		if p := &v.net.parts[i]; !v.net.chained(i) && p.parallelism <= MaxSubtasks {
			total += p.parallelism
		}
	}
	if total > MaxSubtasks {
		v.add(Path{"parallelism"}, "lower the parallelism or the number of vertices", "the job has %d subtasks; at most %d", total, MaxSubtasks)
	}
}
