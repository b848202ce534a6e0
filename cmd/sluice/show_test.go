package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/web"
)

// TestADamagedJobIsShown: what is said of a job that has ended is nothing that it waits for, and a checkpoint that cannot be
// read is not one that never was.
func TestADamagedJobIsShown(t *testing.T) {
	var out bytes.Buffer
	at := time.Now()
	job := &web.Job{Name: "old", ID: "1", State: "FINISHED", EndedAt: &at, Waiting: []string{"checkpoint 5 is damaged"}}
	job.Checkpoints.Completed = 5
	(&cli{stdout: &out}).printJob(job)
	if s := out.String(); !strings.Contains(s, "note         checkpoint 5 is damaged\n") || !strings.Contains(s, "none that can be read; 5 completed") || strings.Contains(s, "waits for") {
		t.Error(s)
	}
}
