package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/fault"
	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/chaos/workload"
)

func TestCatalogue(t *testing.T) {
	names := map[string]bool{}
	for _, f := range fault.Catalogue() {
		if names[f.Name()] {
			t.Errorf("%s is there twice", f.Name())
		}
		names[f.Name()] = true
		if (f.Inject == nil) == (f.NotRun == "") {
			t.Errorf("%s: want either a way to inject it or a reason why not", f.Name())
		}
		if f.What == "" || f.Expect.MinAttempts > f.Expect.MaxAttempts {
			t.Errorf("%s: what happens is %q, attempts %d to %d", f.Name(), f.What, f.Expect.MinAttempts, f.Expect.MaxAttempts)
		}
	}
	for _, suspect := range suspicions {
		if _, err := fault.Select(suspect.faults); err != nil {
			t.Errorf("%s: %v", suspect.bug, err)
		}
	}
	if f, err := fault.Select("F1,F12/tm-jm"); err != nil || len(f) != 11 {
		t.Errorf("F1 and F12/tm-jm are %d faults (%v), want 11: not those of F12 that begin with F1", len(f), err)
	}
	if all, err := fault.Select("all"); err != nil || len(all) != len(fault.Catalogue()) {
		t.Errorf("all are %d faults of %d (%v)", len(all), len(fault.Catalogue()), err)
	}
	if f, err := fault.Select("F25/replaced"); err != nil || len(f) != 1 {
		t.Errorf("a fault cannot be run by its name: %v", err)
	}
	if _, err := fault.Select("F99"); err == nil {
		t.Error("F99 is taken for a fault")
	}
}

// An expectation that nothing can fail proves nothing.
func TestExpectationsFail(t *testing.T) {
	log := filepath.Join(t.TempDir(), "decisions.jsonl")
	lines := `{"time":"2026-01-01T00:00:01Z","event":"state","job":"j","from":"DEPLOYING","to":"RUNNING","attempt":1}
{"time":"2026-01-01T00:00:05Z","event":"state","job":"other","to":"FAILED","attempt":9}
{"time":"2026-01-01T00:00:07Z","event":"state","job":"j","to":"RESTARTING","attempt":1}
{"time":"2026-01-01T00:00:08Z","event":"state","job":"j","to":"RUNNING","attempt":2}
`
	if err := os.WriteFile(log, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 1, 1, 0, 0, 4, 0, time.UTC)
	line := &timeline{log: log, job: "j"}
	if got := line.states(began); !slices.Equal(got, []string{"RESTARTING@1", "RUNNING@2"}) {
		t.Errorf("states %v", got)
	}
	tests := []struct {
		name   string
		expect fault.Expect
		want   int // reasons
	}{
		{"as it is", fault.Expect{MinAttempts: 1, MaxAttempts: 1, States: []string{"RESTARTING", "RUNNING"}, Detect: 4 * time.Second}, 0},
		{"no restart is due", fault.Expect{}, 1},
		{"two are", fault.Expect{MinAttempts: 2, MaxAttempts: 3}, 1},
		{"another order", fault.Expect{MaxAttempts: 1, States: []string{"RUNNING", "RESTARTING"}}, 1},
		{"too late", fault.Expect{MaxAttempts: 1, Detect: 2 * time.Second}, 1},
	}
	for _, c := range tests {
		got := stateFaults(line, began, c.expect, line.attempts()-1)
		if len(got) != c.want {
			t.Errorf("%s: reasons %v, want %d", c.name, got, c.want)
		}
	}
}

// What spoils data is told before what else is wrong; an environment that gave up is no discovery.
func TestDiscovery(t *testing.T) {
	for want, verdict := range map[string]oracle.Verdict{
		"":                 {"environment: no brokers"},
		"duplicate: 1":     {"state: RUNNING was not seen in its turn", "duplicate: 1"},
		"hung LSO: out/0 ": {oracle.HungLSO + "out/0 "},
		"state: stuck":     {"state: stuck", "leak: tm-1"},
	} {
		if got := discovery(&Outcome{Report: oracle.Report{Verdict: verdict}}); got != want {
			t.Errorf("%q: %q, want %q", verdict, got, want)
		}
	}
	if got := discovery(&Outcome{}); got != "" {
		t.Errorf("a run that is right: %q", got)
	}
}

func TestTolerate(t *testing.T) {
	seen := oracle.Report{Lost: 3, Verdict: oracle.Verdict{"lost: 3", "lost: a/1", "duplicate: 1"}}
	ended, ran := Outcome{Report: seen}, Outcome{Report: seen}
	ended.tolerate(fault.Expect{Final: "FAILED_DATA_LOSS", DataLoss: true})
	if !slices.Equal(ended.Verdict, oracle.Verdict{"duplicate: 1"}) || ended.Lost != 0 || ended.Missing != 3 {
		t.Errorf("a job that announced a loss: %+v", ended)
	}
	ran.tolerate(fault.Expect{Final: "CANCELED"})
	if len(ran.Verdict) != 3 || ran.Lost != 3 || ran.Missing != 0 {
		t.Errorf("a job that announced none: %+v", ran)
	}
}

func TestReport(t *testing.T) {
	ms := func(v int64) *int64 { return &v }
	good := Outcome{Report: oracle.Report{Workload: workload.A, RecordsIn: 10, DetectMs: ms(7)}, Fault: "F2"}
	slow := good
	slow.DetectMs, slow.Load1, slow.LargeEvery = ms(9), 4.2, 50
	bad := Outcome{Report: oracle.Report{Seed: 5, Workload: workload.B, Lost: 1, Verdict: oracle.Verdict{"lost: 1\n--- log ---\nx", oracle.HungLSO + "behind"}}, Fault: "F12", Revision: "abc"}
	faults := []fault.Fault{{ID: "F17", What: "the clock jumps", NotRun: "no clock"}, {ID: "F18", What: "it rots"}}
	green := report([]Outcome{good, slow}, faults, nil, settings{remark: "A slow machine."})
	for _, want := range []string{"\n\nA slow machine.\n\n", ", 512 KiB in every 50. record of 1 runs.\n", "at the end of 1 of the runs, p50 / p95 / max: 5 / 5 / 5", "All of 2 runs are right. No outcome has a record that is duplicate", "less than 1.5e+02 %", "of 2 outcomes whose data was read", "| F2 | 2 | 0 | 20 |", "9 / 9 / 9", "F17, the clock jumps: no clock"} {
		if !strings.Contains(green, want) {
			t.Errorf("the report lacks %q:\n%s", want, green)
		}
	}
	seeded := []Finding{{"burnt-id-reused", "simulation", 12, "a|b", "abc"}, {Bug: "reuse-epoch", Revision: "abc"}}
	red := report([]Outcome{bad, good}, nil, seeded, settings{})
	for _, want := range []string{"1 of 2 outcomes are not right; 1 runs are not right to the last.\n", "At abc.\n", "| burnt-id-reused | simulation | 12 | a\\|b |", "| reuse-epoch | **nothing** | 0 |", "| F12 | 1 | 1 | 0 | 0 | 1 | 0 | 0 | 0 | 1 |", "F12, workload B, seed 5, at abc: lost: 1; hung LSO: behind"} {
		if !strings.Contains(red, want) {
			t.Errorf("the report lacks %q:\n%s", want, red)
		}
	}
	mended := bad
	mended.Verdict, mended.Lost = nil, 0
	if text := report([]Outcome{bad, mended}, nil, nil, settings{}); !strings.Contains(text, "1 of 2 outcomes are not right; each of these runs was made again, and is right.\n") {
		t.Errorf("a run that was made again:\n%s", text)
	}
	if strings.Index(red, "| F12 ") < strings.Index(red, "| F2 ") {
		t.Error("F12 stands before F2")
	}
}

// TestJournal makes a run that was not right again once the code has changed, and never forgets it.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	outcome := func(fault string, verdict ...string) Outcome {
		o := Outcome{Fault: fault, Kafka: "kafka-4.3.1", Revision: "old"}
		o.Seed, o.Verdict = 1, verdict
		return o
	}
	j, err := openJournal(path, []string{"old"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.add(outcome("F1/one")), j.add(outcome("F2/x", "lost 3")), j.close()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		revisions []string // the last is tested
		outcomes  int
		done      []string
	}{
		{[]string{"old"}, 2, []string{"kafka-4.3.1 F1/one 1", "kafka-4.3.1 F2/x 1"}}, {[]string{"new"}, 0, nil},
		{[]string{"old", "new"}, 2, []string{"kafka-4.3.1 F1/one 1"}},
	} {
		j, err := openJournal(path, step.revisions)
		if err != nil {
			t.Fatal(err)
		}
		if done := slices.Sorted(maps.Keys(j.done)); !slices.Equal(done, step.done) || len(j.outcomes) != step.outcomes || (redRuns(j.outcomes) == 0) != (step.outcomes == 0) {
			t.Errorf("revisions %v: %d outcomes, done %v", step.revisions, len(j.outcomes), done)
		}
		if len(step.revisions) == 2 {
			if err := j.add(outcome("F2/x")); err != nil || redRuns(j.outcomes) != 0 || len(j.outcomes) != 3 {
				t.Errorf("mended: %v, %d red, %d outcomes", err, redRuns(j.outcomes), len(j.outcomes))
			}
		}
		if err := j.close(); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(path, []byte("{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(path, []string{"old"}); err == nil || !strings.Contains(err.Error(), "journal:1") {
		t.Errorf("a broken line: %v", err)
	}
}

// TestAnnounced: a loss is let pass as far as the job has told it, with both ways on.
func TestAnnounced(t *testing.T) {
	text := "checkpoint 5 is complete, but …; the output that is lost: out/0 offsets 1 to 9; its input … Ways out: " +
		"`sluice submit FILE --from-checkpoint j/4` loses nothing and writes at most 6 records a second time; `sluice submit FILE --from-checkpoint j/5` writes nothing twice and loses at most 9 records"
	lossy := fault.Expect{Final: "FAILED_DATA_LOSS", DataLoss: true}
	for _, c := range []struct {
		name, message string
		missing       int64
		expect        fault.Expect
		right         bool
	}{
		{"as told", text, 9, lossy, true},
		{"more than told", text, 10, lossy, false},
		{"nothing is missing", text, 0, lossy, false},
		{"no ways on", "checkpoint 5 is complete, but …; the output that is lost: out/0 offsets 1 to 9", 9, lossy, false},
		{"no loss is due", "", 0, fault.Expect{Final: "CANCELED"}, true},
	} {
		o := Outcome{Failure: c.message, Missing: c.missing}
		if reasons := o.announced(c.expect); (len(reasons) == 0) != c.right {
			t.Errorf("%s: %q", c.name, reasons)
		}
	}
}
