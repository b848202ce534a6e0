package main

import (
	_ "embed"
	"strings"
)

// pageNotes says why goals are missed and what would be needed, in words: figures are in the tables and in the
// profiles. Each section is for the goals whose names hold its heading, and is printed while one of them is missed.
//
//go:embed page.notes.md
var pageNotes string

// note is a section of pageNotes.
type note struct{ about, text string }

func notesIn(text string) []note {
	var out []note
	for _, section := range strings.Split("\n"+text, "\n## ")[1:] {
		about, rest, _ := strings.Cut(section, "\n")
		out = append(out, note{strings.TrimSpace(about), strings.TrimSpace(rest)})
	}
	return out
}

// notesFor are those of the missed goals, each with its goals.
func notesFor(missed []string, notes []note) []missedNote {
	var out []missedNote
	for _, n := range notes {
		m := missedNote{Text: n.text}
		for _, name := range missed {
			if strings.Contains(name, n.about) {
				m.Goals = append(m.Goals, name)
			}
		}
		if len(m.Goals) > 0 {
			out = append(out, m)
		}
	}
	return out
}

// missedNote is a note with the goals that it is about.
type missedNote struct {
	Goals []string
	Text  string
}
