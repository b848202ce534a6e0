package job

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/job-states.md from the transition table")

const diagramFile = "../../docs/job-states.md"

// TestDiagram keeps docs/job-states.md equal to the transition table; `go test ./jobmanager/job -update`
// writes it.
func TestDiagram(t *testing.T) {
	want := diagram()
	if *update {
		if err := os.WriteFile(diagramFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(diagramFile)
	if err != nil || string(got) != want {
		t.Errorf("%s differs from the transition table (read: %v); run go test ./jobmanager/job -update", diagramFile, err)
	}
}

func diagram() string {
	var b strings.Builder
	b.WriteString(`# States of a job

Generated from the transition table in jobmanager/job by ` + "`go test ./jobmanager/job -update`" + `; do not edit.

Not drawn: what a state takes note of and stays, and the starts of the job manager (both are in the table below).

` + "```mermaid\nstateDiagram-v2\n  [*] --> CREATED\n")
	type pair struct{ from, to State }
	var order []pair
	labels := map[pair][]string{}
	for _, e := range Transitions() {
		if e.From == e.To || e.Event == OnRecovered {
			continue
		}
		p := pair{e.From, e.To}
		if labels[p] == nil {
			order = append(order, p)
		}
		labels[p] = append(labels[p], string(e.Event))
	}
	for _, p := range order {
		fmt.Fprintf(&b, "  %s --> %s: %s\n", p.from, p.to, strings.Join(labels[p], ", "))
	}
	for _, s := range States() {
		if s.Terminal() {
			fmt.Fprintf(&b, "  %s --> [*]\n", s)
		}
	}
	b.WriteString("```\n\n| in state | event | goes to |\n|---|---|---|\n")
	table := Transitions()
	for i, e := range table {
		if slices.ContainsFunc(table[:i], func(o Edge) bool { return o.From == e.From && o.Event == e.Event }) {
			continue
		}
		var to []string
		for _, o := range table {
			if o.From == e.From && o.Event == e.Event {
				name := string(o.To)
				if o.To == o.From {
					name = "stays"
				}
				to = append(to, name)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", e.From, e.Event, strings.Join(to, " or "))
	}
	return b.String()
}
