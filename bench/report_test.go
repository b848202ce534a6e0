package main

import (
	"encoding/json"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator/expression"
	"github.com/sluice-stream/sluice/spec"
	"github.com/sluice-stream/sluice/web"
)

func TestJobFilesAreValid(t *testing.T) {
	for _, j := range jobs {
		if j.half {
			continue
		}
		for _, s := range []jobSpec{
			{startup: "earliest", bounded: true, interval: time.Second, guarantee: atLeastOnce},
			{startup: "earliest", bounded: true, guarantee: atLeastOnce}, // checkpoints off
			{startup: "latest", interval: 100 * time.Millisecond, guarantee: exactlyOnce, compression: lz4},
		} {
			s.broker, s.source, s.target = "127.0.0.1:9092", "in-100", "out-1"
			s.operators, s.last, s.format, s.keyFormat, s.partitioner = j.operators, j.last, j.format, j.keyFormat, j.partitioner
			spec, err := spec.Parse([]byte(s.yaml()), "job.yaml", spec.Options{Checks: graph.Checks{Expressions: expression.Checker{}, Properties: kafka.CheckProperties}})
			if err != nil {
				t.Errorf("%s: %v\n%s", j.name, err, s.yaml())
				continue
			}
			if spec.Name != jobName || spec.Parallelism != partitions || spec.Checkpoint.Interval != s.interval || (len(spec.Operators) > 0) != (j.operators != "") ||
				string(spec.Sinks[0].Kafka.Guarantee) != s.guarantee {
				t.Errorf("%s: %+v", j.name, spec)
			}
		}
	}
}

func TestVersionIn(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if version, err := versionIn(self, "github.com/twmb/franz-go"); err != nil || !strings.HasPrefix(version, "v") {
		t.Errorf("%q, %v", version, err)
	}
	if _, err := versionIn(self, "example.org/none"); err == nil {
		t.Error("a module that is not there has a version")
	}
	if _, err := versionIn(filepath.Join(t.TempDir(), "none"), "x"); err == nil {
		t.Error("a program that is not there has modules")
	}
}

func TestMetricsIn(t *testing.T) {
	const text = "# HELP a_sum x\na_sum{job=\"bench\"} 1.5e-01\na_sum 3\nb a_sum 9\nlast 7\n"
	got, err := metricsIn(text, []string{`a_sum{job="bench"}`, "a_sum", "last"})
	if err != nil || !slices.Equal(got, []float64{0.15, 3, 7}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := metricsIn(text, []string{"sum"}); err == nil {
		t.Error("found a metric that is not there")
	}
}

func TestLostPartitions(t *testing.T) {
	subtask := func(tm string, partition int32) web.Subtask {
		return web.Subtask{TaskManager: tm, Lag: []web.SplitLag{{Topic: "in", Partition: partition}}}
	}
	job := web.Job{Vertices: []web.Vertex{{Subtasks: []web.Subtask{subtask("tm-1", 0), subtask("tm-2", 1), subtask("tm-1", 2), {TaskManager: "tm-2"}}}}}
	if got := readBy(&job, ""); !slices.Equal(got, []int32{0, 1, 2}) {
		t.Errorf("read by all: %v", got)
	}
	lost := readBy(&job, "tm-1")
	if !slices.Equal(lost, []int32{0, 2}) {
		t.Errorf("read by tm-1: %v", lost)
	}
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	first, all := firstAndAll([partitions]time.Time{at(5), at(1), at(3), at(9)}, lost)
	if first != at(3) || all != at(9) {
		t.Errorf("first %s, all %s", first, all)
	}
}

// sampleReport has a case in which the last run of Sluice is fast and wrong.
func sampleReport() *Report {
	run := func(round int, contestant, mode string, cpu float64, wrong string) Run {
		return Run{
			Case: casePass, ValueBytes: 100, Compression: noCompression, Contestant: contestant, Mode: mode, Round: round,
			CPUPerMillion: cpu, RecordsPerSec: 1e6 / cpu, SteadyPerSec: 1e6 / cpu, PeakRSSBytes: map[string]int64{"x": 3 << 20}, Wrong: wrong,
		}
	}
	const mode = "at-least-once/1s"
	runs := []Run{run(1, sluiceName, mode, 0.5, ""), run(1, franzName, "", 1, ""), run(2, franzName, "", 3, ""), run(2, sluiceName, mode, 0.7, ""), run(3, sluiceName, mode, 0.01, "lost"), run(2, bareName, "", 0.7, "")}
	latency := []LatencyReport{latencyAt(exactlyOnce, 1000, 100), latencyAt(exactlyOnce, 1000, 20), latencyAt(exactlyOnce, 1000, 300), latencyAt(exactlyOnce, 10_000, 900), latencyAt(atLeastOnce, 1000, 5)}
	for i := range latency {
		latency[i].Mode = latency[i].Guarantee + "/100ms"
	}
	return &Report{
		Runs: runs, Ratios: ratiosOf(runs),
		Startup: &StartupReport{
			JobManagerReadyMs: figures.NewSample([]float64{301}), TaskManagerReadyMs: figures.NewSample([]float64{20}), JobManagerIdle: 41 << 20, TaskManagerIdle: 39 << 20,
		},
		Checkpoints: []CheckpointReport{{DurationMs: figures.NewSample([]float64{1})}, {RecordsPerSec: 1000, DurationMs: figures.NewSample([]float64{5, 7, 90})}},
		Recovery: &RecoveryReport{
			SpareSlots: []Recovery{{FirstMs: 150}, {FirstMs: 3300}, {FirstMs: 150}}, MissingSlot: []Recovery{{FirstMs: 5000, SlotToFirstMs: 200}}, JobManager: []Recovery{{FirstMs: 500, ReadyMs: 40}},
		},
		FirstOutputMs: figures.NewSample([]float64{150}),
		Latency:       latency,
	}
}

func TestGoals(t *testing.T) {
	r := sampleReport()
	verdicts := map[string]string{}
	for _, g := range goalsOf(r) {
		if _, twice := verdicts[g.Name]; twice {
			t.Errorf("%s stands there twice", g.Name)
		}
		verdicts[g.Name] = g.ratioText() + " " + g.verdictText()
	}
	want := map[string]string{
		"pass, 100 B none, at-least-once/1s: CPU per record against franz-go":            "1.47 MISSED", // 0.5 of 1 and 0.7 of 3, a quarter is the goal
		"pass, 100 B none, at-least-once/1s: records/s, steady, against bare":            "1.05 met",    // as fast, 0.95 is the goal
		"pass, 100 B none, exactly-once/1s: CPU per record against franz-go":             "- not measured",
		"peak memory of all processes against flink's, pass-through":                     "- not measured",
		"peak memory of a task manager, largest of all jobs":                             "0.04 met",
		"start of the job manager":                                                       "1.00 MISSED",
		"start of the task manager":                                                      "0.07 met",
		"idle job manager":                                                               "1.02 MISSED",
		"idle task manager":                                                              "0.97 met",
		"checkpoint p50 at 1,000 records/s, trigger to durable":                          "0.35 met",
		"checkpoint p50 at 10,000 records/s, trigger to durable":                         "- not measured",
		"kill -9 of a task manager with spare slots: first new committed output, median": "0.10 met",
		"the same, max": "1.10 MISSED",
		"missing slots there: first new committed output, median":                      "0.20 met",
		"kill -9 of the job manager, started at once: first new committed output, max": "0.10 met",
		"latency at 1,000 records/s, exactly-once/100ms: p99":                          "0.50 met",
		"latency at 1,000 records/s, at-least-once: p99":                               "0.25 met",
		"submit: first output, at-least-once, warm broker":                             "0.50 met",
	}
	for name, verdict := range want {
		if verdicts[name] != verdict {
			t.Errorf("%s: %q, want %q", name, verdicts[name], verdict)
		}
	}
	if err := r.wrong(); err == nil || strings.Count(err.Error(), "wrong output") != 1 {
		t.Errorf("a wrong output is reported as %v", err)
	}
	for _, g := range goalsOf(&Report{}) {
		if g.Verdict != verdictNotMeasured || g.Measured != 0 || g.Ratio != 0 {
			t.Errorf("of nothing: %+v", g)
		}
	}
}

func TestReportIsPrinted(t *testing.T) {
	r := sampleReport()
	r.Goals = goalsOf(r)
	var text strings.Builder
	r.print(&text)
	for _, want := range []string{"0.600 (0.500–0.700)", "2.000 (1.000–3.000)", "0.367 (0.233–0.500)", "MISSED", "150 ms (150–3300)", "40 ms (40–40)", "5.0–90.0 ms"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if strings.Contains(text.String(), "NaN") {
		t.Errorf("NaN in\n%s", &text)
	}
	var out strings.Builder
	if err := figures.WriteJSON(r, "", &out); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil || len(back.Runs) != len(r.Runs) || len(back.Goals) != len(r.Goals) {
		t.Errorf("%v: %s", err, &out)
	}
	(&Report{Runs: r.Runs[4:]}).print(io.Discard) // no valid run: nothing to divide by
}

func TestOptions(t *testing.T) {
	if _, err := parseOptions(nil); err != nil {
		t.Errorf("defaults: %v", err)
	}
	for _, bad := range []string{
		"--only=speed", "--guarantee=none", "--latency=10ms", "--cases=join", "--sizes=3", "--sizes=1000000", "--records=100", "--repeats=0", "--kills=-1", "--rates=-1", "--interval=0s", "--nothing",
		"--contestants=storm", "--compression=zip", "--compression=", "--sizes=", "--modes=on", "--modes=exactly-once", "--modes=exactly-once/0s", "--modes=none/1s",
	} {
		if _, err := parseOptions([]string{bad}); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// Ratios compare runs of the same round only, and no run whose output was wrong.
func TestRatios(t *testing.T) {
	run := func(round int, contestant, mode string, speed float64, wrong string) Run {
		return Run{
			Case: casePass, ValueBytes: 100, Round: round, Contestant: contestant, Mode: mode, SteadyPerSec: speed,
			RecordsPerSec: speed * float64(round), CPUPerMillion: 1 / speed, Wrong: wrong,
		}
	}
	short, long := "exactly-once/100ms", "exactly-once/1s"
	runs := []Run{
		run(1, sluiceName, short, 99, ""), run(1, txnName, short, 100, ""), run(2, sluiceName, short, 500, "2 lost"), run(2, txnName, short, 10, ""),
		run(3, txnName, short, 200, ""), run(3, sluiceName, short, 190, ""), run(3, sluiceName, "off", 380, ""), run(3, sluiceName, long, 190, ""),
		run(3, franzName, "", 19, ""),
	}
	got := map[string]float64{}
	for _, r := range ratiosOf(runs) {
		got[r.Of+" / "+r.To] = r.Steady.Median
		if r.Of == "sluice "+short && r.To == "bare-txn "+short && (r.Steady != figures.NewSample([]float64{0.99, 0.95}) || r.Whole != r.Steady) {
			t.Errorf("ratio %+v", r)
		}
	}
	want := map[string]float64{
		"sluice exactly-once/100ms / bare-txn exactly-once/100ms": 0.97, "sluice exactly-once/100ms / sluice off": 0.5,
		"sluice exactly-once/1s / sluice off": 0.5, "sluice off / franz-go": 20, "sluice exactly-once/1s / franz-go": 10, "sluice exactly-once/100ms / franz-go": 10,
	}
	if !maps.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }) {
		t.Errorf("ratios %v\nwant %v", got, want)
	}
	r := Report{Runs: runs}
	if err := r.wrong(); err == nil || !strings.Contains(err.Error(), "2 lost") {
		t.Errorf("a wrong output is reported as %v", err)
	}
}

func TestSteadyRate(t *testing.T) {
	at := func(seconds float64) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
	}
	for name, c := range map[string]struct {
		seen []sight
		want float64
	}{
		"nothing":   {nil, 0},
		"one sight": {[]sight{{at(1), 100}}, 0},
		"empty":     {[]sight{{at(1), 0}, {at(2), 0}}, 0},
		// 10 and 90 of 100 are halfway between sights: at 1.5 s and 3.5 s.
		"interpolated": {[]sight{{at(0), 0}, {at(1), 0}, {at(2), 20}, {at(3), 80}, {at(4), 100}, {at(60), 100}}, 40},
	} {
		if got := steadyRate(c.seen); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%s: %g, want %g", name, got, c.want)
		}
	}
}
