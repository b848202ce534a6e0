package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-stream/sluice/bench/coordination"
	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/bench/plot"
)

// chart is an image of the page.
type chart struct {
	name, title string // of the file, without ending
	svg         []byte
}

// charts draws everything that there are figures for.
func charts(sources []*source) []chart {
	var out []chart
	bars := func(name string, b plot.Bars) {
		if len(b.Groups) > 0 {
			b.Format = figures.Digits
			out = append(out, chart{name, b.Title, b.SVG()})
		}
	}
	lines := func(name string, l plot.Lines) {
		if len(l.Lines) > 0 {
			out = append(out, chart{name, l.Title, l.SVG()})
		}
	}
	bars("cpu", plot.Bars{
		Title: "CPU per record", Note: "CPU-seconds (user and system) per million records; median, whiskers from least to greatest. Shorter is better.",
		Groups: runGroups(sources, cpuPerMillion),
	})
	bars("throughput", plot.Bars{
		Title: "Throughput", Note: "Million records per second, steady part; median, whiskers from least to greatest. Longer is better.",
		Groups: runGroups(sources, func(r *Run) float64 { return r.SteadyPerSec / 1e6 }),
	})
	bars("memory", plot.Bars{
		Title: "Memory", Note: "MiB: sum of the peak resident sets of the processes; median, whiskers from least to greatest. Shorter is better.",
		Groups: runGroups(sources, func(r *Run) float64 { return r.peakRSS() / (1 << 20) }),
	})
	lines("latency", plot.Lines{
		Title: "Latency", Note: "From when a record was due until a read_committed reader had it; medians of the runs. Lower is better.",
		X: plot.Axis{Name: "share of the records", Ticks: shares}, Y: plot.Axis{Name: "ms"},
		Lines: latencyLines(sources),
	})
	bars("recovery", plot.Bars{
		Title: "Recovery", Note: "ms; median, whiskers from least to greatest. Shorter is better.",
		Groups: recoveryGroups(sources),
	})
	lines("coordination", plot.Lines{
		Title: "Coordination", Note: "Medians unless it says p99. A cost per subtask is a line that rises tenfold from mark to mark. Lower is better.",
		X: plot.Axis{Name: "subtasks"}, Y: plot.Axis{Name: "ms"},
		Lines: scaleLines(sources),
	})
	return out
}

// bar sums up a figure of things that repeat each other.
func bar(name string, s figures.Sample) plot.Bar {
	b := plot.Bar{Name: name, Value: s.Median}
	if s.N > 1 {
		b.Least, b.Largest = s.Min, s.Max
	}
	return b
}

// in names a group of figures by its run when there are several.
func (s *source) in(name string, sources []*source) string {
	if len(sources) > 1 {
		return fmt.Sprintf("%s (run %d)", name, s.number)
	}
	return name
}

// runGroups has a group for each job and kind of values, and a bar for each contestant and mode in it.
func runGroups(sources []*source, figure func(*Run) float64) []plot.Group {
	var out []plot.Group
	with := having(sources, func(r *Report) bool { return len(r.Runs) > 0 })
	for _, s := range with {
		for _, selected := range selectionsOf(s.records.Runs) {
			runs := selected.of(s.records.Runs)
			if len(runs) == 0 {
				continue
			}
			name := s.in(selected.job+", "+selected.values(), with)
			i := slices.IndexFunc(out, func(g plot.Group) bool { return g.Name == name })
			if i < 0 {
				i = len(out)
				out = append(out, plot.Group{Name: name})
			}
			out[i].Bars = append(out[i].Bars, bar(selected.who(), figures.SampleOf(runs, figure)))
		}
	}
	return out
}

// having picks the runs of this benchmark with some part.
func having(sources []*source, has func(*Report) bool) []*source {
	return slices.DeleteFunc(slices.Clone(sources), func(s *source) bool { return s.records == nil || !has(s.records) })
}

// shares are an axis of nines: each step is a tenth of the records that are left.
var shares = []plot.Tick{{At: nines(0), Name: "0 %"}, {At: nines(0.5), Name: "50 %"}, {At: nines(0.9), Name: "90 %"}, {At: nines(0.99), Name: "99 %"}, {At: nines(0.999), Name: "99.9 %"}, {At: nines(0.9999), Name: "99.99 %"}}

// nines maps 0.9 to 10, 0.99 to 100 and so on.
func nines(quantile float64) float64 { return 1 / (1 - quantile) }

// latencyLines has a line for each mode and rate: of each quantile, the median of the runs.
func latencyLines(sources []*source) []plot.Line {
	var out []plot.Line
	with := having(sources, func(r *Report) bool { return len(r.Latency) > 0 })
	for _, s := range with {
		byName := map[string]map[float64][]float64{}
		var names []string
		for i := range s.records.Latency {
			l := &s.records.Latency[i]
			name := s.in(fmt.Sprintf("%s, %s/s", l.Mode, figures.Grouped(float64(l.RecordsPerSec))), with)
			if byName[name] == nil {
				byName[name] = map[float64][]float64{}
				names = append(names, name)
			}
			for _, q := range l.LatencyMs.Quantiles {
				byName[name][q.At] = append(byName[name][q.At], q.Value)
			}
		}
		for _, name := range names {
			line := plot.Line{Name: name}
			for at, values := range byName[name] {
				line.Points = append(line.Points, plot.Point{X: nines(at), Y: figures.NewSample(values).Median})
			}
			slices.SortFunc(line.Points, func(a, b plot.Point) int { return cmp.Compare(a.X, b.X) })
			out = append(out, line)
		}
	}
	return out
}

// recoveryGroups put Flink beside Sluice where both were measured.
func recoveryGroups(sources []*source) []plot.Group {
	var out []plot.Group
	with := having(sources, func(r *Report) bool { return r.Recovery != nil })
	for _, s := range with {
		add := func(name string, bars ...plot.Bar) {
			bars = slices.DeleteFunc(bars, func(b plot.Bar) bool { return b.Value == 0 }) // not measured
			if len(bars) > 0 {
				out = append(out, plot.Group{Name: s.in(name, with), Bars: bars})
			}
		}
		first := func(r *Recovery) float64 { return r.FirstMs }
		all := func(r *Recovery) float64 { return r.AllMs }
		slot := func(r *Recovery) float64 { return r.SlotToFirstMs }
		r := s.records.Recovery
		rival := r.Flink
		if rival == nil {
			rival = &FlinkRecovery{}
		}
		add("task manager killed, spare slots: kill to first new committed output", bar(sluiceName, figures.SampleOf(r.SpareSlots, first)),
			bar(flinkName+", defaults", figures.SampleOf(rival.Default, first)), bar(flinkName+", tuned", figures.SampleOf(rival.Tuned, first)))
		add("the same, to new committed output of every partition", bar(sluiceName, figures.SampleOf(r.SpareSlots, all)),
			bar(flinkName+", defaults", figures.SampleOf(rival.Default, all)), bar(flinkName+", tuned", figures.SampleOf(rival.Tuned, all)))
		add("no spare slots: missing slots there to first new committed output", bar(sluiceName, figures.SampleOf(r.MissingSlot, slot)), bar(flinkName+", tuned", figures.SampleOf(rival.MissingSlot, slot)))
		add("job manager killed, started at once: kill to first new committed output", bar(sluiceName, figures.SampleOf(r.JobManager, first)))
	}
	return out
}

// scaleLines follow deployment and checkpoints over the number of subtasks.
func scaleLines(sources []*source) []plot.Line {
	var out []plot.Line
	with := slices.DeleteFunc(slices.Clone(sources), func(s *source) bool { return s.scale == nil })
	for _, s := range with {
		for _, figure := range []struct {
			name string
			of   func(*coordination.Step) float64
		}{
			{"deployment", func(s *coordination.Step) float64 { return s.DeploymentMs.Median }},
			{"checkpoint p50", func(s *coordination.Step) float64 { return s.Checkpoints.CommittedMs.Median }},
			{"checkpoint p99", func(s *coordination.Step) float64 { return s.Checkpoints.CommittedMs.P99 }},
		} {
			for _, guarantee := range []string{atLeastOnce, exactlyOnce} {
				line := plot.Line{Name: s.in(strings.Join([]string{figure.name, guarantee}, ", "), with)}
				for i := range s.scale.Steps {
					if step := &s.scale.Steps[i]; step.Guarantee == guarantee && step.Failure == "" {
						line.Points = append(line.Points, plot.Point{X: float64(step.Subtasks), Y: figure.of(step)})
					}
				}
				if len(line.Points) > 0 {
					out = append(out, line)
				}
			}
		}
	}
	return out
}
