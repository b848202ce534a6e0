package integration

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestRolledBackDisk puts an older copy of the data directory, witness and all, in the place of the newest
// one, as restoring a snapshot of a virtual machine does. Only the published offsets can tell.
func TestRolledBackDisk(t *testing.T) {
	onEveryKafka(t, []testCase{{"older copy of the data directory", olderCopy}})
}

func olderCopy(t *testing.T, r *rig) {
	r.start(t, 1)
	r.create(t, faultPartitions, "in", "out")
	r.half(t, false)
	id := r.submit(t, strings.Replace(countJob(1, faultPartitions, faultTotal), "bootstrap.servers:", "group.id: $name, bootstrap.servers:", 1))
	r.WaitCheckpoint(t, id, 1, patience)
	r.Term(t, r.JobManager())
	copied := r.DataDir() + "-copy"
	if err := os.CopyFS(copied, os.DirFS(r.DataDir())); err != nil {
		t.Fatal(err)
	}
	r.StartJobManager(t)
	back := r.WaitFor(t, id, "running again", patience, func(j *jobStatus) bool { return j.Attempt == 2 && j.State == "RUNNING" })
	r.WaitCheckpoint(t, id, back.LatestID()+2, patience)
	r.Term(t, r.JobManager())
	if err := os.Rename(r.DataDir(), r.DataDir()+"-newest"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, r.DataDir()); err != nil {
		t.Fatal(err)
	}
	older := r.StartJobManager(t)
	select {
	case <-older.Done():
	case <-time.After(patience):
		t.Fatal("the job manager goes on with an older copy of its data directory")
	}
	if log := older.Stderr(); older.ExitCode() != 1 || !strings.Contains(log, "older copy of the data directory") || !strings.Contains(log, id) {
		t.Errorf("exit code %d, want 1 and the reason with the id %s:\n%s", older.ExitCode(), id, log)
	}
}
