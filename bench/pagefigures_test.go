package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPageIsOfItsFigures: docs/BENCHMARKS.md is what the benchmark makes of the figures beside it, and no word more.
func TestPageIsOfItsFigures(t *testing.T) {
	const name, root = "docs/BENCHMARKS.md", "../"
	want, err := os.ReadFile(root + name)
	if err != nil {
		t.Fatal(err)
	}
	from := regexp.MustCompile(`--from (\S+) --page ` + name).FindSubmatch(want)
	if from == nil {
		t.Fatalf("%s does not say of which figures it was written", name)
	}
	files := strings.Split(string(from[1]), ",")
	var paths []string
	for _, file := range files {
		paths = append(paths, root+file)
	}
	sources, err := readSources(paths)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range sources {
		s.name = files[i]
	}
	got, images, err := renderPage(name, sources)
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range images {
		path := root + "docs/" + imageDir + "/" + imageName(image.name)
		if svg, err := os.ReadFile(path); err != nil || !bytes.Equal(svg, image.svg) {
			t.Errorf("%s is not the image of these figures (%v)", path, err)
		}
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the page is not that of its figures, see its first lines for what writes it (-page +figures):\n%s", d)
	}
}
