package jobmanager

import (
	"math"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/jobmanager/commit"
)

// TestCheckpointConfig: a checkpoint that is drawn only to publish offsets never fails an attempt.
func TestCheckpointConfig(t *testing.T) {
	j := countJob(1)
	if c := checkpointConfig(j); c.Interval != 0 || c.TolerableFailures != 5 {
		t.Errorf("nothing is published: %+v", c)
	}
	j.Sources[0].Kafka.Properties = map[string]string{"group.id": "g"}
	if c := checkpointConfig(j); c.Interval != time.Minute || c.TolerableFailures != math.MaxInt {
		t.Errorf("published without checkpoints: %+v", c)
	}
	j.Checkpoint.Interval = time.Second
	if c := checkpointConfig(j); c.Interval != time.Second || c.TolerableFailures != 5 {
		t.Errorf("published after checkpoints: %+v", c)
	}
}

// TestPublishedAnew: only what an earlier start may have failed to publish, and of which all is committed.
func TestPublishedAnew(t *testing.T) {
	latest, zero := &manifest.Manifest{Checkpoint: 7}, &manifest.Manifest{}
	for name, test := range map[string]struct {
		before past
		want   *manifest.Manifest
	}{
		"new":             {past{checkpoints: checkpoint.Start{Latest: latest}}, nil},
		"no checkpoint":   {past{recovered: true}, nil},
		"checkpoint 0":    {past{recovered: true, checkpoints: checkpoint.Start{Latest: zero}}, nil},
		"not committed":   {past{recovered: true, checkpoints: checkpoint.Start{Latest: latest}, commits: commit.Start{Unmarked: []commit.Named{{Checkpoint: 7}}}}, nil},
		"newest of a job": {past{recovered: true, checkpoints: checkpoint.Start{Latest: latest}}, latest},
	} {
		if got := publishedAnew(test.before); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
