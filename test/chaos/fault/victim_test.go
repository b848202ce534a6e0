package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

// Checks that nothing can fail prove nothing.
func TestBacksOff(t *testing.T) {
	// lines is the log of a job whose restarts came after these pauses.
	lines := func(pauses ...time.Duration) []oracle.Decision {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		all := []oracle.Decision{{Time: at, Event: "start"}, {Time: at, Event: "state", From: "DEPLOYING", To: "RUNNING"}}
		for _, pause := range pauses {
			all = append(all, oracle.Decision{Time: at, Event: "state", From: "RUNNING", To: "RESTARTING"})
			at = at.Add(pause)
			all = append(all, oracle.Decision{Time: at, Event: "state", From: "RESTARTING", To: "WAITING_FOR_SLOTS"})
		}
		return all
	}
	for _, c := range []struct {
		name   string
		pauses []time.Duration
		least  int
		want   string // part of the error; empty: none
	}{
		{"as it should be", []time.Duration{0, 750 * time.Millisecond, 2 * time.Second, 4 * time.Second, 3 * time.Second}, 5, ""},
		{"none", nil, 0, ""},
		{"too few", []time.Duration{0}, 2, "restarted 1 times"},
		{"a tight loop", []time.Duration{0, 0}, 2, "restart 2 of the victim came after 0s"},
		{"a pause that does not grow", []time.Duration{0, time.Second, 900 * time.Millisecond}, 2, "restart 3"},
	} {
		err := backsOff(lines(c.pauses...), c.least)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestSays(t *testing.T) {
	job := cluster.Job{Waiting: []string{"in/0: the certificate has expired"}}
	if !says(&job, []string{"certificate", "expired"}) || says(&job, []string{"certificate", "revoked"}) {
		t.Error("what a job waits for is not looked at word by word")
	}
	if says(&cluster.Job{}, []string{"anything"}) {
		t.Error("a job that gives no reason says something")
	}
}

func TestExchange(t *testing.T) {
	dir := t.TempDir()
	names := []string{"7-last-0-aa", "7-last-1-bb", "8-last-0-cc", "tmp-dd"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pairs, err := statePairs(dir)
	if err != nil || len(pairs) != 1 {
		t.Fatalf("pairs %v, %v; want those of checkpoint 7", pairs, err)
	}
	content := func() (all []string) {
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(dir, name))
			all = append(all, fmt.Sprintf("%s %v", data, err))
		}
		return all
	}
	before := content()
	if err := exchange(pairs); err != nil {
		t.Fatal(err)
	}
	if after := content(); after[0] != before[1] || after[1] != before[0] || after[2] != before[2] {
		t.Errorf("files hold %v", after)
	}
	if err := exchange(pairs); err != nil || !slices.Equal(content(), before) {
		t.Errorf("exchanged twice they hold %v, %v", content(), err)
	}
	if _, err := statePairs(t.TempDir()); err == nil {
		t.Error("an empty directory holds state files")
	}
}
