package subtask

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/ident"
)

// String prints a decision for transcripts.
func (d Decision) String() string {
	text := map[Action]string{Obsolete: "passed over", Hold: "hold", Snapshot: "snapshot"}[d.Action]
	if d.Declined != 0 {
		text = fmt.Sprintf("decline #%d; ", d.Declined) + text
	}
	if d.Release {
		text = "release all; " + text
	}
	return text
}

// The transcripts are stories of barriers. Commands: new inputs=n | barrier IN #ID | abort #ID | end IN.
func TestAlignerTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/aligner", func(t *testing.T, path string) {
		var a *Aligner
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				var n int
				d.ScanArgs(t, "inputs", &n)
				a = NewAligner(n)
				return ""
			}
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				fmt.Fprintf(&out, "%s: %s\n", strings.TrimSpace(line), step(t, a, line))
			}
			return out.String()
		})
	})
}

func step(t *testing.T, a *Aligner, line string) string {
	var input int
	var id ident.CheckpointID
	if n, _ := fmt.Sscanf(line, "barrier %d #%d", &input, &id); n == 2 {
		return a.Barrier(input, id).String()
	}
	if n, _ := fmt.Sscanf(line, "abort #%d", &id); n == 1 {
		if a.Abort(id) {
			return "release all"
		}
		return "nothing held"
	}
	if n, _ := fmt.Sscanf(line, "end %d", &input); n == 1 {
		if a.End(input) {
			return "end of data on all inputs"
		}
		return "noted"
	}
	t.Fatalf("unknown command %q", line)
	return ""
}

// model is the aligner as the rules say it, with all of history and no cleverness.
type model struct {
	inputs  int
	seen    map[ident.CheckpointID]map[int]bool // barriers that were counted
	highest ident.CheckpointID                  // seen on any input, or aborted
	over    map[ident.CheckpointID]bool         // aligned, declined or aborted
	held    map[int]bool
}

func (m *model) barrier(input int, id ident.CheckpointID) Decision {
	pendingNow := id == m.highest && !m.over[id]
	if id < m.highest || id == m.highest && (!pendingNow || m.seen[id][input]) {
		return Decision{Action: Obsolete}
	}
	var d Decision
	if id > m.highest {
		if m.highest != 0 && !m.over[m.highest] {
			d.Declined, d.Release = m.highest, true
			m.over[m.highest] = true
			clear(m.held)
		}
		m.highest = id
		m.seen[id] = map[int]bool{}
	}
	m.seen[id][input] = true
	if len(m.seen[id]) == m.inputs {
		m.over[id] = true
		clear(m.held)
		d.Action, d.Release = Snapshot, true
		return d
	}
	m.held[input] = true
	d.Action = Hold
	return d
}

func (m *model) abort(id ident.CheckpointID) bool {
	if id < m.highest {
		return false
	}
	release := m.highest != 0 && !m.over[m.highest]
	m.highest = id
	for older := range id + 1 {
		m.over[older] = true
	}
	clear(m.held)
	return release
}

// For every order of barriers and aborts the aligner does what the rules say; a checkpoint is taken at
// most once, ids taken only rise, and an input is never held while nothing is pending.
func TestAlignerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "inputs")
		a := NewAligner(n)
		m := &model{
			inputs: n, seen: map[ident.CheckpointID]map[int]bool{},
			over: map[ident.CheckpointID]bool{}, held: map[int]bool{},
		}
		var taken []ident.CheckpointID
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := ident.CheckpointID(rapid.IntRange(1, 8).Draw(t, "id"))
			if rapid.IntRange(0, 4).Draw(t, "abort") == 0 {
				if got, want := a.Abort(id), m.abort(id); got != want {
					t.Fatalf("abort #%d: released %v, want %v", id, got, want)
				}
			} else {
				input := rapid.IntRange(0, n-1).Draw(t, "input")
				got, want := a.Barrier(input, id), m.barrier(input, id)
				if got != want {
					t.Fatalf("barrier #%d on %d: %s, want %s", id, input, got, want)
				}
				if got.Action == Snapshot {
					taken = append(taken, id)
				}
			}
			if _, pending := a.Pending(); !pending && len(m.held) > 0 {
				t.Fatalf("inputs %v are held for nothing", m.held)
			}
		}
		if !slices.IsSorted(taken) || len(slices.Compact(slices.Clone(taken))) != len(taken) {
			t.Fatalf("checkpoints taken: %v", taken)
		}
	})
}
