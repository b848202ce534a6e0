package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestMissedGoalsHaveReasons: the page says of each goal that it missed why, and what would be needed.
func TestMissedGoalsHaveReasons(t *testing.T) {
	files, err := filepath.Glob("../docs/bench/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("the figures of the page: %v, %v", files, err)
	}
	var sources []*source
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSource(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		sources = append(sources, s)
	}
	var explained []string
	for _, n := range goalTableOf(sources, pageNotes).Notes {
		explained = append(explained, n.Goals...)
	}
	for _, r := range goalRows(sources) {
		if r.goal.Verdict == verdictMissed && !slices.Contains(explained, r.text()) {
			t.Errorf("%q is missed, and page.notes.md does not say why", r.goal.Name)
		}
	}
}
