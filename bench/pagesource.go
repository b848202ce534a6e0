package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/bench/coordination"
	"github.com/sluice-stream/sluice/bench/figures"
)

// source is the JSON of one run of a benchmark: one of records and scale is set.
type source struct {
	number  int    // from 1, in the order of the page
	name    string // of the file; empty: it was not written to one
	records *Report
	scale   *coordination.Report
}

// form is what tells one JSON from another.
type form struct {
	Benchmark string `json:"benchmark"`
}

// shownPath is how the page names a file: as it was given if that is within the repository, else without its
// directory, which is of one machine.
func shownPath(path string) string {
	if path == "" || filepath.IsLocal(path) {
		return path
	}
	return filepath.Base(path)
}

// readSources reads files, in the order of the page.
func readSources(paths []string) ([]*source, error) {
	var out []*source
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading a report: %w", err)
		}
		s, err := parseSource(text)
		if err != nil {
			return nil, fmt.Errorf("reading the report %s: %w", path, err)
		}
		s.name = shownPath(path)
		out = append(out, s)
	}
	return out, nil
}

// parseSource refuses what it does not know in full: a figure whose meaning has changed must not get onto a page.
func parseSource(text []byte) (*source, error) {
	var f form
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("not the JSON of a benchmark: %w", err)
	}
	s := &source{}
	var into any
	switch f.Benchmark {
	case recordsBenchmark:
		s.records = &Report{}
		into = s.records
	case coordination.Benchmark:
		s.scale = &coordination.Report{}
		into = s.scale
	default:
		return nil, fmt.Errorf("benchmark is %q, want %s (go run ./bench) or %s (go run ./bench/scale)", f.Benchmark, recordsBenchmark, coordination.Benchmark)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return nil, fmt.Errorf("another version of the benchmark wrote it, measure again: %w", err)
	}
	if s.records != nil && len(s.records.Profiles) > 0 {
		s.records.Runs, s.records.Ratios = nil, nil // they were slower than others: profiling costs
	}
	return s, nil
}

// what is how the page calls the benchmark.
func (s *source) what() string {
	if s.records != nil {
		return "records, `go run ./bench`"
	}
	return "coordination, `go run ./bench/scale`"
}

func (s *source) machine() Machine {
	if s.records != nil {
		return s.records.Machine
	}
	return Machine{Host: s.scale.Machine}
}

func (s *source) settings() map[string]any {
	if s.records != nil {
		return s.records.Settings
	}
	return s.scale.Settings
}

// machineRows describe where and with what a run was made.
func (s *source) machineRows() [][2]string {
	m := s.machine()
	rows := [][2]string{
		{"benchmark", s.what()},
		{"at", m.At.UTC().Format(time.DateTime) + " UTC"},
		{"processor", fmt.Sprintf("%s, %d CPUs, shared by all processes", m.CPU, m.CPUs)},
		{"memory", fmt.Sprintf("%.1f GiB", m.MemoryGiB)},
		{"kernel", "Linux " + m.Kernel},
		{"Go", m.Go},
		{"Kafka", m.Kafka},
		{"Java", m.Java},
		{"revision", m.Revision},
		{"load average before the first measurement", fmt.Sprintf("%.1f", m.Load1)},
	}
	if s.name != "" {
		rows = slices.Insert(rows, 1, [2]string{"figures", "`" + s.name + "`"})
	}
	return slices.DeleteFunc(rows, func(r [2]string) bool { return r[1] == "" })
}

// settingsText lists the settings by name; what says nothing is left out.
func (s *source) settingsText() string {
	settings := s.settings()
	var names []string
	for name := range settings {
		if name != "flags" { // see command
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []string
	for _, name := range names {
		if text := settingText(settings[name]); text != "" {
			out = append(out, fmt.Sprintf("%s: %s", name, text))
		}
	}
	return strings.Join(out, "; ")
}

// settingText writes a value as it came from JSON.
func settingText(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case []any:
		var parts []string
		for _, element := range v {
			parts = append(parts, settingText(element))
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		var parts []string
		for name, element := range v {
			parts = append(parts, name+" "+settingText(element))
		}
		slices.Sort(parts)
		return strings.Join(parts, ", ")
	case float64:
		return figures.Grouped(v)
	}
	return fmt.Sprint(value)
}

// command is what was run, with the flags that were not the default.
func (s *source) command() string {
	command := "go run ./bench"
	if s.scale != nil {
		command += "/scale"
	}
	flags, _ := s.settings()["flags"].([]any) // absent: all are the default
	for _, flag := range flags {
		command += " " + fmt.Sprint(flag)
	}
	return command
}
