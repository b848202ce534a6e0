package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/sluice-stream/sluice/bench/figures"
)

//go:embed page.md.tmpl
var pageText string

// imageDir is beside the page.
const imageDir = "img"

// page is what the template takes: no figure of it is written by hand.
type page struct {
	Runs    []pageRun
	Goals   goalTable
	Charts  map[string]string // Markdown of an image, by its name; absent: there is nothing to draw
	Parts   map[string]string // Markdown tables, by the part of the benchmark; absent: not measured
	Gaps    []string          // what was to be measured and was not
	Command string            // writes the page again
}

// pageRun is one run of a benchmark.
type pageRun struct {
	Number   int
	Machine  [][2]string
	Settings string
	Command  string
}

// Parts of the page beside those of this benchmark: one is measured by bench/scale, one comes with --profile.
const (
	partCoordination = "coordination"
	partProfiles     = "profiles"
	partSummary      = "summary" // of the throughput part
)

// pageFrom writes the page from files.
func pageFrom(paths []string, to string) error {
	if to == "" {
		return errors.New("--from writes a page and measures nothing: say with --page where to")
	}
	sources, err := readSources(paths)
	if err != nil {
		return err
	}
	return writePage(to, sources)
}

// pageOf writes the page from what has just been measured.
func pageOf(report *Report, json, to string) error {
	var text bytes.Buffer
	if err := figures.WriteJSON(report, "", &text); err != nil {
		return err
	}
	s, err := parseSource(text.Bytes())
	if err != nil {
		return fmt.Errorf("reading what was measured: %w", err)
	}
	s.name = shownPath(json)
	return writePage(to, []*source{s})
}

// writePage writes the page and its images. Images that an earlier page had and this one has not are removed.
func writePage(to string, sources []*source) error {
	text, images, err := renderPage(shownPath(to), sources)
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(to), imageDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing the images of the page: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(dir, imageName("*")))
	if err != nil {
		return fmt.Errorf("looking for the images of the page: %w", err)
	}
	var errs []error
	for _, path := range old {
		errs = append(errs, os.Remove(path))
	}
	for _, image := range images {
		errs = append(errs, os.WriteFile(filepath.Join(dir, imageName(image.name)), image.svg, 0o644))
	}
	if err := errors.Join(append(errs, os.WriteFile(to, text, 0o644))...); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

func imageName(chart string) string { return "bench-" + chart + ".svg" }

// renderPage is the text of the page, and its images.
func renderPage(name string, sources []*source) (text []byte, images []chart, err error) {
	for i, s := range sources {
		s.number = i + 1
	}
	images = charts(sources)
	p := page{Charts: map[string]string{}, Parts: partsOf(sources), Goals: goalTableOf(sources, pageNotes), Command: pageCommand(name, sources)}
	for _, c := range images {
		p.Charts[c.name] = fmt.Sprintf("![%s](%s/%s)", c.title, imageDir, imageName(c.name))
	}
	for _, s := range sources {
		p.Runs = append(p.Runs, pageRun{s.number, s.machineRows(), s.settingsText(), s.command()})
	}
	p.Gaps = gapsOf(sources, p.Parts)
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, nil, fmt.Errorf("the template of the page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, &p); err != nil {
		return nil, nil, fmt.Errorf("filling the template of the page: %w", err)
	}
	return out.Bytes(), images, nil
}

func pageCommand(name string, sources []*source) string {
	var files []string
	for _, s := range sources {
		if s.name != "" {
			files = append(files, s.name)
		}
	}
	if len(files) == 0 {
		return "go run ./bench --page " + name
	}
	return fmt.Sprintf("go run ./bench --from %s --page %s", strings.Join(files, ","), name)
}

// partsOf prints the tables of each part, as on the terminal.
func partsOf(sources []*source) map[string]string {
	out := map[string]string{}
	part := func(name string, has func(*source) bool, print func(*source, io.Writer)) {
		with := slices.DeleteFunc(slices.Clone(sources), func(s *source) bool { return !has(s) })
		var m figures.Markdown
		for _, s := range with {
			if len(sources) > 1 {
				fmt.Fprintf(&m, "\nRun %d:\n", s.number)
			}
			print(s, &m)
		}
		if len(with) > 0 {
			out[name] = strings.Trim(m.String(), "\n")
		}
	}
	records := func(name string, has func(*Report) bool, print ...func(*Report, io.Writer)) {
		part(name, func(s *source) bool { return s.records != nil && has(s.records) }, func(s *source, w io.Writer) {
			for _, print := range print {
				print(s.records, w)
			}
		})
	}
	records(partThroughput, func(r *Report) bool { return len(r.Runs) > 0 }, (*Report).printRuns, (*Report).printRatios)
	records(partSummary, func(r *Report) bool { return len(r.Runs) > 0 }, (*Report).printSummary)
	records(partLatency, func(r *Report) bool { return len(r.Latency) > 0 }, (*Report).printLatency)
	records(partRecovery, func(r *Report) bool { return r.Recovery != nil }, (*Report).printRecovery)
	records(partStartup, func(r *Report) bool { return r.Startup != nil }, (*Report).printStartup)
	records(partCheckpoints, func(r *Report) bool { return len(r.Checkpoints) > 0 }, (*Report).printCheckpoints)
	records(partProfiles, func(r *Report) bool { return len(r.Profiles) > 0 }, (*Report).printProfiles)
	part(partCoordination, func(s *source) bool { return s.scale != nil }, func(s *source, w io.Writer) { s.scale.Print(w) })
	return out
}

// gapsOf lists what was to be measured and was not.
func gapsOf(sources []*source, parts map[string]string) []string {
	out := untaken(sources)
	for _, name := range []string{partThroughput, partLatency, partRecovery, partStartup, partCheckpoints, partCoordination} {
		if parts[name] == "" {
			out = append(out, "the part "+name)
		}
	}
	for _, s := range sources {
		if s.records == nil {
			continue
		}
		var names []string
		for name := range s.records.LeftOut {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			out = append(out, fmt.Sprintf("%s in run %d: the machine lacked %s", name, s.number, s.records.LeftOut[name]))
		}
		for i := range s.records.Runs {
			if r := &s.records.Runs[i]; r.Wrong != "" {
				out = append(out, fmt.Sprintf("%s, %s, %s, round %d of run %d: disqualified, its output was wrong (%s)", r.who(), r.Case, r.values(), r.Round, s.number, r.Wrong))
			}
		}
	}
	return out
}

// untaken are the contestants that did not take part with some data with which the others did the jobs that are done on all.
func untaken(sources []*source) (out []string) {
	type part struct{ job, contestant string }
	took, data := map[part]map[string]bool{}, map[string]bool{}
	for _, s := range sources {
		if s.records == nil {
			continue
		}
		for i := range s.records.Runs {
			r := &s.records.Runs[i]
			if j := jobByName(r.Case); j == nil || !j.everywhere {
				continue
			}
			key := part{r.Case, r.Contestant}
			if took[key] == nil {
				took[key] = map[string]bool{}
			}
			took[key][r.values()], data[r.values()] = true, true
		}
	}
	for key, with := range took {
		var without []string
		for values := range data {
			if !with[values] {
				without = append(without, values)
			}
		}
		if slices.Sort(without); len(without) > 0 {
			out = append(out, fmt.Sprintf("%s of %s with %s", key.job, key.contestant, strings.Join(without, ", ")))
		}
	}
	slices.Sort(out)
	return out
}
