package main

import (
	"slices"
	"testing"
)

func optionsOf(t *testing.T, args ...string) options {
	t.Helper()
	opts, err := parseOptions(args)
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

// Pass-through is done at every size and compression, every other job once.
func TestPlans(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"default": {nil, []string{
			"100-byte lines, none: pass filter", "100-byte lines, lz4: pass", "1024-byte lines, none: pass", "1024-byte lines, lz4: pass",
			"160-byte objects, none: json", "100-byte keyed, none: count",
		}},
		"one job":       {[]string{"--cases=filter"}, []string{"100-byte lines, none: filter"}},
		"other order":   {[]string{"--cases=count,pass", "--sizes=1024,100", "--compression=lz4"}, []string{"1024-byte lines, lz4: pass", "100-byte lines, lz4: pass", "100-byte keyed, lz4: count"}},
		"no pass, once": {[]string{"--cases=split,filter"}, []string{"100-byte lines, none: split filter"}},
	} {
		b := &bench{opts: optionsOf(t, c.args...)}
		var got []string
		for _, p := range b.plans() {
			line := p.data.String() + ":"
			for _, j := range p.jobs {
				line += " " + j.name
			}
			got = append(got, line)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%q, want\n%q", name, got, c.want)
		}
	}
}

// Who draws checkpoints runs in every mode, the bare transactional loop in those with transactions, the others
// once.
func TestEntries(t *testing.T) {
	b := &bench{opts: optionsOf(t, "--contestants=bare-txn,sluice,franz-go,bare-recode", "--modes=off,exactly-once/1s,at-least-once/1s")}
	taking, leftOut := b.taking()
	if len(leftOut) > 0 {
		t.Fatalf("left out: %v", leftOut)
	}
	for job, want := range map[string][]string{
		casePass:  {"sluice off", "sluice exactly-once/1s", "sluice at-least-once/1s", "franz-go", "bare-recode", "bare-txn exactly-once/1s"},
		caseCount: {"sluice off", "sluice exactly-once/1s", "sluice at-least-once/1s", "franz-go"},
	} {
		var got []string
		for _, e := range b.entries(&dataset{}, jobByName(job), taking) {
			got = append(got, selection{contestant: e.by.name, mode: e.mode.String()}.who())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", job, got, want)
		}
	}
}

func TestLeftOut(t *testing.T) {
	b := &bench{opts: options{contestants: []string{flinkName}}}
	before := flinkRival.missing
	defer func() { flinkRival.missing = before }()
	flinkRival.missing = func() string { return "a JDK" }
	if taking, leftOut := b.taking(); len(taking) != 0 || leftOut[flinkName] != "a JDK" {
		t.Errorf("%v take part, left out %v", taking, leftOut)
	}
}

// Every contestant is known by one name, and does jobs that there are.
func TestContestants(t *testing.T) {
	var names []string
	for _, c := range contestants() {
		if slices.Contains(names, c.name) {
			t.Errorf("two are named %s", c.name)
		}
		names = append(names, c.name)
		for _, name := range c.jobs {
			if jobByName(name) == nil {
				t.Errorf("%s does %q, which is no job", c.name, name)
			}
		}
	}
}
