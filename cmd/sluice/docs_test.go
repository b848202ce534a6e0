package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/cmd/internal/daemon"
)

// yamlBlock is a block of YAML in a document.
var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// The page for people who come from Flink has whole job files only; other documents have parts of some too.
const fromFlink = "FROM_FLINK.md"

func TestJobFilesInDocuments(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]int{}
	for _, path := range append(documents, "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		for _, at := range yamlBlock.FindAllSubmatchIndex(text, -1) {
			job := string(text[at[2]:at[3]])
			whole := strings.HasPrefix(job, "name: ") || strings.HasPrefix(job, "# refused: ")
			if !whole && name != fromFlink {
				continue
			}
			checked[name]++
			t.Run(fmt.Sprintf("%s:%d", name, 1+strings.Count(string(text[:at[0]]), "\n")), func(t *testing.T) { validateBlock(t, job) })
		}
	}
	if checked[fromFlink] < 7 || checked["README.md"] < 1 {
		t.Errorf("blocks that were checked: %v", checked)
	}
}

// validateBlock expects that a job file is valid, or refused with the text that its first line gives.
func validateBlock(t *testing.T, job string) {
	t.Helper()
	got := sluice(t.Context(), nil, "validate", writeFile(t, "job.yaml", job))
	first, _, _ := strings.Cut(job, "\n")
	why, refused := strings.CutPrefix(first, "# refused: ")
	switch {
	case refused && (got.code != exitUsage || !strings.Contains(got.stderr, why)):
		t.Errorf("exit %d, want a refusal with %q:\n%s%s", got.code, why, got.stdout, got.stderr)
	case !refused && (got.code != 0 || got.stderr != "" && !strings.HasPrefix(got.stderr, "warning: ")):
		t.Errorf("exit %d:\n%s", got.code, got.stderr)
	}
}

// TestNamesInFromFlink keeps verbs and metrics of the page those of the programs.
func TestNamesInFromFlink(t *testing.T) {
	text, err := os.ReadFile("../../docs/" + fromFlink)
	if err != nil {
		t.Fatal(err)
	}
	known := metricNames(t)
	for _, metric := range metricName.FindAllString(string(text), -1) {
		if !slices.Contains(known, metric) {
			t.Errorf("no metric is named %s", metric)
		}
	}
	root := newRoot(daemon.Process{})
	for _, verb := range regexp.MustCompile("`sluice ([a-z]+)").FindAllStringSubmatch(string(text), -1) {
		if cmd, _, err := root.Find(verb[1:]); err != nil || cmd.Name() != verb[1] {
			t.Errorf("no verb is named %s", verb[1])
		}
	}
}

var metricName = regexp.MustCompile(`sluice_[a-z0-9_]+`)

// metricNames are those of the programs.
func metricNames(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, path := range []string{"../../taskmanager/metrics.go", "../../jobmanager/metrics.go"} {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, metricName.FindAllString(string(source), -1)...)
	}
	return names
}

// TestMetricsAreDocumented: the page of the metrics has all of them, and no others.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	told, known := metricName.FindAllString(string(text), -1), metricNames(t)
	for _, metric := range known {
		if !slices.Contains(told, metric) {
			t.Errorf("docs/METRICS.md does not tell of %s", metric)
		}
	}
	for _, metric := range told {
		if !slices.Contains(known, metric) {
			t.Errorf("docs/METRICS.md tells of %s, which no program has", metric)
		}
	}
}
