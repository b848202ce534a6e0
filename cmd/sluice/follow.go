package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/sluice-stream/sluice/web"
)

// followView shows a job while it runs: one line that is drawn again on a terminal, and otherwise a line
// per change of state.
type followView struct {
	w        io.Writer
	terminal bool
	drawn    bool
	state    string
	explain  string
	records  int64
	at       time.Time
}

func newFollowView(w io.Writer) *followView {
	f, ok := w.(*os.File)
	return &followView{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (v *followView) show(j *web.Job) {
	text := fmt.Sprintf("%s: %s", j.Name, j.State)
	if w := waitsFor(j); w != "" {
		text += " (" + w + ")"
	}
	changed := j.State != v.state || j.Slots.Explain != "" && v.explain == ""
	v.state, v.explain = j.State, j.Slots.Explain
	if !v.terminal {
		if changed {
			fmt.Fprintln(v.w, text)
		}
		return
	}
	in := recordsRead(j)
	now := time.Now()
	if !v.at.IsZero() && now.After(v.at) {
		text += fmt.Sprintf("  %d records, %.0f/s", in, max(0, float64(in-v.records)/now.Sub(v.at).Seconds()))
	}
	v.records, v.at = in, now
	text += fmt.Sprintf("  checkpoint %s  restarts %d", latestOf(j), j.Restarts)
	fmt.Fprintf(v.w, "\r\x1b[K%s", text)
	v.drawn = true
}

// close ends the line that is being redrawn.
func (v *followView) close() {
	if v.drawn {
		fmt.Fprintln(v.w)
		v.drawn = false
	}
}

// recordsRead is what the source vertices have read. A source vertex is one whose subtasks report lag.
func recordsRead(j *web.Job) int64 {
	var n int64
	for _, v := range j.Vertices {
		for _, s := range v.Subtasks {
			if len(s.Lag) > 0 {
				n += s.RecordsIn
			}
		}
	}
	return n
}
