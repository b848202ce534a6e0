package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/fault"
	"github.com/sluice-stream/sluice/test/chaos/workload"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// smoke is one run of each kind of fault that every change has to stand.
var smoke = []struct {
	fault string
	kind  workload.Kind
}{
	{"F1/one", workload.A},
	{"F2/jm/before-commit", workload.B},
	{"F3/all", workload.C},
	{"F4/jm/between-witness=crash", workload.A},
	{"F6", workload.B},
	{"F8/sink-kill", workload.C},
	{"F8/copy-sink-kill", workload.D},
	{"F22/back", workload.B},
}

// Real processes on a real Kafka, one fault after the other. The whole suite is `make chaos`.
func TestSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and brokers")
	}
	kafkaenv.Require(t, kafkaenv.Kafka43)
	s, err := parse([]string{"--outage", "10s"})
	if err != nil {
		t.Fatal(err)
	}
	suite, closeSuite, err := open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeSuite(); err != nil {
			t.Error(err)
		}
	})
	for i, c := range smoke {
		t.Run(c.fault, func(t *testing.T) {
			faults, err := fault.Select(c.fault)
			if err != nil || len(faults) != 1 {
				t.Fatalf("%d faults: %v", len(faults), err)
			}
			began := time.Now()
			outcome := suite.Run(t.Context(), Run{Fault: faults[0], Kind: c.kind, Seed: int64(i + 1)})
			text, err := json.Marshal(outcome)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s in %s", text, time.Since(began).Round(time.Second))
			for _, reason := range outcome.Verdict {
				t.Error(reason)
			}
			if outcome.RecordsIn == 0 || outcome.RecordsOut == 0 {
				t.Errorf("%d records in, %d out: nothing was judged", outcome.RecordsIn, outcome.RecordsOut)
			}
		})
	}
}
