package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-stream/sluice/bench/figures"
)

var update = flag.Bool("update", false, "write the golden page anew")

const goldenPage = "testdata/BENCHMARKS.golden.md"

var storedReports = []string{"testdata/records.json", "testdata/scale.json", "testdata/profiles.json"}

// The page of stored figures is the golden one: go test ./bench -run Page -update writes that.
func TestPageIsGolden(t *testing.T) {
	dir := t.TempDir()
	page, images := filepath.Join(dir, "BENCHMARKS.md"), filepath.Join(dir, imageDir)
	stale := filepath.Join(images, imageName("stale"))
	foreign := filepath.Join(images, "logo.svg")
	if err := errors.Join(os.Mkdir(images, 0o755), os.WriteFile(stale, nil, 0o644), os.WriteFile(foreign, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := pageFrom(storedReports, page); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(goldenPage, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenPage)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the page differs (-want +got), see -update:\n%s", d)
	}
	for _, bad := range []string{"NaN", "Inf", "<no value>", "%!", "{{"} {
		if bytes.Contains(got, []byte(bad)) {
			t.Errorf("%s in the page", bad)
		}
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an image of an earlier page is still there: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("an image that is not the page's: %v", err)
	}
	for _, name := range []string{"cpu", "throughput", "memory", "latency", "recovery", "coordination"} {
		svg, err := os.ReadFile(filepath.Join(images, imageName(name)))
		if err != nil || !bytes.Contains(got, []byte("(img/"+imageName(name)+")")) {
			t.Errorf("image %s: %v, or the page does not show it", name, err)
		}
		if err := readAllXML(svg); err != nil {
			t.Errorf("image %s: %v", name, err)
		}
	}
}

func readAllXML(text []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := decoder.Token(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// The same figures as JSON are the same page, whether they come from a file or were just measured.
func TestPageOfWhatWasJustMeasured(t *testing.T) {
	sources, err := readSources(storedReports[:1])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	just, stored := filepath.Join(dir, "just.md"), filepath.Join(dir, "stored.md")
	if err := errors.Join(pageOf(sources[0].records, storedReports[0], just), pageFrom(storedReports[:1], stored)); err != nil {
		t.Fatal(err)
	}
	a, errA := os.ReadFile(just)
	b, errB := os.ReadFile(stored)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(bytes.ReplaceAll(b, []byte("stored.md"), []byte("just.md"))), string(a)); d != "" {
		t.Errorf("they differ:\n%s", d)
	}
}

// Runs that were profiled were slower: they are in no table, chart or goal.
func TestProfiledRunsCountForNothingElse(t *testing.T) {
	sources, err := readSources(storedReports[2:])
	if err != nil {
		t.Fatal(err)
	}
	text, images, err := renderPage("p.md", sources)
	if err != nil || len(images) != 0 {
		t.Fatalf("%d images, %v", len(images), err)
	}
	for _, want := range []string{"0 met, 0 missed", "- the part throughput", "linux.Syscall6 | 41.5 %"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// An empty report has a page that says so.
func TestPageOfNothing(t *testing.T) {
	s, err := parseSource([]byte(`{"benchmark":"records","machine":{},"settings":null,"goals":null}`))
	if err != nil {
		t.Fatal(err)
	}
	text, images, err := renderPage("p.md", []*source{s})
	if err != nil || len(images) != 0 {
		t.Fatalf("%d images, %v", len(images), err)
	}
	for _, want := range []string{"0 met, 0 missed", "- the part throughput", "- the part coordination", "go run ./bench --page p.md"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestUnknownReportsAreRefused(t *testing.T) {
	stored, err := os.ReadFile(storedReports[0])
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct{ text, want string }{
		"no JSON":           {"GOAL LIMIT", "not the JSON of a benchmark"},
		"no benchmark":      {`{"machine":{}}`, `benchmark is ""`},
		"another benchmark": {`{"benchmark":"disks"}`, `benchmark is "disks", want records (go run ./bench) or coordination-scale (go run ./bench/scale)`},
		"a field that is not known": {
			strings.Replace(string(stored), `"cpuSecondsPerMillion"`, `"cpuMillisPerMillion"`, 1), `measure again: json: unknown field "cpuMillisPerMillion"`},
		"a field of another kind": {strings.Replace(string(stored), `"round": 1`, `"round": "first"`, 1), "measure again"},
		"cut":                     {string(stored[:len(stored)/2]), "not the JSON of a benchmark"},
	}
	for name, c := range cases {
		file := filepath.Join(t.TempDir(), "figures.json")
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		page := filepath.Join(t.TempDir(), "p.md")
		if err := pageFrom([]string{storedReports[1], file}, page); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want %q and the file", name, err, c.want)
		}
		if _, err := os.Stat(page); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: there is a page: %v", name, err)
		}
	}
	if err := pageFrom(storedReports, ""); err == nil || !strings.Contains(err.Error(), "--page") {
		t.Errorf("no page to write: %v", err)
	}
}

// The summary has a column for each contestant, in one mode, and leaves wrong runs out.
func TestSummary(t *testing.T) {
	run := func(job, contestant, mode string, cpu float64) Run {
		return Run{Case: job, ValueBytes: 100, Compression: noCompression, Contestant: contestant, Mode: mode, CPUPerMillion: cpu, SteadyPerSec: 2.5e6}
	}
	wrong := run(caseCount, bareName, "", 1)
	wrong.Wrong = "2 lost"
	r := Report{Runs: []Run{run(casePass, sluiceName, "off", 9), run(casePass, sluiceName, summaryMode, 0.1), run(casePass, sluiceName, summaryMode, 0.3), run(casePass, franzName, "", 1), run(caseJSON, franzName, "", 2), wrong}}
	var m figures.Markdown
	r.printSummary(&m)
	want := "\n| CPU-S PER MILLION, RECORDS/S STEADY | sluice exactly-once/1s | franz-go |\n| --- | ---: | ---: |\n| pass, 100 B none | 0.2, 2.50 M | 1.00, 2.50 M |\n| json, 100 B none | - | 2.00, 2.50 M |\n"
	if d := cmp.Diff(want, m.String()); d != "" {
		t.Error(d)
	}
	m.Reset()
	(&Report{Runs: r.Runs[:1]}).printSummary(&m)
	if m.Len() > 0 {
		t.Errorf("of another mode: %s", &m)
	}
}

// A goal that one run has measured is not listed as missing for the others.
func TestGoalsOfSeveralRuns(t *testing.T) {
	measured := &source{number: 1, records: &Report{Startup: &StartupReport{JobManagerReadyMs: figures.NewSample([]float64{10})}}}
	again := &source{number: 2, records: &Report{Startup: &StartupReport{JobManagerReadyMs: figures.NewSample([]float64{900})}}}
	nothing := &source{number: 3, records: &Report{}}
	var runs []int
	unmeasured := map[string]int{}
	for _, row := range goalRows([]*source{nothing, measured, again}) {
		switch {
		case row.goal.Verdict == verdictNotMeasured:
			unmeasured[row.goal.Name]++
		case row.goal.Name == "start of the job manager":
			runs = append(runs, row.run)
		}
	}
	if !slices.Equal(runs, []int{1, 2}) || unmeasured["start of the job manager"] != 0 {
		t.Errorf("rows of runs %v", runs)
	}
	for name, n := range unmeasured {
		if n != 1 {
			t.Errorf("%s: %d rows say that it was not measured", name, n)
		}
	}
	table := goalTableOf([]*source{measured, again}, "intro\n## start of the job\n\nIt is slow.\n\n## other\nunused\n")
	if len(table.Notes) != 1 || table.Notes[0].Text != "It is slow." || !slices.Equal(table.Notes[0].Goals, []string{"start of the job manager (run 2)"}) {
		t.Errorf("notes %+v", table.Notes)
	}
}

// What is noted is about goals that there are.
func TestNotesAreAboutGoals(t *testing.T) {
	for _, n := range notesIn(pageNotes) {
		about := func(g goal) bool { return strings.Contains(g.name, n.about) }
		if !slices.ContainsFunc(goals(), about) && !strings.Contains(n.about, "subtask") || n.text == "" {
			t.Errorf("note %q is about no goal, or says nothing", n.about)
		}
	}
}

func TestSettingsAndCommand(t *testing.T) {
	s := &source{records: &Report{}}
	if err := json.Unmarshal([]byte(`{"a":[1000,"x"],"b":{"y":1,"x":"z"},"c":null,"flags":["--sizes=100,1024"]}`), &s.records.Settings); err != nil {
		t.Fatal(err)
	}
	if got := s.settingsText(); got != "a: 1,000, x; b: x z, y 1" {
		t.Errorf("settings %q", got)
	}
	if got := s.command(); got != "go run ./bench --sizes=100,1024" {
		t.Errorf("command %q", got)
	}
	if a, b := shownPath("/elsewhere/x.json"), shownPath("docs/x.json"); a != "x.json" || b != "docs/x.json" {
		t.Errorf("paths %q, %q", a, b)
	}
	opts, err := parseOptions([]string{"--json=/tmp/x", "--sizes=100,1024", "--from=a,b", "--repeats=2"})
	if err != nil || !slices.Equal(opts.flags, []string{"--repeats=2", "--sizes=100,1024"}) && !slices.Equal(opts.flags, []string{"--sizes=100,1024", "--repeats=2"}) {
		t.Errorf("flags %v, %v", opts.flags, err)
	}
}

func TestProfilesAreThoseOfTheRuns(t *testing.T) {
	run := Run{Case: casePass, ValueBytes: 100, Compression: noCompression, Contestant: sluiceName, Mode: "exactly-once/1s"}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pass-100-none-sluice-exactly-once-100ms-tm-1-1.pprof"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := profilesOf(t.Context(), []Run{run}, dir); err == nil || !strings.Contains(err.Error(), "left no profile") {
		t.Errorf("%v, %v: another run's profile is not this one's", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pass-100-none-sluice-exactly-once-1s-tm-1-1.pprof"), []byte("no profile"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := profilesOf(t.Context(), []Run{run}, dir); err == nil || !strings.Contains(err.Error(), "pass, 100 B none, sluice exactly-once/1s") {
		t.Errorf("%v, %v: the profile is broken", got, err)
	}
	if got, err := profilesOf(t.Context(), []Run{{Contestant: franzName}}, dir); err != nil || len(got) != 0 {
		t.Errorf("%v, %v: nothing of this contestant is profiled", got, err)
	}
}

// pprof's table is read as it is printed.
func TestParseTop(t *testing.T) {
	const printed = `File: taskmanager
Type: cpu
Duration: 3.01s, Total samples = 4.20s (139.5%)
Showing nodes accounting for 2.5s, 59.52% of 4.20s total
      flat  flat%   sum%        cum   cum%
     1.20s 28.57% 28.57%      1.30s 30.95%  internal/runtime/syscall/linux.Syscall6
     0.70s 16.67% 45.24%      0.70s 16.67%  runtime.memmove (inline)
`
	cpu, got, err := parseTop(printed)
	want := []ProfiledFunction{{"internal/runtime/syscall/linux.Syscall6", 28.57, 30.95}, {"runtime.memmove (inline)", 16.67, 16.67}}
	if err != nil || !slices.Equal(got, want) || cpu != 4200*time.Millisecond {
		t.Errorf("%s, %v, %v", cpu, got, err)
	}
	const header = "Total samples = 1s (1%)\n  flat cum%\n"
	for _, bad := range []string{"", "no table", header + "1.2s 3%\n", header + "a b c d e f\n", "Total samples = much\ncum%\n"} {
		if _, got, err := parseTop(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

// What a contestant was not measured with, and another was, in whatever run, is told.
func TestUntaken(t *testing.T) {
	run := func(job, contestant string, valueBytes int, compression string) Run {
		return Run{Case: job, Contestant: contestant, ValueBytes: valueBytes, Compression: compression}
	}
	one := &source{number: 1, records: &Report{Runs: []Run{run(casePass, bareName, 100, noCompression), run(casePass, franzName, 100, noCompression), run(caseCount, franzName, 100, noCompression)}}}
	two := &source{number: 2, records: &Report{Runs: []Run{run(casePass, bareName, 100, lz4)}}}
	if got := untaken([]*source{one, two, {number: 3}}); !slices.Equal(got, []string{"pass of franz-go with 100 B lz4"}) {
		t.Errorf("%q", got)
	}
}
