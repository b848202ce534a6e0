package checkpoint

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// combination is one point of the table over everything that the decision depends on.
type combination struct {
	witness    Witness
	stored     string // which manifests are there
	unreadable string // which of them cannot be read
	otherJob   bool
	otherGraph bool
	final      bool
	unmarked   string // which of them names a transaction without a mark
	tooWide    bool   // parallelism above maxParallelism
	badGroups  bool   // key groups of the newest overlap
}

func (c combination) facts() Facts {
	f := Facts{Job: "j", Identity: "v1", Parallelism: 4, MaxParallelism: 128, Witness: c.witness,
		Marked: func(k manifest.TransactionKey) bool { return k.TransactionalID == "marked" }}
	ids := map[string][]ident.CheckpointID{"none": nil, "zero": {0}, "zero and more": {6, 0, 7}, "newest gone": {0, 6}, "zero gone": {6, 7}}[c.stored]
	switch c.stored {
	case "zero and more", "newest gone", "zero gone":
		f.Newest = 7
	}
	for _, id := range ids {
		newest := id == f.Newest
		m := &manifest.Manifest{Job: "j", Identity: "v1", Checkpoint: id}
		t := manifest.Transaction{TransactionalID: "marked"}
		if c.unmarked == "newest" && newest || c.unmarked == "older" && !newest {
			t.TransactionalID = "unmarked"
		}
		m.Transactions = append(m.Transactions, t)
		if newest {
			m.Final = c.final
			m.State = []manifest.State{{Operator: "count", LastKeyGroup: 63}, {Operator: "count", FirstKeyGroup: 64, LastKeyGroup: 127}}
			if c.otherGraph {
				m.Identity = "v0"
			}
			if c.otherJob {
				m.Job = "k"
			}
			if c.badGroups {
				m.State[1].FirstKeyGroup = 63
			}
		}
		found := Found{Checkpoint: id, Manifest: m}
		if c.unreadable == "newest" && newest || c.unreadable == "older" && !newest {
			found = Found{Checkpoint: id, Err: errors.New("checksum")}
		}
		f.Found = append(f.Found, found)
	}
	if c.tooWide {
		f.Parallelism = 129
	}
	return f
}

// want says the same as Decide in the order in which a person would check.
func (c combination) want() string {
	hasNewest := c.stored == "zero" || c.stored == "zero and more" || c.stored == "zero gone"
	hasOlder := c.stored != "none" && c.stored != "zero"
	switch {
	case c.witness == WitnessDisagrees:
		return "refuse"
	case c.stored == "none":
		return "start-fresh"
	case c.unreadable == "newest" && hasNewest, c.unreadable == "older" && hasOlder:
		return "refuse"
	case !hasNewest:
		return "refuse"
	case c.otherJob:
		return "refuse"
	case !c.final && (c.otherGraph || c.tooWide || c.badGroups):
		return "refuse"
	}
	action := "restore"
	if c.final {
		action = "end"
	}
	if c.unmarked == "newest" || c.unmarked == "older" && hasOlder {
		action = "commit-then-" + action
	}
	return action
}

func TestDecideOverEveryCombination(t *testing.T) {
	flags := []bool{false, true}
	counts := map[string]int{}
	for _, witness := range []Witness{WitnessAgrees, WitnessAdvanced, WitnessDisagrees} {
		for _, stored := range []string{"none", "zero", "zero and more", "newest gone", "zero gone"} {
			for _, unreadable := range []string{"", "newest", "older"} {
				for _, unmarked := range []string{"", "newest", "older"} {
					for bits := range 32 {
						c := combination{witness: witness, stored: stored, unreadable: unreadable, unmarked: unmarked,
							otherJob: flags[bits&1], otherGraph: flags[bits>>1&1], final: flags[bits>>2&1],
							tooWide: flags[bits>>3&1], badGroups: flags[bits>>4&1]}
						checkDecision(t, c)
						counts[c.want()]++
					}
				}
			}
		}
	}
	for _, action := range []Action{StartFresh, Restore, CommitThenRestore, End, CommitThenEnd, Refuse} {
		if counts[action.String()] == 0 {
			t.Errorf("no combination leads to %s", action)
		}
	}
	t.Log(counts)
}

func checkDecision(t *testing.T, c combination) {
	t.Helper()
	f := c.facts()
	d := Decide(f)
	if d.Action.String() != c.want() {
		t.Fatalf("%+v: %s, want %s", c, d, c.want())
	}
	switch d.Action {
	case Refuse:
		if d.Why == "" || d.Manifest != nil || d.Commit != nil {
			t.Fatalf("%+v: %+v", c, d)
		}
	case StartFresh:
	default:
		if d.Checkpoint != f.Newest || d.Manifest == nil || d.Manifest.Checkpoint != f.Newest {
			t.Fatalf("%+v: not the newest: %+v", c, d)
		}
		commits := d.Action == CommitThenRestore || d.Action == CommitThenEnd
		if commits != (len(d.Commit) > 0) {
			t.Fatalf("%+v: %+v", c, d)
		}
	}
}

// A refusal names what differs, so that an operator knows where to look.
func TestRefusalsNameWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		c    combination
		want []string
	}{
		{combination{witness: WitnessDisagrees}, []string{"witness"}},
		{combination{stored: "newest gone"}, []string{"7", "6"}},
		{combination{stored: "zero and more", unreadable: "newest"}, []string{"checkpoint 7", "job j", "checksum"}},
		{combination{stored: "zero and more", otherJob: true}, []string{"job j", "job k"}},
		{combination{stored: "zero and more", otherGraph: true}, []string{`"v0"`, `"v1"`}},
		{combination{stored: "zero and more", tooWide: true}, []string{"129", "128"}},
		{combination{stored: "zero and more", badGroups: true}, []string{"key group 63", "count"}},
	} {
		d := Decide(tc.c.facts())
		for _, want := range tc.want {
			if d.Action != Refuse || !strings.Contains(d.Why, want) {
				t.Errorf("%+v: %s, want it to name %s", tc.c, d, want)
			}
		}
	}
	twice := combination{stored: "zero"}.facts()
	twice.Found = append(twice.Found, twice.Found[0])
	if d := Decide(twice); d.Action != Refuse {
		t.Errorf("stored twice: %s", d)
	}
}

func TestAdopt(t *testing.T) {
	m := &manifest.Manifest{Job: "old", Checkpoint: 9, Identity: "v1",
		Positions: []manifest.Position{{Split: manifest.Split{Source: "src", Topic: "t"}, Next: 41}},
		State:     []manifest.State{{Operator: "count", LastKeyGroup: 127}}}
	heir := Heir{Job: "new", Identity: "v2", MaxParallelism: 128,
		Stateful: func(name string) bool { return name == "count" }, Reads: func(s manifest.Split) bool { return s.Source == "src" }}
	now := time.Unix(1, 0)
	z, err := Adopt(m, heir, now)
	if err != nil || z.Checkpoint != 0 || z.Job != "new" || z.Identity != "v2" || len(z.Positions) != 1 || len(z.State) != 1 {
		t.Fatalf("%+v, %v", z, err)
	}
	heir.MaxParallelism = 64
	if _, err := Adopt(m, heir, now); err == nil || !strings.Contains(err.Error(), "old/9") {
		t.Errorf("fewer key groups: %v", err)
	}
	more := *m
	more.Identity = "sluice/1 keyGroups=128 source:src"
	heir.MaxParallelism, heir.Identity = 256, "sluice/1 keyGroups=256 source:src"
	if _, err := Adopt(&more, heir, now); err == nil || !strings.Contains(err.Error(), "set it to 128") {
		t.Errorf("more key groups: %v", err)
	}
	more.State = nil
	if _, err := Adopt(&more, heir, now); err != nil {
		t.Errorf("more key groups without state: %v", err)
	}
	heir.Stateful = func(string) bool { return false }
	if _, err := Adopt(m, heir, now); err == nil || !strings.Contains(err.Error(), "--allow-dropped-state") {
		t.Errorf("state of no use: %v", err)
	}
	heir.AllowDropped = true
	if z, err := Adopt(m, heir, now); err != nil || len(z.State) != 0 {
		t.Errorf("dropped: %+v, %v", z, err)
	}
}

func TestRetention(t *testing.T) {
	blob := func(names ...string) []manifest.State {
		var states []manifest.State
		for _, n := range names {
			states = append(states, manifest.State{Operator: n, Blob: manifest.Blob{Name: n}})
		}
		return states
	}
	txn := func(id string) []manifest.Transaction { return []manifest.Transaction{{TransactionalID: id}} }
	marked := func(k manifest.TransactionKey) bool { return k.TransactionalID == "marked" }
	for _, tc := range []struct {
		name       string
		retain     int
		manifests  []*manifest.Manifest
		keep, drop string
		del        string
	}{
		{"nothing", 3, nil, "[]", "[]", ""},
		{"checkpoint 0 alone", 1, []*manifest.Manifest{{}}, "[0]", "[]", ""},
		{"less than one is one", 0, []*manifest.Manifest{{Checkpoint: 2}, {Checkpoint: 1}}, "[2]", "[1]", ""},
		{"newest two and 0", 2, []*manifest.Manifest{{}, {Checkpoint: 1}, {Checkpoint: 2}, {Checkpoint: 9}}, "[0 2 9]", "[1]", ""},
		{"shared files stay", 1, []*manifest.Manifest{{Checkpoint: 1, State: blob("a", "b")}, {Checkpoint: 2, State: blob("b", "a", "d")}, {Checkpoint: 3, State: blob("b")}},
			"[3]", "[1 2]", "a d"},
		{"what comes after an unmarked one and its predecessor stay", 1, []*manifest.Manifest{{Checkpoint: 1, State: blob("a")}, {Checkpoint: 2, State: blob("b")},
			{Checkpoint: 3, Transactions: txn("open")}, {Checkpoint: 4, Transactions: txn("marked")}, {Checkpoint: 5, Transactions: txn("marked")}},
			"[2 3 4 5]", "[1]", "a"},
		{"the first is unmarked", 1, []*manifest.Manifest{{Checkpoint: 1, Transactions: txn("open")}, {Checkpoint: 2}, {Checkpoint: 3}}, "[1 2 3]", "[]", ""},
	} {
		p := Retention(tc.manifests, tc.retain, marked)
		var del []string
		for _, b := range p.Delete {
			del = append(del, b.Name)
		}
		if fmt.Sprint(p.Keep) != tc.keep || fmt.Sprint(p.Drop) != tc.drop || strings.Join(del, " ") != tc.del {
			t.Errorf("%s: keep %v, drop %v, delete %v; want %s, %s, %s", tc.name, p.Keep, p.Drop, del, tc.keep, tc.drop, tc.del)
		}
	}
}
