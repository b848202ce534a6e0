package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/bench/rivals/flink"
)

func TestFlinkIsLeftOutLoudly(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var said strings.Builder
	b := &bench{opts: options{contestants: []string{flinkName}}, progress: &said}
	taking, leftOut := b.taking()
	if len(taking) != 0 || !strings.Contains(leftOut[flinkName], "mvn") {
		t.Errorf("without Maven %d take part, left out: %v", len(taking), leftOut)
	}
	report, err := b.flinkRecovery(t.Context())
	if report != nil || err != nil || !strings.Contains(said.String(), "LEFT OUT: flink") {
		t.Errorf("recovery: %+v, %v, said %q", report, err, said.String())
	}
}

func TestFlinkDoesTheSameJob(t *testing.T) {
	b := &bench{broker: &broker{addr: "127.0.0.1:9092"}}
	trial := &trial{
		by: flinkRival, job: jobByName(caseFilter), mode: mode{exactlyOnce, 100 * time.Millisecond}, target: "out-1",
		data: &dataset{topic: "in-1", datasetSpec: datasetSpec{lines, 100, lz4, 1000}},
	}
	got := (&flinkCluster{}).job(b, trial)
	want := flink.Job{
		Kind: flink.Filter, Brokers: "127.0.0.1:9092", Source: "in-1", Target: "out-1", Prefix: infoStart, Bounded: true, Parallelism: partitions,
		Interval: 100 * time.Millisecond, ExactlyOnce: true, Compression: lz4, Linger: flinkLinger,
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, name := range []string{casePass, caseFilter, caseJSON, caseCount} {
		if !slices.Contains(flinkRival.jobs, name) {
			t.Errorf("Flink does not do %s", name)
		}
	}
}

func TestFlinkRecoveryIsPrinted(t *testing.T) {
	var out strings.Builder
	report := Report{Recovery: &RecoveryReport{Flink: &FlinkRecovery{
		Default: []Recovery{{FirstMs: 18_131}}, Tuned: []Recovery{{FirstMs: 3_683}}, MissingSlot: []Recovery{{WaitingMs: 1_100, SlotToFirstMs: 4_100, ProcessToFirstMs: 9_000}},
		StartMs: []float64{9_500},
	}}}
	report.printRecovery(&out)
	for _, figure := range []string{"18131", "3683", "1100", "4100", "9000", "9500"} {
		if !strings.Contains(strings.ReplaceAll(out.String(), ",", ""), figure) {
			t.Errorf("%s is missing in\n%s", figure, out.String())
		}
	}
}
